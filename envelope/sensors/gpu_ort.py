"""GPU kernels through ONNX Runtime's CUDA provider: products only."""

from collections.abc import Callable
from typing import Any

import numpy as np

from envelope.sensors.gpu_kernels import AttentionShape, Unsupported, cycle
from envelope.sensors.onnx_graph import IR_VERSION, OPSET, onnx_module, runtime


class OrtCudaBackend:
    """Operations of ``envelope.sensors.gpu_kernels.Backend`` in ONNX Runtime, on device number ``index``.

    The tests run the same code with the provider of the processor.
    """

    name = "onnxruntime"

    def __init__(self, index: int, provider: str = "CUDAExecutionProvider", device: str = "cuda") -> None:
        self.index, self._provider, self._device = index, provider, device

    def synchronize(self) -> None:
        """Nothing to do: a run with bound outputs returns when it is done."""

    def device_count(self) -> int:
        """Count as one GPU; links need another backend."""
        return 1

    def units(self) -> int | None:
        """Not known to ONNX Runtime."""
        return None

    def memory(self) -> tuple[float, float] | None:
        """Not known to ONNX Runtime."""
        return None

    def read(self, moved_bytes: int) -> Callable[[], object]:
        """Return a one-row product, which reads its weights once."""
        side = int((moved_bytes / 2) ** 0.5) // 64 * 64
        return self.product("fp16", 1, side, side, 1)

    def product(self, key: str, m: int, n: int, k: int, copies: int) -> Callable[[], object]:
        """Return products in fp32 or fp16."""
        kinds: dict[str, type[np.floating[Any]]] = {"fp32": np.float32, "fp16": np.float16}
        if key not in kinds:
            raise Unsupported(key)
        kind = kinds[key]
        random = np.random.default_rng(0)
        weights = [random.random((k, n), dtype=np.float32).astype(kind) for _ in range(copies)]
        x = np.ones((m, k), dtype=kind)
        return cycle([self._bound(x, w) for w in weights])

    def attention(self, shape: AttentionShape, copies: int) -> Callable[[], object]:
        """Left to PyTorch."""
        raise Unsupported("attention")

    def host_copy(self, moved_bytes: int, to_device: bool) -> Callable[[], object]:
        """Return a copy to the device; ONNX Runtime offers no timed copy back."""
        if not to_device:
            raise Unsupported("device to host")
        host = np.ones(moved_bytes, dtype=np.uint8)
        return lambda: runtime().OrtValue.ortvalue_from_numpy(host, self._device, self.index)

    def peer_copy(self, moved_bytes: int, other: int) -> Callable[[], object]:
        """Left to PyTorch."""
        raise Unsupported("peer copy")

    def all_reduce(self, moved_bytes: int, devices: int) -> Callable[[], object]:
        """Left to PyTorch."""
        raise Unsupported("all-reduce")

    def _bound(self, x: Any, w: Any) -> Callable[[], object]:
        ort, helper = runtime(), onnx_module().helper
        kind = helper.np_dtype_to_tensor_dtype(x.dtype)
        values = [helper.make_tensor_value_info(n, kind, s) for n, s in (("x", x.shape), ("w", w.shape))]
        out = helper.make_tensor_value_info("y", kind, [x.shape[0], w.shape[1]])
        graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "product", values, [out])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        session = ort.InferenceSession(model.SerializeToString(), providers=[(self._provider, self._options())])
        binding = session.io_binding()
        for name, array in (("x", x), ("w", w)):
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, self._device, self.index))
        binding.bind_output("y", self._device, self.index)
        return lambda: session.run_with_iobinding(binding)

    def _options(self) -> dict[str, str]:
        return {"device_id": str(self.index)} if self._device == "cuda" else {}

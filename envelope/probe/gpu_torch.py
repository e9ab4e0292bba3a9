"""GPU kernels through PyTorch."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from envelope.probe.gpu_kernels import Unsupported, cycle


class TorchBackend:
    """Operations of ``envelope.probe.gpu_kernels.Backend`` in PyTorch; small products run in a CUDA graph."""

    name = "torch"

    def __init__(self) -> None:
        self._torch: Any = import_module("torch")
        self._device = self._torch.device("cuda", 0)

    def synchronize(self) -> None:
        """Wait for every device."""
        for index in range(self.device_count()):
            self._torch.cuda.synchronize(index)

    def device_count(self) -> int:
        """Return the number of visible GPUs."""
        return int(self._torch.cuda.device_count())

    def read(self, moved_bytes: int) -> Callable[[], object]:
        """Return the sum over one buffer."""
        buffer = self._torch.ones(moved_bytes // 4, dtype=self._torch.float32, device=self._device)
        return lambda: buffer.sum()

    def product(self, key: str, m: int, n: int, k: int, copies: int) -> Callable[[], object]:
        """Return products in fp32, tf32, bf16, fp16, int8 or fp8, captured in one CUDA graph."""
        make = {"int8": self._int8, "fp8": self._fp8}.get(key, self._float)
        return self._graph(cycle([make(key, m, n, k) for _ in range(copies)]))

    def attention(
        self, batch: int, new: int, context: int, heads: int, kv_heads: int, width: int
    ) -> Callable[[], object]:
        """Return scaled dot-product attention with grouped heads."""
        torch = self._torch

        def values(count: int, length: int) -> Any:
            return torch.randn(batch, count, length, width, dtype=torch.bfloat16, device=self._device)

        q, k, v = values(heads, new), values(kv_heads, context), values(kv_heads, context)
        attend = torch.nn.functional.scaled_dot_product_attention
        causal = new == context
        try:
            attend(q, k, v, is_causal=causal, enable_gqa=True)
        except (RuntimeError, TypeError) as error:
            raise Unsupported(str(error)) from None
        return lambda: attend(q, k, v, is_causal=causal, enable_gqa=True)

    def host_copy(self, moved_bytes: int, to_device: bool) -> Callable[[], object]:
        """Return an asynchronous copy from or to pinned memory."""
        torch = self._torch
        host = torch.empty(moved_bytes, dtype=torch.uint8, pin_memory=True)
        device = torch.empty(moved_bytes, dtype=torch.uint8, device=self._device)
        if to_device:
            return lambda: device.copy_(host, non_blocking=True)
        return lambda: host.copy_(device, non_blocking=True)

    def peer_copy(self, moved_bytes: int) -> Callable[[], object]:
        """Return a copy from GPU 0 to GPU 1."""
        torch = self._torch
        if self.device_count() < 2:
            raise Unsupported("one GPU only")
        first = torch.empty(moved_bytes, dtype=torch.uint8, device="cuda:0")
        second = torch.empty(moved_bytes, dtype=torch.uint8, device="cuda:1")
        return lambda: second.copy_(first, non_blocking=True)

    def all_reduce(self, moved_bytes: int, devices: int) -> Callable[[], object]:
        """Return NCCL's all-reduce, all devices driven by this one process."""
        torch = self._torch
        if self.device_count() < devices:
            raise Unsupported(f"fewer than {devices} GPUs")
        buffers = [torch.ones(moved_bytes // 2, dtype=torch.bfloat16, device=f"cuda:{i}") for i in range(devices)]
        return lambda: torch.cuda.nccl.all_reduce(buffers)

    def _float(self, key: str, m: int, n: int, k: int) -> Callable[[], object]:
        torch = self._torch
        kinds = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        if key not in kinds:
            raise Unsupported(key)
        torch.backends.cuda.matmul.allow_tf32 = key == "tf32"
        x = torch.randn(m, k, dtype=kinds[key], device=self._device)
        w = torch.randn(k, n, dtype=kinds[key], device=self._device)
        return lambda: torch.matmul(x, w)

    def _int8(self, key: str, m: int, n: int, k: int) -> Callable[[], object]:
        torch = self._torch
        rows = max(m, 32)  # torch._int_mm takes no fewer than 17 rows
        x = torch.randint(-64, 64, (rows, k), dtype=torch.int8, device=self._device)
        w = torch.randint(-64, 64, (n, k), dtype=torch.int8, device=self._device).t()
        try:
            torch._int_mm(x, w)
        except (RuntimeError, AttributeError) as error:
            raise Unsupported(str(error)) from None
        return lambda: torch._int_mm(x, w)

    def _fp8(self, key: str, m: int, n: int, k: int) -> Callable[[], object]:
        torch = self._torch
        if not hasattr(torch, "float8_e4m3fn"):
            raise Unsupported("this torch has no fp8")
        rows = -(-m // 16) * 16
        one = torch.tensor(1.0, device=self._device)
        x = torch.randn(rows, k, device=self._device).to(torch.float8_e4m3fn)
        w = torch.randn(n, k, device=self._device).to(torch.float8_e4m3fn).t()

        def run() -> Any:
            return torch._scaled_mm(x, w, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)

        try:
            run()
        except (RuntimeError, ValueError, TypeError) as error:
            raise Unsupported(str(error)) from None
        return run

    def _graph(self, run: Callable[[], object]) -> Callable[[], object]:
        """Return a replay of ``run`` as a CUDA graph, so that launches do not hide short kernels."""
        torch = self._torch
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()

        # The graph does not own the tensors it works on: ``run`` keeps them alive.
        def replay(kept: Callable[[], object] = run) -> None:
            graph.replay()

        return replay

"""GPU kernels through PyTorch."""

from collections.abc import Callable
from typing import Any

from envelope.sensors.gpu_kernels import AttentionShape, Unsupported, cycle


class TorchBackend:
    """Operations of ``envelope.sensors.gpu_kernels.Backend`` in PyTorch; kernels run in CUDA graphs.

    On a device without graphs (``torch.device("cpu")``, which the tests use) the same kernels run one by one.
    """

    name = "torch"

    def __init__(self, torch: Any, device: Any) -> None:
        self._torch, self._device = torch, device
        self._cuda = device.type == "cuda"
        self.index = int(device.index or 0)
        if self._cuda:
            torch.cuda.set_device(device)

    def synchronize(self) -> None:
        """Wait for every device."""
        if self._cuda:
            for index in range(self.device_count()):
                self._torch.cuda.synchronize(index)

    def device_count(self) -> int:
        """Return the number of visible GPUs."""
        return int(self._torch.cuda.device_count()) if self._cuda else 1

    def units(self) -> int | None:
        """Return the multiprocessors of the device."""
        return int(self._torch.cuda.get_device_properties(self._device).multi_processor_count) if self._cuda else None

    def memory(self) -> tuple[float, float] | None:
        """Return the free and the whole memory of the device; what PyTorch keeps in reserve is given back first."""
        if not self._cuda:
            return None
        self._torch.cuda.empty_cache()
        free, whole = self._torch.cuda.mem_get_info(self._device)
        return float(free), float(whole)

    def read(self, moved_bytes: int) -> Callable[[], object]:
        """Return the sum over one buffer."""
        buffer = self._torch.ones(moved_bytes // 4, dtype=self._torch.float32, device=self._device)
        return lambda: buffer.sum()

    def product(self, key: str, m: int, n: int, k: int, copies: int) -> Callable[[], object]:
        """Return products in fp32, tf32, bf16, fp16, int8 or fp8, captured in one CUDA graph."""
        make = {"int8": self._int8, "fp8": self._fp8}.get(key, self._float)
        return self._graph(cycle([make(key, m, n, k) for _ in range(copies)]))

    def attention(self, shape: AttentionShape, copies: int) -> Callable[[], object]:
        """Return scaled dot-product attention with grouped heads."""
        torch = self._torch

        def values(count: int, length: int) -> Any:
            size = (shape.batch, count, length, shape.width)
            return torch.randn(size, dtype=torch.bfloat16, device=self._device)

        q = values(shape.heads, shape.new)
        caches = [(values(shape.kv_heads, shape.context), values(shape.kv_heads, shape.context)) for _ in range(copies)]
        attend = torch.nn.functional.scaled_dot_product_attention
        causal = shape.new == shape.context
        run = cycle([lambda k=k, v=v: attend(q, k, v, is_causal=causal, enable_gqa=True) for k, v in caches])  # type: ignore[misc]
        return self._graph(_supported(run))

    def host_copy(self, moved_bytes: int, to_device: bool) -> Callable[[], object]:
        """Return an asynchronous copy from or to pinned memory."""
        torch = self._torch
        host = torch.empty(moved_bytes, dtype=torch.uint8, pin_memory=self._cuda)
        device = torch.empty(moved_bytes, dtype=torch.uint8, device=self._device)
        if to_device:
            return lambda: device.copy_(host, non_blocking=True)
        return lambda: host.copy_(device, non_blocking=True)

    def peer_copy(self, moved_bytes: int, other: int) -> Callable[[], object]:
        """Return a copy to another GPU."""
        torch = self._torch
        source = torch.empty(moved_bytes, dtype=torch.uint8, device=self._device)
        target = torch.empty(moved_bytes, dtype=torch.uint8, device=torch.device(self._device.type, other))
        return lambda: target.copy_(source, non_blocking=True)

    def all_reduce(self, moved_bytes: int, devices: int) -> Callable[[], object]:
        """Return NCCL's all-reduce, all devices driven by this one process."""
        torch = self._torch
        buffers = [torch.zeros(moved_bytes // 2, dtype=torch.bfloat16, device=f"cuda:{i}") for i in range(devices)]
        return _supported(lambda: torch.cuda.nccl.all_reduce(buffers))

    def _float(self, key: str, m: int, n: int, k: int) -> Callable[[], object]:
        torch = self._torch
        kinds = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        if key not in kinds:
            raise Unsupported(key)
        # Read when the product is started or captured, which happens before the next format is made.
        torch.set_float32_matmul_precision("high" if key == "tf32" else "highest")
        x = torch.randn(m, k, dtype=kinds[key], device=self._device)
        w = torch.randn(k, n, dtype=kinds[key], device=self._device)
        return lambda: torch.matmul(x, w)

    def _int8(self, key: str, m: int, n: int, k: int) -> Callable[[], object]:
        torch = self._torch
        rows = max(m, 32)  # torch._int_mm takes no fewer than 17 rows
        x = torch.randint(-64, 64, (rows, k), dtype=torch.int8, device=self._device)
        w = torch.randint(-64, 64, (n, k), dtype=torch.int8, device=self._device).t()
        return _supported(lambda: torch._int_mm(x, w))

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

        return _supported(run)

    def _graph(self, run: Callable[[], object]) -> Callable[[], object]:
        """Return a replay of ``run`` as a CUDA graph, so that launches do not hide short kernels."""
        return captured(self._torch, run) if self._cuda else run


def captured(torch: Any, run: Callable[[], Any]) -> Callable[[], Any]:
    """Return a replay of ``run`` as a CUDA graph on the current device; it returns what ``run`` returned.

    Warm-up on a side stream and capture as in PyTorch's notes on CUDA graphs.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()

    # The graph does not own the tensors it works on: ``run`` keeps them alive.
    def replay(kept: Callable[[], Any] = run) -> Any:
        graph.replay()
        return result

    return replay


def _supported(run: Callable[[], object]) -> Callable[[], object]:
    """Return ``run`` after one call of it; raises ``Unsupported`` if the device or this PyTorch cannot do it."""
    try:
        run()
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise Unsupported(first) from None
    return run

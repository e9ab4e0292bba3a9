"""GPU kernels through CuPy: memory, links and floating-point products."""

from collections.abc import Callable
from typing import Any

from envelope.sensors.gpu_kernels import AttentionShape, Unsupported, cycle


class CupyBackend:
    """Operations of ``envelope.sensors.gpu_kernels.Backend`` in CuPy, on device number ``index``."""

    name = "cupy"

    def __init__(self, cupy: Any, index: int) -> None:
        self._cupy, self.index = cupy, index
        cupy.cuda.Device(index).use()

    def synchronize(self) -> None:
        """Wait for the device."""
        self._cupy.cuda.Device(self.index).synchronize()

    def device_count(self) -> int:
        """Return the number of visible GPUs."""
        return int(self._cupy.cuda.runtime.getDeviceCount())

    def units(self) -> int | None:
        """Return the multiprocessors of the device."""
        return int(self._cupy.cuda.Device(self.index).attributes["MultiProcessorCount"])

    def memory(self) -> tuple[float, float] | None:
        """Return the free and the whole memory of the device."""
        free, whole = self._cupy.cuda.runtime.memGetInfo()
        return float(free), float(whole)

    def read(self, moved_bytes: int) -> Callable[[], object]:
        """Return the sum over one buffer."""
        buffer = self._cupy.ones(moved_bytes // 4, dtype=self._cupy.float32)
        return lambda: buffer.sum()

    def product(self, key: str, m: int, n: int, k: int, copies: int) -> Callable[[], object]:
        """Return products in fp32 or fp16."""
        kinds = {"fp32": self._cupy.float32, "fp16": self._cupy.float16}
        if key not in kinds:
            raise Unsupported(key)
        x = self._cupy.ones((m, k), dtype=kinds[key])
        weights = [self._cupy.ones((k, n), dtype=kinds[key]) for _ in range(copies)]
        return cycle([lambda w=w: self._cupy.matmul(x, w) for w in weights])  # type: ignore[misc]

    def attention(self, shape: AttentionShape, copies: int) -> Callable[[], object]:
        """CuPy has no attention kernel."""
        raise Unsupported("attention")

    def host_copy(self, moved_bytes: int, to_device: bool) -> Callable[[], object]:
        """Return a copy from or to pinned memory."""
        runtime = self._cupy.cuda.runtime
        pinned = self._cupy.cuda.alloc_pinned_memory(moved_bytes)
        device = self._cupy.empty(moved_bytes, dtype=self._cupy.uint8)
        kind = runtime.memcpyHostToDevice if to_device else runtime.memcpyDeviceToHost
        target, source = (device.data.ptr, pinned.ptr) if to_device else (pinned.ptr, device.data.ptr)
        return lambda kept=(pinned, device): runtime.memcpy(target, source, moved_bytes, kind)  # type: ignore[misc]

    def peer_copy(self, moved_bytes: int, other: int) -> Callable[[], object]:
        """Return a copy to another GPU."""
        runtime, own = self._cupy.cuda.runtime, self.index
        source = self._cupy.empty(moved_bytes, dtype=self._cupy.uint8)
        with self._cupy.cuda.Device(other):
            target = self._cupy.empty(moved_bytes, dtype=self._cupy.uint8)
        return lambda: runtime.memcpyPeer(target.data.ptr, other, source.data.ptr, own, moved_bytes)

    def all_reduce(self, moved_bytes: int, devices: int) -> Callable[[], object]:
        """Left to PyTorch."""
        raise Unsupported("all-reduce")

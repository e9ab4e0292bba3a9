"""Timed GPU kernels through whichever of PyTorch, CuPy or ONNX Runtime CUDA is installed.

Every backend offers the same few operations; an operation that it lacks raises ``Unsupported`` and is left out of the
profile. Weights of timed products take turns so that each comes from memory and not from the L2 cache.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol
from uuid import UUID

from envelope.sensors.timing import Effort, Sample, of_times


class Unsupported(Exception):  # noqa: N818 - a normal answer of a backend, not an error
    """The backend or the device has no such operation."""


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """Attention of one layer: ``new`` tokens of each of ``batch`` sequences, seeing ``context`` tokens each."""

    batch: int
    new: int
    context: int
    heads: int
    kv_heads: int
    width: int

    @property
    def cache_bytes(self) -> float:
        """Keys and values of all sequences in 16 bits."""
        return 4.0 * self.batch * self.context * self.kv_heads * self.width


class Backend(Protocol):
    """The operations that the GPU probe times on one device; each returned function starts kernels without waiting."""

    name: str
    index: int
    """Number of the device as the backend counts."""

    def synchronize(self) -> None:
        """Wait until all kernels are done."""

    def device_count(self) -> int:
        """Return the number of GPUs that the backend sees."""

    def units(self) -> int | None:
        """Return the multiprocessors of the device, if the backend knows."""

    def memory(self) -> tuple[float, float] | None:
        """Return the free and the whole memory of the device in bytes, if the backend knows."""

    def read(self, moved_bytes: int) -> Callable[[], object]:
        """Return a reduction that reads ``moved_bytes`` once."""

    def product(self, key: str, m: int, n: int, k: int, copies: int) -> Callable[[], object]:
        """Return y[m, n] = x[m, k] W[k, n] in a compute format, over ``copies`` weights in turn (one call runs all)."""

    def attention(self, shape: AttentionShape, copies: int) -> Callable[[], object]:
        """Return bf16 attention, causal where all tokens are new, over ``copies`` caches (one call runs all)."""

    def host_copy(self, moved_bytes: int, to_device: bool) -> Callable[[], object]:
        """Return a copy between pinned host memory and the device."""

    def peer_copy(self, moved_bytes: int, other: int) -> Callable[[], object]:
        """Return a copy from the device to another one."""

    def all_reduce(self, moved_bytes: int, devices: int) -> Callable[[], object]:
        """Return an all-reduce of one bf16 buffer of ``moved_bytes`` per device."""


def backend(index: int = 0, uuid: str = "") -> Backend | str:
    """Return the first usable backend on one GPU, or one line saying that none is.

    ``index`` and ``uuid`` name the device as the driver counts; libraries may count in another order.
    """
    for make in (_torch, _cupy, _ort_cuda):
        found = make(index, uuid)
        if found is not None:
            return found
    return "GPU kernels not timed: none of torch, cupy, onnxruntime-gpu sees this GPU"


_SERIES_S = 2e-3
"""Least time of the calls that are timed together: waiting for the device costs some 10 µs."""
_MOST_CALLS = 200


def timed_kernel(run: Callable[[], object], synchronize: Callable[[], None], effort: Effort) -> Sample:
    """Return the time of one call of ``run``; calls are started together so that launches and waiting overlap."""

    def series(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            run()
        synchronize()
        return (time.perf_counter() - start) / calls

    series(3)
    calls = min(max(math.ceil(_SERIES_S / series(2)), 1), _MOST_CALLS)
    times: list[float] = []
    end = time.perf_counter() + effort.budget_s
    while len(times) < 2 or (len(times) < effort.repeats and time.perf_counter() < end):
        times.append(series(calls))
    return of_times(times)


def _torch(index: int, uuid: str) -> Backend | None:
    try:
        torch: Any = import_module("torch")
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    from envelope.sensors.gpu_torch import TorchBackend

    seen = [str(getattr(torch.cuda.get_device_properties(i), "uuid", "")) for i in range(torch.cuda.device_count())]
    own = position(index, uuid, seen)
    return None if own is None else TorchBackend(torch, torch.device("cuda", own))


def _cupy(index: int, uuid: str) -> Backend | None:
    try:
        cupy: Any = import_module("cupy")
    except ImportError:
        return None
    runtime = cupy.cuda.runtime
    try:
        seen = [_uuid_text(runtime.getDeviceProperties(i).get("uuid")) for i in range(runtime.getDeviceCount())]
    except runtime.CUDARuntimeError:
        return None
    from envelope.sensors.gpu_cupy import CupyBackend

    own = position(index, uuid, seen)
    return None if own is None else CupyBackend(cupy, own)


def _ort_cuda(index: int, uuid: str) -> Backend | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return None
    from envelope.sensors.gpu_ort import OrtCudaBackend

    return OrtCudaBackend(index)


def _uuid_text(value: Any) -> str:
    """Return the 16 bytes of a UUID as text, empty for none."""
    return str(UUID(bytes=bytes(value)[:16])) if value and len(bytes(value)) >= 16 else ""


def position(index: int, uuid: str, seen: list[str]) -> int | None:
    """Return which of the devices that a library sees is the driver's; by UUID if both know it, else by index.

    >>> position(1, "GPU-aa", ["bb", "aa"]), position(0, "GPU-aa", ["", ""]), position(0, "GPU-aa", ["bb"])
    (1, 0, None)
    """
    bare = uuid.removeprefix("GPU-")
    if bare and any(seen):
        return next((i for i, other in enumerate(seen) if other.removeprefix("GPU-") == bare), None)
    return index if index < len(seen) else None


def cycle(functions: list[Callable[[], Any]]) -> Callable[[], object]:
    """Return a function that calls all of them, one after the other."""

    def run() -> None:
        for function in functions:
            function()

    return run

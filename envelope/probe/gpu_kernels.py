"""Timed GPU kernels through whichever of PyTorch, CuPy or ONNX Runtime CUDA is installed.

Every backend offers the same few operations; an operation that it lacks raises ``Unsupported`` and is left out of the
profile. Weights of timed products take turns so that each comes from memory and not from the L2 cache.
"""

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

from envelope.probe.timing import Effort, Sample, of_times


class Unsupported(Exception):  # noqa: N818 - a normal answer of a backend, not an error
    """The backend or the device has no such operation."""


class Backend(Protocol):
    """The operations that the GPU probe times; each returned function starts its kernels and does not wait."""

    name: str

    def synchronize(self) -> None:
        """Wait until all kernels are done."""

    def device_count(self) -> int:
        """Return the number of GPUs that the backend sees."""

    def read(self, moved_bytes: int) -> Callable[[], object]:
        """Return a reduction that reads ``moved_bytes`` once."""

    def product(self, key: str, m: int, n: int, k: int, copies: int) -> Callable[[], object]:
        """Return y[m, n] = x[m, k] W[k, n] in a compute format, over ``copies`` weights in turn (one call runs all)."""

    def attention(
        self, batch: int, new: int, context: int, heads: int, kv_heads: int, width: int
    ) -> Callable[[], object]:
        """Return bf16 attention of ``new`` tokens on ``context`` tokens, causal if they are the same."""

    def host_copy(self, moved_bytes: int, to_device: bool) -> Callable[[], object]:
        """Return a copy between pinned host memory and the device."""

    def peer_copy(self, moved_bytes: int) -> Callable[[], object]:
        """Return a copy from the first GPU to the second."""

    def all_reduce(self, moved_bytes: int, devices: int) -> Callable[[], object]:
        """Return an all-reduce of one bf16 buffer of ``moved_bytes`` per device."""


def backend() -> Backend | str:
    """Return the first usable backend, or one line saying that none is."""
    for make in (_torch, _cupy, _ort_cuda):
        found = make()
        if found is not None:
            return found
    return "GPU kernels not timed: none of torch, cupy, onnxruntime-gpu sees a GPU"


def timed_kernel(run: Callable[[], object], synchronize: Callable[[], None], effort: Effort, calls: int = 1) -> Sample:
    """Return the time of one call of ``run``, of ``calls`` started together so that launches overlap."""
    for _ in range(3):
        run()
    synchronize()
    times: list[float] = []
    end = time.perf_counter() + effort.budget_s
    while len(times) < 2 or (len(times) < effort.repeats and time.perf_counter() < end):
        start = time.perf_counter()
        for _ in range(calls):
            run()
        synchronize()
        times.append((time.perf_counter() - start) / calls)
    return of_times(times)


def _torch() -> Backend | None:
    try:
        torch: Any = import_module("torch")
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    from envelope.probe.gpu_torch import TorchBackend

    return TorchBackend()


def _cupy() -> Backend | None:
    try:
        cupy: Any = import_module("cupy")
    except ImportError:
        return None
    try:
        if cupy.cuda.runtime.getDeviceCount() < 1:
            return None
    except cupy.cuda.runtime.CUDARuntimeError:
        return None
    from envelope.probe.gpu_cupy import CupyBackend

    return CupyBackend()


def _ort_cuda() -> Backend | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return None
    from envelope.probe.gpu_ort import OrtCudaBackend

    return OrtCudaBackend()


def cycle(functions: list[Callable[[], Any]]) -> Callable[[], object]:
    """Return a function that calls all of them, one after the other."""

    def run() -> None:
        for function in functions:
            function()

    return run

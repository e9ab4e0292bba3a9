"""Timed GPU kernels, whatever library runs them.

Every backend offers the same few operations; an operation that it lacks raises ``Unsupported`` and is left out of the
profile. Weights of timed products take turns so that each comes from memory and not from the L2 cache.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

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


def cycle(functions: list[Callable[[], Any]]) -> Callable[[], object]:
    """Return a function that calls all of them, one after the other."""

    def run() -> None:
        for function in functions:
            function()

    return run

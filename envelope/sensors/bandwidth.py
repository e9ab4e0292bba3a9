"""Memory bandwidth by number of threads: read, copy and triad, on arrays far larger than the cache.

numpy releases the interpreter lock inside its loops, so Python threads suffice. Bytes are counted as in STREAM
(each array read or written once; the read that a cache makes before a write is not counted).
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from envelope.sensors.onnx_graph import Array
from envelope.sensors.timing import Effort, Sample, timed

_CHUNK = 1 << 16
"""Elements of float32 that triad handles at a time, so that its intermediate product stays in the cache."""


@dataclass(frozen=True, slots=True)
class BandwidthPoint:
    """One kernel at one number of threads."""

    kernel: str
    threads: int
    moved_bytes: float
    sample: Sample

    @property
    def bytes_per_s(self) -> float:
        """Bytes moved over the typical time."""
        return self.moved_bytes / self.sample.median_s


def thread_counts(cores: int) -> tuple[int, ...]:
    """Return 1, 2, 4 … and the number of cores itself.

    >>> thread_counts(6)
    (1, 2, 4, 6)
    """
    powers = [1 << i for i in range(cores.bit_length()) if 1 << i <= cores]
    return tuple(dict.fromkeys([*powers, cores]))


def bandwidth_points(cores: int, array_bytes: float, effort: Effort) -> Iterator[BandwidthPoint]:
    """Yield read, copy and triad at 1, 2, 4 … ``cores`` threads, on three arrays of ``array_bytes``."""
    length = max(int(array_bytes / 4), cores * _CHUNK)
    a, b, c = (np.full(length, value, dtype=np.float32) for value in (0.0, 1.0, 2.0))
    for threads in thread_counts(cores):
        with ThreadPoolExecutor(threads) as pool:
            for kernel, arrays in (("read", 1), ("copy", 2), ("triad", 3)):
                run = _parallel(pool, threads, length, _KERNELS[kernel], a, b, c)
                sample = timed(run, effort)
                yield BandwidthPoint(kernel, threads, 4.0 * arrays * length, sample)


def read_rate(pool: ThreadPoolExecutor, threads: int, array: Array) -> float:
    """Return the bytes per second at which ``threads`` threads of a pool read an array now, median of a few."""
    run = _parallel(pool, threads, array.size, _read, array, array, array)
    return float(array.nbytes) / timed(run, Effort(repeats=5, budget_s=0.2, retries=0)).median_s


Kernel = Callable[[Array, Array, Array], None]


def _parallel(
    pool: ThreadPoolExecutor, threads: int, length: int, kernel: Kernel, a: Array, b: Array, c: Array
) -> Callable[[], None]:
    edges = np.linspace(0, length, threads + 1).astype(int)
    parts = [slice(int(i), int(j)) for i, j in zip(edges, edges[1:], strict=False)]

    def run() -> None:
        if threads == 1:
            kernel(a, b, c)
        else:
            list(pool.map(lambda part: kernel(a[part], b[part], c[part]), parts))

    return run


def _read(a: Array, b: Array, c: Array) -> None:
    # The cheapest vectorised reduction; one of floats is bound by arithmetic on some cores, not by memory.
    np.bitwise_or.reduce(b.view(np.int32))


def _copy(a: Array, b: Array, c: Array) -> None:
    np.copyto(a, b)


def _triad(a: Array, b: Array, c: Array) -> None:
    for start in range(0, a.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        np.multiply(c[part], np.float32(3.0), out=a[part])
        np.add(a[part], b[part], out=a[part])


_KERNELS: dict[str, Kernel] = {"read": _read, "copy": _copy, "triad": _triad}

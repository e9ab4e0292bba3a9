"""Running the GPU's kernels over formats, sizes and links; what a backend lacks is left out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from envelope.probe.gemm import ChainTime
from envelope.probe.gpu_kernels import Backend, Unsupported, timed_kernel
from envelope.probe.timing import Effort, Sample
from envelope.spec.load import Reporter

FORMATS = {"fp32": 4.0, "tf32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0}
"""Compute formats and their bytes per weight."""
_ROWS = {"quick": (1, 16, 256, 4096), "full": (1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096)}
_SHAPES = ((4096, 4096), (14336, 4096), (4096, 14336))
"""(n, k) of attention output, feed-forward up and down of an 8B model."""
_COLD_BYTES = 512 << 20
"""Weights that take turns in small products: ten times the largest L2."""
_DECODE = ((1, 1024), (1, 8192), (16, 1024), (16, 8192), (64, 2048))
_PREFILL = (512, 1024, 2048, 4096)
HEADS = (32, 8, 128)
"""Heads, key-value heads and width of the attention that is timed."""


@dataclass(frozen=True, slots=True)
class GpuAttention:
    """Attention of one layer on the GPU."""

    batch: int
    new: int
    context: int
    sample: Sample


@dataclass(slots=True)
class GpuMeasured:
    """What the kernels of one GPU, and the links of all, gave."""

    backend: str
    mode: str
    read_bytes_per_s: list[float] = field(default_factory=list)
    linear: dict[str, list[ChainTime]] = field(default_factory=dict)
    attention: list[GpuAttention] = field(default_factory=list)
    host_bytes_per_s: dict[str, float] = field(default_factory=dict)
    """``to`` and ``from`` the device, pinned memory."""
    peer_bytes_per_s: float | None = None
    all_reduce: dict[int, list[tuple[int, Sample]]] = field(default_factory=dict)
    """Group size → (bytes of a buffer, time)."""
    unsupported: list[str] = field(default_factory=list)
    complete: bool = False


def measure_gpu(backend: Backend, mode: str, report: Reporter) -> GpuMeasured:
    """Run every kernel; Ctrl-C keeps what is done."""
    found = GpuMeasured(backend.name, mode)
    effort = Effort(repeats=5 if mode == "quick" else 15, budget_s=0.2 if mode == "quick" else 0.5, retries=0)
    steps: list[tuple[str, Callable[[], None]]] = [
        ("GPU memory", lambda: _memory(backend, effort, found)),
        *((f"GPU products {key}", lambda k=key: _products(backend, k, effort, found)) for key in FORMATS),
        ("GPU attention", lambda: _attention(backend, effort, found)),
        ("GPU links", lambda: _links(backend, effort, found)),
    ]
    try:
        for index, (label, work) in enumerate(steps):
            report(index / len(steps), label)
            try:
                work()
            except Unsupported as reason:
                found.unsupported.append(f"{label}: {reason}")
        found.complete = True
    except KeyboardInterrupt:
        if not found.read_bytes_per_s or not found.linear:
            raise
    report(1.0, "done")
    return found


def _memory(backend: Backend, effort: Effort, found: GpuMeasured) -> None:
    for moved in (256 << 20, 1 << 30, 4 << 30):
        sample = timed_kernel(backend.read(moved), backend.synchronize, effort, calls=4)
        found.read_bytes_per_s.append(moved / sample.best_s)


def _products(backend: Backend, key: str, effort: Effort, found: GpuMeasured) -> None:
    times = []
    for n, k in _SHAPES:
        for m in _ROWS[found.mode]:
            copies = max(1, int(_COLD_BYTES / (n * k * FORMATS[key]))) if m < 256 else 1
            run = backend.product(key, m, n, k, copies)
            sample = timed_kernel(run, backend.synchronize, effort)
            times.append(ChainTime(m, ((k, n),) * copies, sample))
    found.linear[key] = times


def _attention(backend: Backend, effort: Effort, found: GpuMeasured) -> None:
    shapes = [(batch, 1, context) for batch, context in _DECODE] + [(1, new, new) for new in _PREFILL]
    for batch, new, context in shapes:
        run = backend.attention(batch, new, context, *HEADS)
        sample = timed_kernel(run, backend.synchronize, effort, calls=8)
        found.attention.append(GpuAttention(batch, new, context, sample))


def _links(backend: Backend, effort: Effort, found: GpuMeasured) -> None:
    moved = 256 << 20
    for name, to_device in (("to", True), ("from", False)):
        run = backend.host_copy(moved, to_device)
        found.host_bytes_per_s[name] = moved / timed_kernel(run, backend.synchronize, effort).best_s
    if backend.device_count() < 2:
        return
    peer = timed_kernel(backend.peer_copy(moved), backend.synchronize, effort)
    found.peer_bytes_per_s = moved / peer.best_s
    for devices in (n for n in (2, 4, 8) if n <= backend.device_count()):
        found.all_reduce[devices] = list(_all_reduces(backend, devices, replace(effort, repeats=20)))


def _all_reduces(backend: Backend, devices: int, effort: Effort) -> Iterator[tuple[int, Sample]]:
    for moved in (1 << 14, 1 << 17, 1 << 20, 1 << 23, 1 << 26):
        yield moved, timed_kernel(backend.all_reduce(moved, devices), backend.synchronize, effort)

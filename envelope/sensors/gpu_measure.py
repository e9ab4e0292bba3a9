"""Running the GPU's kernels over formats, sizes and links; what a backend lacks is left out."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from envelope.errors import EnvelopeError
from envelope.sensors.gemm import ChainTime
from envelope.sensors.gpu import gpu_watts
from envelope.sensors.gpu_kernels import AttentionShape, Backend, Unsupported, timed_kernel
from envelope.sensors.timing import Effort, Sample
from envelope.spec.load import Reporter

FORMATS = {"fp32": 4.0, "tf32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0}
"""Compute formats and their bytes per weight."""
HEADS = (32, 8, 128)
"""Heads, key-value heads and width of the attention that is timed."""


@dataclass(frozen=True, slots=True)
class GpuPlan:
    """What to time on a GPU, and on how large tensors."""

    mode: Literal["quick", "full", "custom"]
    effort: Effort
    read_bytes: tuple[int, ...]
    rows: tuple[int, ...]
    shapes: tuple[tuple[int, int], ...]
    """(n, k) of products."""
    decode: tuple[tuple[int, int], ...]
    """(batch, context)."""
    prefill: tuple[int, ...]
    heads: tuple[int, int, int]
    cold_bytes: float
    """Weights or caches that take turns in small kernels: several times the largest L2."""
    link_bytes: int
    reduce_bytes: tuple[int, ...]


_8B = ((4096, 4096), (14336, 4096), (4096, 14336))
"""(n, k) of attention output, feed-forward up and down of an 8B model."""
FULL_GPU = GpuPlan(
    mode="full", effort=Effort(repeats=15, budget_s=0.5, retries=0), read_bytes=(256 << 20, 1 << 30, 4 << 30),
    rows=(1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096), shapes=_8B,
    decode=((1, 1024), (1, 8192), (16, 1024), (16, 8192), (64, 2048)), prefill=(512, 1024, 2048, 4096), heads=HEADS,
    cold_bytes=512 << 20, link_bytes=256 << 20, reduce_bytes=(1 << 14, 1 << 17, 1 << 20, 1 << 23, 1 << 26),
)  # fmt: skip
QUICK_GPU = replace(FULL_GPU, mode="quick", effort=Effort(repeats=5, budget_s=0.2, retries=0), rows=(1, 16, 256, 4096))


@dataclass(frozen=True, slots=True)
class GpuAttention:
    """Attention of one layer on the GPU."""

    shape: AttentionShape
    sample: Sample
    copies: int
    """Caches that took turns in the timed run."""

    @property
    def layer_s(self) -> float:
        """Typical time of one layer."""
        return self.sample.median_s / self.copies


@dataclass(slots=True)
class GpuMeasured:
    """What the kernels of one GPU, and its links to the others, gave."""

    backend: str
    plan: GpuPlan
    units: int | None = None
    """Multiprocessors, if the backend knows."""
    memory_bytes: float | None = None
    """Memory that the backend sees: a slice of it under MIG."""
    read_bytes_per_s: list[float] = field(default_factory=list)
    linear: dict[str, list[ChainTime]] = field(default_factory=dict)
    attention: list[GpuAttention] = field(default_factory=list)
    host_bytes_per_s: dict[str, float] = field(default_factory=dict)
    """``to`` and ``from`` the device, pinned memory."""
    peer_bytes_per_s: dict[int, float] = field(default_factory=dict)
    """Copy to each other GPU, by its number in the backend."""
    all_reduce: dict[int, list[tuple[int, Sample]]] = field(default_factory=dict)
    """Group size → (bytes of a buffer, time)."""
    unsupported: list[str] = field(default_factory=list)
    complete: bool = False


def measure_gpu(backend: Backend, plan: GpuPlan, report: Reporter) -> GpuMeasured:
    """Run every kernel; Ctrl-C keeps what is done, and a kernel that fails leaves the others.

    Raises ``EnvelopeError`` if not even the memory and one product could be timed.
    """
    memory = backend.memory()
    found = GpuMeasured(backend.name, plan, backend.units(), memory[1] if memory else None)
    steps: list[tuple[str, Callable[[], None]]] = [
        ("GPU memory", lambda: _memory(backend, found)),
        *((f"GPU products {key}", lambda k=key: _products(backend, k, found)) for key in FORMATS),
        ("GPU attention", lambda: _attention(backend, found)),
        ("GPU host link", lambda: _host_link(backend, found)),
        ("GPU peers", lambda: _peers(backend, found)),
        ("GPU all-reduce", lambda: _all_reduces(backend, found)),
    ]
    try:
        for index, (label, work) in enumerate(steps):
            report(index / len(steps), label)
            try:
                work()
            except (Unsupported, RuntimeError) as reason:
                # Libraries raise RuntimeError where memory runs out or a kernel cannot be captured.
                first = (str(reason).splitlines() or [type(reason).__name__])[0]
                found.unsupported.append(f"{label}: {first}")
        found.complete = True
    except KeyboardInterrupt:
        if not found.read_bytes_per_s or not found.linear:
            raise
    if not found.read_bytes_per_s or not found.linear:
        raise EnvelopeError("no kernel ran on the GPU: " + "; ".join(found.unsupported))
    report(1.0, "done")
    return found


def _room_bytes(backend: Backend) -> float:
    """Return what one kernel's tensors may take: a quarter of the free memory."""
    memory = backend.memory()
    return memory[0] / 4 if memory else float("inf")


def _memory(backend: Backend, found: GpuMeasured) -> None:
    room = _room_bytes(backend)
    sizes = [size for size in found.plan.read_bytes if size <= room] or [min(found.plan.read_bytes)]
    for moved in sizes:
        sample = timed_kernel(backend.read(moved), backend.synchronize, found.plan.effort)
        found.read_bytes_per_s.append(moved / sample.best_s)


def _products(backend: Backend, key: str, found: GpuMeasured) -> None:
    times, plan = [], found.plan
    cold = min(plan.cold_bytes, _room_bytes(backend))
    for n, k in plan.shapes:
        for m in plan.rows:
            copies = max(1, int(cold / (n * k * FORMATS[key]))) if m < 256 else 1
            sample = timed_kernel(backend.product(key, m, n, k, copies), backend.synchronize, plan.effort)
            times.append(ChainTime(m, ((k, n),) * copies, sample))
    found.linear[key] = times


def _attention(backend: Backend, found: GpuMeasured) -> None:
    plan, room = found.plan, _room_bytes(backend)
    points = [(batch, 1, context) for batch, context in plan.decode] + [(1, new, new) for new in plan.prefill]
    for batch, new, context in points:
        shape = AttentionShape(batch, new, context, *plan.heads)
        if shape.cache_bytes > room:
            continue
        copies = max(1, int(min(plan.cold_bytes, room) / shape.cache_bytes)) if new == 1 else 1
        sample = timed_kernel(backend.attention(shape, copies), backend.synchronize, plan.effort)
        found.attention.append(GpuAttention(shape, sample, copies))


def _host_link(backend: Backend, found: GpuMeasured) -> None:
    moved = found.plan.link_bytes
    for name, to_device in (("to", True), ("from", False)):
        run = backend.host_copy(moved, to_device)
        found.host_bytes_per_s[name] = moved / timed_kernel(run, backend.synchronize, found.plan.effort).best_s


def _peers(backend: Backend, found: GpuMeasured) -> None:
    """Time copies to every other GPU."""
    moved = found.plan.link_bytes
    for other in range(backend.device_count()):
        if other != backend.index:
            sample = timed_kernel(backend.peer_copy(moved, other), backend.synchronize, found.plan.effort)
            found.peer_bytes_per_s[other] = moved / sample.best_s


def _all_reduces(backend: Backend, found: GpuMeasured) -> None:
    effort = replace(found.plan.effort, repeats=20)
    for devices in (n for n in (2, 4, 8) if n <= backend.device_count()):
        found.all_reduce[devices] = [
            (moved, timed_kernel(backend.all_reduce(moved, devices), backend.synchronize, effort))
            for moved in found.plan.reduce_bytes
        ]


def loaded_watts(backend: Backend, index: int) -> float | None:
    """Return the watts of the GPU, number ``index`` of the driver, while large products run; ``None`` if unknown."""
    try:
        load = backend.product("fp16", 4096, 8192, 8192, 4)
    except Unsupported:
        return None

    def busy() -> None:
        load()
        backend.synchronize()

    return gpu_watts(index, busy)

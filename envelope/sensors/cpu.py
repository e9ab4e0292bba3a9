"""The processor probe: runs every sensor in turn, keeps what is done when interrupted."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np

from envelope.errors import EnvelopeError
from envelope.sensors import conditions
from envelope.sensors.attention import (
    NARROW_HEADS,
    UNSHARED_HEADS,
    WIDE_HEADS,
    AttentionTime,
    HeadShape,
    decode_times,
    prefill_times,
)
from envelope.sensors.bandwidth import BandwidthPoint, bandwidth_points, read_rate
from envelope.sensors.cores import CoreLimit, core_limit, memory_available_bytes
from envelope.sensors.elementwise import FULL_ROWS as FULL_ELEMENT_ROWS
from envelope.sensors.elementwise import QUICK_ROWS as QUICK_ELEMENT_ROWS
from envelope.sensors.elementwise import ElementwiseTime, call_time, elementwise_times
from envelope.sensors.experts import EXPERT_FORMATS, FULL_TOKENS, QUICK_TOKENS, ExpertTime, expert_times
from envelope.sensors.gemm import (
    FORMATS,
    FULL_PAIRS,
    FULL_ROWS,
    QUICK_PAIRS,
    QUICK_ROWS,
    SQUARE,
    ChainTime,
    chain_times,
)
from envelope.sensors.support import sixteen_bit_support
from envelope.sensors.timing import QUIET_FRAC, Effort, Sample
from envelope.spec.load import Reporter

_CACHES = 4.0
"""Times the last-level cache that weights and caches of a timed run take, so that none of them stays in it."""

Mode = Literal["quick", "full", "custom"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, and how thoroughly."""

    mode: Mode
    effort: Effort
    patience_s: float
    """Time after which disturbed series are no longer repeated."""
    formats: tuple[str, ...]
    rows: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]
    """Shapes of the products."""
    extra_formats: tuple[str, ...]
    """Formats timed at few rows only, to report what an accuracy level costs."""
    heads: tuple[HeadShape, ...]
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    chunks: tuple[tuple[int, int], ...]
    expert_formats: tuple[str, ...]
    expert_tokens: tuple[int, ...]
    element_rows: tuple[int, ...]
    cold_bytes: float
    """Weights and caches that a timed run reads at least; more where the last-level cache is large."""
    array_bytes: float


QUICK = Plan(
    mode="quick", effort=Effort(2, 0.1, 1), patience_s=8.0, formats=("fp32", "int8", "int4_wo"), rows=QUICK_ROWS,
    pairs=QUICK_PAIRS, extra_formats=(), heads=(NARROW_HEADS,), batches=(1, 4), contexts=(16, 512, 2048),
    chunks=((16, 0), (128, 0), (512, 0), (2048, 0), (128, 384)), expert_formats=("int4_wo",),
    expert_tokens=QUICK_TOKENS, element_rows=QUICK_ELEMENT_ROWS, cold_bytes=128e6, array_bytes=128e6,
)  # fmt: skip
FULL = Plan(
    mode="full", effort=Effort(6, 0.5, 3), patience_s=90.0, formats=("fp32", "int8", "int8_wo", "int4_wo"),
    rows=FULL_ROWS, pairs=FULL_PAIRS, extra_formats=("int4_wo_f32",), heads=(NARROW_HEADS, WIDE_HEADS, UNSHARED_HEADS),
    batches=(1, 2, 8),
    contexts=(16, 128, 512, 1024, 2048),
    chunks=((16, 0), (64, 0), (128, 0), (256, 0), (512, 0), (1024, 0), (2048, 0), (128, 384), (128, 1920),
            (512, 1536)),
    expert_formats=tuple(EXPERT_FORMATS), expert_tokens=FULL_TOKENS, element_rows=FULL_ELEMENT_ROWS,
    cold_bytes=256e6, array_bytes=256e6,
)  # fmt: skip


def patient(plan: Plan, seconds: float) -> Plan:
    """Return a plan that waits up to ``seconds`` in all for quiet moments on a busy machine."""
    return replace(plan, effort=replace(plan.effort, retries=8, wait_s=seconds / 4), patience_s=seconds)


@dataclass(slots=True)
class CpuMeasured:
    """Everything that the sensors of the processor found; empty parts were not reached."""

    plan: Plan
    limit: CoreLimit
    bandwidth: list[BandwidthPoint] = field(default_factory=list)
    linear: dict[str, list[ChainTime]] = field(default_factory=dict)
    single: dict[str, ChainTime] = field(default_factory=dict)
    """One row on one thread by format: the kernel rate of a core."""
    decode: list[AttentionTime] = field(default_factory=list)
    prefill: list[AttentionTime] = field(default_factory=list)
    experts: dict[str, list[ExpertTime]] = field(default_factory=dict)
    elementwise: list[ElementwiseTime] = field(default_factory=list)
    call: Sample | None = None
    support: dict[str, str] = field(default_factory=dict)
    noise: conditions.Noise | None = None
    complete: bool = False
    wall_s: float = 0.0
    reads: list[float] = field(default_factory=list)
    """Bytes per second at which all threads read the memory, between any two steps."""


Step = tuple[str, float, Callable[[Effort], object]]
"""Label, rough share of the time, and the work."""


def probe_cpu(plan: Plan, report: Reporter, *, limit: CoreLimit | None = None) -> CpuMeasured:
    """Run the processor's sensors one after the other.

    Ctrl-C ends the probe early and keeps what is done (``complete`` is then false). Weights take at most a
    tenth of the free memory.
    """
    # A plan of one's own is taken as it is.
    cache = 0.0 if plan.mode == "custom" else conditions.last_level_cache_bytes() or 0.0
    free = memory_available_bytes()
    weights, array = (cold_bytes(wanted, free, cache) for wanted in (plan.cold_bytes, plan.array_bytes))
    found = CpuMeasured(replace(plan, cold_bytes=weights, array_bytes=array), limit or core_limit())
    steps = list(_steps(found))
    total, done = sum(weight for _, weight, _ in steps), 0.0
    witness = np.ones(int(found.plan.array_bytes / 4), dtype=np.float32)
    clock, start = conditions.cpu_clock(), time.perf_counter()
    try:
        for label, weight, work in steps:
            report(done / total, label)
            with ThreadPoolExecutor(found.limit.threads) as pool:
                found.reads.append(read_rate(pool, found.limit.threads, witness))
            work(replace(plan.effort, until_s=start + plan.patience_s))
            done += weight
        found.complete = True
    except KeyboardInterrupt:
        if not found.bandwidth or "fp32" not in found.linear:
            raise
    found.wall_s = time.perf_counter() - start
    found.noise = conditions.noise_between(clock, conditions.cpu_clock())
    report(1.0, "done")
    return found


def cold_bytes(wanted: float, free_bytes: float, cache_bytes: float) -> float:
    """Return how much a timed run reads: several times the last-level cache, at most a tenth of the free memory.

    >>> cold_bytes(256e6, 1e11, 384e6) / 1e6
    1536.0
    """
    if free_bytes / 10 < 16e6:
        raise EnvelopeError("too little free memory to probe; free some, or raise the container's limit")
    return min(max(wanted, _CACHES * cache_bytes), free_bytes / 10)


def _steps(found: CpuMeasured) -> Iterator[Step]:
    """Yield the steps, most useful first: an interrupted probe should still give a profile."""
    plan, threads = found.plan, found.limit.threads
    yield "memory bandwidth", 3, lambda e: found.bandwidth.extend(bandwidth_points(threads, plan.array_bytes, e))
    yield "elementwise operators", 1, partial(_elementwise, found)
    for key in plan.formats:
        yield f"matrix products, {FORMATS[key].text}", 16, partial(_linear, found, key)
        yield f"kernel rate of a core, {FORMATS[key].text}", 2, partial(_single, found, key)
    for heads in plan.heads:
        label = f"attention, {heads.kv_heads} of {heads.heads} heads, width {heads.head_dim}"
        yield label, 6, partial(_attention, found, heads)
    for key in plan.expert_formats:
        yield f"experts, {key}", 4, partial(_experts, found, key)
    for key in plan.extra_formats:
        yield f"accuracy level, {FORMATS[key].text}", 5, partial(_extra, found, key)
    yield "16-bit support", 1, lambda _: found.support.update(sixteen_bit_support())


def _elementwise(found: CpuMeasured, effort: Effort) -> None:
    threads = found.limit.threads
    found.call = call_time(threads, replace(effort, repeats=50))
    found.elementwise.extend(elementwise_times(found.plan.element_rows, threads, effort))


def _linear(found: CpuMeasured, key: str, effort: Effort) -> None:
    plan = found.plan
    threads = found.limit.threads
    times = chain_times(FORMATS[key], plan.rows, threads, plan.cold_bytes, pairs=plan.pairs, effort=effort)
    found.linear[key] = list(times)


def _extra(found: CpuMeasured, key: str, effort: Effort) -> None:
    plan = found.plan
    times = chain_times(FORMATS[key], (1, 8, 512), found.limit.threads, plan.cold_bytes, effort=effort)
    found.linear[key] = list(times)


def _single(found: CpuMeasured, key: str, effort: Effort) -> None:
    times = chain_times(FORMATS[key], (1,), 1, found.plan.cold_bytes, pairs=(SQUARE,), effort=effort)
    found.single[key] = next(iter(times))


def _attention(found: CpuMeasured, heads: HeadShape, effort: Effort) -> None:
    plan, threads = found.plan, found.limit.threads
    decode = list(decode_times(heads, plan.batches, plan.contexts, threads, plan.cold_bytes, effort))
    # Prefill is bound by arithmetic: sharing the cache makes no difference to it.
    new_width = heads.head_dim not in {t.shape.head_dim for t in found.prefill}
    prefill = list(prefill_times(heads, plan.chunks, threads, effort)) if new_width else []
    found.decode += decode
    found.prefill += prefill


def _experts(found: CpuMeasured, key: str, effort: Effort) -> None:
    plan = found.plan
    found.experts[key] = list(
        expert_times(key, plan.expert_tokens, found.limit.threads, plan.cold_bytes, effort=effort)
    )


def disturbed(found: CpuMeasured) -> list[str]:
    """Return the names of the quantities whose quietest series was still disturbed by others."""
    groups: list[tuple[str, list[Sample]]] = [("memory bandwidth", [p.sample for p in found.bandwidth])]
    groups += [(f"products {key}", [t.sample for t in times]) for key, times in found.linear.items()]
    groups += [("decode attention", [t.sample for t in found.decode])]
    groups += [("prefill attention", [t.sample for t in found.prefill])]
    groups += [(f"experts {key}", [t.sample for t in times]) for key, times in found.experts.items()]
    noted = []
    for name, samples in groups:
        count = sum(s.noise_frac > QUIET_FRAC for s in samples)
        if count:
            noted.append(f"{name}: {count} of {len(samples)} points")
    return noted

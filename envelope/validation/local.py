"""``envelope validate --local``: random-weight decoders on this machine against predictions from op probes alone.

Nothing is tuned on the decoder runs. The probes time single operators; the prediction is their sum over the decoder's
architecture; the decoder is then built and run.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import computed_field

from envelope.probe.conditions import cpu_clock, noise_between
from envelope.probe.cores import core_limit, memory_available_bytes
from envelope.probe.cpu import FULL, QUICK, patient, probe_cpu
from envelope.probe.cpu_profile import cpu_profile, default_id
from envelope.probe.power import assumed_power
from envelope.probe.timing import QUIET_FRAC, Effort, timed
from envelope.provenance import Frozen
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import Reporter
from envelope.validation.local_decoder import GRANITE_MOE, LLAMA_1B, QWEN_HALF_B, DecoderShape, build
from envelope.validation.local_predict import predict

Phase = Literal["decode", "prefill"]


@dataclass(frozen=True, slots=True)
class LocalPlan:
    """Which decoders run, and at which points."""

    decoders: tuple[tuple[DecoderShape, str], ...]
    """Architecture and number format."""
    prompts: tuple[int, ...]
    batches: tuple[int, ...]
    depths: tuple[int, ...]
    effort: Effort


FULL_LOCAL = LocalPlan(
    decoders=(
        (QWEN_HALF_B, "fp32"), (QWEN_HALF_B, "int8"), (QWEN_HALF_B, "int8_wo"), (QWEN_HALF_B, "int4_wo"),
        (LLAMA_1B, "fp32"), (LLAMA_1B, "int8"), (LLAMA_1B, "int4_wo"), (GRANITE_MOE, "int4_wo"),
    ),
    prompts=(128, 512, 2048), batches=(1, 2, 4, 8), depths=(0, 2048), effort=Effort(8, 1.5, 1),
)  # fmt: skip
QUICK_LOCAL = LocalPlan(
    decoders=((QWEN_HALF_B, "fp32"), (QWEN_HALF_B, "int8"), (QWEN_HALF_B, "int4_wo"), (GRANITE_MOE, "int4_wo")),
    prompts=(128, 512), batches=(1, 4), depths=(0, 2048), effort=Effort(5, 0.8, 1),
)  # fmt: skip


class LocalRow(Frozen):
    """One run beside its prediction."""

    decoder: str
    number_format: str
    phase: Phase
    batch: int
    new_tokens: int
    """Per sequence: 1 in decode, the prompt's length in prefill."""
    depth_tokens: int
    """Tokens in the cache before the step."""
    predicted_s: float
    measured_s: float
    """Best of the repeats."""
    spread_frac: float
    """(median − best) / best of the repeats."""
    noise_frac: float
    """Processor time that others took during the quietest series."""
    experts: bool

    @computed_field  # type: ignore[prop-decorator]
    @property
    def error_frac(self) -> float:
        """(predicted − measured) / measured."""
        return (self.predicted_s - self.measured_s) / self.measured_s


class LocalSummary(Frozen):
    """Errors of one group of runs."""

    group: Literal["decode", "prefill", "experts"]
    runs: int
    disturbed_runs: int
    """Runs during which others took over 5 % of the processor in every series; they count all the same."""
    median_error_frac: float
    p90_error_frac: float
    worst_error_frac: float
    target_median_frac: float
    target_p90_frac: float | None
    met: bool


class LocalResult(Frozen):
    """Everything that ``validate --local`` found."""

    profile: str
    rows: tuple[LocalRow, ...]
    summaries: tuple[LocalSummary, ...]
    skipped: tuple[str, ...]
    """Decoders that did not run, with the reason."""
    foreign_cpu_frac: float | None
    steal_cpu_frac: float | None
    probe_warnings: tuple[str, ...]
    complete: bool


_TARGETS: dict[str, tuple[float, float | None]] = {
    "decode": (0.10, 0.25), "prefill": (0.12, None), "experts": (0.20, None),
}  # fmt: skip
"""Median and 90th percentile of the error that a quiet machine should reach."""


def validate_local(
    report: Reporter,
    *,
    quick: bool = False,
    profile: HardwareProfile | None = None,
    plan: LocalPlan | None = None,
    patience_s: float = 0.0,
) -> LocalResult:
    """Probe this machine (unless a probed ``profile`` of it is given), run the decoders and score the predictions.

    ``patience_s`` is how long to wait, in the probe and again in the runs, for quiet moments on a busy machine.
    Ctrl-C keeps the runs that are done.
    """
    used = profile or _probe(quick, patience_s, lambda share, what: report(0.4 * share, what))
    chosen = _patient(plan or (QUICK_LOCAL if quick else FULL_LOCAL), patience_s)
    rows: list[LocalRow] = []
    skipped: list[str] = []
    clock, complete = cpu_clock(), True
    try:
        for index, (shape, key) in enumerate(chosen.decoders):
            report(0.4 + 0.6 * index / len(chosen.decoders), f"{shape.name} {key}")
            reason = too_large(shape, key, chosen)
            if reason:
                skipped.append(reason)
            else:
                rows.extend(_runs(used, shape, key, chosen, core_limit().threads))
    except KeyboardInterrupt:
        complete = False
        if not rows:
            raise
    report(1.0, "done")
    noise = noise_between(clock, cpu_clock())
    return LocalResult(
        profile=used.id,
        rows=tuple(rows),
        summaries=tuple(summaries(rows)),
        skipped=tuple(skipped),
        foreign_cpu_frac=noise.foreign_frac if noise else None,
        steal_cpu_frac=noise.steal_frac if noise else None,
        probe_warnings=used.conditions.warnings if used.conditions else (),
        complete=complete,
    )


def _patient(plan: LocalPlan, seconds: float) -> LocalPlan:
    if seconds <= 0:
        return plan
    until = time.perf_counter() + seconds
    return replace(plan, effort=replace(plan.effort, retries=6, wait_s=seconds / 4, until_s=until))


def _probe(quick: bool, patience_s: float, report: Reporter) -> HardwareProfile:
    plan = QUICK if quick else FULL
    found = probe_cpu(patient(plan, patience_s) if patience_s > 0 else plan, report)
    return cpu_profile(found, default_id(found), power=assumed_power(found.limit.cores))


def too_large(shape: DecoderShape, key: str, plan: LocalPlan) -> str:
    """Return why a decoder does not fit the free memory, or an empty string.

    Loading holds the weights twice for a while: as given and as packed by the runtime.
    """
    heads, longest = shape.heads, max(plan.depths) + max(1, *plan.prompts)
    cache = max(plan.batches) * shape.layers * heads.cache_bytes(1, max(plan.depths) + 1)
    activations = 12.0 * max(plan.prompts) * max(shape.ffn, shape.hidden) * 4.0 + heads.heads * longest * 1e4
    needed, free = 2.2 * shape.weight_bytes(key) + cache + activations, memory_available_bytes()
    if needed < 0.7 * free:
        return ""
    return f"{shape.name} {key}: needs {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"


def _runs(profile: HardwareProfile, shape: DecoderShape, key: str, plan: LocalPlan, threads: int) -> Iterator[LocalRow]:
    points = [(b, 1, d) for d in plan.depths for b in plan.batches] + [(1, p, 0) for p in plan.prompts]
    # Predicted before anything of the decoder runs.
    predicted = [predict(profile, shape, key, b, new, depth).step_s for b, new, depth in points]
    decoder = build(shape, key, max(max(plan.depths) + 1, *plan.prompts), threads)
    for (batch, new, depth), seconds in zip(points, predicted, strict=True):
        sample = timed(decoder.step(batch, new, depth), plan.effort, warm_up=1 if seconds < 3.0 else 0)
        yield LocalRow(
            decoder=shape.name, number_format=key, phase="decode" if new == 1 else "prefill", batch=batch,
            new_tokens=new, depth_tokens=depth, predicted_s=seconds, measured_s=sample.best_s,
            spread_frac=sample.spread_frac, noise_frac=sample.noise_frac, experts=shape.experts is not None,
        )  # fmt: skip


def summaries(rows: Sequence[LocalRow]) -> Iterator[LocalSummary]:
    """Yield the errors of dense decode, dense prefill and sparse decoders."""
    groups: dict[Literal["decode", "prefill", "experts"], Callable[[LocalRow], bool]] = {
        "decode": lambda r: r.phase == "decode" and not r.experts,
        "prefill": lambda r: r.phase == "prefill" and not r.experts,
        "experts": lambda r: r.experts,
    }
    for group, belongs in groups.items():
        own = [r for r in rows if belongs(r)]
        errors = sorted(abs(r.error_frac) for r in own)
        if not errors:
            continue
        median, p90 = statistics.median(errors), errors[min(int(0.9 * len(errors)), len(errors) - 1)]
        target, target_p90 = _TARGETS[group]
        yield LocalSummary(
            group=group,
            runs=len(own),
            disturbed_runs=sum(r.noise_frac > QUIET_FRAC for r in own),
            median_error_frac=median,
            p90_error_frac=p90,
            worst_error_frac=errors[-1],
            target_median_frac=target,
            target_p90_frac=target_p90,
            met=median <= target and (target_p90 is None or p90 <= target_p90),
        )

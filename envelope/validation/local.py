"""``envelope validate --local``: random-weight decoders on this machine against predictions from op probes alone.

Nothing is tuned on the decoder runs. The probes time single operators; the prediction is their sum over the decoder's
architecture; the decoder is then built and run.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from envelope.provenance import Frozen
from envelope.sensors.conditions import cpu_clock, noise_between
from envelope.sensors.cores import core_limit, memory_available_bytes
from envelope.sensors.cpu import FULL, QUICK, patient, probe_cpu
from envelope.sensors.cpu_profile import cpu_profile, default_id
from envelope.sensors.decoder_shape import GRANITE_MOE, LLAMA_1B, QWEN_HALF_B, DecoderShape
from envelope.sensors.llama_bench import LlamaBench
from envelope.sensors.llama_rates import with_llama_rates
from envelope.sensors.power import assumed_power
from envelope.sensors.timing import LONG_S, TURNS, Effort, Sample, joined, of_one_turn, timed, wait_for_quiet
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import Reporter
from envelope.validation.local_decoder import Decoder, build
from envelope.validation.local_predict import predict
from envelope.validation.local_score import LocalRow, LocalSummary, is_disturbed, summaries
from envelope.validation.local_witness import MemoryWitness

_WAIT_S = 3.0
"""How long a disturbed run waits for a quiet moment before another chance, without patience."""
_AGAIN_S = 10.0
"""Predicted length from which a disturbed run gets no other chance: it saw quiet moments and others."""


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
    prompts=(128, 512, 2048), batches=(1, 2, 4, 8), depths=(0, 2048), effort=Effort(12, 1.5, 0),
)  # fmt: skip
QUICK_LOCAL = LocalPlan(
    decoders=((QWEN_HALF_B, "fp32"), (QWEN_HALF_B, "int8"), (QWEN_HALF_B, "int4_wo"), (GRANITE_MOE, "int4_wo")),
    prompts=(128, 512), batches=(1, 4), depths=(0, 2048), effort=Effort(6, 0.8, 0),
)  # fmt: skip


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

    def with_rows(self, more: Sequence[LocalRow], skipped: Sequence[str] = ()) -> "LocalResult":
        """Return the result with further runs, scored anew."""
        rows = (*self.rows, *more)
        scored = {"rows": rows, "summaries": tuple(summaries(rows)), "skipped": (*self.skipped, *skipped)}
        return self.changed(**scored)


def probed_profile(
    report: Reporter, *, quick: bool = False, patience_s: float = 0.0, llama_bench: LlamaBench | None = None
) -> HardwareProfile:
    """Probe this machine's processor, and a llama.cpp on it, and return the profile; nothing is written."""
    plan, operators = QUICK if quick else FULL, 0.6 if llama_bench else 1.0
    found = probe_cpu(
        patient(plan, patience_s) if patience_s > 0 else plan, lambda share, what: report(operators * share, what)
    )
    profile = cpu_profile(found, default_id(found), power=assumed_power(found.limit.cores))
    if llama_bench is None:
        return profile
    return with_llama_rates(profile, llama_bench, lambda share, what: report(operators + 0.4 * share, what))


def validate_local(
    report: Reporter, *, profile: HardwareProfile, plan: LocalPlan = FULL_LOCAL, patience_s: float = 0.0
) -> LocalResult:
    """Run the decoders and score the predictions from a ``profile`` that was probed on this machine.

    Disturbed runs get another chance; ``patience_s`` is how long to wait for quiet moments in all. Ctrl-C keeps the
    runs that are done.
    """
    chosen = _patient(plan, patience_s)
    threads = core_limit().threads
    rows: list[LocalRow] = []
    skipped: list[str] = []
    clock, complete, witness = cpu_clock(), True, MemoryWitness(profile, threads)
    try:
        for index, (shape, key) in enumerate(chosen.decoders):
            name, share = f"{shape.name} {key}", index / len(chosen.decoders)
            report(share, name)
            reason = too_large(shape, key, chosen)
            if reason:
                skipped.append(reason)
            else:
                tell = partial(_tell, report, share, name)
                rows.extend(_runs(profile, shape, key, chosen, threads, witness, tell))
    except KeyboardInterrupt:
        complete = False
        if not rows:
            raise
    report(1.0, "done")
    noise = noise_between(clock, cpu_clock())
    return LocalResult(
        profile=profile.id,
        rows=tuple(rows),
        summaries=tuple(summaries(rows)),
        skipped=tuple(skipped),
        foreign_cpu_frac=noise.foreign_frac if noise else None,
        steal_cpu_frac=noise.steal_frac if noise else None,
        probe_warnings=profile.conditions.warnings if profile.conditions else (),
        complete=complete,
    )


def _tell(report: Reporter, share: float, name: str, what: str) -> None:
    report(share, f"{name}: {what}")


def _patient(plan: LocalPlan, seconds: float) -> LocalPlan:
    if seconds <= 0:
        return plan
    until = time.perf_counter() + seconds
    return replace(plan, effort=replace(plan.effort, retries=6, wait_s=seconds / 4, until_s=until))


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


Point = tuple[int, int, int]
"""Sequences, new tokens of each, tokens of each in the cache."""


@dataclass(frozen=True, slots=True)
class _Run:
    sample: Sample
    memory_frac: float | None

    @property
    def disturbed(self) -> bool:
        return is_disturbed(self.sample.noise_frac, self.memory_frac)


def _runs(
    profile: HardwareProfile, shape: DecoderShape, key: str, plan: LocalPlan, threads: int, witness: MemoryWitness,
    tell: Callable[[str], None],
) -> Iterator[LocalRow]:  # fmt: skip
    points = [(b, 1, d) for d in plan.depths for b in plan.batches] + [(1, p, 0) for p in plan.prompts]
    # Predicted before anything of the decoder runs.
    predicted = {point: predict(profile, shape, key, *point).step_s for point in points}
    tell("building")
    decoder = build(shape, key, max(max(plan.depths) + 1, *plan.prompts), threads)
    found: dict[Point, list[_Run]] = {}
    stopped: KeyboardInterrupt | None = None
    try:
        _measure(found, predicted, decoder, plan.effort, witness, tell)
    except KeyboardInterrupt as stop:
        stopped = stop
    for (batch, new, depth), turns in found.items():
        run = _joined(turns)
        yield LocalRow(
            decoder=shape.name, number_format=key, phase="decode" if new == 1 else "prefill", batch=batch,
            new_tokens=new, depth_tokens=depth, predicted_s=predicted[batch, new, depth],
            measured_s=run.sample.median_s, spread_frac=run.sample.spread_frac if run.sample.repeats > 1 else None,
            noise_frac=run.sample.noise_frac, memory_frac=run.memory_frac, experts=shape.experts is not None,
        )  # fmt: skip
    if stopped is not None:
        raise stopped


def _measure(
    found: dict[Point, list[_Run]], predicted: dict[Point, float], decoder: Decoder, effort: Effort,
    witness: MemoryWitness, tell: Callable[[str], None],
) -> None:  # fmt: skip
    """Fill in the turns of every point; those whose turns were all disturbed get one more when the machine is quiet."""
    part = of_one_turn(effort)
    for turn in range(TURNS):
        for point, seconds in predicted.items():
            tell(_point_name(point))
            if turn == 0 or seconds < LONG_S:
                found.setdefault(point, []).append(_run(decoder, point, seconds, part, witness))
    for point in [p for p, turns in found.items() if all(t.disturbed for t in turns) and predicted[p] < _AGAIN_S]:
        tell(f"{_point_name(point)}, again")
        wait_for_quiet(max(min(effort.wait_s, effort.until_s - time.perf_counter()), _WAIT_S))
        found[point].append(_run(decoder, point, predicted[point], part, witness))


def _point_name(point: Point) -> str:
    batch, new, depth = point
    return f"prompt of {new:,}" if new > 1 else f"decode, batch {batch}, depth {depth:,}"


def _joined(turns: Sequence[_Run]) -> _Run:
    """Return the turns as one run, the undisturbed ones if there are any."""
    chosen = [t for t in turns if not t.disturbed] or list(turns)
    shares = [t.memory_frac for t in chosen if t.memory_frac is not None]
    return _Run(joined([t.sample for t in chosen]), statistics.fmean(shares) if shares else None)


def _run(decoder: Decoder, point: Point, predicted_s: float, effort: Effort, witness: MemoryWitness) -> _Run:
    """Time one step between two looks at the memory."""
    step = decoder.step(*point)
    before = witness.share()
    sample = timed(step, effort, warm_up=1 if predicted_s < LONG_S else 0)
    shares = [share for share in (before, witness.share()) if share is not None]
    return _Run(sample, statistics.fmean(shares) if shares else None)

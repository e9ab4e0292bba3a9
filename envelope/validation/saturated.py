"""Predictions of systems under full load: steady batches, saturation, latency limits, one phase alone."""

import math
import re
from dataclasses import dataclass, replace

from envelope.perf.memory import fit
from envelope.perf.replica import ReplicaSpec
from envelope.perf.steady import Steady, held_tokens, steady_state
from envelope.spec.deployment import MOST
from envelope.spec.step import StepTables, rank_tables
from envelope.validation.hosts import wall_w
from envelope.validation.loads import offline_run
from envelope.validation.rows import MeasuredRow
from envelope.validation.shapes import (
    Found,
    Shape,
    bound_at,
    decode_step_s,
    limits_of,
    loop_of,
    per_reference,
    prompt_s,
    shape_of,
)
from envelope.validation.target import Target, layouts, target_of

SLO_LOAD_FRAC = 0.92
"""Share of the steady-state throughput at which a 99th percentile within limits can be held under Poisson arrivals
(median ratio of MLPerf Server to Offline results of the same system and model with loose limits)."""
_SATURATED_SEQS = 2048
"""Sequences in flight at most in a saturated run: the default of TensorRT-LLM's ``max_batch_size``."""
_NORMAL_99 = 2.326
"""99th percentile of the standard normal distribution."""
_LEAST_STEP_TOKENS, _MOST_STEP_TOKENS = 2048, 32_768
_LONG_RUN_WAVES = 8.0
"""Multiples of the batch from which on the ends of an offline run hardly count."""


def _steady(row: MeasuredRow) -> tuple[Steady, Target, StepTables, float, Shape]:
    target = target_of(row)
    tables, shape = target.tables(), shape_of(row)
    sequences = max((row.batch or 1.0) / target.replicas, 1.0)
    return steady_state(tables, loop_of(target, shape, sequences)), target, tables, sequences, shape


def steady_itl(row: MeasuredRow, _: str | None) -> Found:
    """Return the inter-token time of a steady batch; the median is a step without prefill where most are."""
    state, target, tables, sequences, shape = _steady(row)
    if row.statistic != "median":
        return state.itl_s, bound_at(tables, sequences), target
    none = math.exp(-sequences * target.replica.tokens_per_step / shape.output_tokens)
    step = state.decode_step_s if none > 0.5 else state.itl_s * target.replica.tokens_per_step
    return step / target.replica.tokens_per_step, bound_at(tables, sequences), target


def steady_throughput(row: MeasuredRow, _: str | None) -> Found:
    """Return the token rate of a steady batch."""
    state, target, tables, sequences, shape = _steady(row)
    tokens = shape.output_tokens + (shape.input_tokens if row.counts_input else 0.0)
    rate = target.replicas * sequences * tokens / state.e2e_s
    return per_reference(row, target, rate), bound_at(tables, sequences), target


def steady_power(row: MeasuredRow, _: str | None) -> Found:
    """Return the watts of all devices of a steady batch."""
    state, target, tables, sequences, _shape = _steady(row)
    return state.power_w * target.replicas, bound_at(tables, sequences), target


def steady_energy(row: MeasuredRow, _: str | None) -> Found:
    """Return the joules per output token of a steady batch."""
    state, target, tables, sequences, shape = _steady(row)
    rate = sequences * shape.output_tokens / state.e2e_s
    return state.power_w / rate, bound_at(tables, sequences), target


@dataclass(frozen=True, slots=True)
class Saturated:
    """A system at full load."""

    target: Target
    state: Steady
    sequences: float
    """In flight on each replica."""
    rate: float
    """Output tokens per second of all replicas."""


def best_saturated(row: MeasuredRow) -> Saturated:
    """Return the fastest layout at its best batch, within the latency limits if the load has any."""
    shape = shape_of(row)
    found = [_saturate(row, target, shape) for target in layouts(row)]
    if row.load == "slo":
        limit = limits_of(row, shape).ttft_s
        found = [replace(one, rate=one.rate * _slo_share(one, shape, limit)) for one in found]
    return max(found, key=lambda s: s.rate)


def _saturate(row: MeasuredRow, target: Target, shape: Shape) -> Saturated:
    replica = _offline(target.replica, shape, row)
    target = Target(replica, target.replicas, target.host, target.assumed)
    most = _held(replica, shape)
    tables = target.tables()
    limit = limits_of(row, shape).tpot_s
    if limit is not None:
        most = _largest_within(tables, target, shape, most, limit)
    state = steady_state(tables, loop_of(target, shape, float(most)))
    rate = target.replicas * most * shape.output_tokens / state.e2e_s
    if row.requests is not None and row.requests < _LONG_RUN_WAVES * most * target.replicas:
        rate = offline_run(row, target, row.requests, shape.input_tokens, shape.output_tokens).output_tokens_per_s
    return Saturated(target, state, float(most), rate)


def _held(replica: ReplicaSpec, shape: Shape) -> int:
    """Return the sequences in flight that memory and limit allow."""
    held = fit(replica).max_concurrency(held_tokens(replica.engine, shape.input_tokens, shape.output_tokens))
    return min(max(held, 1), replica.max_num_seqs)


def _offline(replica: ReplicaSpec, shape: Shape, row: MeasuredRow) -> ReplicaSpec:
    """Return a replica as those set it who measure saturation: the widest batch, and a step to feed it.

    Offline, the step holds what the batch calls for, n·(1 + input/output) tokens, between 2,048 and 32,768
    (``trtllm-bench``, NVIDIA/TensorRT-LLM tensorrt_llm/bench/build/tuning.py@04cba882).
    """
    ranks = replica.parallelism.dp
    replica = replace(replica, settings=replica.settings.changed(max_num_seqs=min(_SATURATED_SEQS * ranks, MOST)))
    if row.load != "saturated" or row.max_num_batched_tokens is not None:
        return replica
    called = _held(replica, shape) / ranks * (1.0 + shape.input_tokens / shape.output_tokens)
    tokens = round(min(max(called, _LEAST_STEP_TOKENS), _MOST_STEP_TOKENS))
    return replace(replica, settings=replica.settings.changed(max_num_batched_tokens=tokens))


def _largest_within(tables: StepTables, target: Target, shape: Shape, most: int, tpot_s: float) -> int:
    """Return the largest batch whose 99th percentile of the inter-token time stays within a limit (1 if none does)."""
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        slow = _high_itl_s(tables, target, shape, float(middle)) > tpot_s
        low, high = (low, middle - 1) if slow else (middle, high)
    return low


def _high_itl_s(tables: StepTables, target: Target, shape: Shape, sequences: float) -> float:
    """Return the 99th percentile over requests of the mean inter-token time in a batch of ``sequences``.

    While a request decodes, about as many prompts are computed beside it as there are sequences; with Poisson
    arrivals and lengths of variation c their work has the relative deviation √((1 + c²)/n), and only the prefill's
    share of the time varies with it.
    """
    state = steady_state(tables, loop_of(target, shape, sequences))
    prefill = _prefill_frac(state, target)
    spread = math.sqrt((1.0 + _length_cv(shape) ** 2) / max(sequences, 1.0))
    return state.itl_s * (1.0 + _NORMAL_99 * prefill * spread)


def _prefill_frac(state: Steady, target: Target) -> float:
    """Return the share of the time that prefill takes in a steady state."""
    return 1.0 - state.decode_step_s / (state.itl_s * target.replica.tokens_per_step)


def _length_cv(shape: Shape) -> float:
    return shape.dataset.length_cv if shape.dataset else 0.0


def _slo_share(best: Saturated, shape: Shape, limit: float | None) -> float:
    """Return the share of the saturated rate at which 99 % of first tokens come within the limit.

    Prompts queue for prefill, which takes the share φ of all time at saturation, each for a time S: with Poisson
    arrivals and service times of variation c the wait has a tail of mean S·(1 + c²)·ρ/(2(1 − ρ)) (Pollaczek and
    Khinchine), so its 99th percentile is about ln(100) times that. It may not exceed limit − S, which gives ρ, and ρ/φ
    is the share.
    """
    if limit is None:
        return SLO_LOAD_FRAC
    target, state = best.target, best.state
    alone = prompt_s(rank_tables(target.tables(), target.replica.parallelism.dp), shape.input_tokens)
    room = max(limit - alone, 0.05 * limit)
    tail_s = alone * (1.0 + _length_cv(shape) ** 2) * math.log(100.0) / 2.0
    rho = 1.0 / (1.0 + tail_s / room)
    return min(SLO_LOAD_FRAC, rho / max(_prefill_frac(state, target), 1e-9))


def saturated_throughput(row: MeasuredRow, _: str | None) -> Found:
    """Return the token rate at full load, within the latency limits if the load has any."""
    best, shape = best_saturated(row), shape_of(row)
    rate = best.rate
    if row.counts_input:
        rate *= (shape.input_tokens + shape.output_tokens) / shape.output_tokens
    bound = bound_at(best.target.tables(), best.sequences)
    return per_reference(row, best.target, rate), bound, best.target


def saturated_energy(row: MeasuredRow, _: str | None) -> Found:
    """Return the joules per output token at full load."""
    best = best_saturated(row)
    watts = wall_w(best.state.power_w * best.target.replicas, best.target, row)
    return watts / best.rate, bound_at(best.target.tables(), best.sequences), best.target


def saturated_wall(row: MeasuredRow, _: str | None) -> Found:
    """Return the watts at the wall at full load."""
    best = best_saturated(row)
    watts = wall_w(best.state.power_w * best.target.replicas, best.target, row)
    return watts, bound_at(best.target.tables(), best.sequences), best.target


def slo_tpot(row: MeasuredRow, _: str | None) -> Found:
    """Return the time per output token at the highest load within the limits."""
    best = best_saturated(row)
    return best.state.itl_s, bound_at(best.target.tables(), best.sequences), best.target


def slo_ttft(row: MeasuredRow, _: str | None) -> Found:
    """Return the time to first token at the highest load within the limits."""
    best = best_saturated(row)
    return best.state.ttft_s, bound_at(best.target.tables(), best.sequences), best.target


def phase_prefill(row: MeasuredRow, _: str | None) -> Found:
    """Return the rate of prefill alone with full token budgets."""
    target = target_of(row)
    tables, shape = target.tables(), shape_of(row)
    prompts = max(tables.max_batched_tokens / shape.input_tokens, 1.0)
    time = prompt_s(tables, shape.input_tokens, 0.0, prompts)
    rate = target.replicas * prompts * shape.input_tokens / time
    return (
        per_reference(row, target, rate / (1 - _cached_frac(row))),
        bound_at(tables, tables.max_batched_tokens),
        target,
    )


def _cached_frac(row: MeasuredRow) -> float:
    """Return the share of prompt tokens that a prefill rate counts although a cache supplied them."""
    match = re.search(r"([\d.]+)\s*% on-disk KV cache hits", row.notes)
    return float(match[1]) / 100 if match and "incl" in row.unit else 0.0


@dataclass(frozen=True, slots=True)
class Phase:
    """Decode alone at a full batch."""

    target: Target
    sequences: float
    """In flight on each replica."""
    rate: float
    """Output tokens per second of each replica."""


def decode_phase(row: MeasuredRow) -> Phase:
    """Return decode alone on the row's devices, at the batch it states, else at the largest that is usual and fits."""
    target = target_of(row)
    shape = shape_of(row)
    context = shape.input_tokens + (shape.output_tokens / 2 if row.output_tokens else 0.0)
    stated = re_batch(row)
    devices = target.replica.parallelism.devices
    held = fit(target.replica).max_concurrency(context)
    wanted = stated * devices if stated else min(held, 256 * devices)
    settings = target.replica.settings.changed(max_num_seqs=min(max(math.ceil(wanted), 1), MOST))
    replica = replace(target.replica, settings=settings)
    target = Target(replica, target.replicas, target.host, target.assumed)
    step = decode_step_s(target, target.tables(), wanted, context)
    return Phase(target, wanted, wanted * replica.tokens_per_step / step)


def phase_decode(row: MeasuredRow, _: str | None) -> Found:
    """Return the rate of decode alone at a full batch."""
    phase = decode_phase(row)
    rate = phase.target.replicas * phase.rate
    return per_reference(row, phase.target, rate), bound_at(phase.target.tables(), phase.sequences), phase.target


def re_batch(row: MeasuredRow) -> float | None:
    """Return the batch per device of a phase row (stated in the batch field or in the notes), or ``None``."""
    match = re.search(r"batch (\d+) per GPU", row.notes)
    return float(match[1]) if match else row.batch

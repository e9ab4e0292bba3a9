"""Predictions for measured rows, one function per kind of load; nothing here knows a particular row."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from envelope.errors import InputError
from envelope.perf.memory import fit
from envelope.perf.steady import Loop, Steady, prefill_attention_s, steady_state, step_s
from envelope.spec.step import BOUNDS, StepTables
from envelope.validation.datasets import Dataset, load_datasets
from envelope.validation.hosts import wall_w
from envelope.validation.loads import LoadRun, closed_loop_run, open_loop_run, replay_run
from envelope.validation.rows import MeasuredRow
from envelope.validation.target import Target, UnmappableError, layouts, target_of

SLO_LOAD_FRAC = 0.92
"""Share of the steady-state throughput at which a 99th percentile within limits can be held under Poisson arrivals
(median ratio of MLPerf Server to Offline results of the same system and model with loose limits)."""
_SATURATED_SEQS = 2048
"""Sequences in flight at most in a saturated run: the default of TensorRT-LLM's ``max_batch_size``."""
_UNKNOWN_OUTPUT_TOKENS = 128.0
_NODE_GPUS = 8


@dataclass(frozen=True, slots=True)
class Prediction:
    """A predicted value in SI and what the model believed to be the limit."""

    value: float
    bound: str
    target: Target


@dataclass(frozen=True, slots=True)
class Shape:
    """Request lengths of a row, its data set's where it states none."""

    input_tokens: float
    output_tokens: float
    dataset: Dataset | None


def predict(row: MeasuredRow, requests_path: str | None = None) -> Prediction:
    """Return the prediction of what a row measured.

    Raises ``UnmappableError`` with the reason when the row cannot be mapped or its load is not modelled.
    """
    rule = _RULES.get((row.quantity, row.load)) or _BY_LOAD.get(row.load)
    if rule is None:
        raise UnmappableError(f"no prediction of {row.quantity} under load {row.load!r}")
    try:
        value, bound, target = rule(row, requests_path)
    except (InputError, LookupError, ValueError, ArithmeticError) as error:
        raise UnmappableError(f"no prediction: {str(error).splitlines()[0] if str(error) else error!r}") from error
    if not (math.isfinite(value) and value > 0):
        raise UnmappableError("the prediction is not a positive number")
    return Prediction(value, bound, target)


Found = tuple[float, str, Target]


def shape_of(row: MeasuredRow) -> Shape:
    """Return the request lengths of a row."""
    dataset = load_datasets().get(row.dataset) if row.dataset else None
    given = row.input_tokens if row.input_tokens is not None else dataset.input_tokens if dataset else None
    output = row.output_tokens if row.output_tokens else dataset.output_tokens if dataset else None
    return Shape(given if given is not None else 512.0, output or _UNKNOWN_OUTPUT_TOKENS, dataset)


def _bound(tables: StepTables, tokens: float) -> str:
    return BOUNDS[int(tables.bound[min(max(round(tokens), 1), tables.max_batched_tokens)])]


def _loop(target: Target, shape: Shape, sequences: float) -> Loop:
    replica = target.replica
    return Loop(
        input_tokens=max(round(shape.input_tokens), 1),
        output_tokens=max(round(shape.output_tokens), 1),
        concurrency=sequences,
        query_tokens=replica.query_tokens,
        tokens_per_step=replica.tokens_per_step,
        static=replica.engine.batching == "static",
    )


# One request, or one batch, at a time


def decode_step_s(target: Target, tables: StepTables, sequences: float, context: float) -> float:
    """Return the time of one pure decode step."""
    return step_s(tables, Loop(1, 2, sequences, target.replica.query_tokens), sequences, context)


def prompt_s(tables: StepTables, tokens: float, cached: float = 0.0, sequences: float = 1.0) -> float:
    """Return the time to compute ``sequences`` prompts of ``tokens`` after ``cached`` ones, alone, budget by budget."""
    total, done = 0.0, 0.0
    budget = float(tables.max_batched_tokens)
    whole = tokens * sequences
    while done < whole - 1e-9:
        part = min(budget, whole - done)
        position = done % tokens if sequences == 1 else 0.0
        loop = Loop(max(round(part), 1), 1, 1.0)
        step = step_s(tables, loop, 0.0, 0.0, part) - prefill_attention_s(tables, 0.0, float(max(round(part), 1)))
        if sequences == 1:
            step += prefill_attention_s(tables, cached + position, cached + position + part)
        else:
            step += part / tokens * prefill_attention_s(tables, cached, cached + tokens)
        total += step
        done += part
    return total


def _single_decode_rate(row: MeasuredRow, _: str | None) -> Found:
    target = target_of(row)
    tables, shape = target.tables(), shape_of(row)
    sequences = max(row.batch or 1.0, 1.0)
    context = row.depth_tokens + shape.input_tokens * (row.input_tokens != 0) + shape.output_tokens / 2
    step = decode_step_s(target, tables, sequences, context)
    return sequences * target.replica.tokens_per_step / step, _bound(tables, sequences), target


def _prefill_rate(row: MeasuredRow, _: str | None) -> Found:
    target = target_of(row)
    tables, shape = target.tables(), shape_of(row)
    sequences = max(row.batch or 1.0, 1.0) if row.load == "batch" else 1.0
    time = prompt_s(tables, shape.input_tokens, row.depth_tokens, sequences)
    bound = _bound(tables, min(shape.input_tokens * sequences, tables.max_batched_tokens))
    return shape.input_tokens * sequences / time, bound, target


def _unloaded_ttft(row: MeasuredRow, _: str | None) -> Found:
    target = target_of(row)
    tables, shape = target.tables(), shape_of(row)
    time = tables.request_overhead_s + prompt_s(tables, shape.input_tokens, row.depth_tokens)
    return time, _bound(tables, shape.input_tokens), target


def _single_tpot(row: MeasuredRow, _: str | None) -> Found:
    rate, bound, target = _single_decode_rate(row, None)
    return max(row.batch or 1.0, 1.0) / rate, bound, target


def _single_latency(row: MeasuredRow, _: str | None) -> Found:
    ttft, _bound_, target = _unloaded_ttft(row, None)
    tpot, bound, _target = _single_tpot(row, None)
    return ttft + (shape_of(row).output_tokens - 1) * tpot, bound, target


def batch_s(target: Target, shape: Shape, sequences: float) -> float:
    """Return the time of one static batch: all prompts, then all steps, in waves if the KV cache holds fewer."""
    tables = target.tables()
    context = shape.input_tokens + shape.output_tokens
    held = max(min(fit(target.replica).max_concurrency(context), tables.max_num_seqs), 1)
    waves = math.ceil(sequences / held)
    each = sequences / waves
    prefill = prompt_s(tables, max(shape.input_tokens, 1.0), 0.0, each)
    decodes = (shape.output_tokens - 1) / target.replica.tokens_per_step
    step = decode_step_s(target, tables, each, shape.input_tokens + shape.output_tokens / 2)
    return waves * (prefill + decodes * step) + tables.request_overhead_s


def _batch_throughput(row: MeasuredRow, _: str | None) -> Found:
    target, shape = target_of(row), shape_of(row)
    sequences = max(row.batch or 1.0, 1.0)
    tokens = shape.output_tokens + (shape.input_tokens if row.counts_input else 0.0)
    value = sequences * tokens / batch_s(target, shape, sequences)
    return _per(row, target, value), _bound(target.tables(), sequences), target


def _batch_latency(row: MeasuredRow, _: str | None) -> Found:
    target, shape = target_of(row), shape_of(row)
    sequences = max(row.batch or 1.0, 1.0)
    return batch_s(target, shape, sequences), _bound(target.tables(), sequences), target


def _per(row: MeasuredRow, target: Target, system_rate: float) -> float:
    """Return a rate of the whole system in the row's reference (system, GPU or node of eight)."""
    devices = max(target.devices, 1)
    if row.per == "gpu":
        return system_rate / devices
    return system_rate * _NODE_GPUS / devices if row.per == "node" else system_rate


def _single_wall(row: MeasuredRow, _: str | None) -> Found:
    target = target_of(row)
    tables = target.tables()
    return wall_w(float(tables.step_w[1]) * target.replicas, target, row), _bound(tables, 1.0), target


# Steady states


def _steady(row: MeasuredRow) -> tuple[Steady, Target, StepTables, float, Shape]:
    target = target_of(row)
    tables, shape = target.tables(), shape_of(row)
    sequences = max((row.batch or 1.0) / target.replicas, 1.0)
    return steady_state(tables, _loop(target, shape, sequences)), target, tables, sequences, shape


def _steady_itl(row: MeasuredRow, _: str | None) -> Found:
    state, target, tables, sequences, shape = _steady(row)
    if row.statistic != "median":
        return state.itl_s, _bound(tables, sequences), target
    none = math.exp(-sequences * target.replica.tokens_per_step / shape.output_tokens)
    step = state.decode_step_s if none > 0.5 else state.itl_s * target.replica.tokens_per_step
    return step / target.replica.tokens_per_step, _bound(tables, sequences), target


def _steady_throughput(row: MeasuredRow, _: str | None) -> Found:
    state, target, tables, sequences, shape = _steady(row)
    tokens = shape.output_tokens + (shape.input_tokens if row.counts_input else 0.0)
    rate = target.replicas * sequences * tokens / state.e2e_s
    return _per(row, target, rate), _bound(tables, sequences), target


def _steady_power(row: MeasuredRow, _: str | None) -> Found:
    state, target, tables, sequences, _shape = _steady(row)
    return state.power_w * target.replicas, _bound(tables, sequences), target


def _steady_energy(row: MeasuredRow, _: str | None) -> Found:
    state, target, tables, sequences, shape = _steady(row)
    rate = sequences * shape.output_tokens / state.e2e_s
    return state.power_w / rate, _bound(tables, sequences), target


# Saturation


@dataclass(frozen=True, slots=True)
class _Saturated:
    target: Target
    state: Steady
    sequences: float
    rate: float
    """Output tokens per second of all replicas."""


def _saturated(row: MeasuredRow) -> _Saturated:
    """Return the fastest layout at its best batch, within the latency limits if the load has any."""
    shape = shape_of(row)
    found = [_saturate(row, target, shape) for target in layouts(row)]
    feasible = [s for s in found if s is not None]
    if not feasible:
        raise UnmappableError("no layout of these devices holds the model and one request")
    return max(feasible, key=lambda s: s.rate)


def _saturate(row: MeasuredRow, target: Target, shape: Shape) -> _Saturated | None:
    replica = target.replica
    widest = replica.settings.model_copy(update={"max_num_seqs": _SATURATED_SEQS * replica.parallelism.dp})
    replica = type(replica)(**{f: getattr(replica, f) for f in replica.__slots__} | {"settings": widest})
    target = Target(replica, target.replicas, target.host, target.assumed)
    held = fit(replica).max_concurrency(shape.input_tokens + shape.output_tokens / 2)
    most = min(held, replica.max_num_seqs)
    if most < 1:
        return None
    tables = target.tables()
    limits = shape.dataset if row.load == "slo" else None
    if limits is not None and limits.tpot_limit_s is not None:
        most = _largest_within(tables, target, shape, most, limits.tpot_limit_s)
    state = steady_state(tables, _loop(target, shape, float(most)))
    rate = target.replicas * most * shape.output_tokens / state.e2e_s
    return _Saturated(target, state, float(most), rate)


def _largest_within(tables: StepTables, target: Target, shape: Shape, most: int, tpot_s: float) -> int:
    """Return the largest batch whose inter-token time stays within a limit (1 if none does)."""
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        slow = steady_state(tables, _loop(target, shape, float(middle))).itl_s > tpot_s * SLO_LOAD_FRAC
        low, high = (low, middle - 1) if slow else (middle, high)
    return low


def _saturated_throughput(row: MeasuredRow, _: str | None) -> Found:
    best, shape = _saturated(row), shape_of(row)
    rate = best.rate * (SLO_LOAD_FRAC if row.load == "slo" else 1.0)
    if row.counts_input:
        rate *= (shape.input_tokens + shape.output_tokens) / shape.output_tokens
    bound = _bound(best.target.tables(), best.sequences)
    return _per(row, best.target, rate), bound, best.target


def _saturated_energy(row: MeasuredRow, _: str | None) -> Found:
    best = _saturated(row)
    watts = wall_w(best.state.power_w * best.target.replicas, best.target, row)
    return watts / best.rate, _bound(best.target.tables(), best.sequences), best.target


def _saturated_wall(row: MeasuredRow, _: str | None) -> Found:
    best = _saturated(row)
    watts = wall_w(best.state.power_w * best.target.replicas, best.target, row)
    return watts, _bound(best.target.tables(), best.sequences), best.target


def _slo_tpot(row: MeasuredRow, _: str | None) -> Found:
    best = _saturated(row)
    return best.state.itl_s, _bound(best.target.tables(), best.sequences), best.target


def _slo_ttft(row: MeasuredRow, _: str | None) -> Found:
    best = _saturated(row)
    return best.state.ttft_s, _bound(best.target.tables(), best.sequences), best.target


# One phase alone, and production


def _phase_prefill(row: MeasuredRow, _: str | None) -> Found:
    target = target_of(row)
    tables, shape = target.tables(), shape_of(row)
    prompts = max(tables.max_batched_tokens / shape.input_tokens, 1.0)
    time = prompt_s(tables, shape.input_tokens, 0.0, prompts)
    rate = target.replicas * prompts * shape.input_tokens / time
    return _per(row, target, rate / (1 - _cached_frac(row))), _bound(tables, tables.max_batched_tokens), target


def _cached_frac(row: MeasuredRow) -> float:
    """Return the share of prompt tokens that a prefill rate counts although a cache supplied them."""
    import re

    match = re.search(r"([\d.]+)\s*% on-disk KV cache hits", row.notes)
    return float(match[1]) / 100 if match and "incl" in row.unit else 0.0


def _phase_decode(row: MeasuredRow, _: str | None) -> Found:
    target = target_of(row)
    shape = shape_of(row)
    context = shape.input_tokens + (shape.output_tokens / 2 if row.output_tokens else 0.0)
    stated = re_batch(row)
    devices = target.replica.parallelism.devices
    held = fit(target.replica).max_concurrency(context)
    wanted = stated * devices if stated else min(held, 256 * devices)
    settings = target.replica.settings.model_copy(update={"max_num_seqs": max(math.ceil(wanted), 1)})
    replica = type(target.replica)(
        **{f: getattr(target.replica, f) for f in target.replica.__slots__} | {"settings": settings}
    )
    target = Target(replica, target.replicas, target.host, target.assumed)
    tables = target.tables()
    step = decode_step_s(target, tables, wanted, context)
    rate = target.replicas * wanted * replica.tokens_per_step / step
    return _per(row, target, rate), _bound(tables, wanted), target


def re_batch(row: MeasuredRow) -> float | None:
    """Return the batch per device of a phase row (stated in the batch field or in the notes), or ``None``."""
    import re

    match = re.search(r"batch (\d+) per GPU", row.notes)
    return float(match[1]) if match else row.batch


# Simulated loads


def _closed_loop(row: MeasuredRow, _: str | None) -> Found:
    target = target_of(row)
    run = closed_loop_run(row, target, shape_of(row).input_tokens, shape_of(row).output_tokens)
    return _of_run(row, target, run), run.bound, target


def _open_loop(row: MeasuredRow, _: str | None) -> Found:
    target = target_of(row)
    run = open_loop_run(row, target, shape_of(row).input_tokens, shape_of(row).output_tokens)
    return _of_run(row, target, run), run.bound, target


def _replay(row: MeasuredRow, requests_path: str | None) -> Found:
    target = target_of(row)
    run = replay_run(row, target, requests_path)
    return _of_run(row, target, run), run.bound, target


def _of_run(row: MeasuredRow, target: Target, run: LoadRun) -> float:
    """Return the row's statistic of a simulated run."""
    if row.quantity in {"serving_throughput", "saturated_throughput", "decode_rate"}:
        rate = run.output_tokens_per_s + (run.input_tokens_per_s if row.counts_input else 0.0)
        return _per(row, target, rate)
    if row.quantity == "per_user_rate":
        return 1.0 / run.mean("tpot")
    if row.quantity == "itl" and row.output_counted_tokens:
        return (run.mean("e2e") - run.mean("ttft")) / max(row.output_counted_tokens - 1, 1.0)
    return run.statistic(row.quantity, row.statistic)


_Rule = Callable[[MeasuredRow, str | None], Found]
_RULES: dict[tuple[str, str], _Rule] = {
    ("decode_rate", "single"): _single_decode_rate,
    ("decode_rate", "batch"): _single_decode_rate,
    ("prefill_rate", "single"): _prefill_rate,
    ("prefill_rate", "batch"): _prefill_rate,
    ("ttft_unloaded", "single"): _unloaded_ttft,
    ("tpot", "single"): _single_tpot,
    ("itl", "single"): _single_tpot,
    ("request_latency", "single"): _single_latency,
    ("e2e", "single"): _single_latency,
    ("power_wall", "single"): _single_wall,
    ("serving_throughput", "single"): _batch_throughput,
    ("serving_throughput", "batch"): _batch_throughput,
    ("request_latency", "batch"): _batch_latency,
    ("itl", "steady"): _steady_itl,
    ("tpot", "steady"): _steady_itl,
    ("serving_throughput", "steady"): _steady_throughput,
    ("power_gpu", "steady"): _steady_power,
    ("energy_per_token", "steady"): _steady_energy,
    ("energy_per_token", "saturated"): _saturated_energy,
    ("saturated_throughput", "saturated"): _saturated_throughput,
    ("saturated_throughput", "slo"): _saturated_throughput,
    ("power_wall", "saturated"): _saturated_wall,
    ("power_wall", "slo"): _saturated_wall,
    ("tpot", "slo"): _slo_tpot,
    ("ttft", "slo"): _slo_ttft,
    ("prefill_rate", "phase"): _phase_prefill,
    ("prefill_rate", "production"): _phase_prefill,
    ("decode_rate", "phase"): _phase_decode,
    ("decode_rate", "production"): _phase_decode,
}
"""Quantity and load → the function that predicts it."""

_BY_LOAD: dict[str, _Rule] = {"closed_loop": _closed_loop, "open_loop": _open_loop, "replay": _replay}

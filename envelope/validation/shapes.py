"""What every prediction needs: lengths of a row, closed loops of them, the limit of a step, units of reference."""

from dataclasses import dataclass

from envelope.perf.steady import Loop, prefill_attention_s, step_s
from envelope.spec.step import BOUNDS, StepTables
from envelope.validation.datasets import Dataset, load_datasets
from envelope.validation.rows import MeasuredRow
from envelope.validation.target import Target

_UNKNOWN_OUTPUT_TOKENS = 128.0
NODE_GPUS = 8
"""Devices of a node in tables that count per node."""

Found = tuple[float, str, Target]
"""A predicted value in SI, the limit that the model believed in, and what it was predicted for."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Request lengths of a row, its data set's where it states none."""

    input_tokens: float
    output_tokens: float
    dataset: Dataset | None


@dataclass(frozen=True, slots=True)
class Limits:
    """Latencies that a load may not exceed; ``None`` is no limit."""

    ttft_s: float | None = None
    tpot_s: float | None = None


def limits_of(row: MeasuredRow, shape: Shape) -> Limits:
    """Return the latency limits of a row: those it states, else its benchmark's."""
    dataset = shape.dataset if row.load == "slo" else None
    return Limits(
        row.ttft_limit_s or (dataset.ttft_limit_s if dataset else None),
        row.tpot_limit_s or (dataset.tpot_limit_s if dataset else None),
    )


def shape_of(row: MeasuredRow) -> Shape:
    """Return the request lengths of a row."""
    dataset = load_datasets().get(row.dataset) if row.dataset else None
    given = row.input_tokens if row.input_tokens is not None else dataset.input_tokens if dataset else None
    output = row.output_tokens if row.output_tokens else dataset.output_tokens if dataset else None
    return Shape(given if given is not None else 512.0, output or _UNKNOWN_OUTPUT_TOKENS, dataset)


def bound_at(tables: StepTables, tokens: float) -> str:
    """Return what limits a step of ``tokens`` tokens."""
    return BOUNDS[int(tables.bound[min(max(round(tokens), 1), tables.max_batched_tokens)])]


def loop_of(target: Target, shape: Shape, sequences: float) -> Loop:
    """Return the closed loop of ``sequences`` requests of these lengths on a target."""
    replica = target.replica
    return Loop(
        input_tokens=max(round(shape.input_tokens), 1),
        output_tokens=max(round(shape.output_tokens), 1),
        concurrency=sequences,
        query_tokens=replica.query_tokens,
        tokens_per_step=replica.tokens_per_step,
        static=replica.engine.batching == "static",
    )


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


def per_reference(row: MeasuredRow, target: Target, system_rate: float) -> float:
    """Return a rate of the whole system in the row's reference (system, GPU or node of eight)."""
    devices = max(target.devices, 1)
    if row.per == "gpu":
        return system_rate / devices
    return system_rate * NODE_GPUS / devices if row.per == "node" else system_rate

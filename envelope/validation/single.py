"""Predictions of one request, or one static batch, at a time."""

import math

from envelope.perf.memory import fit
from envelope.validation.hosts import wall_w
from envelope.validation.rows import MeasuredRow
from envelope.validation.shapes import Found, Shape, bound_at, decode_step_s, per_reference, prompt_s, shape_of
from envelope.validation.target import Target, target_of


def single_decode_rate(row: MeasuredRow, _: str | None) -> Found:
    """Return the token rate of one sequence, or of a batch in step."""
    target = target_of(row)
    tables, shape = target.tables(), shape_of(row)
    sequences = max(row.batch or 1.0, 1.0)
    context = row.depth_tokens + shape.input_tokens * (row.input_tokens != 0) + shape.output_tokens / 2
    step = decode_step_s(target, tables, sequences, context)
    return sequences * target.replica.tokens_per_step / step, bound_at(tables, sequences), target


def prefill_rate(row: MeasuredRow, _: str | None) -> Found:
    """Return the rate at which prompts are computed alone."""
    target = target_of(row)
    tables, shape = target.prompt_tables(), shape_of(row)
    sequences = max(row.batch or 1.0, 1.0) if row.load == "batch" else 1.0
    time = prompt_s(tables, shape.input_tokens, row.depth_tokens, sequences)
    if tables is not target.tables():
        steps = math.ceil(shape.input_tokens * sequences / tables.max_batched_tokens)
        time *= pipeline_share(steps, target.replica.parallelism.pp)
    bound = bound_at(tables, min(shape.input_tokens * sequences, tables.max_batched_tokens))
    return shape.input_tokens * sequences / time, bound, target


_STEPS_IN_FLIGHT = 4
"""Steps of a prompt that llama.cpp has under way at once (logical batch 2,048, physical batch 512 tokens)."""


def pipeline_share(steps: int, stages: int) -> float:
    """Return the share of the serial time that ``steps`` of one prompt take on ``stages`` devices in a row.

    Groups of k steps fill and drain the pipeline: (k + stages − 1)/stages step times instead of k.
    """
    groups = [_STEPS_IN_FLIGHT] * (steps // _STEPS_IN_FLIGHT) + [steps % _STEPS_IN_FLIGHT] * (
        steps % _STEPS_IN_FLIGHT > 0
    )
    return sum((k + stages - 1) / stages for k in groups) / steps


def unloaded_ttft(row: MeasuredRow, _: str | None) -> Found:
    """Return the time to first token of a request alone."""
    target = target_of(row)
    tables, shape = target.tables(), shape_of(row)
    outside = 0.0 if row.in_process else tables.request_overhead_s
    time = outside + prompt_s(tables, shape.input_tokens, row.depth_tokens)
    return time, bound_at(tables, shape.input_tokens), target


def single_tpot(row: MeasuredRow, _: str | None) -> Found:
    """Return the time per output token of a request alone."""
    rate, bound, target = single_decode_rate(row, None)
    return max(row.batch or 1.0, 1.0) / rate, bound, target


def single_latency(row: MeasuredRow, _: str | None) -> Found:
    """Return the latency of a request alone."""
    ttft, _bound_, target = unloaded_ttft(row, None)
    tpot, bound, _target = single_tpot(row, None)
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


def batch_throughput(row: MeasuredRow, _: str | None) -> Found:
    """Return the token rate of a static batch, prefill included."""
    target, shape = target_of(row), shape_of(row)
    sequences = max(row.batch or 1.0, 1.0)
    tokens = shape.output_tokens + (shape.input_tokens if row.counts_input else 0.0)
    value = sequences * tokens / batch_s(target, shape, sequences)
    return per_reference(row, target, value), bound_at(target.tables(), sequences), target


def batch_latency(row: MeasuredRow, _: str | None) -> Found:
    """Return the time of a whole static batch."""
    target, shape = target_of(row), shape_of(row)
    sequences = max(row.batch or 1.0, 1.0)
    return batch_s(target, shape, sequences), bound_at(target.tables(), sequences), target


def single_wall(row: MeasuredRow, _: str | None) -> Found:
    """Return the watts at the wall while one sequence decodes."""
    target = target_of(row)
    tables = target.tables()
    return wall_w(float(tables.step_w[1]) * target.replicas, target, row), bound_at(tables, 1.0), target

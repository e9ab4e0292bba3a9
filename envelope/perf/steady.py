"""A closed loop of equal requests in steady state, from step tables alone."""

from dataclasses import dataclass, replace

import numpy as np

from envelope.spec.engine import Engine
from envelope.spec.step import StepTables

_ROUNDS = 12
"""Rounds of the fixed point; it contracts by more than half in each."""


@dataclass(frozen=True, slots=True)
class Steady:
    """Mean times of one request in a closed loop without queueing beyond the batch."""

    ttft_s: float
    itl_s: float
    e2e_s: float
    prefill_s: float
    """Time of the steps that hold one request's prefill, decodes of the others included."""
    decoding: float
    """Mean number of sequences in decode."""
    decode_step_s: float
    """Step of the decoding sequences alone."""
    prefill_step_s: float
    """Step that carries ``prefill_step_tokens`` of prefill besides them."""
    prefill_step_tokens: float
    prefill_step_frac: float
    """Share of the steps that carry prefill."""
    power_w: float


@dataclass(frozen=True, slots=True)
class Loop:
    """What the closed loop needs to know besides the tables."""

    input_tokens: int
    output_tokens: int
    concurrency: float
    query_tokens: int = 1
    tokens_per_step: float = 1.0
    static: bool = False
    """Prefill of the whole batch first, then decode of the whole batch (no continuous batching)."""


def held_tokens(engine: Engine, input_tokens: float, output_tokens: float) -> float:
    """Return the tokens of KV cache that one request of a steady state takes.

    Sequences are on average half-way through their answers; an engine that reserves answers holds room for whole ones.
    """
    return input_tokens + output_tokens * (1.0 if engine.reserves_answers else 0.5)


def context_s(tables: StepTables, n: float, context_tokens: float) -> float:
    """Return decode-attention seconds of n sequences at a mean context: base + n · g(context)."""
    if n <= 0:
        return 0.0
    knots = tables.context_knots_tokens
    upper = np.append(knots[1:], np.inf)
    inside = np.clip(context_tokens - knots, 0.0, upper - knots)
    low = min(int(n), tables.max_num_seqs)
    high = min(low + 1, tables.max_num_seqs)
    part = n - int(n)
    slopes = (1 - part) * tables.decode_slope_s_per_token[low] + part * tables.decode_slope_s_per_token[high]
    return _at(tables.decode_base_s, n) + n * float(slopes @ inside)


def prefill_attention_s(tables: StepTables, start_tokens: float, end_tokens: float) -> float:
    """Return F(end) − F(start), the attention time of computing those positions of one prompt."""
    return _attention_integral(tables, end_tokens) - _attention_integral(tables, start_tokens)


def _attention_integral(tables: StepTables, position: float) -> float:
    """Return F(position): token_s · x + Σ slope_k · area of the ramp that starts at knot k and flattens at k+1."""
    knots = tables.context_knots_tokens
    beyond = np.maximum(position - knots, 0.0)
    after = np.maximum(position - np.append(knots[1:], np.inf), 0.0)
    ramp = 0.5 * (beyond**2 - after**2)
    return tables.prefill_token_s * position + float(tables.prefill_slope_s_per_token @ ramp)


def step_s(tables: StepTables, loop: Loop, n: float, context_tokens: float, prefill_tokens: float = 0.0) -> float:
    """Return the time of a step of n decodes and ``prefill_tokens`` of whole prompts of the loop's length."""
    sampled = n + prefill_tokens / loop.input_tokens
    time = tables.step_overhead_s + _at(tables.token_s, n * loop.query_tokens + prefill_tokens)
    time += _at(tables.sampled_s, max(sampled, 1.0)) + context_s(tables, n, context_tokens)
    if prefill_tokens > 0:
        prompts = prefill_tokens / loop.input_tokens
        time += tables.prefill_base_s + prompts * prefill_attention_s(tables, 0.0, float(loop.input_tokens))
    return time


def steady_state(tables: StepTables, loop: Loop) -> Steady:
    """Return the steady state of ``concurrency`` requests that are replaced as they finish.

    Every output token of the batch calls for input/output tokens of prefill. With P of them due per step, steps
    carry chunks of max(P, one prompt) up to the token budget; the inter-token time is the decode step plus the
    share of the chunk's extra time. The number in decode follows from the times in prefill and decode, and is never
    larger than the token budget can feed: beyond that, requests wait for their prefill (Little's law gives how long).
    """
    if loop.static:
        return _static(tables, loop)
    decodes = max(loop.output_tokens - 1, 0) / loop.tokens_per_step
    context = loop.input_tokens + loop.output_tokens / 2.0
    fed = _fed(tables, loop, decodes)
    n = min(loop.concurrency, fed) if decodes > 0 else 0.0
    state = _round(tables, loop, n, context, decodes)
    for _ in range(_ROUNDS):
        n = min(_next_decoding(loop, state, decodes, n), fed)
        state = _round(tables, loop, n, context, decodes)
    return _queued(loop, state, decodes) if n >= fed else state


def _fed(tables: StepTables, loop: Loop, decodes: float) -> float:
    """Return the most sequences in decode for which a step's token budget also holds the prefill that they call for."""
    if decodes <= 0:
        return loop.concurrency
    return tables.max_batched_tokens / (loop.query_tokens + loop.input_tokens / decodes)


def _queued(loop: Loop, state: Steady, decodes: float) -> Steady:
    """Return the state in which the requests that the budget does not feed wait for their prefill."""
    decode_s = decodes * state.itl_s * loop.tokens_per_step
    e2e_s = max(loop.concurrency * decode_s / state.decoding, state.e2e_s)
    return replace(state, e2e_s=e2e_s, ttft_s=e2e_s - decode_s)


def _next_decoding(loop: Loop, state: Steady, decodes: float, n: float) -> float:
    life = state.e2e_s
    wanted = loop.concurrency * (decodes * state.itl_s * loop.tokens_per_step) / life if life > 0 else 0.0
    return 0.5 * n + 0.5 * min(wanted, loop.concurrency)


def _round(tables: StepTables, loop: Loop, n: float, context: float, decodes: float) -> Steady:
    budget = max(tables.max_batched_tokens - n * loop.query_tokens, 1.0)
    due = n * loop.input_tokens / decodes if decodes > 0 else float(loop.input_tokens)
    chunk = float(np.clip(due, min(loop.input_tokens, budget), budget))
    frac = min(due / chunk, 1.0)
    alone = step_s(tables, loop, n, context) if n > 0 else 0.0
    mixed = step_s(tables, loop, n, context, chunk)
    mean = (1.0 - frac) * alone + frac * mixed
    chunks = max(np.ceil(loop.input_tokens / budget), 1.0)
    prefill = mixed if chunks == 1 else _chunked_s(tables, loop, n, context, budget)
    wait = 0.5 * mean if n > 0 else 0.0
    ttft = tables.request_overhead_s + wait + prefill
    itl = mean / loop.tokens_per_step
    watts = _power(tables, loop, n, chunk, alone, mixed, frac)
    return Steady(
        ttft_s=ttft, itl_s=itl, e2e_s=ttft + decodes * mean, prefill_s=prefill, decoding=n, decode_step_s=alone,
        prefill_step_s=mixed, prefill_step_tokens=chunk, prefill_step_frac=frac, power_w=watts,
    )  # fmt: skip


def _chunked_s(tables: StepTables, loop: Loop, n: float, context: float, budget: float) -> float:
    """Return the time of one prompt longer than the budget, chunk by chunk beside n decodes."""
    total, done = 0.0, 0.0
    fixed = tables.step_overhead_s + tables.prefill_base_s + context_s(tables, n, context)
    while done < loop.input_tokens:
        t = min(budget, loop.input_tokens - done)
        total += fixed + _at(tables.token_s, n * loop.query_tokens + t) + _at(tables.sampled_s, max(n, 1.0))
        total += prefill_attention_s(tables, done, done + t)
        done += t
    return total


def _power(tables: StepTables, loop: Loop, n: float, chunk: float, alone: float, mixed: float, frac: float) -> float:
    quiet = (1.0 - frac) * alone
    busy = frac * mixed
    if quiet + busy <= 0:
        return tables.idle_w
    watts = _at(tables.step_w, n * loop.query_tokens) * quiet
    watts += _at(tables.step_w, n * loop.query_tokens + chunk) * busy
    return watts / (quiet + busy)


def _static(tables: StepTables, loop: Loop) -> Steady:
    """Return the times of a batch that is prefilled together, decoded together and finished together."""
    n = loop.concurrency
    whole = Loop(loop.input_tokens, loop.output_tokens, n, loop.query_tokens, loop.tokens_per_step)
    tokens, prefill = n * loop.input_tokens, 0.0
    while tokens > 0:
        chunk = min(tokens, float(tables.max_batched_tokens))
        prefill += step_s(tables, whole, 0.0, 0.0, chunk)
        tokens -= chunk
    decodes = max(loop.output_tokens - 1, 0) / loop.tokens_per_step
    step = step_s(tables, whole, n, loop.input_tokens + loop.output_tokens / 2.0)
    ttft = tables.request_overhead_s + prefill
    e2e = ttft + decodes * step
    share = prefill / (prefill + decodes * step)
    watts = share * _at(tables.step_w, min(n * loop.input_tokens, tables.max_batched_tokens))
    watts += (1 - share) * _at(tables.step_w, n * loop.query_tokens)
    return Steady(
        ttft_s=ttft, itl_s=step / loop.tokens_per_step, e2e_s=e2e, prefill_s=prefill, decoding=n,
        decode_step_s=step, prefill_step_s=prefill, prefill_step_tokens=n * loop.input_tokens,
        prefill_step_frac=0.0, power_w=watts,
    )  # fmt: skip


def _at(table: "np.ndarray[tuple[int], np.dtype[np.float64]]", x: float) -> float:
    """Return a table at a fractional index, linear in between and held at the end."""
    last = len(table) - 1
    if x >= last:
        return float(table[last]) * (x / last if last > 0 else 1.0)
    low = int(x)
    part = x - low
    return float(table[low]) * (1 - part) + float(table[low + 1]) * part

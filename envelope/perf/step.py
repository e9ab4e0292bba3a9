"""Compiling a replica into step tables, and the same step operator by operator."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envelope.perf import attention as att
from envelope.perf.costs import Bench, bench, sampled_costs, token_costs
from envelope.perf.efficiency import Chosen
from envelope.perf.memory import offload_fracs
from envelope.perf.power import device_w
from envelope.perf.replica import ReplicaSpec
from envelope.perf.roofline import Floats, OpCost
from envelope.spec.step import BOUNDS, StepTables

Codes = NDArray[np.int8]
_CACHE_SIZE = 512
"""Compiled replicas that are kept."""
VERIFY_FRAC = 0.1
"""Time that each further query of a sequence (a draft to verify) adds to reading its KV cache: the cache is read once
for all of them, and the rest is arithmetic (a judgement)."""
_compiled: "OrderedDict[tuple[object, ...], tuple[ReplicaSpec, Compiled]]" = OrderedDict()


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """Step tables together with the operators they were summed from."""

    tables: StepTables
    token_grid: Floats
    tokens: tuple[OpCost, ...]
    sequence_grid: Floats
    sampled: tuple[OpCost, ...]
    draft_frac: float
    """Extra share of a decode step spent on drafting."""


@dataclass(frozen=True, slots=True, eq=False)
class AttentionTables:
    """The attention fields of the step tables."""

    decode_base_s: Floats
    knots_tokens: Floats
    decode_slopes: Floats
    prefill_base_s: float
    prefill_token_s: float
    prefill_slopes: Floats


def compile_step(replica: ReplicaSpec) -> StepTables:
    """Return the step tables of a replica; compiled once, then cached by the identity of its records."""
    return compiled(replica).tables


def compiled(replica: ReplicaSpec) -> Compiled:
    """Return the step tables and the operators behind them."""
    key = replica.key
    found = _compiled.get(key)
    if found is not None:
        _compiled.move_to_end(key)
        return found[1]
    result = _compile(replica)
    _compiled[key] = (replica, result)
    if len(_compiled) > _CACHE_SIZE:
        _compiled.popitem(last=False)
    return result


def grid(largest: int) -> Floats:
    """Return token counts at which operators are evaluated: every one up to 8, then about 1.15 apart."""
    steps = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 65, 80, 96, 112, 128, 129, 160]
    value = 192.0
    while value < largest:
        steps.append(int(value))
        value = value + 64 if value < 512 else value * 1.19
    return np.array([float(s) for s in sorted({*(s for s in steps if s < largest), largest})])


def _compile(replica: ReplicaSpec) -> Compiled:
    b = bench(replica)
    tokens, seqs = grid(replica.max_num_batched_tokens), grid(replica.max_num_seqs)
    by_token, by_seq = token_costs(b, tokens), sampled_costs(b, seqs)
    engine = replica.engine
    draft = _draft_frac(b)
    attention = _attention(b, np.arange(replica.max_num_seqs + 1, dtype=float))
    every_token = np.arange(replica.max_num_batched_tokens + 1, dtype=float)
    every_seq = np.arange(replica.max_num_seqs + 1, dtype=float)
    token_s = _table(every_token, tokens, sum(c.time_s for c in by_token))
    # Graphs are captured by each data-parallel rank for its own tokens.
    eager = every_token > engine.graph_tokens * replica.parallelism.dp
    token_s = token_s + eager * engine.eager_layer_s * b.work.layers
    sampled = _table(every_seq, seqs, sum(c.time_s for c in by_seq) * (1.0 + replica.settings.draft_tokens))
    tables = StepTables(
        token_s=token_s * (1.0 + draft),
        sampled_s=sampled + every_seq * engine.sequence_overhead_s / replica.parallelism.dp,
        step_overhead_s=engine.step_overhead_s,
        decode_base_s=attention.decode_base_s,
        context_knots_tokens=attention.knots_tokens,
        decode_slope_s_per_token=attention.decode_slopes,
        prefill_base_s=attention.prefill_base_s + engine.prefill_overhead_s,
        prefill_token_s=attention.prefill_token_s,
        prefill_slope_s_per_token=attention.prefill_slopes,
        request_overhead_s=engine.request_overhead_s,
        idle_w=replica.hardware.power.idle_w * replica.parallelism.devices,
        step_w=_power(b, every_token, tokens, by_token),
        bound=_bounds(every_token, tokens, by_token, engine.step_overhead_s),
    )
    return Compiled(tables, tokens, tuple(by_token), seqs, tuple(by_seq), draft)


def _draft_frac(b: Bench) -> float:
    """Return the extra share of a step spent drafting: one layer of the model per draft token and step.

    A multi-token-prediction head is one more layer (DeepSeek-V3, arXiv 2412.19437, section 2.2).
    """
    drafts = b.replica.settings.draft_tokens
    return drafts / (1.0 + drafts) / b.work.layers if drafts else 0.0


def _table(every: Floats, at: Floats, values: Floats | float) -> Floats:
    """Return values at every integer, 0 at 0, linear between grid points."""
    table: Floats = np.interp(every, at, np.broadcast_to(np.asarray(values, dtype=float), at.shape))
    table[0] = 0.0
    return table


def _attention(b: Bench, every_seq: Floats) -> AttentionTables:
    """Return the attention fields of the tables, summed over the kinds of layers."""
    par = b.replica.parallelism
    shapes = [att.layer_shape(a, b.replica.kv, par.tp) for a in b.work.attentions]
    knots = att.context_knots(shapes)
    lanes = float(par.dp * b.lanes)
    local = np.where(every_seq > 0, np.maximum(every_seq / lanes, 1.0), 0.0)
    base, slopes = np.zeros(len(every_seq)), np.zeros((len(every_seq), len(knots)))
    start, token, rise = 0.0, 0.0, np.zeros(len(knots))
    decode, prefill = _attention_curves(b)
    on_device = 1.0 - offload_fracs(b.replica)[0]
    slow = on_device + (1.0 - on_device) * _host_slowdown(b)
    for work, shape in zip(b.work.attentions, shapes, strict=True):
        base += work.layers * att.decode_base_s(shape, decode[0], decode[1], local)
        slopes += work.layers * slow * att.decode_slopes(shape, knots, decode[0], decode[1], every_seq)
        rise += work.layers * att.prefill_slopes(shape, knots, prefill[0], prefill[1])
        token += work.layers * att.prefill_token_s(shape, prefill[0], prefill[1])
        start += work.layers * prefill[0]["t0_s"]
    verify = float(b.replica.query_tokens)
    slopes *= 1.0 if verify == 1.0 else 1.0 + VERIFY_FRAC * (verify - 1.0)
    shared = np.where(every_seq > 0, np.maximum(1.0 / lanes, 1.0 / np.maximum(every_seq, 1.0)), 0.0)
    return AttentionTables(base, knots, slopes * shared[:, None], start, token / lanes, rise / lanes)


def _attention_curves(b: Bench) -> tuple[tuple[Chosen, att.Device], tuple[Chosen, att.Device]]:
    """Return constants and device numbers of decode and of prefill attention."""
    decode, decode_peak = b.curve("decode_attention", b.replica.kv)
    prefill, prefill_peak = b.curve("prefill_attention", b.replica.kv)
    width = b.bandwidth_bytes_per_s
    return (
        (decode, att.Device(width, decode_peak, b.units)),
        (prefill, att.Device(width, prefill_peak, b.units)),
    )


def _host_slowdown(b: Bench) -> float:
    """Return how much slower attention of offloaded layers reads its cache, kept in host memory."""
    host = b.replica.host_memory
    return b.bandwidth_bytes_per_s / host.bandwidth_bytes_per_s if host else 1.0


def _power(b: Bench, every: Floats, at: Floats, costs: list[OpCost]) -> Floats:
    """Return watts of all devices of the replica during a step of m tokens."""
    replica = b.replica
    time = sum(c.time_s for c in costs) + replica.engine.step_overhead_s
    memory = sum(c.bus_s for c in costs) / time
    compute = sum(c.peak_s for c in costs) / time
    waiting = (sum(c.communication_s for c in costs) + replica.engine.step_overhead_s) / time
    curve, _ = b.curve("power", replica.format_of("norm"))
    watts = device_w(replica.hardware, curve, np.asarray(compute), np.asarray(memory), np.asarray(waiting))
    table: Floats = np.interp(every, at, watts * replica.parallelism.devices)
    table[0] = replica.hardware.power.idle_w * replica.parallelism.devices
    return table


def _bounds(
    every: Floats, at: Floats, costs: list[OpCost], step_overhead_s: float
) -> "np.ndarray[tuple[int], np.dtype[np.int8]]":
    parts = np.stack(
        [
            sum(c.compute_s for c in costs),
            sum(c.memory_s for c in costs),
            sum((c.communication_s for c in costs), np.zeros_like(at)),
            sum(c.overhead_s for c in costs) + step_overhead_s,
        ]
    )
    code: Codes = np.argmax(parts, axis=0).astype(np.int8)
    nearest = np.clip(np.searchsorted(at, every, side="left"), 0, len(at) - 1)
    table: Codes = code[nearest]
    table[0] = BOUNDS.index("overhead")
    return table

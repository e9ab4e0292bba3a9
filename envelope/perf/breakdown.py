"""One step operator by operator, what bounds it, and the evidence behind its constants."""

from dataclasses import dataclass

import numpy as np

from envelope.perf.costs import bench
from envelope.perf.efficiency import format_keys, peak_flop_per_s, pick
from envelope.perf.replica import ReplicaSpec
from envelope.perf.roofline import Floats, OpCost
from envelope.perf.steady import context_s, prefill_attention_s
from envelope.perf.step import compiled
from envelope.provenance import Evidence
from envelope.spec.number_format import NumberFormat


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Time of one step and of each operator in it; the operators sum to the step."""

    step_s: float
    operators_s: dict[str, float]


def breakdown(
    replica: ReplicaSpec,
    *,
    decodes: int,
    context_tokens: float = 0.0,
    prefill_tokens: int = 0,
    cached_tokens: int = 0,
    sampled: int | None = None,
) -> Breakdown:
    """Return the operators of a step of ``decodes`` sequences at a mean context plus one prefill chunk.

    ``sampled`` sequences get a token; by default the decoding ones, plus one if there is a chunk.
    """
    found = compiled(replica)
    tables = found.tables
    m = decodes * replica.query_tokens + prefill_tokens
    r = sampled if sampled is not None else decodes + (1 if prefill_tokens else 0)
    ops = {"step_overhead": tables.step_overhead_s}
    _add(ops, found.tokens, found.token_grid, m, 1.0 + found.draft_frac)
    _add(ops, found.sampled, found.sequence_grid, r, 1.0 + replica.settings.draft_tokens)
    if r > 0:
        ops["sequence_overhead"] = r * replica.engine.sequence_overhead_s / replica.parallelism.dp
    if decodes > 0:
        ops["decode_attention"] = context_s(tables, decodes, context_tokens)
    if prefill_tokens > 0:
        end = cached_tokens + prefill_tokens
        ops["prefill_base"] = tables.prefill_base_s
        ops["prefill_attention"] = prefill_attention_s(tables, cached_tokens, end)
    return Breakdown(sum(ops.values()), ops)


def _add(ops: dict[str, float], costs: tuple[OpCost, ...], at: Floats, x: float, factor: float) -> None:
    if x <= 0:
        return
    for cost in costs:
        ops[cost.name] = ops.get(cost.name, 0.0) + factor * float(np.interp(x, at, cost.time_s))


def bottleneck_shares(
    replica: ReplicaSpec, decodes: float, context_tokens: float, prefill_tokens: float, prompt_tokens: int
) -> dict[str, float]:
    """Return which share of a step compute, memory, communication and overhead account for; they sum to 1."""
    found = compiled(replica)
    m = decodes * replica.query_tokens + prefill_tokens
    r = max(decodes + prefill_tokens / prompt_tokens, 1.0)
    parts = _parts(found.tokens, found.token_grid, m) + _parts(found.sampled, found.sequence_grid, r)
    tables = found.tables
    parts[3] += tables.step_overhead_s + r * replica.engine.sequence_overhead_s / replica.parallelism.dp
    if decodes > 0:
        fixed = context_s(tables, decodes, 0.0)
        parts[1] += context_s(tables, decodes, context_tokens) - fixed
        parts[3] += fixed
    if prefill_tokens > 0:
        parts[0] += prefill_tokens / prompt_tokens * prefill_attention_s(tables, 0.0, prompt_tokens)
        parts[3] += tables.prefill_base_s
    total = float(parts.sum())
    names = ("compute", "memory", "communication", "overhead")
    return {name: float(value) / total for name, value in zip(names, parts, strict=True)}


def _parts(costs: tuple[OpCost, ...], at: Floats, x: float) -> Floats:
    total = np.zeros(4)
    for c in costs:
        for i, values in enumerate((c.compute_s, c.memory_s, c.communication_s, c.overhead_s)):
            total[i] += float(np.interp(x, at, values))
    return total


def evidence_of(replica: ReplicaSpec) -> list[tuple[str, Evidence, str]]:
    """Return (input, evidence, source) of every fact and constant that the prediction rests on."""
    model = replica.model
    rows = [
        ("model.architecture", model.source_of("attention").evidence, model.source_of("attention").source),
        _fact(replica, "memory.bandwidth_bytes_per_s"),
        _fact(replica, f"peak_flop_per_s.{_compute_key(replica)}"),
        ("engine.overheads", replica.engine.source_of("step_overhead_s").evidence, replica.engine.name),
    ]
    body = replica.format_of("attention")
    rows.append(_constants(replica, "gemm", body))
    if bench(replica).work.experts:
        rows.append(_constants(replica, "moe", replica.format_of("routed_experts")))
    rows.append(_constants(replica, "decode_attention", replica.kv))
    rows.append(_constants(replica, "prefill_attention", replica.kv))
    if replica.parallelism.tp > 1:
        kind = replica.fabric.inside(replica.parallelism.tp).kind
        chosen = pick(replica.hardware, replica.engine, "all_reduce", (kind, "any"))
        rows.append(("constants.all_reduce", chosen.evidence, f"{chosen.origin} ({kind}, {replica.engine.id})"))
    return rows


def _compute_key(replica: ReplicaSpec) -> str:
    return peak_flop_per_s(replica.hardware, replica.format_of("attention").compute)[1]


def _fact(replica: ReplicaSpec, path: str) -> tuple[str, Evidence, str]:
    source = replica.hardware.source_of(path)
    return f"hardware.{path}", source.evidence, source.source


def _constants(replica: ReplicaSpec, op: str, number_format: NumberFormat) -> tuple[str, Evidence, str]:
    chosen = pick(replica.hardware, replica.engine, op, format_keys(number_format))
    return f"constants.{op}", chosen.evidence, f"{chosen.origin} ({number_format.id}, {replica.engine.id})"

"""Dense against sparse: where a mixture of experts wins or loses for one's own workload."""

import math
from collections.abc import Sequence

import numpy as np

from envelope.errors import InputError, Problem
from envelope.money.inputs import resolve as resolve_inputs
from envelope.perf.checks import blocking_reasons
from envelope.perf.estimate import estimate
from envelope.perf.memory import fit
from envelope.perf.moe import distinct_experts
from envelope.perf.replica import ReplicaSpec, resolve
from envelope.perf.work import kv_bytes, operators, param_counts, weight_bytes
from envelope.provenance import Evidence, Frozen, weakest
from envelope.serving.offered import offered_classes
from envelope.spec.deployment import Parallelism
from envelope.spec.engine import DEFAULT_ENGINE
from envelope.spec.lengths import mean_of
from envelope.spec.scenario import Scenario
from envelope.units import DAYS_PER_YEAR

BATCHES = (1, 4, 16, 64, 256)
CONTEXTS = (4_096, 32_768, 131_072)
_SPLITS = (1, 2, 4, 8, 16, 32)


class SparseRow(Frozen):
    """One model on one device, for one workload."""

    model: str
    weights: str
    attention: tuple[str, ...]
    """Kinds of attention, such as ``gqa``, ``mla``, ``csa``."""
    params_total: float
    params_active: float
    experts: int
    """Routed experts of a layer; 0 for a dense model."""
    resident_bytes: float
    """Weights that must be in memory whatever is used: all experts."""
    active_bytes_per_token: dict[int, float]
    """Batch → weight bytes that a decode step reads, per sequence in it."""
    kv_bytes_per_sequence: dict[int, float]
    """Context → bytes of one sequence's cache."""
    min_devices: int | None
    """Fewest devices (a power of two) that hold the weights and one mean request; ``None`` if not even the most do."""
    output_tokens_per_s: dict[int, float]
    """Batch → decode rate of that smallest node at the workload's mean request."""
    sequences_held: int
    """Mean requests that its cache holds at once."""
    idle_w: float
    """Of the devices of the smallest node."""
    idle_usd_per_year: float
    """Electricity of the idle node, cooling included."""
    blast_frac: dict[int, float]
    """Nodes → share of the capacity that one device's failure takes away."""
    nodes_at_peak: int | None
    """Smallest nodes that carry the busiest hour at the largest batch, every prompt computed whole; a failed device
    takes one of them away."""
    evidence: Evidence


class SparseView(Frozen):
    """Models side by side on one device, and what follows for the workload."""

    scenario: str
    hardware: str
    input_tokens: int
    output_tokens: int
    rows: tuple[SparseRow, ...]
    lines: tuple[str, ...]
    """What the figures say, in sentences."""


def sparse_view(
    scenario: Scenario,
    models: Sequence[str],
    hardware: str,
    *,
    weights: str = "native",
    kv: str = "bf16",
    engine: str = DEFAULT_ENGINE,
    batches: Sequence[int] = BATCHES,
) -> SparseView:
    """Return models side by side: memory, bytes per token by batch, context, smallest node, idle cost, failures.

    The request is the workload's mean one. Raises ``InputError`` for unknown names and without models.
    """
    if not models:
        raise InputError(Problem("arguments", "models", None, "needs at least one model"))
    shape = mean_request(scenario)
    rows = tuple(_row(scenario, name, hardware, weights, kv, engine, shape, batches) for name in models)
    return SparseView(
        scenario=scenario.id,
        hardware=hardware,
        input_tokens=shape[0],
        output_tokens=shape[1],
        rows=rows,
        lines=tuple(_lines(rows, batches)),
    )


def mean_request(scenario: Scenario) -> tuple[int, int]:
    """Return the mean prompt and answer of the workload, in tokens, as the simulation offers them.

    Of a recorded log the lengths that its task class gives stand for its own.
    """
    work = scenario.workload
    offered = offered_classes(work)
    if offered is None:
        means = [
            (task.mean_input_tokens, mean_of(task.output_tokens) if task.output_tokens else 0.0) for task in work.tasks
        ]
    else:
        means = [one.mean_request for one in offered]
    prompt, answer = (sum(s * m[i] for s, m in zip(work.shares(), means, strict=True)) for i in (0, 1))
    return max(1, round(prompt)), max(1, round(answer))


def active_bytes(replica: ReplicaSpec, batch: int) -> float:
    """Return the weight bytes that one decode step of ``batch`` sequences reads.

    Everything but the routed experts is read once; of these, the expected number that the batch touches, with
    uniform routing: E·(1 − (1 − k/E)^batch). The embedding is looked up, not read.
    """
    parts = weight_bytes(replica.model, replica.weights or "native", replica.formats)
    fixed = sum(size for name, size in parts.items() if name not in {"routed_experts", "embed"})
    layers = operators(replica.model).experts
    if not layers:
        return fixed
    counts = np.array([e.n_routed * e.layers * e.hidden * e.ffn * e.matrices for e in layers], dtype=float)
    touched = [float(distinct_experts(e.n_routed, e.top_k, np.array([float(batch)]))[0]) / e.n_routed for e in layers]
    share = float(np.dot(counts, touched) / counts.sum())
    return fixed + parts.get("routed_experts", 0.0) * share


def _row(
    scenario: Scenario,
    name: str,
    hardware: str,
    weights: str,
    kv: str,
    engine: str,
    shape: tuple[int, int],
    batches: Sequence[int],
) -> SparseRow:
    one = resolve(model=name, hardware=hardware, engine=engine, weights=weights, kv=kv)
    devices, node = _smallest(one, shape)
    counts, work = param_counts(one.model), operators(one.model)
    idle = one.hardware.power.idle_w * (devices or 0)
    electricity, pue = _point(scenario, "electricity_usd_per_kwh"), _point(scenario, "pue")
    rates = {} if devices is None else {b: estimate(node, *shape, b).output_tokens_per_s or 0.0 for b in batches}
    return SparseRow(
        model=one.model.id,
        weights=one.model.native_format if weights == "native" else weights,
        attention=tuple(dict.fromkeys(a.kind for a in work.attentions)),
        params_total=counts.total,
        params_active=counts.active,
        experts=max((e.n_routed for e in work.experts), default=0),
        resident_bytes=sum(weight_bytes(one.model, one.weights or "native", one.formats).values()),
        active_bytes_per_token={b: active_bytes(one, b) / b for b in batches},
        kv_bytes_per_sequence={c: kv_bytes(one.model, c, one.kv) for c in CONTEXTS},
        min_devices=devices,
        output_tokens_per_s=rates,
        sequences_held=fit(node).max_concurrency(sum(shape)) if devices else 0,
        idle_w=idle,
        idle_usd_per_year=idle / 1e3 * 24 * DAYS_PER_YEAR * electricity * pue,
        blast_frac={n: 1.0 / n for n in (1, 2, 4)},
        nodes_at_peak=_nodes(scenario.workload.peak_rate_per_s * shape[1], max(rates.values(), default=0.0)),
        evidence=weakest([one.model.source_of("params_total").evidence, one.hardware.source_of("memory").evidence]),
    )


def _nodes(wanted_per_s: float, rate_per_s: float) -> int | None:
    return max(1, math.ceil(wanted_per_s / rate_per_s)) if rate_per_s > 0 else None


def _point(scenario: Scenario, name: str) -> float:
    return resolve_inputs(scenario.economics)[name].point


def _smallest(one: ReplicaSpec, shape: tuple[int, int]) -> tuple[int | None, ReplicaSpec]:
    """Return the fewest devices on which the model holds one request, and the replica on them."""
    experts = operators(one.model).experts
    for tp in _SPLITS:
        ep = tp if experts and all(e.n_routed % tp == 0 for e in experts) else 1
        replica = resolve(
            model=one.model, hardware=one.hardware, engine=one.engine, weights=one.weights.id if one.weights
            else "native", kv=one.kv.id, parallelism=Parallelism(tp=tp, ep=ep),
        )  # fmt: skip
        if not blocking_reasons(replica, fit(replica), min(sum(shape), one.model.max_context_tokens)):
            return tp, replica
    return None, one


def _lines(rows: Sequence[SparseRow], batches: Sequence[int]) -> list[str]:
    lines = []
    for row in rows:
        if row.nodes_at_peak is not None:
            lines.append(
                f"{row.model}: the busiest hour, every prompt computed whole, takes {row.nodes_at_peak} of its "
                f"smallest nodes (devices: {row.min_devices} each); "
                f"one failed device takes away {1 / row.nodes_at_peak:.0%} of that"
            )
    for row in rows:
        if not row.experts:
            continue
        few, many = row.active_bytes_per_token[batches[0]], row.active_bytes_per_token[batches[-1]] * batches[-1]
        lines.append(
            f"{row.model} computes with {row.params_active / row.params_total:.0%} of its parameters, but keeps all "
            f"{row.resident_bytes / 1e9:,.0f} GB resident; a lone request reads {few / 1e9:,.1f} GB a token, a batch "
            f"of {batches[-1]} reads {many / 1e9:,.0f} GB a step ({many / row.resident_bytes:.0%} of the weights)"
        )
    for dense in (r for r in rows if not r.experts):
        for row in (r for r in rows if r.experts):
            lines += _against(dense, row, batches)
    return lines


def _against(dense: SparseRow, row: SparseRow, batches: Sequence[int]) -> list[str]:
    wins = [b for b in batches if row.active_bytes_per_token[b] < dense.active_bytes_per_token[b]]
    size = f"batches {', '.join(map(str, wins))}" if wins else "no batch"
    longest = CONTEXTS[-1]
    ratio = row.kv_bytes_per_sequence[longest] / dense.kv_bytes_per_sequence[longest]
    text = [
        f"{row.model} reads fewer weight bytes a token than {dense.model} at {size} of {batches[0]}–{batches[-1]}, "
        f"and {ratio:.2f} times its cache at {longest:,} tokens"
    ]
    if dense.min_devices and row.min_devices and row.min_devices != dense.min_devices:
        text.append(
            f"the smallest node of {row.model} has {row.min_devices} devices, of {dense.model} {dense.min_devices}: "
            f"idle it draws {row.idle_w:,.0f} W against {dense.idle_w:,.0f} W, and one failed device stops "
            f"{row.min_devices} instead of {dense.min_devices}"
        )
    return text

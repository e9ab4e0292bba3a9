"""Routed experts: which are touched, how many rows each gets, and the time of the grouped products."""

from dataclasses import dataclass

import numpy as np

from envelope.perf.efficiency import Chosen
from envelope.perf.gemm import achievable_bytes_per_s
from envelope.perf.roofline import Floats, OpCost, roofline_cost
from envelope.perf.work import Experts

PAD_ROWS = 64.0
"""Rows to which a grouped product pads each expert, scaled by the curve's ``pad``."""

MEASURED_RANKS = 8
"""Most expert-parallel ranks in the tables to which ``gamma`` was fitted."""
BALANCED = 1.3
"""What the hottest rank gets above the mean with more ranks, where engines replicate hot experts (a judgement)."""

REFERENCE_WIDTH = 768.0
"""Expert width per device at which the curves hold: the middle of the measured shapes."""
COMPUTE_HALF_WIDTH = 250.0
MEMORY_HALF_WIDTH = 25.0
"""Width of an expert's shard at which its fixed cost equals its work, for products and for reading weights."""


@dataclass(frozen=True, slots=True)
class ExpertShare:
    """How the routed experts of a layer are spread: ``ep`` ranks, each expert cut ``tp`` ways."""

    ep: int
    tp: int


def distinct_experts(n_experts: float, top_k: float, tokens: Floats, skew: float = 0.0) -> Floats:
    """Return the expected number of different experts that ``tokens`` tokens touch.

    Uniform routing: E·(1 − (1 − k/E)^m), exact for k independent draws without replacement per token. With
    ``skew`` s > 0 the experts' popularity falls as rank^(−s) and the sum runs over the experts' own chances.

    >>> float(distinct_experts(8, 2, np.array([1.0]))[0])
    2.0
    """
    if skew <= 0:
        uniform: Floats = n_experts * (1.0 - (1.0 - min(top_k / n_experts, 1.0)) ** tokens)
        return uniform
    chance = routing_chances(n_experts, top_k, skew)
    touched: Floats = np.sum(1.0 - (1.0 - chance[:, None]) ** tokens[None, :], axis=0)
    return touched


def routing_chances(n_experts: float, top_k: float, skew: float) -> Floats:
    """Return each expert's chance of being among a token's top k; the chances sum to k."""
    count = int(n_experts)
    if skew <= 0:
        return np.full(count, min(top_k / n_experts, 1.0))
    weight = (1.0 + np.arange(count)) ** -skew
    chance = top_k * weight / weight.sum()
    for _ in range(8):
        over = chance > 1.0
        if not over.any():
            break
        rest = top_k - over.sum()
        chance = np.where(over, 1.0, chance * rest / max(chance[~over].sum(), 1e-30))
    capped: Floats = np.minimum(chance, 1.0)
    return capped


def experts_cost(
    experts: Experts,
    tokens: Floats,
    share: ExpertShare,
    *,
    weight_bytes: float,
    curve: Chosen,
    peak_flop_per_s: float,
    bandwidth_bytes_per_s: float,
    units: float,
    skew: float = 0.0,
    layers: float | None = None,
) -> OpCost:
    r"""Return the cost of the routed experts of all their layers on the busiest rank, for ``tokens`` in the group.

    ``t = t0 + route·(mk/ep)·4h/W + ((F·pad·ep^γ/(P·eff_c))^p + (B/(W·eff_b))^p)^(1/p)``; rows mk/ep, of which
    each touched expert gets rows/act, padded by (rows/act + 64·pad)/(rows/act); F = 2·rows·w, B = act·w·bytes +
    activations, w = matrices·h·I/tp. Form and constants: fits of this project to the measured tables of
    aiconfigurator-core 0.12.0; ``ep^γ`` is what the hottest rank gets above the mean
    up to the 8 ranks of the measurements.
    """
    count = experts.layers if layers is None else layers
    h, ffn = float(experts.hidden), experts.ffn / share.tp
    weights = experts.matrices * h * ffn
    rows = np.maximum(tokens * experts.top_k / share.ep, 1e-9)
    touched = distinct_experts(experts.n_routed, experts.top_k, tokens, skew) / share.ep
    touched = np.minimum(np.maximum(touched, np.minimum(rows, 1.0)), experts.n_routed / share.ep)
    hot = share.ep ** curve["gamma"] if share.ep <= MEASURED_RANKS else BALANCED
    per_expert = np.maximum(rows / touched, 1.0)
    pad = (per_expert + PAD_ROWS * curve["pad"]) / per_expert
    flop = 2.0 * rows * weights
    moved = touched * weights * weight_bytes + 4.0 * tokens * h + 2.0 * rows * (h + ffn)
    width = min(ffn, REFERENCE_WIDTH)
    narrow = [(1.0 + half / width) / (1.0 + half / REFERENCE_WIDTH) for half in (COMPUTE_HALF_WIDTH, MEMORY_HALF_WIDTH)]
    route = curve["route"] * rows * 4.0 * h / bandwidth_bytes_per_s
    return roofline_cost(
        "routed_experts", flop, moved,
        compute_s=flop * pad * hot * narrow[0] / (peak_flop_per_s * curve["eff_c"]),
        memory_s=moved * narrow[1] / achievable_bytes_per_s(curve, bandwidth_bytes_per_s, units),
        fixed_s=curve["t0_s"] + route, p=curve["p"] or 2.0,
        peak_s=flop / peak_flop_per_s, bus_s=moved / bandwidth_bytes_per_s, count=count,
    )  # fmt: skip

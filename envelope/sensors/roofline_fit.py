"""From timed operators to the smooth constants that ``envelope.perf`` reads for any model and any engine setting."""

import math
import statistics
from collections.abc import Sequence

import numpy as np
from scipy.optimize import least_squares

from envelope.perf.roofline import smooth_max
from envelope.sensors.attention import AttentionTime
from envelope.sensors.elementwise import ElementwiseTime
from envelope.sensors.experts import ExpertTime
from envelope.sensors.gemm import ChainTime
from envelope.sensors.onnx_graph import Array
from envelope.sensors.tables import Fit
from envelope.sensors.timing import QUIET_FRAC, median_spread

_ACTIVATION_BYTES = 2.0
"""Per activation element, as ``envelope.perf.gemm`` counts them."""
_PASS_BYTES = 32.0
"""Bytes per hidden element and layer that ``envelope.perf`` counts for elementwise operators."""
_KERNELS = 4.0
"""Norms and activation operators of one layer."""


def gemm_curve(
    times: Sequence[ChainTime],
    bytes_per_weight: float,
    peak_flop_per_s: float,
    bandwidth_bytes_per_s: float,
    *,
    k_half: float = 0.0,
) -> Fit:
    """Return ``t0_s, eff_c, eff_b, p`` of ``t = t0 + ((F·(1 + k_half/k)/(P·eff_c))^p + (B/(W·eff_b))^p)^(1/p)``."""
    flop = np.array([2.0 * t.rows * sum(k * n * (1.0 + k_half / k) for k, n in t.shapes) for t in times])
    moved = np.array([_moved_bytes(t, bytes_per_weight) for t in times])
    count = np.array([float(len(t.shapes)) for t in times])
    start = (5e-6, 0.7, 0.8, 2.0)
    constants, errors = _smooth(
        flop / peak_flop_per_s, moved / bandwidth_bytes_per_s, count, [t.sample.median_s for t in times],
        [t.sample.noise_frac for t in times], start,
    )  # fmt: skip
    return Fit(constants, statistics.median(errors), len(times), median_spread(t.sample for t in times))


def _moved_bytes(t: ChainTime, bytes_per_weight: float) -> float:
    activations = t.rows * sum(k + n for k, n in t.shapes)
    return t.weights * bytes_per_weight + _ACTIVATION_BYTES * activations


def moe_curve(
    times: Sequence[ExpertTime], bytes_per_weight: float, peak_flop_per_s: float, bandwidth_bytes_per_s: float
) -> Fit:
    """Return the same constants for routed experts, F and B counted as ``envelope.perf.moe`` does."""
    rows = np.array([float(t.tokens * t.shape.top_k) for t in times])
    weights = np.array([t.shape.weights for t in times])
    moved = np.array([t.touched for t in times]) * weights * bytes_per_weight
    moved = moved + np.array([4.0 * t.tokens * t.shape.hidden for t in times])
    moved = moved + 2.0 * rows * np.array([float(t.shape.hidden + t.shape.ffn) for t in times])
    constants, errors = _smooth(
        2.0 * rows * weights / peak_flop_per_s, moved / bandwidth_bytes_per_s, np.ones(len(times)),
        [t.layer_s for t in times], [t.sample.noise_frac for t in times], (2e-5, 0.5, 0.7, 2.0),
    )  # fmt: skip
    return Fit(constants, statistics.median(errors), len(times), median_spread(t.sample for t in times))


def _smooth(
    compute_s: Array, memory_s: Array, count: Array, times_s: Sequence[float], noise: Sequence[float],
    start: tuple[float, float, float, float],
) -> tuple[dict[str, float], list[float]]:  # fmt: skip
    measured = np.array(times_s)
    weight = np.where(np.array(noise) <= QUIET_FRAC, 1.0, 0.1)

    def predicted(logs: Array) -> Array:
        t0, eff_c, eff_b, p = np.exp(logs)
        return np.asarray(count * t0 + smooth_max(compute_s / eff_c, memory_s / eff_b, p))

    low, high = np.log([1e-8, 1e-3, 1e-3, 1.0]), np.log([1e-3, 1.0, 1.0, 8.0])
    found = least_squares(
        lambda logs: weight * np.log(predicted(logs) / measured), np.log(start), bounds=(low, high), loss="soft_l1",
        f_scale=0.1,
    )  # fmt: skip
    names = ("t0_s", "eff_c", "eff_b", "p")
    errors = np.abs(predicted(found.x) - measured) / measured
    return dict(zip(names, (float(v) for v in np.exp(found.x)), strict=True)), [float(e) for e in errors]


def decode_attention_curve(times: Sequence[AttentionTime], peak_flop_per_s: float, threads: int, table: Fit) -> Fit:
    """Return ``t0_s, pair_s, eff_c`` of decode attention; on CPUs arithmetic limits it, so ``eff_b`` is 1."""
    # Grouped heads, as in today's models, where any were timed.
    grouped = [t for t in times if t.shape.kv_heads < t.shape.heads] or list(times)
    long = max(t.cached for t in grouped)
    rates = [_read_rate(t, table) for t in grouped if t.cached == long]
    widths = sorted({t.shape.head_dim for t in grouped})
    per_kv = grouped[0].shape.heads / grouped[0].shape.kv_heads
    constants = {
        "t0_s": max(statistics.median(table.constants[f"t0_s_{w}"] for w in widths), 1e-8),
        "pair_s": statistics.median(table.constants[f"head_s_{w}"] for w in widths) * per_kv * threads,
        "eff_c": min(4.0 / (statistics.median(rates) * peak_flop_per_s), 1.0),
        "eff_b": 1.0,
        "p": 4.0,
    }
    return Fit(constants, None, len(times), table.spread_frac)


def _read_rate(t: AttentionTime, table: Fit) -> float:
    """Return seconds per element of (sequence · head · context · width) of the context part alone."""
    width = t.shape.head_dim
    heads = t.batch * t.shape.heads
    fixed = table.constants[f"t0_s_{width}"] + heads * table.constants[f"head_s_{width}"]
    return max(t.layer_s - fixed, 0.1 * t.layer_s) / (heads * (t.cached + 1) * width)


def prefill_attention_curve(times: Sequence[AttentionTime], peak_flop_per_s: float) -> Fit:
    """Return ``t0_s, eff_c`` of prefill attention, 2 · heads · width FLOP per causal pair."""
    shares = [
        2.0 * t.shape.heads * t.shape.head_dim * t.new * t.new / (t.layer_s * peak_flop_per_s)
        for t in times
        if t.cached == 0 and t.new >= 256
    ]
    share = math.exp(statistics.mean(math.log(s) for s in shares)) if shares else 0.2
    constants = {"t0_s": 1e-5, "eff_c": min(share, 1.0), "eff_b": 0.5}
    return Fit(constants, None, len(times), median_spread(t.sample for t in times))


def elementwise_curve(times: Sequence[ElementwiseTime], bandwidth_bytes_per_s: float) -> Fit:
    """Return ``t0_s, kernels, eff_b``: two norms over the hidden state and one activation over three times as much."""
    shortest = min(t.operator_s for t in times)
    per = {k: min(t.operator_s / t.elements for t in times if t.kind == k) for k in {t.kind for t in times}}
    layer_s_per_hidden = 2.0 * per["norm"] + 3.0 * per["gate"]
    share = min(_PASS_BYTES / (layer_s_per_hidden * bandwidth_bytes_per_s), 1.0)
    constants = {"t0_s": shortest, "kernels": _KERNELS, "eff_b": share}
    return Fit(constants, None, len(times), median_spread(t.sample for t in times))

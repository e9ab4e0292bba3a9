"""Time of dense matrix products."""

from typing import Final

import numpy as np

from envelope.perf.efficiency import Chosen
from envelope.perf.roofline import Floats, OpCost, roofline_cost

TILE_COLUMNS: Final = 128.0
"""Columns of an output tile; rows are 64 up to 64 tokens and 128 beyond."""


MOST_UNITS_PER_TILE: Final = 8.0
"""Units that share one tile at most: kernels cut the inner dimension (split-K) of products with few tiles."""
_SHARPNESS: Final = 6.0


def gemm_cost(
    name: str,
    tokens: Floats,
    n: float,
    k: float,
    *,
    weight_bytes: float,
    curve: Chosen,
    peak_flop_per_s: float,
    bandwidth_bytes_per_s: float,
    units: float,
    activation_bytes: float = 2.0,
    count: float = 1.0,
) -> OpCost:
    r"""Return the cost of ``count`` products y[m, n] = x[m, k] W[k, n] for ``tokens`` = m.

    ``t = t0 + ((F/(P·eff_c)·(1 + occ_c·U/tiles)·(1 + k_half/k))^p + (B/(W·eff_b)·(1 + occ_b·U/tiles))^p)^(1/p)
    + q_act·3·m·k/W``, F = 2·m·n·k, B = weights + activations in and out, tiles = ⌈m/T⌉·⌈n/128⌉, U = ``units``;
    the occupancy terms are wave quantisation, the last term is quantising activations on the fly. CPUs have
    ``core_bytes_per_s``: a core's kernel reads no faster than that. Form and constants: fits of this project to
    the measured tables of aiconfigurator-core 0.12.0 (median errors stand in each curve).
    """
    m = tokens
    flop = 2.0 * m * n * k
    moved = weight_bytes * n * k + activation_bytes * m * (n + k)
    tiles = np.ceil(m / np.where(m <= 64, 64.0, 128.0)) * np.ceil(n / TILE_COLUMNS)
    tiles = np.maximum(tiles, units / MOST_UNITS_PER_TILE)
    reach = achievable_bytes_per_s(curve, bandwidth_bytes_per_s, units)
    compute = flop / (peak_flop_per_s * curve["eff_c"])
    compute = compute * (1.0 + curve["occ_c"] * units / tiles) * (1.0 + curve["k_half"] / k)
    memory = moved / reach * (1.0 + curve["occ_b"] * units / tiles)
    quantise = curve["q_act"] * 3.0 * m * k / bandwidth_bytes_per_s
    return roofline_cost(
        name, flop, moved,
        compute_s=compute, memory_s=memory, fixed_s=curve["t0_s"] + quantise, p=curve["p"],
        peak_s=flop / peak_flop_per_s, bus_s=moved / bandwidth_bytes_per_s, count=count,
    )  # fmt: skip


def achievable_bytes_per_s(curve: Chosen, bandwidth_bytes_per_s: float, units: float) -> float:
    """Return the smooth minimum of bandwidth · eff_b and units · core_bytes_per_s.

    The second limit is given only where a kernel keeps each core or multiprocessor from reading faster. The
    minimum (a⁻⁶ + b⁻⁶)^(−1/6) is 11 % below either where they meet, as measured thread by thread on CPUs.
    """
    reach = bandwidth_bytes_per_s * curve["eff_b"]
    per_core = curve["core_bytes_per_s"]
    if per_core <= 0:
        return reach
    return float((reach**-_SHARPNESS + (units * per_core) ** -_SHARPNESS) ** (-1.0 / _SHARPNESS))

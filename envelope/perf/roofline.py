"""Time of one operator from its FLOPs and bytes: the smooth roofline that every other formula uses."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OpCost:
    """What one operator costs in a step, over a grid of token counts.

    ``time_s`` is split into what the matrix units, the memory and the links account for, and fixed overhead;
    the four parts sum to it.
    """

    name: str
    time_s: Floats
    compute_s: Floats
    memory_s: Floats
    communication_s: Floats
    overhead_s: Floats
    peak_s: Floats
    """FLOPs over the datasheet peak of the matrix unit."""
    bus_s: Floats
    """Bytes over the datasheet bandwidth."""
    flop: Floats
    bytes: Floats


def smooth_max(a: Floats, b: Floats, p: float) -> Floats:
    """Return (aᵖ + bᵖ)^(1/p): the maximum for large p, the sum for p = 1; a, b ≥ 0.

    >>> float(smooth_max(np.array([3.0]), np.array([4.0]), 2.0)[0])
    5.0
    """
    high, low = np.maximum(a, b), np.minimum(a, b)
    ratio = np.divide(low, high, out=np.zeros_like(high), where=high > 0)
    return high * (1.0 + ratio**p) ** (1.0 / p)


def roofline_cost(
    name: str,
    flop: Floats,
    moved_bytes: Floats,
    *,
    compute_s: Floats,
    memory_s: Floats,
    fixed_s: Floats | float,
    p: float,
    peak_s: Floats,
    bus_s: Floats,
    count: float = 1.0,
) -> OpCost:
    """Return the cost of ``count`` equal operators: t = fixed + (computeᵖ + memoryᵖ)^(1/p), never below the roof.

    ``compute_s`` and ``memory_s`` are the times that each resource alone would need at its achievable rate;
    the joint time is divided among them by their p-th powers. ``peak_s`` and ``bus_s`` are the same at datasheet
    rates; their maximum is the roofline (Williams, Waterman, Patterson: Roofline, CACM 52/4, 2009,
    https://doi.org/10.1145/1498765.1498785). Times never fall with the number of tokens.
    """
    joint = smooth_max(compute_s, memory_s, p)
    fixed = np.broadcast_to(np.asarray(fixed_s, dtype=float), joint.shape)
    time = np.maximum.accumulate(np.maximum(fixed + joint, np.maximum(peak_s, bus_s)))
    overhead = np.minimum(fixed, time)
    ca, ma = compute_s**p, memory_s**p
    share = np.divide(ca, ca + ma, out=np.full_like(joint, 0.5), where=(ca + ma) > 0)
    busy = time - overhead
    zero = np.zeros_like(joint)
    return OpCost(
        name, count * time, count * busy * share, count * busy * (1 - share), zero, count * overhead,
        count * peak_s, count * bus_s, count * flop, count * moved_bytes,
    )  # fmt: skip


def communication_cost(name: str, time_s: Floats, fixed_s: Floats) -> OpCost:
    """Return the cost of a transfer: ``fixed_s`` of it is latency, the rest the links' time."""
    zero = np.zeros_like(time_s)
    time = np.maximum.accumulate(time_s)
    overhead = np.minimum(fixed_s, time)
    return OpCost(name, time, zero, zero, time - overhead, overhead, zero, zero, zero, zero)

"""The time of a step from its tables, and the time of many decode steps in closed form."""

import math

from envelope.serving.kernel.layout import (
    G_EDGES,
    H_BINS,
    H_CLASSES,
    H_ITL,
    P_CURVE,
    P_KNOT,
    P_KNOTS,
    P_LEVEL,
    P_MAX_TOKENS,
    P_RATE,
    P_SLOPE,
    P_TOKEN,
    P_TOTAL,
    R_CLASS,
    R_LAST_BIN,
    R_MOVING,
    R_TABLE,
    X_BASE,
    X_CONTEXT,
)
from envelope.serving.kernel.marks import kernel
from envelope.serving.kernel.types import Floats, Ints


@kernel
def token_time(tb: Floats, p: int, m: int) -> float:
    """Return the token-dependent time of a step of ``m`` tokens, in proportion beyond the table."""
    top = int(tb[p + P_MAX_TOKENS])
    at = int(tb[p + P_TOKEN])
    if m <= top:
        return tb[at + m]
    return tb[at + top] * m / top


@kernel
def knot_below(tb: Floats, p: int, c: float) -> int:
    """Return the index of the last knot at or below context ``c``."""
    knots = int(tb[p + P_KNOTS])
    at = int(tb[p + P_KNOT])
    k = 0
    while k + 1 < knots and c >= tb[at + k + 1]:
        k += 1
    return k


@kernel
def decode_sum(tb: Floats, p: int, n: int, context: float, count: int) -> float:
    r"""Return ``Σ_{j<count} g_n(context + j)``, the decode attention of one of ``n`` sequences.

    ``g_n`` is piecewise linear in the context, so each piece is an arithmetic series.
    """
    knots = int(tb[p + P_KNOTS])
    at = int(tb[p + P_KNOT])
    level = int(tb[p + P_LEVEL]) + n * knots
    slope = int(tb[p + P_SLOPE]) + n * knots
    k = knot_below(tb, p, context)
    total = 0.0
    c = context
    while count > 0:
        m = count
        if k + 1 < knots:
            m = min(count, int(math.ceil(tb[at + k + 1] - c)))
        if m > 0:
            first = tb[level + k] + tb[slope + k] * (c - tb[at + k])
            total += m * first + tb[slope + k] * (0.5 * m * (m - 1))
            c += m
            count -= m
        k += 1
    return total


@kernel
def prefill_total(tb: Floats, p: int, position: float) -> float:
    """Return the prefill-attention time of all tokens before ``position``."""
    k = knot_below(tb, p, position)
    d = position - tb[int(tb[p + P_KNOT]) + k]
    rate = tb[int(tb[p + P_RATE]) + k]
    curve = tb[int(tb[p + P_CURVE]) + k]
    return tb[int(tb[p + P_TOTAL]) + k] + d * (rate + 0.5 * curve * d)


@kernel
def run_time(st: Ints, sx: Floats, tb: Floats, b: int, x: int, steps: int) -> float:
    """Return the time of ``steps`` decode steps from the start of the segment under way."""
    n = st[b + R_MOVING]
    mean = sx[x + X_CONTEXT] / n + 1.0
    return steps * sx[x + X_BASE] + n * decode_sum(tb, st[b + R_TABLE], n, mean, steps)


@kernel
def find_bin(sx: Floats, edge: int, bins: int, value: float) -> int:
    """Return the histogram bin of ``value``: the last whose lower edge is not above it."""
    low = 0
    high = bins - 1
    while low < high:
        middle = (low + high + 1) // 2
        if sx[edge + middle] <= value:
            low = middle
        else:
            high = middle - 1
    return low


@kernel
def count_gaps(st: Ints, sx: Floats, b: int, gap: float, steps: int) -> None:
    """Count ``steps`` gaps of length ``gap`` between tokens for each decoding sequence, by class."""
    edge = int(sx[G_EDGES])
    k = st[b + R_LAST_BIN]
    if not (sx[edge + k] <= gap and (k + 1 >= st[H_BINS] or gap < sx[edge + k + 1])):
        k = find_bin(sx, edge, st[H_BINS], gap)
        st[b + R_LAST_BIN] = k
    at = st[H_ITL] + k
    for c in range(st[H_CLASSES]):
        n = st[st[b + R_CLASS] + c]
        if n > 0:
            st[at + c * st[H_BINS]] += n * steps


@kernel
def count_one_gap(st: Ints, sx: Floats, c: int, gap: float) -> None:
    """Count one gap between tokens of class ``c``."""
    k = find_bin(sx, int(sx[G_EDGES]), st[H_BINS], gap)
    st[st[H_ITL] + c * st[H_BINS] + k] += 1


@kernel
def count_run(st: Ints, sx: Floats, tb: Floats, b: int, x: int, steps: int, spent: float) -> None:
    """Count the gaps of a finished segment, cut into parts within which steps differ by less than half a per cent."""
    if steps == 1 or spent <= 0.0:
        count_gaps(st, sx, b, spent / steps, steps)
        return
    total = run_time(st, sx, tb, b, x, steps)
    last = total - run_time(st, sx, tb, b, x, steps - 1)
    parts = min(steps, 1 + int(200.0 * (last * steps / total - 1.0) * 2.0))
    if parts <= 1:
        count_gaps(st, sx, b, spent / steps, steps)
        return
    scale = spent / total
    before = 0.0
    done = 0
    for part in range(1, parts + 1):
        upto = steps * part // parts
        now = run_time(st, sx, tb, b, x, upto) * scale
        count_gaps(st, sx, b, (now - before) / (upto - done), upto - done)
        before = now
        done = upto

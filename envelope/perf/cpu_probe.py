"""Time of single operators from the tables that the CPU probe measured (forms ``*_table`` of ``op: table``).

CPU kernels change algorithm with the number of rows, the context and the head width in steps that no smooth
curve follows, so these forms are tables. Constants are a flat mapping of names to numbers; a table's entries are
named ``<prefix>_<abscissa>``, such as ``weight_s_8`` (seconds per weight at 8 rows). Between entries the logarithm
is interpolated over the logarithm of the abscissa; beyond the last the rate stays.
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from envelope.spec.hardware import EfficiencyCurve

Constants = Mapping[str, float]

LINEAR = "linear_table"
DECODE_ATTENTION = "decode_attention_table"
PREFILL_ATTENTION = "causal_attention_table"
EXPERTS = "experts_table"
ELEMENTWISE = "elementwise_table"
BANDWIDTH = "bandwidth_table"


def table(constants: Constants, prefix: str) -> tuple[list[float], list[float]]:
    """Return the abscissas and values of a table, in ascending order.

    >>> table({"weight_s_8": 3.0, "weight_s_1": 2.0, "t0_s": 1.0}, "weight_s")
    ([1.0, 8.0], [2.0, 3.0])
    """
    found = sorted((float(k[len(prefix) + 1 :]), v) for k, v in constants.items() if k.startswith(f"{prefix}_"))
    return [x for x, _ in found], [y for _, y in found]


def interpolated(constants: Constants, prefix: str, x: float) -> float:
    """Return a table's value at ``x``; constant beyond both ends.

    >>> round(interpolated({"a_1": 1.0, "a_100": 100.0}, "a", 10.0), 6)
    10.0
    """
    xs, ys = table(constants, prefix)
    return math.exp(float(np.interp(math.log(x), np.log(xs), np.log(ys))))


def linear_s(constants: Constants, rows: float, n: float, k: float) -> float:
    """Return the time of y[rows, n] = x[rows, k] W[k, n].

    ``t = t0 + n·k·weight_s(rows) + rows·(k + n)·activation_s``: launch, the weights read and multiplied (per weight, by
    number of rows), and activations converted and written. ``weight_s`` grows in proportion beyond the largest
    number of rows measured.
    """
    last = table(constants, "weight_s")[0][-1]
    per_weight = interpolated(constants, "weight_s", rows) * max(rows / last, 1.0)
    return constants["t0_s"] + n * k * per_weight + rows * (k + n) * constants["activation_s"]


def head_widths(constants: Constants, prefix: str) -> list[int]:
    """Return the head widths that a table was measured for; keys read ``<prefix>_<width>_<abscissa>``."""
    return sorted({int(k[len(prefix) + 1 :].split("_")[0]) for k in constants if k.startswith(f"{prefix}_")})


def _nearest_width(constants: Constants, prefix: str, head_dim: float) -> int:
    return min(head_widths(constants, prefix), key=lambda w: abs(math.log(w / head_dim)))


def decode_attention_s(
    constants: Constants, batch: float, context: float, heads: float, kv_heads: float, head_dim: float
) -> float:
    """Return the time of one layer's attention when ``batch`` sequences decode one token at ``context`` tokens each.

    ``t = t0 + batch·(heads·head_s + context·head_dim·(heads·read_s(context) + kv_heads·cache_s))``, constants of the
    nearest head width: work of each head, and reading the cache that several heads share.
    """
    width = _nearest_width(constants, "read_s", head_dim)
    work = heads * constants[f"head_s_{width}"]
    if context > 0:
        per_element = heads * interpolated(constants, f"read_s_{width}", context)
        per_element += kv_heads * constants.get(f"cache_s_{width}", 0.0)
        work += context * head_dim * per_element
    return constants[f"t0_s_{width}"] + batch * work


def prefill_attention_s(constants: Constants, new: float, cached: float, heads: float, head_dim: float) -> float:
    """Return the time of one layer's attention over a chunk of ``new`` tokens after ``cached`` ones.

    ``t = t0 + heads·(new·row_s + head_dim·pairs·causal_s(cached + new))``, pairs = new·(cached + (new + 1)/2): the work
    of each new token and head (rotation, storing, softmax set-up), and of each pair that the causal mask leaves.
    """
    width = _nearest_width(constants, "causal_s", head_dim)
    pairs = new * (cached + (new + 1.0) / 2.0)
    per_pair = interpolated(constants, f"causal_s_{width}", cached + new)
    return constants["t0_s"] + heads * (new * constants[f"row_s_{width}"] + head_dim * pairs * per_pair)


def experts_s(constants: Constants, tokens: float, touched: float, top_k: float, weights: float) -> float:
    """Return the time of one layer's routed experts, of ``weights`` weights each, ``touched`` of them in use.

    ``t = touched·weights·weight_s(rows)`` with rows = tokens·top_k/touched, the mean of an expert in use.
    """
    rows = max(tokens * top_k / touched, 1.0)
    last = table(constants, "weight_s")[0][-1]
    return touched * weights * interpolated(constants, "weight_s", rows) * max(rows / last, 1.0)


def elementwise_s(constants: Constants, elements: float, kind: str) -> float:
    """Return the time of a ``norm`` or ``gate`` over ``elements`` numbers: t0 + elements·s(elements)."""
    return constants[f"{kind}_t0_s"] + elements * interpolated(constants, f"{kind}_element_s", elements)


_SCALARS = {
    LINEAR: ("t0_s", "activation_s"), EXPERTS: (), PREFILL_ATTENTION: ("t0_s",), DECODE_ATTENTION: (), BANDWIDTH: (),
    ELEMENTWISE: ("call_s", "norm_t0_s", "gate_t0_s"),
}  # fmt: skip
_TABLES = {
    LINEAR: ("weight_s",), EXPERTS: ("weight_s",), ELEMENTWISE: ("norm_element_s", "gate_element_s"),
    PREFILL_ATTENTION: (), DECODE_ATTENTION: (), BANDWIDTH: ("read",),
}  # fmt: skip
_PER_WIDTH = {PREFILL_ATTENTION: ("causal_s", ("row_s",)), DECODE_ATTENTION: ("read_s", ("t0_s", "head_s"))}
"""Form → the table that every head width has, and the constants that go with it."""


def problems(curve: EfficiencyCurve) -> list[tuple[str, str]]:
    """Return (constant, rule) of what keeps a table from being read: entries missing, negative, or of no known form."""
    if curve.form not in _SCALARS:
        return [("form", f"must be one of {', '.join(sorted(_SCALARS))}")]
    wanted, tables = list(_SCALARS[curve.form]), list(_TABLES[curve.form])
    if curve.form in _PER_WIDTH:
        prefix, others = _PER_WIDTH[curve.form]
        tables.append(prefix)
        entries = [k.removeprefix(f"{prefix}_") for k in curve.constants if k.startswith(f"{prefix}_")]
        widths = sorted({e.partition("_")[0] for e in entries})
        wanted += [f"{name}_{width}" for width in widths for name in others]
    found = [(name, "is required") for name in wanted if name not in curve.constants]
    found += [(f"{p}_*", "needs an entry") for p in tables if not any(k.startswith(f"{p}_") for k in curve.constants)]
    found += [(k, "must not be negative") for k, v in curve.constants.items() if not v >= 0]
    for prefix in tables:
        own = {k: v for k, v in curve.constants.items() if k.startswith(f"{prefix}_")}
        found += [(k, "must be positive") for k, v in own.items() if v == 0]
        numbers = [(k, part) for k in own for part in k[len(prefix) + 1 :].split("_")]
        found += [(k, "must end in a number") for k, part in numbers if not part.replace(".", "", 1).isdigit()]
    return found


def find(curves: Iterable[EfficiencyCurve], form: str, number_format: str) -> EfficiencyCurve | None:
    """Return the table of a form for a number format, or ``None`` if the probe did not measure it."""
    return next((c for c in curves if c.op == "table" and c.form == form and c.number_format == number_format), None)

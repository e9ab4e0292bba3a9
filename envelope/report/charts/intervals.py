"""Points with their intervals, one to a row: ranked variants, effects, correlations, rates."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from envelope.report.charts.base import beside, colour, limit_rule, roomy, row_axis, shape, value_axis, values


def intervals(
    rows: Sequence[Mapping[str, Any]], title: str, *, label: str, series: Sequence[str], zero: bool = False,
    tips: Sequence[Any] = (), printed: bool = False, label_pixels: int | None = None,
) -> Any:  # fmt: skip
    """Return rows on one axis, each a point on a rule from the lower to the upper end of its interval.

    ``rows`` have ``name`` (two may be named alike), ``series``, ``low``, ``value``, ``high`` and ``words``, the value
    as people read it, which is written beside the point if the chart is ``printed``. ``title`` and ``label`` (a Vega
    expression) are the axis's; ``series`` are those that occur, in their order; ``zero`` draws a line there, for
    differences. A name takes ``label_pixels`` at most, if not what other charts give it.
    """
    placed = [{"row": i, **row} for i, row in enumerate(rows)]
    base = alt.Chart(values(placed)).encode(
        y=row_axis([str(row["name"]) for row in rows], printed=printed, pixels=label_pixels)
    )
    numbers = [float(row[key]) for row in rows for key in ("low", "high")]
    x = alt.X(
        "low:Q",
        title=title,
        axis=value_axis(label),
        scale=roomy([*numbers, *([0.0] if zero else [])], printed=printed),
    )
    legend = colour("series", series, columns=2) if len(series) > 1 else colour("series", series).legend(None)
    told = ["name:N", alt.Tooltip("words:N", title=title), *tips]
    rules = base.mark_rule(strokeWidth=4, opacity=0.45).encode(x=x, x2="high:Q", color=legend)
    points = base.mark_point(filled=True, size=80, opacity=1).encode(
        x="value:Q", color=legend, tooltip=told,
        shape=shape("series", series, columns=2) if len(series) > 1 else alt.value("circle"),
    )  # fmt: skip
    layers = [limit_rule("value", 0.0, "no difference", along="x")] if zero else []
    layers += [rules, points]
    if printed:
        layers.append(beside(base, "high", "words"))
    return alt.layer(*layers)

"""What every chart has: a colour-blind-safe palette with shapes and dashes, units on its axes, a text alternative."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt
from altair.utils import schemapi

PALETTE = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B87D00", "#3C93C8", "#9A8F00", "#AA4499", "#7F7F7F", "#A5603C",
    "#4E8F3A", "#6F6FD0", "#B5545A",
)  # fmt: skip
"""Colours after Okabe and Ito (Color Universal Design, 2008); their orange, sky blue and yellow are darkened so that
each has a contrast of at least 3:1 both on white and on a dark page."""
DASHES: tuple[tuple[int, ...], ...] = (
    (1, 0),
    (6, 3),
    (2, 2),
    (8, 3, 2, 3),
    (12, 3),
    (4, 6),
    (1, 3),
    (10, 2, 2, 2, 2, 2),
)
"""Dash patterns of lines; they repeat after as many lines, when the colour still differs."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Letters that name candidates where colour alone would not tell them apart."""
NEUTRAL = "#7F7F7F"
"""Marks that belong to no series: limits, diagonals, today's position."""

SECONDS = "datum.value >= 1 ? format(datum.value, '~g') + ' s' : format(datum.value * 1000, '~r') + ' ms'"
"""Vega expression that labels an axis in seconds."""
SHORT = "format(datum.value, datum.value >= 1000 ? '~s' : '~r')"
"""Vega expression that labels counts: 20k, 300, 0.5."""
DOLLARS = "format(datum.value, '$~s')"
TOKENS = "datum.value % 1024 === 0 ? format(datum.value / 1024, '~r') + 'k' : format(datum.value, ',')"
"""Vega expression that labels contexts, in multiples of 1,024 tokens."""
_AXIS_PIXELS, _LEGEND_PIXELS, _LEGEND_ROW_PIXELS = 65, 50, 18
"""Height that the horizontal axis, the legend's margins and each of its rows take."""
_WHOLE_DECADE = "abs(log(datum.value) / LN10 - round(log(datum.value) / LN10)) < 1e-6"
_ROUND = "indexof([1, 2, 5], round(datum.value / pow(10, floor(log(datum.value) / LN10 + 1e-9)))) >= 0"


def values(rows: Iterable[Mapping[str, object]]) -> alt.InlineData:
    """Return rows as a chart's data, kept in the chart itself."""
    return alt.InlineData(values=[dict(row) for row in rows])


def rows_of(chart: Any) -> list[dict[str, Any]]:
    """Return the rows that a chart draws, of a layered one those of its first layer that has any."""
    for part in getattr(chart, "layer", None) or [chart]:
        found = getattr(part.data, "values", None)
        if found:
            return [dict(row) for row in found]
    return []


def described(chart: Any, description: str, *, height: float, legend_rows: int = 0) -> Any:
    """Return a chart as wide as its place, with the text that stands for it where it cannot be seen.

    ``height`` is that of the plot alone; room for the horizontal axis and the legend's rows is added.
    """
    total = height + _AXIS_PIXELS + (_LEGEND_PIXELS + _LEGEND_ROW_PIXELS * legend_rows if legend_rows else 0)
    fitted = alt.AutoSizeParams(type="fit", contains="padding")
    return chart.properties(description=description, width="container", height=total, autosize=fitted)


def colour(field: str, names: Sequence[str], *, columns: int = 3) -> alt.Color:
    """Return the colour channel of named series: equal names in equal order have equal colours."""
    return alt.Color(
        f"{field}:N",
        title=None,
        sort=None,
        scale=alt.Scale(domain=list(names), range=_cycled(PALETTE, len(names))),
        legend=below(columns),
    )


def dash(field: str, names: Sequence[str], *, columns: int = 3) -> alt.StrokeDash:
    """Return the dash channel of named series, so that lines differ by more than their colour."""
    return alt.StrokeDash(
        f"{field}:N",
        title=None,
        sort=None,
        scale=alt.Scale(domain=list(names), range=[list(d) for d in _cycled(DASHES, len(names))]),
        legend=below(columns),
    )


def shape(field: str, names: Sequence[str], *, columns: int = 3) -> alt.Shape:
    """Return the shape channel of named series, so that points differ by more than their colour."""
    return alt.Shape(
        f"{field}:N",
        title=None,
        sort=None,
        scale=alt.Scale(domain=list(names), range=_cycled(SHAPES, len(names))),
        legend=below(columns),
    )


def below(columns: int) -> alt.Legend:
    """Return a legend under the chart, narrow enough for a phone."""
    limits = {1: 320, 2: 150, 3: 95}
    return alt.Legend(orient="bottom", columns=columns, labelLimit=limits[columns])


def label_axis() -> alt.Axis:
    """Return the axis of named bars, its labels short enough for a phone."""
    return alt.Axis(labelLimit=200)


def log_axis(label: str, **more: Any) -> alt.Axis:
    """Return a logarithmic axis with lines at the powers of ten and labels at 1, 2 and 5 times those.

    ``label`` is the Vega expression of a label's text.
    """
    decades = {"condition": {"test": _WHOLE_DECADE, "value": 1}, "value": 0}
    return alt.Axis(labelExpr=f"{_ROUND} ? ({label}) : ''", gridOpacity=decades, labelOverlap=True, **more)


def limit_rule(field: str, value: float, label: str, *, along: str) -> Any:
    """Return a dashed line at a limit; ``along`` is the axis on which the limit lies (``x`` or ``y``)."""
    axis = alt.X(f"{field}:Q") if along == "x" else alt.Y(f"{field}:Q")
    return (
        alt.Chart(values([{field: value, "limit": label}]))
        .mark_rule(strokeDash=[6, 4], strokeWidth=2, color=NEUTRAL)
        .encode(**{along: axis, "tooltip": [alt.Tooltip("limit:N", title="limit")]})
    )


def format_locale(decimal: str, thousands: str) -> dict[str, Any]:
    """Return Vega's description of how numbers are written."""
    return {"decimal": decimal, "thousands": thousands, "grouping": [3], "currency": ["$", ""]}


def with_separators(chart: Any, decimal: str, thousands: str) -> Any:
    """Return a chart whose numbers have these separators, wherever Vega-Embed draws it."""
    return chart.properties(usermeta={"embedOptions": {"formatLocale": format_locale(decimal, thousands)}})


def skip_checks() -> None:
    """Draw charts without Altair's check against its schema, which takes longer than all else about them.

    The charts' tests keep the check.
    """
    schemapi.disable_debug_mode()


def _cycled(items: Sequence[Any], count: int) -> list[Any]:
    return [items[i % len(items)] for i in range(max(count, 1))]

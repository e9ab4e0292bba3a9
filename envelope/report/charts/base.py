"""What every chart has: colours with shapes and dashes, units on its axes, a text alternative."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt
from altair.utils import schemapi

from envelope.report.charts.palette import DASHES, INK, NEUTRAL, PALETTE, SHAPES, cycled

SECONDS = "abs(datum.value) >= 1 ? format(datum.value, '~g') + ' s' : format(datum.value * 1000, '~r') + ' ms'"
"""Vega expression that labels an axis in seconds."""
SHORT = "format(datum.value, datum.value >= 1000 ? '~s' : '~r')"
"""Vega expression that labels counts: 20k, 300, 0.5."""
DOLLARS = "replace(format(datum.value, '$~s'), 'G', 'B')"
"""Vega expression that labels dollars: $20k, $1.5M, $2B."""
PERCENT = "format(datum.value * 100, '.4~g') + ' %'"
TOKENS = "datum.value % 1024 === 0 ? format(datum.value / 1024, '~r') + 'k' : format(datum.value, ',')"
"""Vega expression that labels contexts, in multiples of 1,024 tokens."""
_LABEL_PIXELS = {False: 200, True: 300}
"""Width of the names of bars in a chart that is held in the hand, and in one that is printed."""
_TEXT_FRAC, _PAD_FRAC = 0.3, 0.05
"""Share of the numbers' range that texts beside bars take, and that stays free at the other end."""
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
        scale=alt.Scale(domain=list(names), range=cycled(PALETTE, len(names))),
        legend=below(columns),
    )


def dash(field: str, names: Sequence[str], *, columns: int = 3) -> alt.StrokeDash:
    """Return the dash channel of named series, so that lines differ by more than their colour."""
    return alt.StrokeDash(
        f"{field}:N",
        title=None,
        sort=None,
        scale=alt.Scale(domain=list(names), range=[list(d) for d in cycled(DASHES, len(names))]),
        legend=below(columns),
    )


def shape(field: str, names: Sequence[str], *, columns: int = 3) -> alt.Shape:
    """Return the shape channel of named series, so that points differ by more than their colour."""
    return alt.Shape(
        f"{field}:N",
        title=None,
        sort=None,
        scale=alt.Scale(domain=list(names), range=cycled(SHAPES, len(names))),
        legend=below(columns),
    )


def below(columns: int) -> alt.Legend:
    """Return a legend under the chart, narrow enough for a phone."""
    limits = {1: 320, 2: 150, 3: 95}
    return alt.Legend(orient="bottom", columns=columns, labelLimit=limits[columns])


def label_axis(*, printed: bool = False) -> alt.Axis:
    """Return the axis of named bars, its labels short enough for a phone, or for a page that is ``printed``."""
    return alt.Axis(labelLimit=_LABEL_PIXELS[printed])


def value_axis(label: str) -> alt.Axis:
    """Return the horizontal axis of bars; ``label`` is the Vega expression of a label's text."""
    return alt.Axis(labelExpr=label, tickCount=alt.ExprRef("ceil(width / 90)"))


def row_axis(labels: Sequence[str], *, printed: bool = False, pixels: int | None = None) -> alt.Y:
    """Return the axis of rows told apart by their place (the field ``row``), so that two may be named alike.

    ``pixels`` is the most that a label takes, if not what others take.
    """
    shown = f"{json.dumps(list(labels))}[datum.value]"
    return alt.Y("row:O", title=None, axis=alt.Axis(labelExpr=shown, labelLimit=pixels or _LABEL_PIXELS[printed]))


def beside(base: Any, field: str, words: str) -> Any:
    """Return the texts of the field ``words`` to the right of the marks at ``field``, for a page that is printed."""
    return base.mark_text(align="left", dx=8, color=INK).encode(x=f"{field}:Q", text=f"{words}:N")


def roomy(numbers: Iterable[float], *, printed: bool, zero: bool = False) -> alt.Scale:
    """Return the scale of bars; if ``printed`` it leaves room at the right for the texts beside them.

    With ``zero`` it holds zero, else it begins near the least of the numbers.
    """
    found = [*numbers, *([0.0] if zero else [])] or [0.0]
    if not printed:
        return alt.Scale(zero=zero)
    low, high = min(found), max(found)
    return alt.Scale(
        zero=zero,
        nice=False,
        domain=[low if zero else low - _PAD_FRAC * (high - low), high + _TEXT_FRAC * ((high - low) or 1.0)],
    )


def log_axis(label: str, **more: Any) -> alt.Axis:
    """Return a logarithmic axis with lines at the powers of ten and labels at 1, 2 and 5 times those.

    ``label`` is the Vega expression of a label's text.
    """
    decades = {"condition": {"test": _WHOLE_DECADE, "value": 1}, "value": 0}
    return alt.Axis(labelExpr=f"{_ROUND} ? ({label}) : ''", gridOpacity=decades, labelOverlap=True, **more)


def usd_tip(field: str, title: str) -> alt.Tooltip:
    """Return the line of a tooltip that gives dollars."""
    return alt.Tooltip(f"{field}:Q", title=title, format="$,.0f")


def bar_pixels(count: int, step: int = 34) -> float:
    """Return the height of so many bars below each other, each of ``step``."""
    return max(count, 2) * step


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

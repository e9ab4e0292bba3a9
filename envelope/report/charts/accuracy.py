"""Predicted against measured: log-log scatter with the rows that are furthest off."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import altair as alt

from envelope.report.charts.base import SHORT, colour, described, log_axis, shape, values
from envelope.report.charts.palette import NEUTRAL, PALETTE


class Scored(Protocol):
    """What a measured row beside its prediction offers to a chart."""

    @property
    def id(self) -> str:
        """Name of the row."""
        ...

    @property
    def device_class(self) -> str:
        """Class of the device."""
        ...

    @property
    def device(self) -> str:
        """Device."""
        ...

    @property
    def model(self) -> str:
        """Model."""
        ...

    @property
    def measured(self) -> float | None:
        """What was measured."""
        ...

    @property
    def predicted(self) -> float | None:
        """What is predicted; ``None`` if nothing is."""
        ...


def accuracy_scatter(rows: Iterable[Scored], worst: Sequence[str], title: str, unit: str) -> Any:
    """Return predicted against measured values in ``unit`` on log axes, with the diagonal and ±25 %.

    The rows named in ``worst`` are ringed.
    """
    points = [r for r in rows if r.measured and r.predicted]
    shown = [
        {
            "row": r.id, "class": r.device_class.replace("_", " "), "device": r.device, "model": r.model,
            "measured": r.measured, "predicted": r.predicted, "error": (r.predicted or 0.0) / (r.measured or 1.0) - 1,
            "worst": r.id in worst,
        }
        for r in points
    ]  # fmt: skip
    classes = sorted({str(row["class"]) for row in shown})
    base = alt.Chart(values(shown)).encode(x=_axis(alt.X, "measured", unit), y=_axis(alt.Y, "predicted", unit))
    tips = [
        "row:N", "device:N", "model:N", alt.Tooltip("measured:Q", format=",.4~g"),
        alt.Tooltip("predicted:Q", format=",.4~g"), alt.Tooltip("error:Q", format="+.0%"),
    ]  # fmt: skip
    marks = base.mark_point(filled=True, size=45, opacity=0.7).encode(
        color=colour("class", classes, columns=2), shape=shape("class", classes, columns=2), tooltip=tips
    )
    rings = (
        base.transform_filter("datum.worst")
        .mark_point(shape="circle", size=170, filled=False, strokeWidth=2, color=PALETTE[1], stroke=PALETTE[1])
        .encode(tooltip=tips)
    )
    told = f"{title}: {len(points)} rows, predicted against measured in {unit}; {_within(points)} lie within 25 %."
    return described(alt.layer(_guides(points), marks, rings), told, height=360, legend_rows=-(-len(classes) // 2))


def _axis(kind: Any, field: str, unit: str) -> Any:
    return kind(
        f"{field}:Q", title=f"{field}, {unit}", scale=alt.Scale(type="log", nice=True),
        axis=log_axis(SHORT),
    )  # fmt: skip


def _within(points: Sequence[Scored]) -> str:
    near = sum(abs(math.log((p.predicted or 1.0) / (p.measured or 1.0))) <= math.log(1.25) for p in points)
    return f"{near / len(points):.0%}" if points else "none"


def _guides(points: Sequence[Scored]) -> Any:
    seen = [v for p in points for v in (p.measured, p.predicted) if v] or [1.0, 10.0]
    low, high = min(seen), max(seen)
    rows = [
        {"guide": name, "measured": at, "predicted": at * factor}
        for name, factor in (("equal", 1.0), ("25 % more", 1.25), ("25 % less", 0.8))
        for at in (low, high)
    ]
    return (
        alt.Chart(values(rows))
        .mark_line(color=NEUTRAL, strokeWidth=1.5)
        .encode(
            x="measured:Q",
            y="predicted:Q",
            detail="guide:N",
            strokeDash=alt.condition("datum.guide === 'equal'", alt.value([1, 0]), alt.value([4, 4])),
        )
    )

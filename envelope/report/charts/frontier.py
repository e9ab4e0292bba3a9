"""The map of the cheapest feasible candidate, the line between owning and renting, today's position and its growth."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import altair as alt

from envelope.report.charts.base import SHORT, below, described, log_axis, values
from envelope.report.charts.palette import INK, LETTERS, NOBODY, PALETTE, PAPER, cycled

if TYPE_CHECKING:
    from envelope.plan.frontier.map import AxisInfo, Frontier

_NONE = "– nothing fits"


def frontier_map(found: "Frontier", names: Mapping[str, str] | None = None) -> Any:
    """Return the map: regions by colour and letter, the line with its P10–P90 band, today's position and growth.

    ``names`` maps a candidate's id to what the legend says.
    """
    labels = [f"{LETTERS[i % 26]} {(names or {}).get(c, c)}" for i, c in enumerate(found.candidates)]
    shown = [labels[i] for i in range(len(labels)) if any(i in row for row in found.cells)]
    if any(-1 in row for row in found.cells):
        shown.append(_NONE)
    layers = [_regions(found, labels, shown), _letters(found, labels), *_line(found), *_path(found)]
    parts = "; ".join(f"{r.name} {r.frac:.0%} ({r.reason})" for r in found.regions)
    line = f" {found.line.text}." if found.line is not None else ""
    told = f"Cheapest feasible candidate by {found.x.label} and {found.y.label}: {parts}.{line}"
    keys = alt.TitleParams(_keys(found), anchor="start", fontSize=12, fontWeight="normal", limit=880)
    chart = alt.layer(*layers).resolve_scale(strokeDash="independent").properties(title=keys)
    return described(chart, told, height=420, legend_rows=len(shown))


def _regions(found: "Frontier", labels: Sequence[str], shown: Sequence[str]) -> Any:
    """Return the cells as rectangles, equal neighbours joined."""
    across, up = _edges(found.x), _edges(found.y)
    rows = [
        {
            "x": across[left], "x2": across[right], "y": up[low], "y2": up[high],
            "cheapest": labels[winner] if winner >= 0 else _NONE,
        }
        for (winner, left, right), low, high in _joined(found.cells)
    ]  # fmt: skip
    own = cycled(PALETTE, len(labels))
    colours = [NOBODY if name == _NONE else own[labels.index(name)] for name in shown]
    return (
        alt.Chart(values(rows))
        .mark_rect(opacity=1, clip=True, strokeWidth=0.8)
        .encode(
            x=_channel(alt.X, "x", found.x),
            x2="x2:Q",
            y=_channel(alt.Y, "y", found.y),
            y2="y2:Q",
            color=alt.Color(
                "cheapest:N", title=None, sort=None, scale=alt.Scale(domain=list(shown), range=colours), legend=below(1)
            ),
            # A stroke of the same colour hides the seams between neighbours.
            stroke=alt.Stroke("cheapest:N", scale=alt.Scale(domain=list(shown), range=colours), legend=None),
            tooltip=["cheapest:N"],
        )
    )


_Run = tuple[int, int, int]
"""Winner, first column and the column after the last."""


def _joined(cells: Sequence[Sequence[int]]) -> list[tuple[_Run, int, int]]:
    """Return runs of equal cells with their first row and the row after the last; equal runs above each other join."""
    done: list[tuple[_Run, int, int]] = []
    open_since: dict[_Run, int] = {}
    for j, row in enumerate([*cells, []]):
        now, start = set(), 0
        for winner, run in groupby(row):
            end = start + len(list(run))
            now.add((winner, start, end))
            start = end
        done += [(run, low, j) for run, low in open_since.items() if run not in now]
        open_since = {run: open_since.get(run, j) for run in now}
    return done


def _letters(found: "Frontier", labels: Sequence[str]) -> Any:
    """Return a letter in the middle of each region, so that colour is not the only sign of it.

    Places of the company's path are left free.
    """
    taken = [(_nearest(found.y, p.y), _nearest(found.x, p.x)) for p in found.path if p.inside]
    gap = max(len(found.cells) // 12, 1)
    rows = []
    for index, label in enumerate(labels):
        inside = [(j, i) for j, row in enumerate(found.cells) for i, winner in enumerate(row) if winner == index]
        free = [c for c in inside if all(abs(c[0] - t[0]) > gap or abs(c[1] - t[1]) > 2 * gap for t in taken)]
        inside = free or inside
        if inside:
            middle = [sum(place[k] for place in inside) / len(inside) for k in (0, 1)]
            j, i = min(inside, key=lambda place: (place[0] - middle[0]) ** 2 + (place[1] - middle[1]) ** 2)
            rows.append({"x": found.x.values[i], "y": found.y.values[j], "letter": label[0]})
    return (
        alt.Chart(values(rows))
        .mark_text(fontSize=18, fontWeight="bold", color=PAPER, stroke=INK, strokeWidth=0.6)
        .encode(x="x:Q", y="y:Q", text="letter:N")
    )


def _line(found: "Frontier") -> list[alt.Chart]:
    """Return the band and the line; an end of the band beyond the map reaches to its edge."""
    if found.line is None:
        return []
    held, free = ("x", "y") if found.line.held == "x" else ("y", "x")
    edges = _edges(getattr(found, free))
    rows = [
        {
            held: p.along, free: p.point, "p10": p.p10, "p90": p.p90, 
            "from": p.p10 if p.p10 is not None else edges[0], "to": p.p90 if p.p90 is not None else edges[-1],
        }
        for p in found.line.points
    ]  # fmt: skip
    banded = alt.Chart(values([row for row in rows if row["p10"] is not None or row["p90"] is not None]))
    place = {"x": alt.X("from:Q"), "x2": "to:Q", "y": "y:Q"} if held == "y" else {
        "x": "x:Q", "y": alt.Y("from:Q"), "y2": "to:Q"}  # fmt: skip
    tips = [alt.Tooltip(f"{k}:Q", title=f"line, {k.upper()}", format=",.3~g") for k in ("p10", "p90")]
    known = alt.Chart(values([row for row in rows if row[free] is not None]))
    drawn = {"x": "x:Q", "y": "y:Q", "order": f"{held}:Q"}
    return [
        banded.mark_area(opacity=0.3, color=INK, clip=True, orient="vertical" if held == "x" else "horizontal")
        .encode(**place, tooltip=tips),
        known.mark_line(strokeWidth=4, color=PAPER, clip=True).encode(**drawn),
        known.mark_line(strokeWidth=3, color=INK, strokeDash=[6, 4], clip=True).encode(
            **drawn, tooltip=["x:Q", "y:Q"]
        ),
    ]  # fmt: skip


def _path(found: "Frontier") -> list[alt.Chart]:
    """Return today's position with its name, and where growth carries it."""
    rows = [
        {"x": p.x, "y": p.y, "year": p.year + 1, "cheapest": p.candidate or "nothing fits"}
        for p in found.path
        if p.inside
    ]  # fmt: skip
    for row, word in ((0, "today"), (-1, f"year {rows[-1]['year']}" if rows else "")):
        if rows and (row == 0 or len(rows) > 1):
            rows[row]["word"] = word
    base = alt.Chart(values(rows)).encode(x="x:Q", y="y:Q")
    tips = [alt.Tooltip("year:Q", title="year"), "cheapest:N", "x:Q", "y:Q"]
    words: dict[str, Any] = {
        "fontSize": 12,
        "fontWeight": "bold",
        "color": PAPER,
        "stroke": INK,
        "strokeWidth": 0.4,
    }
    first, later = base.transform_filter("datum.year === 1"), base.transform_filter("datum.word && datum.year > 1")
    return [
        base.mark_line(color=PAPER, strokeWidth=2, opacity=0.9).encode(order="year:Q"),
        base.mark_point(filled=True, size=90, color=PAPER, stroke=INK, strokeWidth=1.5, opacity=1).encode(
            shape=alt.condition("datum.year === 1", alt.value("diamond"), alt.value("circle")), tooltip=tips
        ),
        first.mark_text(dx=4, dy=-12, align="right", **words).encode(text="word:N"),
        later.mark_text(dx=-4, dy=-12, align="left", **words).encode(text="word:N"),
    ]


def _keys(found: "Frontier") -> str:
    """Return what the marks mean, for the line under the map."""
    keys = ["diamond: today, circles: later years" if len(found.path) > 1 else "diamond: today"]
    if found.line is not None:
        keys.insert(0, "dashed: owning and renting cost the same; shaded: that line from P10 to P90 of the costs")
    elif found.without_line:
        keys.insert(0, f"no line: {found.without_line}")
    return " · ".join(keys)


def _nearest(axis: "AxisInfo", value: float) -> int:
    return min(range(len(axis.values)), key=lambda i: abs(axis.values[i] - value))


def _edges(axis: "AxisInfo") -> list[float]:
    """Return the borders of the cells, half-way between their centres on the axis's own scale."""
    if len(axis.values) < 2:
        return [axis.values[0] * 0.9, axis.values[0] * 1.1]
    at = [math.log(v) for v in axis.values] if axis.log else list(axis.values)
    half = (at[1] - at[0]) / 2
    ends = [at[0] - half, *(v + half for v in at)]
    return [math.exp(v) for v in ends] if axis.log else ends


def _channel(kind: Any, field: str, axis: "AxisInfo") -> Any:
    edges = _edges(axis)
    scale = alt.Scale(type="log" if axis.log else "linear", domain=[edges[0], edges[-1]], nice=False, zero=False)
    drawn = log_axis(SHORT, grid=False) if axis.log else alt.Axis(labelExpr=SHORT, tickCount=6, grid=False)
    return kind(f"{field}:Q", title=axis.label, scale=scale, axis=drawn)

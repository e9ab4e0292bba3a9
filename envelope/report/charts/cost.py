"""Charts of what is paid: cost by heading, cash flow, cumulated cost."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, get_args

import altair as alt

from envelope.plan.cost.study import CandidateCosts, CostStudy
from envelope.report import text
from envelope.report.charts.base import (
    DOLLARS,
    bar_pixels,
    below,
    beside,
    colour,
    dash,
    described,
    label_axis,
    roomy,
    usd_tip,
    value_axis,
    values,
)
from envelope.report.charts.palette import PALETTE, cycled
from envelope.spec.economics import Group

if TYPE_CHECKING:
    from envelope.plan.verdict.results import Comparison

_GROUPS = [name.replace("_", " ") for name in get_args(Group)]
Headings = Mapping[str, Mapping[str, float]]
"""Candidate → heading → dollars, present value; negative where money comes back."""


def cost_by_heading(
    result: "Comparison | CostStudy", only: Collection[str] | None = None, *, printed: bool = False
) -> Any:
    """Return stacked bars: the expected present value of each candidate's costs by heading.

    ``only`` names the candidates that are shown; ``printed`` writes each one's sum beside its bar.
    """
    costs = _headings(result, only)
    places = _places(heading for parts in costs.values() for heading in parts)
    rows = [
        {"candidate": name, "heading": heading, "usd": usd, "place": places[heading]}
        for name, parts in costs.items()
        for heading, usd in parts.items()
    ]
    sums = {name: sum(parts.values()) for name, parts in costs.items()}
    ends = {name: sum(usd for usd in parts.values() if usd > 0) for name, parts in costs.items()}
    back = [sum(usd for usd in parts.values() if usd < 0) for parts in costs.values()]
    y = alt.Y("candidate:N", title=None, sort=sorted(sums, key=lambda n: sums[n]), axis=label_axis(printed=printed))
    chart: Any = (
        alt.Chart(values(rows))
        .mark_bar(size=20)
        .encode(
            x=alt.X(
                "usd:Q", title="US dollars, present value", stack="zero", axis=value_axis(DOLLARS),
                scale=roomy([*ends.values(), *back], printed=printed, zero=True),
            ),
            y=y,
            color=_heading_colour(rows),
            order=alt.Order("place:Q"),
            tooltip=["candidate:N", "heading:N", usd_tip("usd", "present value")],
        )
    )  # fmt: skip
    totals = [{"candidate": name, "end": ends[name], "sum": text.money(usd)} for name, usd in sums.items()]
    if printed:
        chart = alt.layer(chart, beside(alt.Chart(values(totals)).encode(y=y), "end", "sum"))
    told = "; ".join(f"{name} {text.money(usd)}" for name, usd in sums.items())
    return described(
        chart,
        f"Present value of costs by heading: {told}.",
        height=bar_pixels(len(sums)),
        legend_rows=_rows(rows, "heading"),
    )


def _headings(result: "Comparison | CostStudy", only: Collection[str] | None) -> Headings:
    """Return the expected present values of a comparison, or of a cost study: both name the same sums."""
    found: dict[str, dict[str, float]] = {}
    for c in result.candidates:
        if only is not None and c.id not in only:
            continue
        if isinstance(c, CandidateCosts):
            lines = [(str(line.group), line.present_value_usd) for line in c.result.lines]
        else:
            lines = [(line.group, line.npv_usd) for line in c.lines]
        for group, usd in lines:
            parts = found.setdefault(c.name, {})
            name = group.replace("_", " ")
            parts[name] = parts.get(name, 0.0) + usd
    return found


def cash_flow(costs: "CandidateCosts") -> Any:
    """Return stacked bars: one candidate's nominal payments by year and heading; year 0 is the purchase."""
    rows = [
        {"year": year, "heading": line.group.replace("_", " "), "usd": usd}
        for line in costs.result.lines
        for year, usd in enumerate(line.by_year_usd)
        if usd
    ]
    chart = (
        alt.Chart(values(_summed(rows, ("year", "heading"))))
        .mark_bar()
        .encode(
            x=alt.X("year:O", title="year (0 is the purchase)", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("usd:Q", title="US dollars, nominal", axis=alt.Axis(labelExpr=DOLLARS)),
            color=_heading_colour(rows),
            tooltip=["year:O", "heading:N", usd_tip("usd", "paid")],
        )
    )
    years = ", ".join(f"year {i} {text.money(usd)}" for i, usd in enumerate(costs.result.by_year_usd))
    return described(
        chart, f"Payments of {costs.name} by year and heading: {years}.", height=280, legend_rows=_rows(rows, "heading")
    )


def cumulated_cost(study: "CostStudy") -> Any:
    """Return lines: what each candidate has cost after each month, nominal; where two cross they break even."""
    rows = [
        {"candidate": c.name, "month": month, "usd": -usd}
        for c in study.candidates
        for month, usd in enumerate(accumulate(float(v) for v in c.result.flow_usd))
    ]
    names = [c.name for c in study.candidates]
    chart = (
        alt.Chart(values(rows))
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("month:Q", title="month", scale=alt.Scale(nice=False)),
            y=alt.Y("usd:Q", title="US dollars paid so far", axis=alt.Axis(labelExpr=DOLLARS)),
            color=colour("candidate", names, columns=1),
            strokeDash=dash("candidate", names, columns=1),
            tooltip=["candidate:N", "month:Q", usd_tip("usd", "paid so far")],
        )
    )
    ends = "; ".join(f"{c.name} {text.money(c.result.total_usd)}" for c in study.candidates)
    return described(chart, f"Cumulated payments by month; at the end: {ends}.", height=300, legend_rows=len(names))


def _places(names: Iterable[str]) -> dict[str, int]:
    """Return headings by their place in the catalog's order; those that it does not know follow."""
    return {name: place for place, name in enumerate(dict.fromkeys([*_GROUPS, *names]))}


def _heading_colour(rows: Iterable[dict[str, Any]]) -> alt.Color:
    """Return the colours of the headings that occur; a heading has the same colour in every chart."""
    present = _names(rows, "heading")
    places = _places(present)
    colours = cycled(PALETTE, len(places))
    shown = sorted(present, key=lambda name: places[name])
    scale = alt.Scale(domain=shown, range=[colours[places[name]] for name in shown])
    return alt.Color("heading:N", title=None, sort=None, scale=scale, legend=below(3))


def _rows(rows: Iterable[dict[str, Any]], field: str, columns: int = 3) -> int:
    """Return the rows of a legend with so many columns."""
    return -(-len(_names(rows, field)) // columns)


def _names(rows: Iterable[dict[str, Any]], field: str) -> list[str]:
    return list(dict.fromkeys(str(row[field]) for row in rows))


def _summed(rows: Iterable[dict[str, Any]], keys: Sequence[str]) -> list[dict[str, Any]]:
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(row[k] for k in keys)
        found.setdefault(key, {**{k: row[k] for k in keys}, "usd": 0.0})["usd"] += row["usd"]
    return list(found.values())

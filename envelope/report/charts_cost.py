"""Charts of money: cost by heading, cash flow, cumulated cost, tornado, fan and break-even."""

from collections.abc import Collection, Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, get_args

import altair as alt

from envelope.report import text
from envelope.report.charts import (
    NEUTRAL,
    PALETTE,
    SHORT,
    below,
    colour,
    dash,
    described,
    label_axis,
    log_axis,
    shape,
    values,
)
from envelope.spec.economics import Group

if TYPE_CHECKING:
    from envelope.plan.cost.study import CandidateCosts, CostStudy
    from envelope.plan.verdict.results import Comparison

_DOLLARS = "$~s"
_SHOWN_BARS = 15
_LOG = alt.Scale(type="log", zero=False)


def cost_by_heading(result: "Comparison", only: Collection[str] | None = None) -> Any:
    """Return stacked bars: the expected present value of each candidate's costs by heading."""
    shown = [c for c in result.candidates if c.lines and (only is None or c.id in only)]
    rows = [
        {"candidate": c.name, "heading": line.group.replace("_", " "), "usd": line.npv_usd}
        for c in shown
        for line in c.lines
    ]
    totals = [f"{c.name} {text.money(c.cost_npv)}" for c in shown]
    chart = (
        alt.Chart(values(_summed(rows, ("candidate", "heading"))))
        .mark_bar()
        .encode(
            x=alt.X("usd:Q", title="US dollars, present value", stack="zero", axis=alt.Axis(format=_DOLLARS)),
            y=alt.Y("candidate:N", title=None, sort="x", axis=label_axis()),
            color=_heading_colour(rows),
            tooltip=["candidate:N", "heading:N", _usd("usd", "present value")],
        )
    )
    return described(
        chart,
        f"Present value of costs by heading: {'; '.join(totals)}.",
        height=_bars(len(totals)),
        legend_rows=_rows(rows, "heading"),
    )


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
            y=alt.Y("usd:Q", title="US dollars, nominal", axis=alt.Axis(format=_DOLLARS)),
            color=_heading_colour(rows),
            tooltip=["year:O", "heading:N", _usd("usd", "paid")],
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
            y=alt.Y("usd:Q", title="US dollars paid so far", axis=alt.Axis(format=_DOLLARS)),
            color=colour("candidate", names, columns=1),
            strokeDash=dash("candidate", names, columns=1),
            tooltip=["candidate:N", "month:Q", _usd("usd", "paid so far")],
        )
    )
    ends = "; ".join(f"{c.name} {text.money(c.result.total_usd)}" for c in study.candidates)
    return described(chart, f"Cumulated payments by month; at the end: {ends}.", height=300, legend_rows=len(names))


def tornado(costs: "CandidateCosts") -> Any:
    """Return bars from the cost at each input's P10 to that at its P90, the widest first."""
    bars = [bar for bar in costs.tornado if bar.swing_usd > 0][:_SHOWN_BARS]
    point = costs.result.cost_npv_usd
    rows = [
        {"input": bar.input, "at": at, "usd": usd, "point": point}
        for bar in bars
        for at, usd in (("P10 of the input", bar.low_usd), ("P90 of the input", bar.high_usd))
    ]
    names = ["P10 of the input", "P90 of the input"]
    base = alt.Chart(values(rows))
    ends = base.mark_bar(height=12, opacity=0.85).encode(
        x=alt.X(
            "point:Q", title="US dollars, present value", scale=alt.Scale(zero=False), axis=alt.Axis(format=_DOLLARS)
        ),
        x2="usd:Q",
        y=alt.Y("input:N", title=None, sort=[bar.input for bar in bars], axis=label_axis()),
        color=colour("at", names, columns=2),
        tooltip=["input:N", "at:N", _usd("usd", "cost there"), _usd("point", "point estimate")],
    )
    marks = base.mark_point(filled=True, size=45).encode(
        x="usd:Q",
        y=alt.Y("input:N", sort=[bar.input for bar in bars]),
        color=colour("at", names),
        shape=shape("at", names, columns=2),
    )
    widest = "; ".join(f"{b.input} {text.money(b.low_usd)} to {text.money(b.high_usd)}" for b in bars[:3])
    told = f"What one input at a time does to the cost of {costs.name}, {text.money(point)} as planned: {widest}."
    return described(alt.layer(ends, marks), told, height=_bars(len(bars), 22), legend_rows=1)


def cost_fan(study: "CostStudy", ident: str) -> Any:
    """Return one candidate's nominal cost by year: the band from P10 to P90 and the median."""
    found = next(c for c in study.uncertainty.candidates if c.id == ident)
    rows = [{"year": i, "p10": q.p10, "p50": q.p50, "p90": q.p90} for i, q in enumerate(found.by_year_usd)]
    base = alt.Chart(values(rows)).encode(x=alt.X("year:O", title="year (0 is the purchase)", axis=_upright()))
    tips = [_usd("p10", "P10"), _usd("p50", "P50"), _usd("p90", "P90")]
    band = base.mark_area(opacity=0.3, color=PALETTE[0]).encode(
        y=alt.Y("p10:Q", title="US dollars a year, nominal", axis=alt.Axis(format=_DOLLARS)), y2="p90:Q"
    )
    line = base.mark_line(point=True, color=PALETTE[0], strokeWidth=2).encode(y="p50:Q", tooltip=["year:O", *tips])
    told = "; ".join(f"year {r['year']} {text.money(float(r['p10']))} to {text.money(float(r['p90']))}" for r in rows)
    return described(alt.layer(band, line), f"Cost by year from P10 to P90: {told}.", height=260)


def cost_ranges(study: "CostStudy") -> Any:
    """Return for each candidate the present value's P10–P90 range, its median and the point estimate."""
    names = {c.id: c for c in study.candidates}
    rows: list[dict[str, Any]] = [
        {
            "candidate": names[u.id].name, "p10": u.cost_npv_usd.p10, "p50": u.cost_npv_usd.p50,
            "p90": u.cost_npv_usd.p90, "point": names[u.id].result.cost_npv_usd, "cheapest": u.cheapest_frac,
        }
        for u in study.uncertainty.candidates
    ]  # fmt: skip
    base = alt.Chart(values(rows)).encode(
        y=alt.Y("candidate:N", title=None, sort=alt.EncodingSortField("p50"), axis=label_axis())
    )
    tips: list[Any] = ["candidate:N", _usd("p10", "P10"), _usd("p50", "P50"), _usd("p90", "P90")]
    tips += [_usd("point", "point estimate"), alt.Tooltip("cheapest:Q", title="cheapest in", format=".0%")]
    axis = alt.X("p10:Q", title="US dollars, present value", axis=alt.Axis(format=_DOLLARS))
    bars = base.mark_bar(height=12, opacity=0.6, color=PALETTE[0]).encode(x=axis, x2="p90:Q", tooltip=tips)
    medians = base.mark_tick(thickness=3, size=20, color=PALETTE[1]).encode(x="p50:Q", tooltip=tips)
    points = base.mark_point(shape="diamond", filled=True, size=70, color=NEUTRAL).encode(x="point:Q", tooltip=tips)
    told = "; ".join(f"{r['candidate']} {text.money(r['p10'])} to {text.money(r['p90'])}" for r in rows)
    return described(
        alt.layer(bars, medians, points),
        f"Present value of costs, P10 to P90 with the median as a tick and the point estimate as a diamond: {told}.",
        height=_bars(len(rows)),
    )


def break_even(study: "CostStudy") -> Any:
    """Return where each candidate costs what the baseline does, as factors of the planned volume and API price."""
    rows = []
    for c in study.candidates:
        for what, found in (("volume of work", c.break_even_volume), ("API price", c.break_even_api_price)):
            if found is not None and found.quantiles is not None:
                q = found.quantiles
                rows.append(
                    {"candidate": c.name, "what": what, "p10": q.p10, "p90": q.p90, "p50": q.p50,
                     "point": found.point, "exists": found.exists_frac}
                )  # fmt: skip
    names = ["volume of work", "API price"]
    base = alt.Chart(values(rows)).encode(
        y=alt.Y("candidate:N", title=None, axis=label_axis()), yOffset=alt.YOffset("what:N", sort=names)
    )
    tips = ["candidate:N", "what:N", *(alt.Tooltip(f"{k}:Q", format=".3~g") for k in ("p10", "p50", "p90", "point"))]
    tips.append(alt.Tooltip("exists:Q", title="draws with a break-even", format=".0%"))
    axis = alt.X("p10:Q", title="factor of the planned value (1 is as planned)", axis=log_axis(SHORT), scale=_LOG)
    bars = base.mark_bar(height=8, opacity=0.5).encode(
        x=axis, x2="p90:Q", color=colour("what", names, columns=2), tooltip=tips
    )
    marks = base.mark_point(filled=True, size=60).encode(
        x="p50:Q", color=colour("what", names), shape=shape("what", names, columns=2), tooltip=tips
    )
    told = "; ".join(f"{r['candidate']} by {r['what']} at {r['p50']:.3g} times the plan" for r in rows)
    return described(
        alt.layer(bars, marks), f"Break-even against the baseline: {told or 'none within the range searched'}.",
        height=_bars(len({r["candidate"] for r in rows})), legend_rows=1,
    )  # fmt: skip


def _heading_colour(rows: Iterable[dict[str, Any]]) -> alt.Color:
    """Return the colours of the headings that occur; a heading has the same colour in every chart."""
    every = [name.replace("_", " ") for name in get_args(Group)]
    present = _names(rows, "heading")
    shown = [name for name in every if name in present]
    scale = alt.Scale(domain=shown, range=[PALETTE[every.index(name)] for name in shown])
    return alt.Color("heading:N", title=None, sort=None, scale=scale, legend=below(3))


def _usd(field: str, title: str) -> alt.Tooltip:
    return alt.Tooltip(f"{field}:Q", title=title, format="$,.0f")


def _upright() -> alt.Axis:
    return alt.Axis(labelAngle=0)


def _bars(count: int, step: int = 34) -> float:
    return max(count, 2) * step


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

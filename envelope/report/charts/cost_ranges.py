"""Charts of how sure a cost is: tornado, fan, ranges, break-even, and what moved it from one total to another."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import altair as alt

from envelope.report import text
from envelope.report.charts.base import (
    DOLLARS,
    SHORT,
    bar_pixels,
    below,
    beside,
    colour,
    described,
    label_axis,
    log_axis,
    roomy,
    row_axis,
    shape,
    usd_tip,
    value_axis,
    values,
)
from envelope.report.charts.palette import CHEAPER, DEARER, INK, NEUTRAL, PALETTE

if TYPE_CHECKING:
    from envelope.plan.cost.study import CandidateCosts, CostStudy

SHOWN_BARS = 15
"""Inputs of a tornado; the narrower ones are left out."""
_LOG = alt.Scale(type="log", zero=False)


def tornado(costs: "CandidateCosts", *, bars: int = SHOWN_BARS, printed: bool = False) -> Any:
    """Return bars from the cost at each input's P10 to that at its P90, the widest first.

    They start at the cost with every input at the middle of its range. ``printed`` writes both costs beside a bar.
    """
    shown = [bar for bar in costs.tornado if bar.swing_usd > 0][:bars]
    labels = [text.input_label(bar.input) for bar in shown]
    point = costs.result.plan_npv_usd
    names = ["P10 of the input", "P90 of the input"]
    rows = [
        {"row": i, "label": label, "input": bar.input, "at": at, "usd": usd, "point": point}
        for i, (label, bar) in enumerate(zip(labels, shown, strict=True))
        for at, usd in zip(names, (bar.low_usd, bar.high_usd), strict=True)
    ]
    ends = [usd for bar in shown for usd in (bar.low_usd, bar.high_usd)]
    base = alt.Chart(values(rows)).encode(y=row_axis(labels, printed=printed))
    x = alt.X("point:Q", title="US dollars, present value", axis=value_axis(DOLLARS),
              scale=roomy([*ends, point], printed=printed))  # fmt: skip
    tips = ["label:N", "at:N", usd_tip("usd", "cost there"), usd_tip("point", "cost at the middle of every range")]
    spans = base.mark_bar(height=12, opacity=0.85).encode(
        x=x, x2="usd:Q", color=colour("at", names, columns=2), tooltip=tips
    )
    marks = base.mark_point(filled=True, size=45).encode(
        x="usd:Q", color=colour("at", names), shape=shape("at", names, columns=2)
    )
    layers = [spans, marks]
    if printed:
        layers.append(_ends_in_words([(bar.low_usd, bar.high_usd) for bar in shown], labels))
    widest = "; ".join(f"{label} {text.money(b.low_usd)} to {text.money(b.high_usd)}"
                       for label, b in list(zip(labels, shown, strict=True))[:3])  # fmt: skip
    told = f"What one input at a time does to the cost of {costs.name}, {text.money(point)} as planned: {widest}."
    return described(alt.layer(*layers), told, height=bar_pixels(len(shown), 22), legend_rows=1)


def _ends_in_words(spans: Sequence[tuple[float, float]], labels: Sequence[str]) -> Any:
    rows = [
        {"row": i, "end": max(span), "words": f"{text.money(min(span))} – {text.money(max(span))}"}
        for i, span in enumerate(spans)
    ]
    return beside(alt.Chart(values(rows)).encode(y=row_axis(labels, printed=True)), "end", "words")


def cost_fan(study: "CostStudy", ident: str) -> Any:
    """Return one candidate's nominal cost by year: the band from P10 to P90 and the median."""
    found = next(c for c in study.uncertainty.candidates if c.id == ident)
    rows = [{"year": i, "p10": q.p10, "p50": q.p50, "p90": q.p90} for i, q in enumerate(found.by_year_usd)]
    base = alt.Chart(values(rows)).encode(
        x=alt.X("year:O", title="year (0 is the purchase)", axis=alt.Axis(labelAngle=0))
    )
    tips = [usd_tip("p10", "P10"), usd_tip("p50", "P50"), usd_tip("p90", "P90")]
    band = base.mark_area(opacity=0.3, color=PALETTE[0]).encode(
        y=alt.Y("p10:Q", title="US dollars a year, nominal", axis=alt.Axis(labelExpr=DOLLARS)), y2="p90:Q"
    )
    line = base.mark_line(point=True, color=PALETTE[0], strokeWidth=2).encode(y="p50:Q", tooltip=["year:O", *tips])
    told = "; ".join(f"year {r['year']} {text.money(float(r['p10']))} to {text.money(float(r['p90']))}" for r in rows)
    return described(alt.layer(band, line), f"Cost by year from P10 to P90: {told}.", height=260)


def cost_ranges(study: "CostStudy", *, printed: bool = False) -> Any:
    """Return for each candidate the present value's P10–P90 range, its median and the expected value.

    ``printed`` writes the range beside its bar.
    """
    costs = {c.id: c for c in study.candidates}
    rows: list[dict[str, Any]] = [
        {
            "candidate": costs[u.id].name, "p10": u.cost_npv_usd.p10, "p50": u.cost_npv_usd.p50,
            "p90": u.cost_npv_usd.p90, "point": costs[u.id].cost.expected_npv_usd, "cheapest": u.cheapest_frac,
        }
        for u in sorted(study.uncertainty.candidates, key=lambda u: u.cost_npv_usd.p50)
    ]  # fmt: skip
    labels = [row["candidate"] for row in rows]
    rows = [{"row": i, **row} for i, row in enumerate(rows)]
    base = alt.Chart(values(rows)).encode(y=row_axis(labels, printed=printed))
    tips: list[Any] = ["candidate:N", usd_tip("p10", "P10"), usd_tip("p50", "P50"), usd_tip("p90", "P90")]
    tips += [usd_tip("point", "expected"), alt.Tooltip("cheapest:Q", title="cheapest in", format=".0%")]
    ends = [row[k] for row in rows for k in ("p10", "p90", "point")]
    axis = alt.X("p10:Q", title="US dollars, present value", axis=value_axis(DOLLARS),
                 scale=roomy(ends, printed=printed, zero=True))  # fmt: skip
    bars = base.mark_bar(height=12, opacity=0.6, color=PALETTE[0]).encode(x=axis, x2="p90:Q", tooltip=tips)
    medians = base.mark_tick(thickness=3, size=20, color=PALETTE[1]).encode(x="p50:Q", tooltip=tips)
    points = base.mark_point(
        shape="diamond", filled=True, size=70, color=INK if printed else NEUTRAL, opacity=1
    ).encode(x="point:Q", tooltip=tips)
    layers = [bars, medians, points]
    if printed:
        layers.append(_ends_in_words([(row["p10"], row["p90"]) for row in rows], labels))
    told = "; ".join(f"{r['candidate']} {text.money(r['p10'])} to {text.money(r['p90'])}" for r in rows)
    return described(
        alt.layer(*layers),
        f"Present value of costs, P10 to P90 with the median as a tick and the expected value as a diamond: {told}.",
        height=bar_pixels(len(rows)),
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
        height=bar_pixels(len({r["candidate"] for r in rows})), legend_rows=1,
    )  # fmt: skip


def waterfall(start_usd: float, steps: Sequence[tuple[str, float]], end_usd: float) -> Any:
    """Return the way from one total to another: a bar for each named change, where the one before it ended.

    Its numbers always stand beside it.
    """
    levels = [start_usd]
    for _, change in steps:
        levels.append(levels[-1] + change)
    low = _waterfall_floor([*levels, end_usd])
    spans = [("before", max(low, 0.0), start_usd, "total", text.money(start_usd))]
    spans += [
        (label, levels[i], levels[i + 1], _KINDS[1] if change > 0 else _KINDS[2], text.signed_money(change))
        for i, (label, change) in enumerate(steps)
    ]
    spans.append(("after", max(low, 0.0), end_usd, "total", text.money(end_usd)))
    rows = [
        {"row": i, "label": label, "from": left, "to": right, "kind": kind, "words": words, "end": max(left, right)}
        for i, (label, left, right, kind, words) in enumerate(spans)
    ]
    base = alt.Chart(values(rows)).encode(y=row_axis([span[0] for span in spans], printed=True))
    high = max(*levels, end_usd)
    room = alt.Scale(zero=False, nice=False, domain=[low, high + 0.15 * ((high - low) or 1.0)])
    bars = base.mark_bar(height=16).encode(
        x=alt.X("from:Q", title="US dollars, present value", axis=value_axis(DOLLARS), scale=room),
        x2="to:Q",
        color=alt.Color("kind:N", title=None, sort=None, legend=below(3),
                        scale=alt.Scale(domain=list(_KINDS), range=[NEUTRAL, DEARER, CHEAPER])),
        tooltip=["label:N", alt.Tooltip("words:N", title="present value")],
    )  # fmt: skip
    told = "; ".join(f"{label} {words}" for label, *_, words in spans)
    return described(
        alt.layer(bars, beside(base, "end", "words")), f"What moved the cost: {told}.",
        height=bar_pixels(len(rows), 26), legend_rows=1,
    )  # fmt: skip


_KINDS = ("total", "dearer", "cheaper")


def _waterfall_floor(levels: Sequence[float]) -> float:
    """Return where the axis begins: at zero, unless small changes of a large sum would be hairs there."""
    low, high = min(levels), max(levels)
    return low - 0.3 * (high - low) if low > 0.5 * high else min(low, 0.0)

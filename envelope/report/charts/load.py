"""Charts of load and cost: where the service breaks, latency by load, latency against cost."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import altair as alt

from envelope.report import text
from envelope.report.charts.base import (
    DOLLARS,
    SECONDS,
    SHORT,
    colour,
    dash,
    described,
    limit_rule,
    log_axis,
    shape,
    values,
)
from envelope.report.charts.palette import LETTERS, NEUTRAL, PALETTE, PAPER
from envelope.report.charts.serving import LATENCIES

if TYPE_CHECKING:
    from envelope.plan.service.load_sweep import LoadSweep
    from envelope.plan.verdict.results import Comparison

_SHARES = ("p50", "p95", "p99")


def load_sweep(sweep: "LoadSweep") -> Any:
    """Return the share of requests that keep their SLO by multiples of the planned load, and where it breaks."""
    states = ["keeps the service level", "breaks it"]
    rows = [
        {
            "factor": p.factor, "met": p.slo_attainment_frac, "state": states[0 if p.keeps else 1],
            "rate": p.requests_per_s, "limits": p.bottleneck,
        }
        for p in sweep.points
    ]  # fmt: skip
    base = alt.Chart(values(rows)).encode(
        x=_factor(), y=alt.Y("met:Q", title="SLO met", axis=alt.Axis(format=".0%"), scale=alt.Scale(zero=False))
    )
    line = base.mark_line(color=PALETTE[0], strokeWidth=2)
    points = base.mark_point(filled=True, size=90, opacity=1).encode(
        color=colour("state", states, columns=1),
        shape=shape("state", states, columns=1),
        tooltip=[
            alt.Tooltip("factor:Q", title="times the plan", format=".3~g"),
            alt.Tooltip("met:Q", title="SLO met", format=".1%"),
            alt.Tooltip("rate:Q", title="requests/s", format=".3~g"), "state:N", "limits:N",
        ],
    )  # fmt: skip
    limit = limit_rule("met", sweep.slo_limit_frac, f"at least {text.percent(sweep.slo_limit_frac, 1)}", along="y")
    breaks = "never within the sweep" if sweep.breaks_at is None else f"at {sweep.breaks_at:.3g} times the plan"
    told = f"SLO met by load; at least {text.percent(sweep.slo_limit_frac, 1)} is asked for. It breaks {breaks}."
    return described(alt.layer(line, limit, points), told, height=240, legend_rows=2)


def load_latency(sweep: "LoadSweep", latency: Literal["ttft", "itl", "e2e"], *, limit_s: float | None = None) -> Any:
    """Return median, p95 and p99 of a latency by multiples of the planned load."""
    rows = []
    for point in sweep.points:
        spread = getattr(point, f"{latency}_s")
        if spread is not None:
            rows += [{"factor": point.factor, "share": k, "seconds": getattr(spread, k)} for k in _SHARES]
    lines = (
        alt.Chart(values(rows))
        .mark_line(point={"size": 45}, strokeWidth=2)
        .encode(
            x=_factor(),
            y=alt.Y("seconds:Q", title=LATENCIES[latency], scale=alt.Scale(type="log"), axis=log_axis(SECONDS)),
            color=colour("share", _SHARES),
            strokeDash=dash("share", _SHARES),
            tooltip=["share:N", alt.Tooltip("factor:Q", format=".3~g"), alt.Tooltip("seconds:Q", format=".3~g")],
        )
    )
    layers = [lines]
    if limit_s is not None and rows:
        layers.append(limit_rule("seconds", limit_s, f"SLO: {text.seconds(limit_s)}", along="y"))
    ends = [row for row in rows if row["share"] == "p95"]
    told = "; ".join(f"{row['factor']:.3g} times {text.seconds(row['seconds'])}" for row in ends)
    return described(
        alt.layer(*layers), f"{LATENCIES[latency].capitalize()} by load, p95: {told}.", height=240, legend_rows=1
    )


def _factor() -> alt.X:
    axis = alt.Axis(labelExpr=SHORT, tickCount=6)
    return alt.X("factor:Q", title="times the planned load", scale=alt.Scale(type="log", base=2), axis=axis)


def latency_against_cost(result: "Comparison", best: Sequence[str]) -> Any:
    """Return candidates by cost and p95 time to the last token; ``best`` are those that none beats in both.

    They are joined by a line; candidates that break a constraint are squares.
    """
    rows: list[dict[str, Any]] = [
        {
            "candidate": f"{LETTERS[i % 26]} {c.name}", "letter": LETTERS[i % 26], "id": c.id, "usd": c.cost_npv,
            "seconds": c.service.e2e.p95_s,
            "verdict": "keeps every constraint" if c.feasible else f"breaks {c.binding}",
            "state": "keeps every constraint" if c.feasible else "breaks one",
        }
        for i, c in enumerate(result.candidates)
        if c.cost_npv is not None and c.service is not None and c.service.e2e is not None
    ]  # fmt: skip
    names = [row["candidate"] for row in rows]
    x = alt.X("usd:Q", title="US dollars, present value", scale=alt.Scale(zero=False), axis=alt.Axis(labelExpr=DOLLARS))
    y = alt.Y("seconds:Q", title="p95 to the last token", scale=alt.Scale(type="log"), axis=log_axis(SECONDS))
    states = ["keeps every constraint", "breaks one"]
    front = sorted((row for row in rows if row["id"] in best), key=lambda row: row["usd"])
    base = alt.Chart(values(rows)).encode(x=x, y=y)
    points = base.mark_point(filled=True, size=380, opacity=1).encode(
        color=colour("candidate", names, columns=1),
        shape=alt.Shape(
            "state:N", title=None, scale=alt.Scale(domain=states, range=["circle", "square"]),
            legend=alt.Legend(orient="bottom", symbolFillColor=NEUTRAL, symbolStrokeColor=NEUTRAL),
        ),
        tooltip=[
            "candidate:N", "verdict:N", alt.Tooltip("usd:Q", title="present value", format="$,.0f"),
            alt.Tooltip("seconds:Q", title="p95, seconds", format=".3~g"),
        ],
    )  # fmt: skip
    letters = base.mark_text(color=PAPER, fontWeight="bold").encode(text="letter:N")
    line = alt.Chart(values(front)).mark_line(color=NEUTRAL, strokeDash=[4, 3]).encode(x=x, y=y)
    told = "; ".join(f"{r['candidate']} {text.money(r['usd'])}, {text.seconds(r['seconds'])}" for r in rows)
    return described(
        alt.layer(line, points, letters), f"Cost and p95 time to the last token: {told}.", height=300,
        legend_rows=len(names) + 1,
    )  # fmt: skip

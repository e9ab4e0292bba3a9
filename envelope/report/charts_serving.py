"""Charts of the simulated service: latency distributions, timelines with events, bottlenecks, latency and cost."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import altair as alt

from envelope.plan.results import Comparison
from envelope.report import text
from envelope.report.charts import (
    NEUTRAL,
    PALETTE,
    colour,
    dash,
    described,
    limit_rule,
    seconds_axis,
    values,
)
from envelope.serving.result import CURVE_FRACS, Bottleneck, Curves, SimulationResult

Latency = Literal["ttft", "itl", "tpot", "e2e"]
_LATENCIES: Mapping[Latency, str] = {
    "ttft": "time to first token",
    "itl": "gap between tokens",
    "tpot": "mean time per output token",
    "e2e": "time to the last token",
}
_SHORTEST_S = 1e-6
"""Where a logarithmic axis begins that must show a time of zero."""

Quantity = Literal["queue", "running", "kv_used_frac", "power_w", "hosted"]
QUANTITIES: Mapping[Quantity, tuple[str, str]] = {
    "queue": ("waiting requests", "~s"),
    "running": ("running requests", "~s"),
    "kv_used_frac": ("KV cache in use", ".0%"),
    "power_w": ("watts", "~s"),
    "hosted": ("requests in the hosted API", "~s"),
}
"""Quantity of a timeline → title and number format of its axis."""


def latency_cdf(curves: Mapping[str, Curves], latency: Latency, *, limit_s: float | None = None) -> Any:
    """Return the distribution function of one latency for each named series, with the limit of its SLO."""
    rows = [
        {"series": name, "seconds": max(float(value), _SHORTEST_S), "share": share}
        for name, found in curves.items()
        for share, value in zip(CURVE_FRACS, getattr(found, f"{latency}_s"), strict=False)
    ]
    names = list(dict.fromkeys(str(row["series"]) for row in rows))
    title = _LATENCIES[latency]
    lines = (
        alt.Chart(values(rows))
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("seconds:Q", title=title, scale=alt.Scale(type="log"), axis=seconds_axis(tickCount=6)),
            y=alt.Y("share:Q", title="share of requests", axis=alt.Axis(format=".0%")),
            color=colour("series", names, columns=2),
            strokeDash=dash("series", names, columns=2),
            tooltip=[
                "series:N", alt.Tooltip("seconds:Q", title="seconds", format=".3~g"),
                alt.Tooltip("share:Q", title="at most so long", format=".1%"),
            ],
        )
    )  # fmt: skip
    layers = [lines]
    if limit_s is not None and rows:
        layers.append(limit_rule("seconds", limit_s, f"SLO: {text.seconds(limit_s)}", along="x"))
    told = "; ".join(f"{name} median {_at(found, latency, 0.5)}, p95 {_at(found, latency, 0.95)}"
                     for name, found in curves.items())  # fmt: skip
    limit = f" The SLO is {text.seconds(limit_s)}." if limit_s is not None else ""
    return described(alt.layer(*layers), f"Distribution of the {title}: {told}.{limit}", height=280)


def _at(curves: Curves, latency: Latency, share: float) -> str:
    found = getattr(curves, f"{latency}_s")
    return text.seconds(found[CURVE_FRACS.index(share)]) if found else "not measured"


def timeline(result: SimulationResult, quantity: Quantity) -> Any:
    """Return one quantity over the simulated time, with a line at every failure, repair and outage."""
    title, number = QUANTITIES[quantity]
    seen = getattr(result.timeline, quantity)
    rows = [{"minute": t / 60, "value": v} for t, v in zip(result.timeline.t_s, seen, strict=True)]
    area = (
        alt.Chart(values(rows))
        .mark_area(line={"color": PALETTE[0], "strokeWidth": 1.5}, color=PALETTE[0], opacity=0.25)
        .encode(
            x=alt.X("minute:Q", title="minutes"),
            y=alt.Y("value:Q", title=title, axis=alt.Axis(format=number, tickCount=4)),
            tooltip=[alt.Tooltip("minute:Q", format=".1f"), alt.Tooltip("value:Q", title=title, format=number)],
        )
    )
    layers = [area, *_event_rules(result)]
    peak = max(seen, default=0.0)
    shown = text.percent(peak) if quantity == "kv_used_frac" else f"{peak:,.0f}"
    marks = f"; marked are {len(result.log)} events" if result.log else ""
    return described(
        alt.layer(*layers), f"{title.capitalize()} over the simulated time, at most {shown}{marks}.", height=130
    )


def _event_rules(result: SimulationResult) -> list[Any]:
    kinds = list(dict.fromkeys(event.kind for event in result.log))
    if not kinds:
        return []
    rows = [{"minute": e.time_s / 60, "event": e.kind, "serving": e.running} for e in result.log]
    rules = alt.Chart(values(rows)).encode(
        x="minute:Q",
        tooltip=["event:N", alt.Tooltip("minute:Q", format=".1f"), alt.Tooltip("serving:Q", title="replicas serving")],
    )
    names = colour("event", kinds, columns=2)
    lines = rules.mark_rule(strokeWidth=2).encode(color=names, strokeDash=dash("event", kinds, columns=2))
    return [lines]


_BOUNDS = ("compute", "memory", "communication", "overhead")


def bottleneck_shares(found: Mapping[str, Bottleneck]) -> Any:
    """Return stacked bars: what the replicas' busy time went into, for each named simulation."""
    rows = [
        {"name": name, "bound": bound, "order": i, "share": getattr(b, f"{bound}_frac")}
        for name, b in found.items()
        for i, bound in enumerate(_BOUNDS)
    ]
    chart = (
        alt.Chart(values(rows))
        .mark_bar(size=20)
        .encode(
            x=alt.X("share:Q", title="share of busy time", stack="zero", axis=alt.Axis(format=".0%")),
            y=alt.Y("name:N", title=None, sort=list(found), axis=alt.Axis(labelLimit=190)),
            color=colour("bound", _BOUNDS, columns=2),
            order=alt.Order("order:Q"),
            tooltip=["name:N", "bound:N", alt.Tooltip("share:Q", format=".1%")],
        )
    )
    told = "; ".join(f"{name}: {b.text}" for name, b in found.items())
    return described(chart, f"What limits the replicas. {told}.", height=max(len(found), 2) * 34)


def queue_reasons(found: Mapping[str, Bottleneck]) -> Any:
    """Return bars: for which share of the busy time a queue waited for KV blocks, batch places or step tokens."""
    named = {"kv": "KV blocks", "seqs": "places in the batch", "tokens": "the step's token budget"}
    rows = [
        {"name": name, "waits for": title, "share": getattr(b, f"queue_for_{key}_frac")}
        for name, b in found.items()
        for key, title in named.items()
    ]
    chart = (
        alt.Chart(values(rows))
        .mark_bar(size=8)
        .encode(
            x=alt.X("share:Q", title="share of busy time with a queue", axis=alt.Axis(format=".0%")),
            y=alt.Y("name:N", title=None, sort=list(found), axis=alt.Axis(labelLimit=190)),
            yOffset=alt.YOffset("waits for:N", sort=list(named.values())),
            color=colour("waits for", list(named.values()), columns=2),
            tooltip=["name:N", "waits for:N", alt.Tooltip("share:Q", format=".1%")],
        )
    )
    told = "; ".join(f"{r['name']} for {r['waits for']} {r['share']:.0%}" for r in rows if float(r["share"]) > 0)
    return described(chart, f"What queues wait for: {told or 'nothing'}.", height=max(len(found), 2) * 40)


def latency_against_cost(result: Comparison, best: Sequence[str]) -> Any:
    """Return candidates by cost and p95 time to the last token; ``best`` are those that none beats in both.

    They are joined by a line; candidates that break a constraint are crosses.
    """
    rows: list[dict[str, Any]] = [
        {
            "candidate": c.name, "id": c.id, "usd": c.cost_npv, "seconds": c.service.e2e.p95_s,
            "verdict": "keeps every constraint" if c.feasible else f"breaks {c.binding}",
            "state": "feasible" if c.feasible else "breaks a constraint",
        }
        for c in result.candidates
        if c.cost_npv is not None and c.service is not None and c.service.e2e is not None
    ]  # fmt: skip
    names = [row["candidate"] for row in rows]
    x = alt.X("usd:Q", title="US dollars, present value", scale=alt.Scale(zero=False), axis=alt.Axis(format="$~s"))
    y = alt.Y("seconds:Q", title="p95 time to the last token", scale=alt.Scale(type="log"), axis=seconds_axis())
    front = sorted((row for row in rows if row["id"] in best), key=lambda row: row["usd"])
    line = alt.Chart(values(front)).mark_line(color=NEUTRAL, strokeDash=[4, 3]).encode(x=x, y=y)
    points = (
        alt.Chart(values(rows))
        .mark_point(filled=True, size=140, opacity=0.9)
        .encode(
            x=x,
            y=y,
            color=colour("candidate", names, columns=1),
            shape=alt.Shape(
                "state:N", title=None, legend=alt.Legend(orient="bottom"),
                scale=alt.Scale(domain=["feasible", "breaks a constraint"], range=["circle", "cross"]),
            ),
            tooltip=[
                "candidate:N", "verdict:N", alt.Tooltip("usd:Q", title="present value", format="$,.0f"),
                alt.Tooltip("seconds:Q", title="p95, seconds", format=".3~g"),
            ],
        )
    )  # fmt: skip
    told = "; ".join(f"{r['candidate']} {text.money(r['usd'])}, {text.seconds(r['seconds'])}" for r in rows)
    return described(alt.layer(line, points), f"Cost and p95 time to the last token: {told}.", height=340)

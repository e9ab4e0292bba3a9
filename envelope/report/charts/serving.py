"""Charts of the simulated service: latency distributions, timelines with events, bottlenecks, latency and cost."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import altair as alt

from envelope.report import text
from envelope.report.charts.base import (
    SECONDS,
    below,
    colour,
    dash,
    described,
    label_axis,
    limit_rule,
    log_axis,
    values,
)
from envelope.report.charts.palette import PALETTE, cycled
from envelope.serving.result import CURVE_FRACS, Bottleneck, Curves

if TYPE_CHECKING:
    from envelope.plan.service.run_result import ServiceRun

Latency = Literal["ttft", "itl", "tpot", "e2e"]
LATENCIES: Mapping[Latency, str] = {
    "ttft": "time to first token",
    "itl": "gap between tokens",
    "tpot": "mean time per output token",
    "e2e": "time to the last token",
}
_SHORTEST_S = 1e-6
"""Where a logarithmic axis begins that must show a time of zero."""

Quantity = Literal["queue", "running", "kv_used_frac", "power_w", "hosted_frac", "replicas"]
QUANTITIES: Mapping[Quantity, tuple[str, str]] = {
    "queue": ("waiting", "~s"),
    "running": ("running", "~s"),
    "kv_used_frac": ("KV in use", "~%"),
    "power_w": ("watts", "~s"),
    "hosted_frac": ("hosted share", "~%"),
    "replicas": ("replicas", "~s"),
}
"""Quantity of a timeline → title and number format of its axis."""
_HOURS_FROM_S = 3 * 3600.0
"""Simulated time above which the axis counts hours."""


def latency_cdf(curves: Mapping[str, Curves], latency: Latency, *, limit_s: float | None = None) -> Any:
    """Return the distribution function of one latency for each named series, with the limit of its SLO."""
    rows = [
        {"series": name, "seconds": max(float(value), _SHORTEST_S), "share": share}
        for name, found in curves.items()
        for share, value in zip(CURVE_FRACS, getattr(found, f"{latency}_s"), strict=False)
    ]
    names = list(dict.fromkeys(str(row["series"]) for row in rows))
    title = LATENCIES[latency]
    lines = (
        alt.Chart(values(rows))
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("seconds:Q", title=title, scale=alt.Scale(type="log"), axis=log_axis(SECONDS)),
            y=alt.Y("share:Q", title="share of requests", axis=alt.Axis(format=".0%")),
            color=colour("series", names, columns=1),
            strokeDash=dash("series", names, columns=1),
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
    return described(
        alt.layer(*layers), f"Distribution of the {title}: {told}.{limit}", height=240, legend_rows=len(names)
    )


def _at(curves: Curves, latency: Latency, share: float) -> str:
    found = getattr(curves, f"{latency}_s")
    return text.seconds(found[CURVE_FRACS.index(share)]) if found else "not measured"


def timeline(run: "ServiceRun", quantity: Quantity) -> Any:
    """Return one quantity over the simulated time, with a line at every failure, repair and outage."""
    title, number = QUANTITIES[quantity]
    seen = getattr(run.timeline, quantity)
    hour = run.timeline.t_s[-1] > _HOURS_FROM_S if run.timeline.t_s else False
    unit, seconds = ("hours", 3600.0) if hour else ("minutes", 60.0)
    rows = [{"at": t / seconds, "value": v} for t, v in zip(run.timeline.t_s, seen, strict=True)]
    area = (
        alt.Chart(values(rows))
        .mark_area(line={"color": PALETTE[0], "strokeWidth": 1.5}, color=PALETTE[0], opacity=0.25)
        .encode(
            x=alt.X("at:Q", title=unit, scale=alt.Scale(nice=False)),
            y=alt.Y("value:Q", title=title, axis=alt.Axis(format=number, tickCount=4)),
            tooltip=[alt.Tooltip("at:Q", title=unit, format=".1f"), alt.Tooltip("value:Q", title=title, format=number)],
        )
    )
    peak = max(seen, default=0.0)
    shown = text.percent(peak) if quantity.endswith("_frac") else f"{peak:,.0f}"
    kinds = list(dict.fromkeys(event.kind for event in run.faults))
    marks = f"; marked are {len(run.faults)} events: {', '.join(kinds)}" if kinds else ""
    return described(
        alt.layer(area, *_event_rules(run, unit, seconds)),
        f"{title[0].upper()}{title[1:]} over the simulated time, at most {shown}{marks}.",
        height=90,
        legend_rows=-(-len(kinds) // 2),
    )


def _event_rules(run: "ServiceRun", unit: str, seconds: float) -> list[Any]:
    kinds = list(dict.fromkeys(event.kind for event in run.faults))
    if not kinds:
        return []
    rows = [{"at": e.time_s / seconds, "event": e.kind, "serving": e.running} for e in run.faults]
    tips = [
        "event:N",
        alt.Tooltip("at:Q", title=unit, format=".1f"),
        alt.Tooltip("serving:Q", title="replicas serving"),
    ]
    rules = alt.Chart(values(rows)).mark_rule(strokeWidth=2).encode(
        x="at:Q", color=_event_colour(kinds), strokeDash=dash("event", kinds, columns=2), tooltip=tips
    )  # fmt: skip
    return [rules]


def _event_colour(kinds: Sequence[str]) -> alt.Color:
    """Return the colours of events, the first apart from the blue of the curve."""
    scale = alt.Scale(domain=list(kinds), range=cycled(PALETTE[1:], len(kinds)))
    return alt.Color("event:N", title=None, sort=None, scale=scale, legend=below(2))


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
            y=alt.Y("name:N", title=None, sort=list(found), axis=label_axis()),
            color=colour("bound", _BOUNDS, columns=2),
            order=alt.Order("order:Q"),
            tooltip=["name:N", "bound:N", alt.Tooltip("share:Q", format=".1%")],
        )
    )
    told = "; ".join(f"{name}: {b.text}" for name, b in found.items())
    return described(chart, f"What limits the replicas. {told}.", height=max(len(found), 2) * 34, legend_rows=2)


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
            x=alt.X("share:Q", title="share of busy time with a queue", axis=alt.Axis(format="~%", tickCount=5)),
            y=alt.Y("name:N", title=None, sort=list(found), axis=label_axis()),
            yOffset=alt.YOffset("waits for:N", sort=list(named.values())),
            color=colour("waits for", list(named.values()), columns=2),
            tooltip=["name:N", "waits for:N", alt.Tooltip("share:Q", format=".1%")],
        )
    )
    told = "; ".join(f"{r['name']} for {r['waits for']} {r['share']:.0%}" for r in rows if float(r["share"]) > 0)
    return described(
        chart, f"What queues wait for: {told or 'nothing'}.", height=max(len(found), 2) * 40, legend_rows=2
    )

"""Charts of choices: dense against sparse models, prompt against training, evidence against its gates."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import altair as alt

from envelope.plan.deployment.tuning_curve import tuning_curve
from envelope.report import text
from envelope.report.charts.base import (
    DOLLARS,
    PERCENT,
    SHORT,
    TOKENS,
    colour,
    dash,
    described,
    label_axis,
    limit_rule,
    log_axis,
    shape,
    values,
)
from envelope.report.charts.intervals import intervals
from envelope.report.charts.palette import NEUTRAL
from envelope.units import GB

if TYPE_CHECKING:
    from envelope.plan.case.measured import TaskEvidence
    from envelope.plan.deployment.sparse import SparseView
    from envelope.plan.deployment.tuning import TuningBench
    from envelope.plan.rules.gates import GateStatus


def weight_bytes_by_batch(view: "SparseView") -> Any:
    """Return lines: weight bytes that a decode step reads per sequence, by batch, for each model."""
    rows = [
        {"model": r.model, "batch": batch, "gb": size / GB}
        for r in view.rows
        for batch, size in r.active_bytes_per_token.items()
    ]
    return _model_lines(
        view, rows, ("batch", "sequences in the batch"), ("gb", "GB read per token"),
        "Weight bytes read for each token by batch",
    )  # fmt: skip


def cache_by_context(view: "SparseView") -> Any:
    """Return lines: bytes of one sequence's cache by context, for each model."""
    rows = [
        {"model": r.model, "context": context, "gb": size / GB}
        for r in view.rows
        for context, size in r.kv_bytes_per_sequence.items()
    ]
    return _model_lines(
        view, rows, ("context", "context, tokens (k is 1,024)"), ("gb", "GB per sequence"), "KV cache by context"
    )


def rate_by_batch(view: "SparseView") -> Any:
    """Return lines: output tokens per second of each model's smallest node, by batch."""
    rows = [
        {"model": r.model, "batch": batch, "rate": rate}
        for r in view.rows
        for batch, rate in r.output_tokens_per_s.items()
    ]
    return _model_lines(
        view, rows, ("batch", "sequences in the batch"), ("rate", "output tokens/s"),
        "Decode rate of the smallest node by batch",
    )  # fmt: skip


def _model_lines(
    view: "SparseView", rows: list[dict[str, Any]], x: tuple[str, str], y: tuple[str, str], told: str
) -> Any:
    models = [r.model for r in view.rows]
    base = alt.Chart(values(rows)).encode(
        x=alt.X(f"{x[0]}:Q", title=x[1], scale=alt.Scale(type="log", base=2), axis=alt.Axis(labelExpr=TOKENS)),
        y=alt.Y(f"{y[0]}:Q", title=y[1], scale=alt.Scale(type="log"), axis=log_axis(SHORT)),
        color=colour("model", models, columns=1),
        tooltip=["model:N", alt.Tooltip(f"{x[0]}:Q", format=","), alt.Tooltip(f"{y[0]}:Q", format=",.3~g")],
    )
    lines = base.mark_line(strokeWidth=2).encode(strokeDash=dash("model", models, columns=1))
    points = base.mark_point(filled=True, size=50).encode(shape=shape("model", models, columns=1))
    ends = "; ".join(f"{m} {', '.join(format(float(r[y[0]]), '.3g') for r in rows if r['model'] == m)}" for m in models)
    return described(alt.layer(lines, points), f"{told}, {y[1]}: {ends}.", height=260, legend_rows=len(models))


def tuning_break_even(bench: "TuningBench") -> Any:
    """Return lines: yearly cost of each method by load; a line marks the load that was asked for."""
    rows = [
        {"method": p.method.replace("_", " "), "requests": p.requests_per_day, "usd": p.usd_per_year}
        for p in tuning_curve(bench)
    ]
    methods = list(dict.fromkeys(str(row["method"]) for row in rows))
    lines = (
        alt.Chart(values(rows))
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("requests:Q", title="requests a day", scale=alt.Scale(type="log"), axis=log_axis(SHORT)),
            y=alt.Y(
                "usd:Q",
                title="US dollars a year",
                scale=alt.Scale(type="log"),
                axis=log_axis(DOLLARS),
            ),
            color=colour("method", methods, columns=3),
            strokeDash=dash("method", methods, columns=3),
            tooltip=["method:N", alt.Tooltip("requests:Q", format=",.0f"), alt.Tooltip("usd:Q", format="$,.0f")],
        )
    )
    asked = bench.query.requests_per_day
    rule = limit_rule("requests", asked, f"asked for: {asked:,.0f} a day", along="x")
    found = "; ".join(
        f"{b.method} beats {b.against} from {b.requests_per_day:,.0f} a day"
        for b in bench.break_even
        if b.requests_per_day
    )
    told = f"Yearly cost by requests a day; cheapest at {asked:,.0f} is {bench.cheapest}. {found or 'No crossings'}."
    return described(alt.layer(lines, rule), told, height=300, legend_rows=2)


def gate_bounds(gates: "Sequence[GateStatus]") -> Any:
    """Return for each gate the upper bound of the failure rate beside its limit."""
    rows = [
        {
            "gate": f"{g.candidate}: {g.gate}", "upper": g.upper_frac, "limit": g.limit_frac,
            "state": "passed" if g.passed else "open", "trials": f"{g.failures} of {g.trials:,} failed",
        }
        for g in gates
    ]  # fmt: skip
    names = list(dict.fromkeys(str(row["gate"]) for row in rows))
    base = alt.Chart(values(rows)).encode(y=alt.Y("gate:N", title=None, sort=names, axis=label_axis()))
    tips = ["gate:N", "state:N", "trials:N", *(alt.Tooltip(f"{k}:Q", format=".2%") for k in ("upper", "limit"))]
    bars = base.mark_bar(height=10, opacity=0.7).encode(
        x=alt.X("upper:Q", title="failure rate, upper bound", axis=alt.Axis(format=".1%")),
        color=colour("state", ["passed", "open"], columns=2),
        tooltip=tips,
    )
    limits = base.mark_tick(thickness=3, size=24, color=NEUTRAL).encode(x="limit:Q", tooltip=tips)
    told = "; ".join(f"{r['gate']} {r['upper']:.2%} against {r['limit']:.2%}, {r['state']}" for r in rows)
    return described(alt.layer(bars, limits), f"Upper bounds of failure rates and their limits: {told}.",
                     height=max(len(names), 2) * 30, legend_rows=1)  # fmt: skip


def difficulty_intervals(tasks: "Sequence[TaskEvidence]") -> Any:
    """Return for each task class of each candidate the failure rate used, with its 90 % interval where measured."""
    rows: list[dict[str, Any]] = [
        {
            "name": f"{t.candidate}: {t.task}", "value": t.used_frac, "assumed": t.assumed_frac, "basis": t.basis,
            "series": "measured" if t.rate else "assumed", "words": text.percent(t.used_frac, 1),
            "low": t.rate.low_frac if t.rate else t.used_frac, "high": t.rate.high_frac if t.rate else t.used_frac,
        }
        for t in tasks
    ]  # fmt: skip
    drawn = intervals(
        rows, "share of tasks that fail", label=PERCENT, series=["measured", "assumed"],
        tips=["series:N", "basis:N", alt.Tooltip("low:Q", format=".1%"), alt.Tooltip("high:Q", format=".1%")],
    )  # fmt: skip
    told = "; ".join(f"{r['name']} {text.percent(r['value'])} {r['series']}" for r in rows)
    return described(drawn, f"Share of tasks that fail: {told}.", height=max(len(rows), 2) * 22, legend_rows=1)

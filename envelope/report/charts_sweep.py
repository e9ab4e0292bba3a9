"""Charts of sweeps and of sizings: the best variants with their intervals, cost against latency."""

from typing import Any

import altair as alt

from envelope.plan.size.search import Sizing
from envelope.plan.sweep.ranking import Ranking
from envelope.plan.sweep.study import Study
from envelope.report.charts import SECONDS, colour, described, log_axis, values
from envelope.report.sweep_tables import changes_text, figure_name, figure_text, short_paths
from envelope.report.text import money


def ranking_chart(found: Ranking, study: Study) -> Any:
    """Return the best variants by a figure with their 95 % intervals over seeds."""
    short, words = short_paths(study), figure_text(found.by)
    rows = [
        {
            "variant": f"{r.rank} {r.candidate} {changes_text(r.changes, short)}", "candidate": r.candidate,
            "value": r.value.mean, "low": r.value.mean if r.value.low is None else r.value.low,
            "high": r.value.mean if r.value.high is None else r.value.high, "shown": words(r.value.mean),
            "fits": "yes" if r.feasible_frac == 1 else r.broken,
        }
        for r in found.best
    ]  # fmt: skip
    names = list(dict.fromkeys(str(row["candidate"]) for row in rows))
    y = alt.Y("variant:N", title=None, sort=None, axis=alt.Axis(labelLimit=360))
    base = alt.Chart(values(rows))
    bars = base.mark_rule(strokeWidth=3, opacity=0.5).encode(
        x=alt.X("low:Q", title=figure_name(found.by), scale=alt.Scale(zero=False)), x2="high:Q", y=y,
        color=colour("candidate", names),
    )  # fmt: skip
    points = base.mark_point(filled=True, size=90, opacity=1).encode(
        x=alt.X("value:Q", scale=alt.Scale(zero=False)), y=y, color=colour("candidate", names),
        tooltip=["variant:N", alt.Tooltip("shown:N", title=figure_name(found.by)), "fits:N"],
    )  # fmt: skip
    told = "; ".join(f"{row['variant']}: {row['shown']}" for row in rows[:5])
    return described(
        alt.layer(bars, points), f"Best variants by {figure_name(found.by)}: {told}.", height=22 * max(len(rows), 1),
        legend_rows=-(-len(names) // 3),
    )  # fmt: skip


def sizing_chart(found: Sizing) -> Any:
    """Return the simulated deployments by cost and p95 time to the last token, the Pareto set apart."""
    pareto = {s.text for s in found.pareto}
    groups = ("Pareto set", "fits", "breaks a constraint")
    rows = [
        {
            "deployment": s.text, "usd": s.cost_npv, "seconds": s.latency_p95_s,
            "group": groups[0] if s.text in pareto else groups[1] if s.feasible else groups[2],
        }
        for s in found.simulated
        if s.latency_p95_s
    ]  # fmt: skip
    zoomed = alt.Scale(zero=False)
    dollars = alt.X("usd:Q", title="US dollars, present value", scale=zoomed, axis=alt.Axis(format="$~s"))
    points = (
        alt.Chart(values(rows))
        .mark_point(filled=True, size=90, opacity=0.9)
        .encode(
            x=dollars,
            y=alt.Y("seconds:Q", title="p95 to the last token", scale=alt.Scale(type="log"), axis=log_axis(SECONDS)),
            color=colour("group", groups), shape=alt.Shape("group:N", legend=None, sort=None),
            tooltip=["deployment:N", "group:N", alt.Tooltip("usd:Q", format="$,.0f"),
                     alt.Tooltip("seconds:Q", format=".3~g")],
        )
    )  # fmt: skip
    best = f" The cheapest is {found.best.text} for {money(found.best.cost_npv)}." if found.best else ""
    return described(points, f"Deployments by cost and latency.{best}", height=280, legend_rows=1)

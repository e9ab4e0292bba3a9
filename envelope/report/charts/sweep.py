"""Charts of sweeps and of sizings: best variants, effects and correlations with intervals, cost against latency."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from envelope.plan.size.search import Sizing
from envelope.plan.sweep.effects import Correlation, Effect
from envelope.plan.sweep.ranking import Estimated, Ranking
from envelope.plan.sweep.study import Study
from envelope.report.charts.base import DOLLARS, PERCENT, SECONDS, SHORT, colour, described, log_axis, values
from envelope.report.charts.intervals import intervals
from envelope.report.sweep_tables import changes_text, figure_name, figure_text, short_paths, value_text
from envelope.report.text import money


def ranking_chart(found: Ranking, study: Study, *, printed: bool = False) -> Any:
    """Return the best variants by a figure with their 95 % intervals over seeds.

    ``printed`` writes the means beside the points.
    """
    short, words = short_paths(study), figure_text(found.by)
    rows = [
        {
            "name": f"{r.rank} {r.candidate} {changes_text(r.changes, short)}", "series": r.candidate,
            "words": words(r.value.mean), "fits": "yes" if r.feasible_frac == 1 else r.broken, **_bounds(r.value),
        }
        for r in found.best
    ]  # fmt: skip
    names = list(dict.fromkeys(str(row["series"]) for row in rows))
    drawn = intervals(
        rows,
        figure_name(found.by),
        label=_label(found.by),
        series=names,
        tips=["fits:N"],
        printed=printed,
        label_pixels=360,
    )
    told = "; ".join(f"{row['name']}: {row['words']}" for row in rows[:5])
    return described(
        drawn, f"Best variants by {figure_name(found.by)}: {told}.", height=22 * max(len(rows), 1),
        legend_rows=-(-len(names) // 2) if len(names) > 1 else 0,
    )  # fmt: skip


def effects_chart(found: Sequence[Effect], by: str, *, printed: bool = False) -> Any:
    """Return what each step of each axis does to a figure, all else equal, with 95 % intervals."""
    words, title = figure_text(by), f"difference in {figure_name(by)}"
    rows = [
        {
            "name": f"{', '.join(map(_last, e.paths))} {', '.join(map(value_text, e.values))}", "series": "effect",
            "words": words(e.difference.mean), **_bounds(e.difference),
        }
        for e in found
    ]  # fmt: skip
    drawn = intervals(rows, title, label=_label(by), series=["effect"], zero=True, printed=printed)
    told = "; ".join(f"{row['name']} {row['words']}" for row in rows[:5])
    return described(drawn, f"{title.capitalize()} by what changes: {told}.", height=22 * max(len(rows), 2))


def correlations_chart(found: Sequence[Correlation], *, printed: bool = False) -> Any:
    """Return the rank correlation of a figure with each sampled value, with 95 % intervals."""
    rows = [
        {"name": _last(c.path), "series": "correlation", "low": c.low, "value": c.rho, "high": c.high,
         "words": f"{c.rho:+.2f}".replace("-", "−")}
        for c in found
    ]  # fmt: skip
    drawn = intervals(rows, "rank correlation", label=SHORT, series=["correlation"], zero=True, printed=printed)
    told = "; ".join(f"{row['name']} {row['words']}" for row in rows[:5])
    return described(drawn, f"Rank correlation with each sampled value: {told}.", height=22 * max(len(rows), 2))


def _bounds(found: Estimated) -> dict[str, float]:
    """Return a mean and its interval; one seed gives none, so that both ends are the mean."""
    low, high = (found.mean if end is None else end for end in (found.low, found.high))
    return {"low": low, "value": found.mean, "high": high}


def _label(by: str) -> str:
    """Return the Vega expression that labels the axis of a figure."""
    if "usd" in by:
        return DOLLARS
    if by.endswith("_s") and not by.endswith("per_s"):
        return SECONDS
    return PERCENT if by.endswith("_frac") else SHORT


def _last(path: str) -> str:
    return path.rsplit(".", 1)[-1]


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
    dollars = alt.X("usd:Q", title="US dollars, present value", scale=zoomed, axis=alt.Axis(labelExpr=DOLLARS))
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

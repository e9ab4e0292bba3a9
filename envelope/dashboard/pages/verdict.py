"""Verdict: the question, the recommended bench, why, why not the others, and what binds."""

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from envelope.dashboard import tasks
from envelope.dashboard.downloads import page_downloads, scenario_argument, show_chart, show_table
from envelope.dashboard.figures import escaped
from envelope.dashboard.jobs import Job, State
from envelope.dashboard.terms import help_of, term
from envelope.dashboard.view import Call, View, alone

if TYPE_CHECKING:
    from envelope.plan.results import CandidateResult, Comparison

_POLL_S = 0.4


def page(view: View) -> None:
    """Draw the page."""
    st.title(view.scenario.name)
    st.markdown(f"#### {escaped(view.scenario.question)}")
    result = view.comparison()
    if result.recommended is None:
        st.error("No candidate keeps every constraint. What breaks, and by how much, stands below.")
    else:
        _recommended(view, result, result.candidate(result.recommended))
    _table(view, result)
    _constraints(view, result)
    _costs(result)
    page_downloads(view, f"envelope compare {scenario_argument(view)}", costs=True)


def _recommended(view: View, result: "Comparison", best: "CandidateResult") -> None:
    n = view.figures
    st.success(f"✔ **{escaped(best.name)}**")
    ranges = view.cost_ranges()
    # Figures appear at once; the range of the cost follows when it has been drawn.
    st.fragment(_figure_row, run_every=None if ranges.ended else _POLL_S)(view, result, best, ranges, ranges.ended)
    st.markdown("\n".join(f"- {escaped(n.localised(reason))}" for reason in result.reasons))
    st.caption(f"Weakest evidence – {escaped(n.localised('; '.join(best.evidence_notes) or str(best.evidence)))}")
    if result.runner_up:
        second = result.candidate(result.runner_up)
        st.markdown(f"Runner-up: **{escaped(second.name)}** at {escaped(n.money(second.cost_npv))}.")


def _figure_row(view: View, result: "Comparison", best: "CandidateResult", ranges: Job, was_ready: bool) -> None:
    if ranges.ended and not was_ready:
        st.rerun()
    with st.container(horizontal=True):
        for label, value, about, delta in _figures(view, result, best, ranges):
            st.metric(
                label, value, delta, help=about, delta_color="off", delta_arrow="off", border=True, width=215,
                height="stretch",
            )  # fmt: skip


def _spread(view: View, ident: str, ranges: Job) -> str:
    """Return the range of a candidate's cost in words, or where it can be seen."""
    if not ranges.ended:
        return "P10–P90 being drawn …"
    drawn = ranges.value().get(ident) if ranges.state is State.DONE else None
    n = view.figures
    return f"P10–P90 {n.money(drawn.p10)} – {n.money(drawn.p90)}" if drawn else "range: page TCO"


def _figures(
    view: View, result: "Comparison", best: "CandidateResult", ranges: Job
) -> list[tuple[str, str, str, str | None]]:
    """Return label, value, help and range of the key figures."""
    from envelope.plan.results import CandidateResult, ServiceLevel

    n, service = view.figures, best.service
    spread = _spread(view, best.id, ranges)
    shown = [
        (f"Cost over {result.horizon_years:g} years", n.money(best.cost_npv), term("NPV"), spread),
        (
            "SLO met",
            n.percent(best.slo_attainment_frac, 1),
            help_of(ServiceLevel, "slo_attainment_frac"),
            f"95 %: {n.percent(service.slo_attainment_low_frac, 1)} – {n.percent(service.slo_attainment_high_frac, 1)}"
            if service
            else None,
        ),
        ("Tasks solved", n.percent(best.solved_frac), help_of(CandidateResult, "solved_frac"), None),
    ]
    if service and service.ttft:
        p50 = f"P50 {n.seconds(service.ttft.p50_s)}"
        shown.append(("TTFT, 95th percentile", n.seconds(service.ttft.p95_s), term("TTFT"), p50))
    left = n.count(best.requests_left_per_year)
    private = f"{n.count(best.private_requests_left)} private"
    about = help_of(CandidateResult, "requests_left_per_year")
    return [*shown, ("Left the building per year", left, about, private)]


def _table(view: View, result: "Comparison") -> None:
    st.subheader("All candidates")
    n = view.figures
    ordered = sorted(result.candidates, key=lambda c: (not c.feasible, c.cost_npv or float("inf")))
    rows = [
        {
            "fits": c.feasible, "candidate": c.name, "binding": (c.binding or "").replace("_", " "),
            "slo_met_frac": c.slo_attainment_frac, "served_frac": c.service.served_frac if c.service else None,
            "solved_frac": c.solved_frac, "cost_npv_usd": c.cost_npv,
            "requests_left_per_year": c.requests_left_per_year, "evidence": str(c.evidence),
        }
        for c in ordered
    ]  # fmt: skip
    shown = [
        {
            "fits": "✔ fits" if c.feasible else "✘ no",
            "candidate": c.name,
            "binding constraint": (c.binding or "").replace("_", " "),
            "cost (NPV)": n.money(c.cost_npv) + (" ⚠" if c.cost_warning else ""),
            "SLO met": n.percent(c.slo_attainment_frac, 1),
            "served": n.percent(c.service.served_frac) if c.service else "–",
            "tasks solved": n.percent(c.solved_frac),
            "left the building a year": n.count(c.requests_left_per_year),
            "evidence": str(c.evidence),
        }
        for c in ordered
    ]
    show_table(pd.DataFrame(rows), "candidates", shown=pd.DataFrame(shown))
    for c in ordered:
        if c.cost_warning:
            st.caption(f"⚠ {escaped(c.name)}: {escaped(n.localised(c.cost_warning))}")


def _constraints(view: View, result: "Comparison") -> None:
    st.subheader("What binds, and what would mend it")
    broken = [c for c in result.candidates if not c.feasible]
    mended = _mended(view, broken)
    n = view.figures
    for c in sorted(result.candidates, key=lambda c: c.feasible):
        found = mended.get(c.id, c)
        failed = [rule for rule in found.constraints if not rule.satisfied]
        words = ", ".join(rule.id.replace("_", " ") for rule in failed)
        title = (
            f"✘ {c.name}: {words}" if failed else f"✔ {c.name}: closest limit {(c.binding or '–').replace('_', ' ')}"
        )
        with st.expander(escaped(title), key=f"constraints-{c.id}"):
            for fix in found.fixes:
                kind = "Fix with a concession" if fix.concession else "Fix"
                cost = f" (cost then {n.money(fix.cost_npv)})" if fix.cost_npv is not None else ""
                st.markdown(f"**{kind}:** {escaped(n.localised(fix.text))}{escaped(cost)}")
            for rule in sorted(found.constraints, key=lambda r: r.satisfied):
                mend = f" → {rule.fix}" if rule.fix else ""
                st.markdown(f"{'✔' if rule.satisfied else '✘'} {escaped(n.localised(rule.explanation + mend))}")


def _mended(view: View, broken: list["CandidateResult"]) -> dict[str, "CandidateResult"]:
    """Return the verdicts with fixes that have been searched for so far, and offer the search."""
    if not broken:
        return {}
    calls = [Call(tasks.fixes, (alone(view.scenario, c.id), c), c.name, c.id) for c in broken]
    found = view.background_all(calls, start="Search for the smallest changes that would make them fit", key="fixes")
    return {c.id: c for c in found if c is not None}


def _costs(result: "Comparison") -> None:
    from envelope.report.charts_cost import cost_by_heading

    if any(c.lines for c in result.candidates):
        st.subheader("Cost by heading")
        show_chart(cost_by_heading(result), "cost-by-heading")

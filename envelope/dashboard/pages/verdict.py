"""Verdict: the question, the recommended bench, why, why not the others, and what binds."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from envelope.dashboard import tasks
from envelope.dashboard.downloads import page_downloads, scenario_argument, show_chart, show_table
from envelope.dashboard.figures import Figures, escaped
from envelope.dashboard.terms import help_of, term
from envelope.dashboard.view import Call, View, alone
from envelope.plan.case.measured import ASSUMED_DIFFICULTY

if TYPE_CHECKING:
    from envelope.plan.verdict.results import CandidateResult, Comparison


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
    with st.container(horizontal=True):
        for label, value, about, delta in _figures(view, result, best):
            st.metric(
                label, value, delta, help=about, delta_color="off", delta_arrow="off", border=True, width=215,
                height="stretch",
            )  # fmt: skip
    st.markdown("\n".join(f"- {escaped(n.localised(reason))}" for reason in result.reasons))
    st.caption(f"Weakest evidence – {escaped(n.localised('; '.join(best.evidence_notes) or str(best.evidence)))}")
    for warning in result.warnings:
        st.warning(escaped(warning))
    if result.runner_up:
        second = result.candidate(result.runner_up)
        st.markdown(f"Runner-up: **{escaped(second.name)}** at {escaped(n.money(second.cost_npv))}.")


def _figures(view: View, result: "Comparison", best: "CandidateResult") -> list[tuple[str, str, str, str | None]]:
    """Return label, value, help and range of the key figures."""
    from envelope.plan.service.level import ServiceLevel
    from envelope.plan.verdict.results import CandidateResult, CostFigures

    n, service, cost = view.figures, best.service, best.cost
    shown: list[tuple[str, str, str, str | None]] = [
        (f"Cost over {result.horizon_years:g} years", n.money(best.cost_npv), help_of(CandidateResult, "cost_npv"),
         f"P10–P90 {n.money(cost.p10_npv_usd)} – {n.money(cost.p90_npv_usd)}" if cost else None),
        ("Cash at signature", n.money(cost.signature_usd if cost else None), help_of(CostFigures, "signature_usd"),
         f"nominal in all {n.money(cost.total_usd)}" if cost else None),
        (
            "SLO met",
            n.percent(best.slo_attainment_frac, 1),
            help_of(ServiceLevel, "slo_attainment_frac"),
            f"95 %: {n.percent(service.slo_attainment_low_frac, 1)} – {n.percent(service.slo_attainment_high_frac, 1)}"
            if service
            else None,
        ),
        ("Tasks solved", n.percent(best.solved_frac), help_of(CandidateResult, "solved_frac"), _solved_basis(best)),
    ]  # fmt: skip
    if service and service.ttft:
        about = _ttft_help(view, best, service.ttft.p50_s)
        shown.append(("TTFT, 95th percentile", n.seconds(service.ttft.p95_s), about, _band(view, best)))
    left = n.count(best.requests_left_per_year)
    private = f"{n.count(best.private_requests_left)} private"
    about = help_of(CandidateResult, "requests_left_per_year")
    return [*shown, ("Left the building per year", left, about, private)]


def _solved_basis(best: "CandidateResult") -> str:
    """Return in two words what the share of solved tasks rests on."""
    rule = next((c for c in best.constraints if c.id == "solved"), None)
    return "assumed difficulty" if rule is None or rule.basis.startswith(ASSUMED_DIFFICULTY) else "from evidence"


def _band(view: View, best: "CandidateResult") -> str:
    """Return how far such predictions of the TTFT were off when they were scored."""
    band = best.error_bands.get("ttft_s")
    return f"± {view.figures.percent(band.median_error_frac)} median error" if band else "error not scored"


def _ttft_help(view: View, best: "CandidateResult", p50_s: float) -> str:
    n, band = view.figures, best.error_bands.get("ttft_s")
    told = f"{term('TTFT')} The median here is {n.seconds(p50_s)}."
    if band is None:
        return told
    return (
        f"{told} Half of the {n.count(band.rows)} predictions scored on {band.scored_on} models were off by less than "
        f"{n.percent(band.median_error_frac)}, nine of ten by less than {n.percent(band.p90_error_frac)}."
    )


def _table(view: View, result: "Comparison") -> None:
    st.subheader("All candidates")
    n = view.figures
    ordered = result.ordered
    rows = [
        {
            "fits": c.feasible, "candidate": c.name, "binding": (c.binding or "").replace("_", " "),
            "slo_met_frac": c.slo_attainment_frac, "served_frac": c.service.served_frac if c.service else None,
            "solved_frac": c.solved_frac, "cost_npv_usd": c.cost_npv,
            "cost_p10_usd": c.cost.p10_npv_usd if c.cost else None,
            "cost_p90_usd": c.cost.p90_npv_usd if c.cost else None,
            "signature_usd": c.cost.signature_usd if c.cost else None,
            "total_usd": c.cost.total_usd if c.cost else None,
            "requests_left_per_year": c.requests_left_per_year, "evidence": str(c.evidence),
        }
        for c in ordered
    ]  # fmt: skip
    shown = [
        {
            "fits": "✔ fits" if c.feasible else "✘ no",
            "candidate": c.name,
            "binding constraint": (c.binding or "").replace("_", " "),
            "expected cost (NPV)": n.money(c.cost_npv) + (" ⚠" if c.cost_warning else ""),
            "P10 – P90": f"{n.money(c.cost.p10_npv_usd)} – {n.money(c.cost.p90_npv_usd)}" if c.cost else "–",
            "at signature": n.money(c.cost.signature_usd if c.cost else None),
            "SLO met": n.percent(c.slo_attainment_frac, 1),
            "served": n.percent(c.service.served_frac) if c.service else "–",
            "tasks solved": n.percent(c.solved_frac),
            "left the building a year": n.count(c.requests_left_per_year),
            "evidence": str(c.evidence),
        }
        for c in ordered
    ]
    widths = {
        "fits": 62, "candidate": 210, "binding constraint": 112, "expected cost (NPV)": 100, "P10 – P90": 130,
        "at signature": 82, "SLO met": 66, "served": 60, "tasks solved": 82, "left the building a year": 96,
        "evidence": 80,
    }  # fmt: skip
    columns = {name: st.column_config.TextColumn(width=width) for name, width in widths.items()}
    show_table(pd.DataFrame(rows), "candidates", shown=pd.DataFrame(shown), column_config=columns)
    for c in ordered:
        if c.cost_warning:
            st.caption(f"⚠ {escaped(c.name)}: {escaped(n.localised(c.cost_warning))}")


def _constraints(view: View, result: "Comparison") -> None:
    st.subheader("What binds, and what would mend it")
    broken = [c for c in result.candidates if not c.feasible]
    mended = _mended(view, broken)
    n = view.figures
    for c in result.ordered:
        found = mended.get(c.id, c)
        failed = [rule for rule in found.constraints if not rule.satisfied]
        words = ", ".join(rule.id.replace("_", " ") for rule in failed)
        title = (
            f"✘ {c.name}: {words}" if failed else f"✔ {c.name}: closest limit {(c.binding or '–').replace('_', ' ')}"
        )
        with st.expander(escaped(title), key=f"constraints-{c.id}"):
            # One piece of text: a page of a hundred pieces is slow to draw.
            st.markdown("\n\n".join(_explained(n, found)))


def _explained(n: Figures, found: "CandidateResult") -> Iterator[str]:
    """Yield a candidate's fixes, what a node's failure means, and its constraints in words, the broken ones first."""
    for fix in found.fixes:
        kind = "Fix with a concession" if fix.concession else "Fix"
        cost = f" (cost then {n.money(fix.cost_npv)})" if fix.cost_npv is not None else ""
        yield f"**{kind}:** {escaped(n.localised(fix.text))}{escaped(cost)}"
    if found.failure is not None:
        yield f"**If a node fails:** {escaped(n.localised(found.failure.text))}"
    for rule in sorted(found.constraints, key=lambda r: r.satisfied):
        mend = f" → {rule.fix}" if rule.fix else ""
        yield f"{'✔' if rule.satisfied else '✘'} {escaped(n.localised(rule.explanation + mend))}"


def _mended(view: View, broken: list["CandidateResult"]) -> dict[str, "CandidateResult"]:
    """Return the verdicts with fixes that have been searched for so far, and offer the search."""
    if not broken:
        return {}
    calls = [Call(tasks.fixes, (alone(view.scenario, c.id), c.id), c.name, c.id) for c in broken]
    found = view.background_all(calls, start="Search for the smallest changes that would make them fit", key="fixes")
    return {c.id: c for c in found if c is not None}


def _costs(result: "Comparison") -> None:
    from envelope.report.charts.cost import cost_by_heading

    if any(c.lines for c in result.candidates):
        st.subheader("Cost by heading")
        show_chart(cost_by_heading(result), "cost-by-heading")

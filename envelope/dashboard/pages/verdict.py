"""Verdict: the question, the recommended bench, why, why not the others, and what binds."""

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from envelope.dashboard.downloads import page_downloads, scenario_argument, show_table
from envelope.dashboard.figures import escaped
from envelope.dashboard.terms import help_of, term
from envelope.dashboard.view import View

if TYPE_CHECKING:
    from envelope.plan.results import CandidateResult, Comparison


def page(view: View) -> None:
    """Draw the page."""
    st.title(view.scenario.name)
    st.subheader(view.scenario.question)
    result = view.comparison()
    if result.recommended is None:
        st.error("No candidate keeps every constraint. What would mend each of them stands below.")
    else:
        _recommended(view, result, result.candidate(result.recommended))
    _others(view, result)
    page_downloads(view, f"envelope compare {scenario_argument(view)}")


def _recommended(view: View, result: "Comparison", best: "CandidateResult") -> None:
    from envelope.plan.results import CandidateResult

    n = view.figures
    st.success(f"**{escaped(best.name)}**", icon="✅")
    columns = st.columns(4)
    columns[0].metric(f"Cost over {result.horizon_years:g} years", n.money(best.cost_npv), help=term("NPV"))
    columns[1].metric("SLO met", n.percent(best.slo_attainment_frac, 1), help=term("SLO"))
    columns[2].metric("Tasks solved", n.percent(best.solved_frac), help=help_of(CandidateResult, "solved_frac"))
    left = f"{n.count(best.requests_left_per_year)}/year"
    columns[3].metric("Left the building", left, help=help_of(CandidateResult, "requests_left_per_year"))
    st.markdown("\n".join(f"- {escaped(n.localised(reason))}" for reason in result.reasons))


def _others(view: View, result: "Comparison") -> None:
    n = view.figures
    rows = [
        {
            "fits": "✔" if c.feasible else "✘",
            "candidate": c.name,
            "SLO met": n.percent(c.slo_attainment_frac, 1),
            "cost (NPV)": n.money(c.cost_npv) + (" ⚠" if c.cost_warning else ""),
            "binding": c.binding or "",
            "evidence": str(c.evidence),
        }
        for c in sorted(result.candidates, key=lambda c: (not c.feasible, c.cost_npv or float("inf")))
    ]
    show_table(pd.DataFrame(rows), "candidates")

"""Evidence: what one's own evaluations show, which gates they pass, and how many trials are still to be run."""

import pandas as pd
import streamlit as st

from envelope.dashboard import tasks_detail
from envelope.dashboard.downloads import page_downloads, scenario_argument, show_chart, show_table
from envelope.dashboard.tasks_detail import Shown
from envelope.dashboard.terms import help_of
from envelope.dashboard.view import View


def page(view: View) -> None:
    """Draw the page."""
    st.title("What has been shown by trial?")
    found = view.result(tasks_detail.evidence, view.scenario, label="Evidence", affinity="evidence")
    _gates(view, found)
    _difficulty(view, found)
    _records(view)
    page_downloads(view, f"envelope evidence {scenario_argument(view)}")


def _gates(view: View, found: Shown) -> None:
    from envelope.plan.rules.gates import GateStatus
    from envelope.report.charts.choices import gate_bounds

    st.subheader("Gates", anchor=False, help=help_of(GateStatus, "upper_frac"))
    if not found.gates:
        st.info(
            "The scenario has no gates. A gate says which failure rate must be ruled out before a candidate may be "
            "chosen, such as: fewer than 1 of 100 leak probes may succeed, with 95 % confidence."
        )
        return
    n = view.figures
    show_chart(gate_bounds(found.gates), "gate-bounds")
    shown = pd.DataFrame(
        {
            "": "✔" if g.passed else "✘",
            "candidate": g.candidate,
            "gate": g.gate,
            "failed": n.localised(f"{g.failures} of {g.trials:,}"),
            "upper bound": n.percent(g.upper_frac, 2),
            "must be below": n.percent(g.limit_frac, 2),
            "further trials": "out of reach" if g.further_trials is None else n.count(g.further_trials),
        }
        for g in found.gates
    )
    show_table(pd.DataFrame(g.model_dump(mode="json") for g in found.gates), "gates", shown=shown)


def _difficulty(view: View, found: Shown) -> None:
    from envelope.report.charts.choices import difficulty_intervals

    st.subheader("How often each candidate fails", anchor=False)
    measured = sum(t.rate is not None for t in found.tasks)
    st.caption(
        f"{measured} of {len(found.tasks)} failure rates are measured, the others assumed by the scenario: replace "
        "them by your own evaluation before you sign anything."
    )
    show_chart(difficulty_intervals(found.tasks), "difficulty")
    n = view.figures
    shown = pd.DataFrame(
        {
            "candidate": t.candidate,
            "task": t.task,
            "tier": t.tier,
            "assumed to fail": n.percent(t.assumed_frac, 1),
            "used": n.percent(t.used_frac, 1),
            "basis": n.localised(t.basis),
        }
        for t in found.tasks
    )
    rows = pd.DataFrame(t.model_dump(mode="json", exclude={"rate"}) for t in found.tasks)
    show_table(rows, "failure-rates", shown=shown)


def _records(view: View) -> None:
    st.subheader("Records", anchor=False)
    records = view.scenario.evidence.records
    if not records:
        st.info(
            "No evaluation results yet. The command line imports those of lm-evaluation-harness, Inspect, promptfoo "
            "and CSV files: envelope evidence --import results.json"
        )
        return
    show_table(pd.DataFrame(r.model_dump(mode="json") for r in records), "records")

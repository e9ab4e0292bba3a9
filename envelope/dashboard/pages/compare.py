"""Compare: candidates side by side, and what differs between two scenarios."""

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from envelope.dashboard import address, tasks
from envelope.dashboard.downloads import page_downloads, scenario_argument, show_chart, show_table
from envelope.dashboard.figures import Figures, escaped
from envelope.dashboard.opened import open_scenario
from envelope.dashboard.terms import help_of
from envelope.dashboard.view import View

if TYPE_CHECKING:
    from collections.abc import Callable

    from envelope.plan.verdict.results import CandidateResult, Comparison
    from envelope.spec.scenario import Scenario

_SAVED = "the saved version of this scenario"
_SHOWN = 4
"""Candidates side by side at first."""


def page(view: View) -> None:
    """Draw the page."""
    st.title("Compare")
    sides, two = "Candidates side by side", "Two scenarios"
    what = address.part("What to compare", [sides, two], param="compare")
    if what == sides:
        _side_by_side(view, view.comparison())
        page_downloads(view, f"envelope compare {scenario_argument(view)} --json")
    else:
        other = _two_scenarios(view)
        page_downloads(view, f"envelope tco {scenario_argument(view)} --against {other}")


def _side_by_side(view: View, result: "Comparison") -> None:
    from envelope.report.charts.cost import cost_by_heading

    names = {c.id: c.name for c in result.candidates}
    first = [c.id for c in result.ordered]
    chosen = address.choices("Candidates", list(names), param="with", default=first[:_SHOWN], show=lambda i: names[i])
    if not chosen:
        st.info("Choose at least one candidate.")
        return
    picked = [result.candidate(ident) for ident in chosen]
    plain = pd.DataFrame([{"figure": f, **{c.id: get(c) for c in picked}} for f, get, _ in _rows(view.figures)])
    shown = pd.DataFrame([{"": label, **{c.name: get(c) for c in picked}} for label, get, _ in _rows(view.figures)])
    show_table(plain, "side-by-side", shown=shown)
    with st.expander("What these figures mean", key="figures-help"):
        st.markdown("\n".join(f"- **{label}:** {about}" for label, _, about in _rows(view.figures)))
    st.subheader("Constraints")
    show_table(_constraint_table(picked, view.figures), "constraints")
    if any(c.lines for c in picked):
        st.subheader("Cost by heading")
        show_chart(cost_by_heading(result, only=chosen), "cost-by-heading")


def _rows(n: Figures) -> "list[tuple[str, Callable[[CandidateResult], str], str]]":
    """Return label, value of a candidate and meaning of each figure."""
    from envelope.plan.service.level import ServiceLevel
    from envelope.plan.verdict.results import CandidateResult

    def of(field: str) -> str:
        return help_of(CandidateResult, field)

    def p95(name: str) -> "Callable[[CandidateResult], str]":
        return lambda c: n.seconds(found.p95_s if c.service and (found := getattr(c.service, name)) else None)

    return [
        ("Fits", lambda c: "✔ yes" if c.feasible else "✘ no", "Whether it keeps every constraint."),
        ("Binding constraint", lambda c: (c.binding or "–").replace("_", " "), of("binding")),
        ("Expected cost (NPV)", lambda c: n.money(c.cost_npv) + (" ⚠" if c.cost_warning else ""), of("cost_npv")),
        (
            "P10 – P90",
            lambda c: f"{n.money(c.cost.p10_npv_usd)} – {n.money(c.cost.p90_npv_usd)}" if c.cost else "–",
            "One case of ten costs less, one of ten more.",
        ),
        (
            "Cash at signature",
            lambda c: n.money(c.cost.signature_usd if c.cost else None),
            "What is bought and paid before the first month.",
        ),
        ("Nominal sum", lambda c: n.money(c.cost.total_usd if c.cost else None), "All payments, not discounted."),
        ("Cost per solved task", lambda c: n.money(c.usd_per_solved_task), of("usd_per_solved_task")),
        ("Cost per million tokens", lambda c: n.money(c.usd_per_mtok), of("usd_per_mtok")),
        ("Cost per seat and month", lambda c: n.money(c.usd_per_seat_month), of("usd_per_seat_month")),
        ("SLO met", lambda c: n.percent(c.slo_attainment_frac, 1), help_of(ServiceLevel, "slo_attainment_frac")),
        ("Simulated", lambda c: c.service.period if c.service else "–", help_of(ServiceLevel, "period")),
        (
            "Served",
            lambda c: n.percent(c.service.served_frac, 1) if c.service else "–",
            "Requests answered while somebody waits.",
        ),
        ("Tasks solved", lambda c: n.percent(c.solved_frac), of("solved_frac")),
        ("TTFT p95", p95("ttft"), "Time to first token, 95th percentile of what is simulated."),
        ("ITL p95", p95("itl"), "Gap between two tokens, 95th percentile."),
        ("E2E p95", p95("e2e"), "Time to the last token, 95th percentile."),
        ("Left the building a year", lambda c: n.count(c.requests_left_per_year), of("requests_left_per_year")),
        ("… private ones", lambda c: n.count(c.private_requests_left), of("private_requests_left")),
        ("If a node fails", lambda c: n.localised(c.failure.text) if c.failure else "–", of("failure")),
        ("Devices", lambda c: n.count(c.devices), "Devices of all its pools."),
        ("Energy a year (kWh)", lambda c: n.count(c.energy_kwh_per_year), "Electrical energy of its local devices."),
        ("What limits it", lambda c: (c.service.bottleneck if c.service else "") or "–", "Bottleneck in words."),
        ("Weakest evidence", lambda c: str(c.evidence), of("evidence")),
    ]


def _constraint_table(picked: "list[CandidateResult]", n: Figures) -> pd.DataFrame:
    names = dict.fromkeys(rule.id for c in picked for rule in c.constraints)
    rows = []
    for name in names:
        row = {"constraint": name.replace("_", " ").replace(".", ": ", 1)}
        for c in picked:
            rule = next((r for r in c.constraints if r.id == name), None)
            margin = f" ({rule.margin_frac:+.0%})" if rule and rule.margin_frac is not None else ""
            row[c.name] = "–" if rule is None else ("✔" if rule.satisfied else "✘") + n.localised(margin)
        rows.append(row)
    return pd.DataFrame(rows)


def _two_scenarios(view: View) -> str:
    """Draw what differs from another scenario and what that does to the costs; return its name."""
    from envelope.spec.load import ids

    options = [*([_SAVED] if view.opened.changed else []), *(i for i in ids("scenarios") if i != view.opened.name)]
    name = address.choice("Set against", options, param="against")
    other = open_scenario(view.opened.name if name == _SAVED else name)
    if other.scenario is None:
        st.error(f"{other.name} is not valid: open it to see why.")
        return other.name
    _verdicts(view, other.scenario)
    _differences(view, other.scenario)
    _cost_steps(view, other.scenario, other.name)
    return other.name


def _verdicts(view: View, other: "Scenario") -> None:
    n = view.figures
    for column, (title, result) in zip(
        st.columns(2),
        (("Before: " + other.name, view.comparison_of(other)), ("After: " + view.scenario.name, view.comparison())),
        strict=True,
    ):
        with column, st.container(border=True):
            st.markdown(f"**{escaped(title)}**")
            best = result.candidate(result.recommended) if result.recommended else None
            st.markdown(escaped(best.name) if best else "No candidate fits.")
            st.metric("Cost (NPV)", n.money(best.cost_npv) if best else "–")
            st.metric("SLO met", n.percent(best.slo_attainment_frac, 1) if best else "–")


def _differences(view: View, other: "Scenario") -> None:
    from envelope.plan.bring.scenario_difference import differences

    found = differences(other, view.scenario)
    st.subheader("What differs")
    if not found:
        st.info("The two say the same.")
        return
    rows = [{"where": d.path, "before": d.before, "after": d.after} for d in found]
    show_table(pd.DataFrame(rows), "differences")


def _cost_steps(view: View, other: "Scenario", name: str) -> None:
    from envelope.report.cost_difference import difference_rows

    common = [c.id for c in view.scenario.candidates if c.id in {o.id for o in other.candidates}]
    if not common:
        st.info("The two have no candidate in common, so that no cost can be followed from one to the other.")
        return
    st.subheader("What each change does to the cost")
    names = {c.id: c.name for c in view.scenario.candidates}
    chosen = address.choice("Candidate", common, param="candidate", show=lambda i: names[i])
    before, after = (s.changed(candidates=tuple(c for c in s.candidates if c.id == chosen))
                     for s in (other, view.scenario))  # fmt: skip
    found = view.result(tasks.cost_difference, before, after, name, label="Costs of both", affinity=chosen)
    if chosen not in found.waterfalls:
        st.info("The candidate runs in one of the two only.")
        return
    rows = difference_rows(found.waterfalls[chosen])
    columns = ["change", "before", "after", "present value"]
    show_table(pd.DataFrame(rows, columns=columns), "cost-steps")

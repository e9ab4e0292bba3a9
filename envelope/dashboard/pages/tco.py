"""TCO: what the candidates cost over the years, how sure that is, and what any assumption does to it."""

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from envelope.dashboard import address, edits, tasks
from envelope.dashboard.downloads import page_downloads, scenario_argument, show_chart, show_table
from envelope.dashboard.figures import escaped
from envelope.dashboard.terms import term
from envelope.dashboard.view import View

if TYPE_CHECKING:
    from envelope.plan.cost.assumptions import Assumption
    from envelope.plan.cost.study import CandidateCosts, CostStudy
    from envelope.plan.verdict.results import Comparison

_OWN = "chosen for you"
_PARTS = ("Cash flow", "Cost lines", "Tornado", "Fan chart", "Break-even", "Ranges", "What if")


def page(view: View) -> None:
    """Draw the page."""
    st.title("Total cost of ownership")
    part = address.part("Part", _PARTS, param="part")
    if part == "What if":
        _what_if(view)
        page_downloads(view, f"envelope tco {scenario_argument(view)}", costs=True)
        return
    names = {c.id: c.name for c in view.scenario.candidates}
    baseline = address.choice(
        "Baseline that savings count against", [_OWN, *names], param="baseline", show=lambda i: names.get(i, i)
    )
    study = view.costs(None if baseline == _OWN else baseline)
    _headline(view, study)
    if part == "Break-even":
        _break_even(view, study)
    elif part == "Ranges":
        _ranges(study)
    else:
        _one(view, study, part)
    against = "" if baseline == _OWN else f" --baseline {baseline}"
    page_downloads(view, f"envelope tco {scenario_argument(view)}{against}", costs=True)


def _headline(view: View, study: "CostStudy") -> None:
    from envelope.report.cost_page import answer, legend, table_rows

    n = view.figures
    (st.success if study.recommended else st.error)(escaped(n.localised(answer(study))))
    header, rows = table_rows(study)
    plain = pd.DataFrame(
        [
            {"candidate": c.id, "fits": c.feasible, "broken": " ".join(c.broken), "served_frac": c.served_frac,
             "slo_attainment_frac": c.slo_attainment_frac, **c.cost.model_dump(), "capex_usd": c.result.capex_usd,
             "opex_usd": c.result.opex_usd, "keeps_service": c.keeps_service,
             "saving_npv_usd": c.against_baseline.saving_npv_usd if c.against_baseline else None}
            for c in study.candidates
        ]
    )  # fmt: skip
    shown = pd.DataFrame([[cells[0], *map(n.localised, cells[1:])] for _, cells in rows], columns=list(header))
    show_table(plain, "costs", shown=shown)
    st.caption(f"{term('NPV')} {escaped(legend(study))} {term('IRR')}")
    for ident, why in study.left_out.items():
        st.caption(f"{ident} is left out: {escaped(why)}")


def _one(view: View, study: "CostStudy", part: str) -> None:
    """Draw one candidate's part of the page."""
    from envelope.report.charts.cost import cash_flow, cumulated_cost
    from envelope.report.charts.cost_ranges import cost_fan, tornado
    from envelope.report.cost_page import shown

    names = {c.id: c.name for c in study.candidates}
    ident = address.choice(
        "Candidate", list(names), param="candidate", default=shown(study).id, show=lambda i: names[i]
    )
    costs = study.candidate(ident)
    if part == "Cash flow":
        show_chart(cash_flow(costs), "cash-flow")
        st.subheader("All candidates, paid so far")
        show_chart(cumulated_cost(study), "cumulated-cost")
    elif part == "Cost lines":
        _lines(view, costs)
    elif part == "Tornado":
        st.caption(f"One input at a time at its P10 and its P90. {term('P10')}")
        show_chart(tornado(costs), "tornado")
        _sobol(view, costs)
    else:
        st.caption(f"The band holds eight of ten draws. {term('P10')} {term('P90')}")
        show_chart(cost_fan(study, ident), "cost-fan")


def _lines(view: View, costs: "CandidateCosts") -> None:
    n = view.figures
    ordered = sorted(costs.result.lines, key=lambda line: -abs(line.present_value_usd))
    plain = pd.DataFrame(
        [line.model_dump(exclude={"by_month_usd", "by_year_usd", "inputs", "overridden"}) for line in ordered]
    )
    shown = [
        {"line": x.label, "present value": n.money(x.present_value_usd), "nominal": n.money(x.total_usd),
         "formula": x.formula, "evidence": str(x.evidence), "date": x.date, "source": x.source}
        for x in ordered
    ]  # fmt: skip
    show_table(plain, "cost-lines", shown=pd.DataFrame(shown))


def _sobol(view: View, costs: "CandidateCosts") -> None:
    st.subheader("Shares of the variance (Sobol indices)")
    rows = [index.model_dump() for index in costs.sobol]
    if not rows:
        st.info("Nothing about this candidate's cost is uncertain.")
        return
    shown = [
        {k: view.figures.percent(v, 1) if isinstance(v, float) else v for k, v in row.items()} for row in rows[:15]
    ]
    show_table(pd.DataFrame(rows), "sobol", shown=pd.DataFrame(shown))


def _break_even(view: View, study: "CostStudy") -> None:
    from envelope.report.charts.cost_ranges import break_even
    from envelope.report.cost_page import BREAK_EVEN_NOTE, break_even_rows

    header, rows = break_even_rows(study)
    shown = pd.DataFrame(
        [[cells[0], *map(view.figures.localised, cells[1:])] for _, cells in rows], columns=list(header)
    )
    show_table(shown, "break-even-table")
    st.caption(BREAK_EVEN_NOTE)
    show_chart(break_even(study), "break-even")


def _ranges(study: "CostStudy") -> None:
    from envelope.report.charts.cost_ranges import cost_ranges

    show_chart(cost_ranges(study), "cost-ranges")
    names = {c.id: c.name for c in study.candidates}
    st.subheader("How likely the row is cheaper than the column")
    rows = [
        {"candidate": names[a], **{names[b]: frac for b, frac in others.items()}}
        for a, others in study.uncertainty.cheaper_frac.items()
    ]
    show_table(pd.DataFrame(rows), "cheaper")


def _what_if(view: View) -> None:
    """Draw a slider on one assumption and the costs of all candidates now and then."""
    from envelope.plan.cost.assumptions import with_assumption

    found = view.result(tasks.assumptions, view.scenario, label="Assumptions", affinity="costs")
    known: dict[str, Assumption] = {a.name: a for a in found}
    name = address.choice(
        "Assumption, those on which most money rests first", list(known), param="assumption",
        show=lambda i: f"{known[i].label} ({i})",
    )  # fmt: skip
    chosen = known[name]
    low, high = _span(chosen)
    value = address.number(
        f"{chosen.label} ({chosen.unit})", low, high, param=f"value-{name}", default=chosen.value, format="%.6g",
        help=f"{chosen.evidence}, {chosen.date}: {chosen.source}",
    )  # fmt: skip
    st.caption(escaped(f"Now {chosen.value:g} {chosen.unit}; range {chosen.low:g} to {chosen.high:g}. {chosen.source}"))
    now = view.comparison()
    then = now if value == chosen.value else view.comparison_of(with_assumption(view.scenario, chosen, value))
    _now_and_then(view, now, then)
    st.button(
        "Keep this value in the scenario", key="keep-value", disabled=value == chosen.value,
        on_click=_keep, args=(view, chosen, value),
    )  # fmt: skip


def _span(chosen: "Assumption") -> tuple[float, float]:
    """Return the ends of the slider: the assumption's own range, or half to double where it has none."""
    if chosen.low < chosen.high:
        return min(chosen.low, chosen.value), max(chosen.high, chosen.value)
    if chosen.value:
        return tuple(sorted((chosen.value / 2, chosen.value * 2)))  # type: ignore[return-value]
    return 0.0, 1.0


def _keep(view: View, chosen: "Assumption", value: float) -> None:
    from envelope.plan.cost.assumptions import assumption_path, moved

    edits.change(view.opened, assumption_path(chosen.name), moved(chosen, value))


def _now_and_then(view: View, now: "Comparison", then: "Comparison") -> None:
    from envelope.report.charts.cost import cost_by_heading

    n = view.figures
    names = {c.id: c.name for c in now.candidates}
    if then.recommended != now.recommended:
        st.warning(f"The recommendation changes to {escaped(names.get(then.recommended or '', 'none'))}.")
    rows: list[dict[str, Any]] = []
    for c in then.ordered:
        before = now.candidate(c.id)
        change = (c.cost_npv - before.cost_npv) if c.cost_npv is not None and before.cost_npv is not None else None
        rows.append(
            {"candidate": c.name, "fits": c.feasible, "now_usd": before.cost_npv, "then_usd": c.cost_npv,
             "change_usd": change}
        )  # fmt: skip
    shown = [
        {"candidate": r["candidate"], "fits": "✔" if r["fits"] else "✘", "now": n.money(r["now_usd"]),
         "then": n.money(r["then_usd"]), "change": n.money(r["change_usd"])}
        for r in rows
    ]  # fmt: skip
    show_table(pd.DataFrame(rows), "what-if", shown=pd.DataFrame(shown))
    if any(c.lines for c in then.candidates):
        show_chart(cost_by_heading(then), "what-if-cost")

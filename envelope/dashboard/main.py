"""The dashboard's page: verdict and cost of a chosen scenario."""

from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from envelope.errors import InputError
from envelope.plan.compare import compare
from envelope.plan.results import CandidateResult, Comparison
from envelope.plan.scenarios import list_scenarios, load_scenario
from envelope.report import text

# Okabe and Ito's palette (Color Universal Design, 2008) stays distinct for colour-blind readers.
_PALETTE = [
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#999999",
    "#332288",
    "#AA4499",
]


def main() -> None:
    """Draw the page."""
    st.set_page_config(page_title="envelope", page_icon="🧭", layout="wide")
    st.title("🧭 Which bench fits?")
    try:
        chosen = _choose()
        result = _result(str(chosen), chosen.stat().st_mtime_ns)
    except InputError as error:
        for problem in error.problems:
            st.error(str(problem))
        return
    _question(result)
    _verdict_table(result)
    _cost_chart(result)
    _constraints(result)
    with st.expander("The scenario file"):
        st.code(chosen.read_text(encoding="utf-8"), language="yaml")


def _choose() -> Path:
    found = {scenario.name: path for scenario, path in list_scenarios()}
    names = sorted(found, key=lambda name: (found[name].stem != "coding-assistant", name))
    return found[st.sidebar.selectbox("Scenario", names)]


@st.cache_data(show_spinner=False)
def _result(path: str, _stamp: int) -> Comparison:
    bar = st.progress(0.0, "Starting")
    result = compare(load_scenario(path), progress=lambda share, what: bar.progress(min(share, 1.0), what))
    bar.empty()
    return result


def _question(result: Comparison) -> None:
    st.subheader(result.question)
    if result.recommended is None:
        st.error("No candidate fits. The smallest changes found stand beside each broken constraint.")
        return
    best = result.candidate(result.recommended)
    st.success(f"**{best.name}**")
    for column, (label, value, help_text) in zip(st.columns(4), _figures(result, best), strict=True):
        column.metric(label, value, help=help_text)
    st.markdown("\n".join(f"- {reason}" for reason in result.reasons))
    if result.runner_up:
        other = result.candidate(result.runner_up)
        st.markdown(f"Runner-up: **{other.name}** at {_dollars(other.cost_npv)}.")


def _figures(result: Comparison, best: CandidateResult) -> list[tuple[str, str, str]]:
    years = f"{result.horizon_years:g} years"
    return [
        (f"Cost over {years}", text.money(best.cost_npv), "Present value (NPV) of all payments, a positive cost."),
        (
            "SLO met",
            text.percent(best.slo_attainment_frac, 1),
            "Share of the busiest hour's requests within their SLO.",
        ),
        ("Per request", text.money(best.usd_per_request), "Present value divided by the requests of the horizon."),
        ("Left the building", f"{text.count(best.requests_left_per_year)}/year", "Requests sent to a hosted API."),
    ]


def _dollars(usd: float | None) -> str:
    # Streamlit's Markdown would read two dollar signs as mathematics.
    return text.money(usd).replace("$", r"\$")


def _verdict_table(result: Comparison) -> None:
    rows: list[dict[str, Any]] = [
        {
            "fits": "✔" if c.feasible else "✘",
            "candidate": c.name,
            "served": text.percent(c.service.served_frac) if c.service else "–",
            "SLO met": text.percent(c.slo_attainment_frac, 1),
            "TTFT p95": text.seconds(c.service.ttft.p95_s) if c.service and c.service.ttft else "–",
            "ITL mean": text.seconds(c.service.itl.mean_s) if c.service and c.service.itl else "–",
            "tasks solved": text.percent(c.solved_frac),
            "cost (NPV)": text.money(c.cost_npv) + (" ⚠" if c.cost_warning else ""),
            "requests that left": f"{text.count(c.requests_left_per_year)}/year",
            "evidence": str(c.evidence),
        }
        for c in sorted(result.candidates, key=lambda c: (not c.feasible, c.cost_npv or float("inf")))
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, width="stretch")
    for c in result.candidates:
        if c.cost_warning:
            st.caption(f"⚠ {c.name}: {c.cost_warning}")


def _cost_chart(result: Comparison) -> None:
    st.markdown("**Cost by heading (present value)**")
    rows = [
        {"candidate": c.name, "heading": line.group.replace("_", " "), "line": line.label, "usd": line.npv_usd}
        for c in result.candidates
        for line in c.lines
        if line.npv_usd > 0
    ]
    if not rows:
        st.info("No candidate could be priced.")
        return
    chart = (
        alt.Chart(pd.DataFrame(rows), description="Present value of each candidate's cost by heading")
        .mark_bar()
        .encode(
            x=alt.X("sum(usd):Q", title="US dollars, present value", axis=alt.Axis(format="$~s")),
            y=alt.Y("candidate:N", title=None, sort="x", axis=alt.Axis(labelLimit=320)),
            color=alt.Color(
                "heading:N", title=None, scale=alt.Scale(range=_PALETTE), legend=alt.Legend(orient="bottom", columns=6)
            ),
            tooltip=["candidate", "heading", alt.Tooltip("sum(usd):Q", title="present value", format="$,.0f")],
        )
    )
    st.altair_chart(chart, width="stretch")
    with st.expander("Line by line"):
        table = pd.DataFrame(rows).pivot_table(
            index=["heading", "line"], columns="candidate", values="usd", aggfunc="sum"
        )
        st.dataframe(table.map(text.money, na_action="ignore"), width="stretch")


def _constraints(result: Comparison) -> None:
    st.markdown("**Constraints**")
    for c in result.candidates:
        with st.expander(f"{'✔' if c.feasible else '✘'} {c.name}", expanded=False):
            for rule in c.constraints:
                fix = f" → {rule.fix}" if rule.fix else ""
                st.markdown(f"{'✔' if rule.satisfied else '✘'} {rule.explanation}{fix}".replace("$", r"\$"))

"""Faults: what happens when a node dies at the peak – timeline, spill, waits and refusals."""

from functools import partial
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from envelope.dashboard import address, tasks_detail
from envelope.dashboard.downloads import page_downloads, scenario_argument, show_table
from envelope.dashboard.figures import escaped
from envelope.dashboard.service_figures import chosen_candidate, show_counts, show_service, show_timelines
from envelope.dashboard.tabs import show_tabs
from envelope.dashboard.view import View

if TYPE_CHECKING:
    from envelope.plan.service.run_result import ServiceRun

_HORIZONS = {"hour": "the busiest hour", "day": "the busiest day"}


def page(view: View) -> None:
    """Draw the page."""
    st.title("What if a node dies at the peak?")
    if not any(c.pools for c in view.scenario.candidates):
        st.info("No candidate of this scenario has machines of its own that could fail.")
        return
    left, right = st.columns([3, 2])
    with left:
        ident = chosen_candidate(view, local=True)
    horizon = address.choice("Simulate", list(_HORIZONS), param="horizon", show=lambda h: _HORIZONS[h], place=right)
    jobs = [
        view.job(
            tasks_detail.service_run, view.scenario, ident, horizon=horizon, fails=fails,
            label="With the failure" if fails else "Without it", affinity=ident,
        )
        for fails in (True, False)
    ]  # fmt: skip
    run, calm = view.wait(jobs)
    if not run.ran:
        st.error("\n\n".join(escaped(reason) for reason in run.reasons))
        return
    st.markdown(
        f"**One node fails in the middle of {_HORIZONS[horizon]}; changes are in points against {_HORIZONS[horizon]} "
        "without.** It is simulated until the node is back and the queue gone, so that the two count different "
        "numbers of requests."
    )
    show_service(view, run, calm)
    _verdict(view, run)
    show_tabs(
        {
            "Refused, waiting, spilled": partial(_counts, view, run, calm),
            "Timelines": partial(show_timelines, run),
            "Events": partial(_events, view, run),
        }
    )
    more = f" --horizon {horizon} --fail-node-at peak"
    page_downloads(view, f"envelope simulate {scenario_argument(view)} {ident}{more}")


def _verdict(view: View, run: "ServiceRun") -> None:
    n = view.figures
    limit = n.percent(run.slo_limit_frac, 1)
    if run.keeps_slo:
        st.success(f"The SLO is kept through the failure: at least {limit} of the requests.")
    else:
        st.warning(f"The failure breaks the SLO: {n.percent(run.slo_attainment.mean, 1)} keep it, {limit} must.")


def _counts(view: View, run: "ServiceRun", calm: "ServiceRun") -> None:
    show_counts(view, run, calm)
    st.caption(escaped(view.figures.localised(_left_text(run, calm))))


def _left_text(run: "ServiceRun", calm: "ServiceRun") -> str:
    return (
        f"Left the building: {run.left.requests:,} requests, {calm.left.requests:,} without the failure; "
        f"private ones among them: {run.left.private:,}."
    )


def _events(view: View, run: "ServiceRun") -> None:
    rows = [
        {"minute": e.time_s / 60, "event": e.kind, "replica": e.replica, "in_service": e.running} for e in run.faults
    ]
    shown = [
        {
            "after": view.figures.seconds(e.time_s), "event": e.kind,
            "replica": "all" if e.replica is None else str(e.replica + 1), "replicas in service": e.running,
        }
        for e in run.faults
    ]  # fmt: skip
    show_table(pd.DataFrame(rows), "events", shown=pd.DataFrame(shown))

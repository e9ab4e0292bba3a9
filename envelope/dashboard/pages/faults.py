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
    run = view.result(
        tasks_detail.service_run, view.scenario, ident, horizon=horizon, fails=True,
        label="With and without the failure", affinity=ident,
    )  # fmt: skip
    if not run.ran:
        st.error("\n\n".join(escaped(reason) for reason in run.reasons))
        return
    calm = run.without_failure or run
    st.markdown(
        f"**One node fails in the middle of {_HORIZONS[horizon]}; changes are in points against the same requests "
        "without.** Both are simulated until the queue is gone; what is answered after more than an hour (or its SLO, "
        "if longer) does not count as served."
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
    if run.keeps_service:
        st.success(f"The service is kept through the failure: at least {limit} of the requests keep their SLO.")
    else:
        st.warning(
            f"The failure breaks the service: {n.percent(run.slo_attainment.mean, 1)} keep their SLO ({limit} must), "
            f"{n.percent(run.overall.served_frac, 1)} are served ({n.percent(run.served_limit_frac, 1)} must)."
        )


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

"""Latency: distributions, timelines and bottlenecks of one candidate under load, and where the service breaks."""

from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from envelope.dashboard import address, tasks_detail
from envelope.dashboard.downloads import page_downloads, scenario_argument, show_chart
from envelope.dashboard.figures import escaped
from envelope.dashboard.service_figures import chosen_candidate, show_service, show_timelines
from envelope.dashboard.tabs import show_tabs
from envelope.dashboard.view import View

if TYPE_CHECKING:
    from envelope.plan.service.run_result import ServiceRun

_HORIZONS = {"hour": "the busiest hour", "day": "the busiest day", "week": "the whole week"}


def page(view: View) -> None:
    """Draw the page."""
    st.title("How fast is it under load?")
    left, middle, right = st.columns([3, 2, 2])
    with left:
        ident = chosen_candidate(view)
    with middle:
        load = address.number("Load, times the plan", 0.25, 8.0, param="load", default=1.0, step=0.25, format="%g")
    horizon = address.choice("Simulate", list(_HORIZONS), param="horizon", show=lambda h: _HORIZONS[h], place=right)
    run = view.result(
        tasks_detail.service_run, view.scenario, ident, load=load, horizon=horizon, label="Simulation", affinity=ident
    )
    if not run.ran:
        st.error("\n\n".join(escaped(reason) for reason in run.reasons))
        return
    show_service(view, run)
    show_tabs(
        {
            "Latency": partial(_distributions, view, run),
            "Timelines": partial(show_timelines, run),
            "Bottlenecks": partial(_bottlenecks, view, run),
            "Until it breaks": partial(_sweep, view, ident),
            "Latency and cost": partial(_pareto, view),
        }
    )
    more = f" --load {load:g}" if load != 1 else ""
    page_downloads(view, f"envelope simulate {scenario_argument(view)} {ident} --horizon {horizon}{more}")


def _distributions(view: View, run: "ServiceRun") -> None:
    from envelope.report.charts.serving import LATENCIES, latency_cdf

    curves = {"all requests": run.overall.curves, **{c.id: c.curves for c in run.classes if c.offered}}
    for latency in ("ttft", "itl", "e2e"):
        title = LATENCIES[latency]
        st.markdown(f"**{title[0].upper()}{title[1:]}**")
        show_chart(latency_cdf(curves, latency, limit_s=_limit_s(view, latency)), f"cdf-{latency}")


def _limit_s(view: View, latency: str) -> float | None:
    """Return the limit that every task class has; ``None`` where classes have none or different ones."""
    # Gaps between tokens have no limit of their own: the SLO limits their mean over a request.
    found = {getattr(task.slo, f"{latency}_s", None) for task in view.scenario.workload.tasks}
    return found.pop() if len(found) == 1 else None


def _bottlenecks(view: View, run: "ServiceRun") -> None:
    from envelope.report.charts.serving import bottleneck_shares, queue_reasons

    st.markdown(escaped(view.figures.localised(run.bottleneck.text)))
    show_chart(bottleneck_shares({run.name: run.bottleneck}), "bottlenecks")
    waits = (run.bottleneck.queue_for_kv_frac, run.bottleneck.queue_for_seqs_frac, run.bottleneck.queue_for_tokens_frac)
    if any(waits):
        st.markdown("**What a queue waits for**")
        show_chart(queue_reasons({run.name: run.bottleneck}), "queue-reasons")
    else:
        st.caption("No request had to queue inside a replica.")


def _sweep(view: View, ident: str) -> None:
    from envelope.report.charts.load import load_latency, load_sweep

    found = view.background(
        tasks_detail.sweep, view.scenario, ident, label="Load sweep", start="Raise the load until it breaks",
        key="sweep", affinity=ident,
    )  # fmt: skip
    if found is None:
        st.caption("Simulates the busiest hour at multiples of the planned load, up to where the SLO is missed.")
        return
    n = view.figures
    kept = "not even a quarter of the plan" if found.keeps_up_to is None else f"{found.keeps_up_to:.3g} times the plan"
    breaks = "not within 64 times" if found.breaks_at is None else f"at {found.breaks_at:.3g} times"
    st.markdown(n.localised(f"Keeps the service level up to **{kept}**; breaks {breaks}."))
    show_chart(load_sweep(found), "load-sweep")
    show_chart(load_latency(found, "ttft", limit_s=_limit_s(view, "ttft")), "load-ttft")


def _pareto(view: View) -> None:
    from envelope.plan.verdict.latency_cost import undominated
    from envelope.report.charts.load import latency_against_cost

    result = view.comparison()
    best = undominated(result)
    names = ", ".join(result.candidate(ident).name for ident in best)
    st.markdown(escaped(f"No candidate that fits is both cheaper and faster than: {names or 'none fits'}."))
    show_chart(latency_against_cost(result, best), "latency-cost")

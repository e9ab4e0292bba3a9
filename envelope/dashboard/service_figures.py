"""What the pages about the service show alike: the candidate, its key figures, its timelines, what was refused."""

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from envelope.dashboard import address
from envelope.dashboard.downloads import show_chart, show_table
from envelope.dashboard.figures import escaped
from envelope.dashboard.terms import help_of, term
from envelope.dashboard.view import View

if TYPE_CHECKING:
    from envelope.plan.service.run_result import ServiceRun

_TITLES = {
    "queue": "Requests that wait inside", "running": "Requests in the batches", "kv_used_frac": "KV cache in use",
    "power_w": "Power of the local devices, watts", "hosted_frac": "Share answered by the hosted API",
    "replicas": "Replicas in service",
}  # fmt: skip


def chosen_candidate(view: View, *, local: bool = False) -> str:
    """Draw the choice of a candidate and return its id; ``local`` leaves out those without devices."""
    names = {c.id: c.name for c in view.scenario.candidates if c.pools or not local}
    return address.choice(
        "Candidate", list(names), param="candidate", default=with_servers(view), show=lambda ident: names[ident]
    )


def with_servers(view: View) -> str | None:
    """Return the first candidate that runs on servers rather than on each seat, else on anything local."""
    local = [c for c in view.scenario.candidates if c.pools]
    found = next((c for c in local if all(pool.role != "seat" for pool in c.pools)), local[0] if local else None)
    return found.id if found else None


def show_service(view: View, run: "ServiceRun", beside: "ServiceRun | None" = None) -> None:
    """Draw the key figures of a run; with ``beside`` their difference to that run's."""
    from envelope.plan.service.run_result import RunClass

    n, columns = view.figures, st.columns(4)
    met, served = run.slo_attainment.mean, run.overall.served_frac
    columns[0].metric(
        "SLO met", n.percent(met, 1), _points(view, met, beside.slo_attainment.mean if beside else None),
        help=term("SLO"),
    )  # fmt: skip
    ttft, itl = run.overall.ttft_s, run.overall.itl_s
    columns[1].metric("TTFT p95", n.seconds(ttft.p95 if ttft else None), help=term("TTFT"))
    columns[2].metric("ITL mean", n.seconds(itl.mean if itl else None), help=term("ITL"))
    columns[3].metric(
        "Served", n.percent(served, 1), _points(view, served, beside.overall.served_frac if beside else None),
        help=help_of(RunClass, "hosted_frac"),
    )  # fmt: skip
    st.caption(escaped(n.localised(_basis(run))))


def _points(view: View, value: float, other: float | None) -> str | None:
    """Return what a failure takes away; a difference upwards is chance, since a failure mends nothing."""
    if other is None or value > other - 0.0005:
        return None
    return view.figures.localised(f"{100 * (value - other):+.1f} points")


def _basis(run: "ServiceRun") -> str:
    seeds = f"{len(run.seeds)} seeds" if len(run.seeds) > 1 else "one seed"
    text = f"{run.period[0].upper()}{run.period[1:]}: {run.overall.offered:,} requests, {seeds}"
    return "; ".join([text, *run.notes])


def show_timelines(run: "ServiceRun") -> None:
    """Draw queue, batch, cache, power, hosted share and replicas over time, with every event marked."""
    from envelope.report.charts.serving import QUANTITIES, timeline

    for quantity in QUANTITIES:
        if any(getattr(run.timeline, quantity)):
            st.markdown(f"**{_TITLES[quantity]}**")
            show_chart(timeline(run, quantity), f"timeline-{quantity}")


def show_counts(view: View, run: "ServiceRun", beside: "ServiceRun | None" = None) -> None:
    """Draw what happened to requests: refusals, waits, spills, restarts; ``beside`` is the run without failure."""
    before = {c.id: c for c in beside.overall.counts} if beside else {}
    found = {c.id: c for c in run.overall.counts}
    rows: list[dict[str, Any]] = [
        {
            "what": (found.get(ident) or before[ident]).text,
            "requests": found[ident].requests if ident in found else 0,
            "share": found[ident].frac if ident in found else 0.0,
            "without": before[ident].requests if ident in before else 0,
            "share_without": before[ident].frac if ident in before else 0.0,
        }
        for ident in dict.fromkeys([*found, *before])
    ]
    if not rows:
        st.caption("Nothing was refused, spilled, preempted or started again.")
        return
    n = view.figures
    shown = [
        {"what": r["what"], "requests": n.count(r["requests"]), "share": n.percent(r["share"], 1),
         "share without the failure": n.percent(r["share_without"], 1)}
        for r in rows
    ]  # fmt: skip
    show_table(pd.DataFrame(rows), "counts", shown=pd.DataFrame(shown))

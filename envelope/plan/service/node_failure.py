"""What the failure of one node means: how long its replicas are away, and how many requests come late by it."""

from dataclasses import replace

import numpy as np

from envelope.money.drivers import DEVICES_PER_NODE
from envelope.plan.case.case import Case
from envelope.plan.service.busiest import Peak
from envelope.plan.service.downtime import capacity_used_frac, default_faults
from envelope.provenance import Frozen


class NodeFailure(Frozen):
    """One node lost in the busiest hour, until its replicas serve again."""

    replicas_lost: int
    replicas: int
    """Of the pool that loses the largest share."""
    hours: float
    """Until the repair, or until a spare has loaded the model."""
    late_requests: float
    """Requests of these hours for which the rest has no capacity: they wait for it, or are lost."""
    requests: float
    """All requests of these hours."""
    text: str


def node_failure(case: Case, peak: Peak) -> NodeFailure | None:
    """Return what the failure of one node means in the first year; ``None`` without servers.

    The work of each hour in units of one replica's capacity, as for downtime; what exceeds the rest's is late. A
    candidate that sends out what it cannot take loses only what must stay inside.
    """
    pools = [p for p, pool in enumerate(case.candidate.pools) if pool.role != "seat"]
    if not pools:
        return None
    position = max(pools, key=lambda p: replicas_on_node(case, p) / case.candidate.pools[p].replicas)
    pool, lost = case.candidate.pools[position], replicas_on_node(case, position)
    faults = replace(peak.fleet.faults or default_faults(), spares=case.operations.spares)
    covered = position == 0 and faults.spares >= lost
    hours = (faults.reload_s if covered else faults.repair_s + faults.reload_s) / 3600.0
    used = capacity_used_frac(position, case, peak.result)
    late, requests = _late(case, hours, used * pool.replicas, pool.replicas - lost)
    return NodeFailure(
        replicas_lost=lost, replicas=pool.replicas, hours=hours, late_requests=late, requests=requests,
        text=_text(lost, pool.replicas, hours, late, requests, covered=covered),
    )  # fmt: skip


def replicas_on_node(case: Case, position: int) -> int:
    """Return the replicas of a pool that stand on one node."""
    pool = case.candidate.pools[position]
    if pool.role == "seat":
        return 1
    share = next(s for s in case.shares if position in s.positions)
    devices = share.server.device_count if share.server else DEVICES_PER_NODE
    return min(max(round(devices // pool.parallelism.devices), 1), pool.replicas)


def _late(case: Case, hours: float, busiest_load: float, up: int) -> tuple[float, float]:
    """Return late and all requests of so many hours from the busiest one; loads in units of one replica."""
    work = case.scenario.workload
    weights = np.array(work.hour_weights)
    shares = np.full(int(np.ceil(hours)), 1.0)
    shares[-1] = hours - np.floor(hours) or 1.0
    order = (work.peak_hour + np.arange(len(shares))) % len(weights)
    requests = work.daily_requests / 24.0 * weights[order] * shares
    loads = busiest_load * weights[order] / weights.max()
    missing = np.divide(np.maximum(loads - up, 0.0), loads, out=np.zeros_like(loads), where=loads > 0)
    stays = _stays_frac(case)
    # What is sent out makes room for what must stay.
    late = np.maximum(missing - (1.0 - stays), 0.0) if up else np.full_like(missing, stays)
    return float((requests * late).sum()), float(requests.sum())


def _stays_frac(case: Case) -> float:
    """Return the share of the requests that cannot be sent out when the machines lack room."""
    if case.hosted is None or case.candidate.route.policy == "local_only":
        return 1.0
    return case.private_frac if case.scenario.constraints.private_stays else 0.0


def _text(lost: int, replicas: int, hours: float, late: float, requests: float, *, covered: bool) -> str:
    until = f"{hours * 60:.0f} minutes" if hours < 1.5 else f"{hours:.0f} hours"
    how = "until a spare has taken over" if covered else "until it is repaired"
    what = "all replicas" if lost >= replicas else f"{lost} of {replicas} replicas"
    if late < 0.5:
        return f"a node that fails takes {what} away for {until} {how}; the rest carries the load"
    return (
        f"a node that fails in the busiest hour takes {what} away for {until} {how}: "
        f"{late:,.0f} of the {requests:,.0f} requests of these hours come late or not at all"
    )

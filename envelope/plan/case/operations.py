"""From the operations of a scenario to what the simulation runs: faults, schedules, scaling, the hosted API's fate."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date as Date

from envelope.perf.params import weight_bytes
from envelope.perf.replica import ReplicaSpec
from envelope.serving.fleet import Autoscale, Faults, Fleet, HostedConfig, Schedule
from envelope.spec.economic_facts import facts
from envelope.spec.operations import WEEK_S, WEEKDAYS, Operations
from envelope.spec.scenario import Candidate, Scenario
from envelope.units import GB, HOURS_PER_YEAR, SECONDS_PER_DAY

_HOUR_S = 3600.0
_ENGINE_START_S = 30.0
"""Start of the engine process besides loading weights, where the storage's rate is measured: an own assumption."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the simulated time lies."""

    start_s: float
    """Seconds since Monday 00:00."""
    span_s: float
    year: int = 0


def startup_s(operations: Operations, replica: ReplicaSpec) -> float:
    """Return the time from switching a replica on until it serves.

    That given; else its weights at the measured cold read of its storage and the start of the engine; else at the
    catalog's rate, which holds the engine's start.
    """
    if operations.startup_s is not None:
        return operations.startup_s
    weights = sum(weight_bytes(replica.model, replica.weights or "native", replica.formats).values())
    storage = replica.hardware.storage
    if storage is not None:
        return _ENGINE_START_S + weights / storage.cold_read_bytes_per_s
    return weights / (facts().defaults["cold_start_rate"].value * GB)


def faults_of(operations: Operations, replica: ReplicaSpec, *, on_seats: bool, clock: Clock) -> Faults | None:
    """Return what breaks and is maintained, with the catalog's values where the scenario gives none.

    ``None`` if nothing does. A replica that starts again, on its own machine or on a spare, loads its model first.
    """
    rules, upkeep, known = operations.fault_rules, operations.maintenance, facts().defaults
    if rules is None:
        return None
    usual = HOURS_PER_YEAR / known["laptop_failure"].value if on_seats else known["mtbf_gpu_all_causes"].value
    soft = 0.0 if on_seats else known["soft_failure_share"].value
    return Faults(
        device_mtbf_s=(rules.device_mtbf_hours or usual) * _HOUR_S,
        node_mtbf_s=(rules.node_mtbf_hours or math.inf) * _HOUR_S,
        restart_frac=soft if rules.restart_frac is None else rules.restart_frac,
        repair_s=(rules.repair_hours or known["repair_time_vendor"].value) * _HOUR_S,
        reload_s=startup_s(operations, replica),
        spares=operations.spares,
        power_cuts_per_year=rules.power_cuts_per_year,
        power_cut_s=rules.power_cut_hours * _HOUR_S,
        maintenance_every_s=upkeep.every_weeks * WEEK_S if upkeep and not on_seats else math.inf,
        maintenance_s=upkeep.minutes_per_replica * 60.0 if upkeep else 0.0,
        maintenance_at_s=() if on_seats else tuple(_maintenance_s(operations, clock)),
    )


def _maintenance_s(operations: Operations, clock: Clock) -> Iterator[float]:
    """Yield the times in the simulated span at which a round of maintenance begins."""
    rule = operations.maintenance
    if rule is None:
        return
    at = WEEKDAYS.index(rule.weekday) * SECONDS_PER_DAY + rule.start_hour * _HOUR_S - clock.start_s
    at %= WEEK_S
    while at < clock.span_s:
        yield at
        at += rule.every_weeks * WEEK_S


def schedule_of(operations: Operations, replica: ReplicaSpec, clock: Clock) -> Schedule | None:
    """Return the closed times in the simulated span and, so that what waits is served, in the two days after it."""
    rule = operations.schedule
    if rule is None:
        return None
    closed = []
    for week in range(-1, math.ceil(clock.span_s / WEEK_S) + 1):
        for begin, end in rule.closed_s():
            start, stop = (t + week * WEEK_S - clock.start_s for t in (begin, end))
            if stop > 0 and start < clock.span_s:
                closed.append((max(start, 0.0), stop))
    joined = _joined(closed)
    return Schedule(closed_s=joined, kept_replicas=rule.keep_replicas, startup_s=startup_s(operations, replica))


def _joined(spans: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Return sorted spans with those that touch made one (Sunday's night and Monday's morning)."""
    found: list[tuple[float, float]] = []
    for begin, end in spans:
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], end)
        else:
            found.append((begin, end))
    return tuple(found)


def autoscale_of(operations: Operations, replica: ReplicaSpec, most: int) -> Autoscale | None:
    """Return the rule by which replicas of the first pool, which has ``most``, start and stop."""
    rule = operations.autoscale
    if rule is None:
        return None
    return Autoscale(
        min_replicas=min(rule.min_replicas, most),
        scale_up_outstanding=rule.up_at_requests,
        scale_down_outstanding=rule.down_at_requests,
        every_s=rule.check_every_s,
        startup_s=startup_s(operations, replica),
    )


def operated(
    fleet: Fleet, scenario: Scenario, candidate: Candidate, replica: ReplicaSpec | None, clock: Clock, share: float
) -> Fleet:
    """Return a fleet with the operations of its candidate.

    ``replica`` is one of the first pool; ``share`` is the part of the fleet that is simulated. Devices of seats fail
    and are exchanged, but are neither switched off nor maintained by the company's schedule.
    """
    operations = scenario.operations_of(candidate)
    fleet = replace(fleet, hosted=hosted_of(fleet.hosted, operations, scenario, clock))
    if replica is None:
        return fleet
    on_seats = fleet.router.balance == "per_seat"
    faults = faults_of(operations, replica, on_seats=on_seats, clock=clock)
    return replace(
        fleet,
        faults=faults and replace(faults, spares=_spares(faults.spares, share)),
        schedule=None if on_seats else schedule_of(operations, replica, clock),
        autoscale=None if on_seats else autoscale_of(operations, replica, fleet.pools[0].replicas),
    )


def _spares(spares: int, share: float) -> int:
    """Return the spares of a simulated share of a fleet: at least one if there are any."""
    return max(1, round(spares * share)) if spares else 0


def hosted_of(
    hosted: HostedConfig | None, operations: Operations, scenario: Scenario, clock: Clock
) -> HostedConfig | None:
    """Return the hosted API with its outages and, if it falls before the end of the simulated time, its retirement."""
    if hosted is None:
        return None
    rules = operations.hosted
    left = None if rules.retired_on is None else _seconds_until(rules.retired_on, scenario.economics.start, clock.year)
    return replace(
        hosted,
        availability_frac=hosted.availability_frac if rules.outages else 1.0,
        outage_mean_s=rules.outage_minutes * 60.0,
        max_concurrent=rules.concurrent or hosted.max_concurrent,
        retired_after_s=left if left is not None and left < clock.span_s else None,
    )


def _seconds_until(day: str, start: str, year: int) -> float:
    """Return the time from the simulated week, the first of its year of service, to a day; 0 if it has passed."""
    first, month, *_ = (*start.split("-"), "1")
    begin = Date(int(first) + year, int(month), 1)
    return max((Date.fromisoformat(day) - begin).days * SECONDS_PER_DAY, 0.0)


def scalable(scenario: Scenario, candidate: Candidate) -> Candidate:
    """Return a candidate whose first pool has all the replicas that autoscaling may start."""
    rule = scenario.operations_of(candidate).autoscale
    if rule is None or rule.max_replicas is None or not candidate.pools:
        return candidate
    first = candidate.pools[0]
    if first.role == "seat" or first.replicas >= rule.max_replicas:
        return candidate
    pools = (first.changed(replicas=rule.max_replicas), *candidate.pools[1:])
    return candidate.changed(pools=pools)


def running_fracs(scenario: Scenario, candidate: Candidate, simulated_frac: float) -> tuple[float, ...]:
    """Return the share of the year's hours in which each pool's machines are switched on.

    A schedule alone says it: the open hours, and the closed ones for the replicas that are kept. With autoscaling
    ``simulated_frac`` is that of all replicas in a simulated week; pools after the first do not scale.
    """
    operations, pools = scenario.operations_of(candidate), candidate.pools
    if any(pool.role == "seat" for pool in pools):
        return (1.0,) * len(pools)
    rule = operations.schedule
    open_frac = rule.open_frac if rule else 1.0
    kept = rule.keep_replicas if rule else 0
    always = tuple(open_frac + (1.0 - open_frac) * min(kept / pool.replicas, 1.0) for pool in pools)
    if operations.autoscale is None or not pools:
        return always
    count = [pool.replicas * pool.parallelism.dp for pool in pools]
    others = sum(n * frac for n, frac in zip(count[1:], always[1:], strict=True))
    first = (simulated_frac * sum(count) - others) / count[0]
    return (min(max(first, 0.0), always[0]), *always[1:])

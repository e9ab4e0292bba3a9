"""One candidate under load: the busiest hour, a day or a week, with what-ifs, and the load at which it breaks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from envelope.errors import InputError, Problem
from envelope.plan.case.fleet import Bench, build_fleet, resolve_bench
from envelope.plan.case.scenarios import chosen_candidates
from envelope.plan.case.usage import shares
from envelope.plan.cost.capacity import at_demand
from envelope.plan.service.level import Peak, simulated
from envelope.plan.service.period import Horizon, Period, period_of
from envelope.plan.service.prepare import prepare_for
from envelope.plan.service.run_result import Energy, Left, LoadPoint, LoadSweep, RunTimeline, ServiceRun
from envelope.plan.service.run_summary import cost_drivers, empty_class, energy, left_building, run_class, timeline
from envelope.serving.fleet import Faults, Fleet, Strike
from envelope.serving.result import NOTHING_RAN, HostedUsage, Interval
from envelope.spec.load import Reporter
from envelope.spec.scenario import Candidate, Scenario

_REPAIR_S = 4 * 3600.0
_PLANNED = (0.25, 0.5, 1.0)
_SWEEP_RUNS = 10
"""Simulations of a sweep, about."""
_HIGHEST = 64.0
_HALVINGS = 3
_NODE_DEVICES = 8
"""Devices of a node where the candidate names no server."""


def simulate(
    scenario: Scenario,
    candidate_id: str,
    *,
    seeds: int | None = None,
    horizon: Horizon | None = None,
    hours: float | None = None,
    load: float = 1.0,
    year: int = 0,
    fail_node_at: float | Literal["peak"] | None = None,
    table: Path | None = None,
    progress: Reporter | None = None,
) -> ServiceRun:
    """Return what the users of one candidate experience, with everything that happened to the fleet.

    Simulated is the busiest hour, or a week if the candidate's operations take one, unless ``horizon`` names another
    part of the week; ``hours`` counts from its start (by default that of the busiest hour), and the load follows the
    curve. ``load`` multiplies the work, ``year`` applies its growth. ``fail_node_at`` takes one node down so many
    seconds after the start, or in the middle of the busiest hour (``peak``). ``table`` gets one row per request of
    the first seed.

    A candidate that cannot run at all is a result with ``reasons``. Raises ``InputError`` for an unknown candidate
    and for numbers out of range.
    """
    _check(scenario, load=load, hours=hours, year=year)
    candidate = chosen_candidates(scenario, [candidate_id])[0]
    work = at_demand(scenario, load) if load != 1.0 else scenario
    bench = resolve_bench(work, candidate)
    if not bench.runs:
        return _not_run(work, candidate, bench, load)
    tell = progress or _silent
    prepare_for(work, [candidate], runs=_runs(seeds or work.simulation.seeds, horizon, hours), tell=partial(tell, 0.0))
    whole = fail_node_at is not None and bool(candidate.pools)
    period = period_of(work, bench, horizon=horizon, hours=hours, year=year, whole=whole)
    fleet = build_fleet(work, bench, period.share, period.clock)
    if fail_node_at is not None and fleet.pools:
        fleet = _struck(fleet, bench, _seconds_of(fail_node_at, work, period))
    peak = simulated(
        work, bench, period, seeds=seeds or work.simulation.seeds, fleet=fleet, table=table, report=progress
    )
    return _run(work, bench, peak, period, load)


def load_sweep(
    scenario: Scenario,
    candidate_id: str,
    factors: Sequence[float] | None = None,
    *,
    seeds: int | None = None,
    progress: Reporter | None = None,
) -> LoadSweep:
    """Return latency against load, by multiples of the planned work in the busiest hour.

    Without ``factors`` the plan, its half and its quarter are simulated; if all keep the service level, the load is
    doubled until it breaks (at most 64 times the plan), and the step in which it breaks is halved three times in
    ratio. Given factors are simulated in order up to the first at which it breaks.
    """
    tell = progress or _silent
    candidate = chosen_candidates(scenario, [candidate_id])[0]
    bench = resolve_bench(scenario, candidate)
    limit = scenario.constraints.slo_attainment_min_frac
    empty = LoadSweep(
        scenario=scenario.id, candidate=candidate.id, name=candidate.name, points=(), keeps_up_to=None, breaks_at=None,
        slo_limit_frac=limit,
    )  # fmt: skip
    if not bench.runs:
        return empty.model_copy(update={"reasons": tuple(str(reason) for reason in bench.reasons)})
    points: list[LoadPoint] = []
    prepare_for(scenario, [candidate], runs=_SWEEP_RUNS * (seeds or 1), tell=partial(tell, 0.0))

    def keeps(factor: float) -> bool:
        tell(min(len(points) / 12, 0.95), f"{factor:.3g} × the load")
        points.append(_point(scenario, candidate, factor, seeds or 1))
        return points[-1].keeps

    if factors is not None:
        for factor in sorted(factors):
            if not keeps(factor):
                break
    else:
        _search(keeps)
    tell(1.0, "done")
    points.sort(key=lambda point: point.factor)
    broken = next((point.factor for point in points if not point.keeps), None)
    kept = [point.factor for point in points if point.keeps and (broken is None or point.factor < broken)]
    return empty.model_copy(
        update={"points": tuple(points), "keeps_up_to": max(kept, default=None), "breaks_at": broken}
    )


def _runs(seeds: int, horizon: Horizon | None, hours: float | None) -> int:
    """Return how many busiest hours the simulation is worth."""
    span_h = hours or {"day": 24.0, "week": 168.0}.get(horizon or "hour", 1.0)
    return math.ceil(seeds * span_h)


def _silent(_share: float, _what: str) -> None:
    return None


def _check(scenario: Scenario, *, load: float, hours: float | None, year: int) -> None:
    years = -(-scenario.economics.horizon_months // 12)
    rules = [
        ("load", load, 0 < load <= 1000, "must be above 0 and at most 1000"),
        ("hours", hours, hours is None or 0 < hours <= 24 * 28, "must be above 0 and at most 672 (four weeks)"),
        ("year", year, 0 <= year < years, f"must be at least 0 and below {years}, the years of the horizon"),
    ]
    problems = [Problem("arguments", name, value, rule) for name, value, ok, rule in rules if not ok]
    if problems:
        raise InputError(problems)


def _seconds_of(moment: float | Literal["peak"], scenario: Scenario, period: Period) -> float:
    """Return when a node fails: a time after the start, or the middle of the busiest hour."""
    span = period.window.span_s
    if moment == "peak":
        at = scenario.workload.peak_hour * 3600.0 - period.window.start_s
        return at + 1800.0 if 0 <= at < span and not period.flat else span / 2
    if not 0 <= moment < span:
        rule = f"must lie within the {span:,.0f} simulated seconds"
        raise InputError(Problem("arguments", "fail_node_at", moment, rule, "give peak, or simulate more hours"))
    return moment


def _struck(fleet: Fleet, bench: Bench, at_s: float) -> Fleet:
    """Return the fleet with one node that fails for certain and takes all its replicas down."""
    first = bench.candidate.pools[0]
    share = shares(bench.candidate)[0]
    devices = 1 if first.role == "seat" else share.server.device_count if share.server else _NODE_DEVICES
    replicas = min(max(devices // first.parallelism.devices, 1), fleet.pools[0].replicas)
    faults = fleet.faults or Faults(repair_s=_REPAIR_S)
    return replace(fleet, faults=replace(faults, strikes=(Strike(at_s, replicas, faults.repair_s),)))


def _run(scenario: Scenario, bench: Bench, peak: Peak, period: Period, load: float) -> ServiceRun:
    """Return what a simulation says of the whole fleet."""
    result, share = peak.result, peak.share_frac
    replicas = sum(pool.replicas for pool in peak.fleet.pools)
    per_seed = result.requests / len(result.seeds)
    return _blank(scenario, bench.candidate, load).model_copy(
        update={
            "period": period.text,
            "clock_start_s": period.window.start_s,
            "requests_per_s": per_seed / share / max(result.window_s, 1e-9),
            "year": period.year,
            "seeds": result.seeds,
            "window_s": result.window_s,
            "warmup_s": result.warmup_s,
            "share_frac": share,
            "overall": run_class(result.overall, share),
            "classes": tuple(run_class(c, share) for c in result.classes),
            "slo_attainment": result.slo_attainment,
            "goodput_per_s": _scaled(result.goodput_per_s, 1.0 / share),
            "served": result.served,
            "ttft_p95_s": result.ttft_p95_s,
            "timeline": timeline(result, replicas),
            "left": left_building(result),
            "preemptions": result.preemptions,
            "prefix_hit_frac": result.prefix_hit_frac,
            "utilisation_frac": result.utilisation_frac,
            "replicas": replicas,
            "peak_replicas": result.peak_replicas,
            "running_frac": result.running_frac,
            "output_tokens_per_s": result.output_tokens_per_s / share,
            "bottleneck": result.bottleneck,
            "hosted": result.hosted,
            "energy": energy(result),
            "cost_drivers": cost_drivers(scenario, bench, peak, period.year),
            "faults": result.log,
            "fault_counts": result.events,
            "notes": (*result.notes, *_notes(bench, peak)),
        }
    )


def _scaled(interval: Interval, factor: float) -> Interval:
    return Interval(mean=interval.mean * factor, low=interval.low * factor, high=interval.high * factor)


def _notes(bench: Bench, peak: Peak) -> list[str]:
    notes = []
    if peak.share_frac < 1:
        notes.append(f"{peak.share_frac:.1%} of the fleet and of its load are simulated")
    if len(peak.result.seeds) < 2:
        notes.append("one seed: the confidence intervals have no width")
    if not bench.candidate.pools:
        notes.append("there are no machines of its own that could fail")
    return notes


def _blank(scenario: Scenario, candidate: Candidate, load: float) -> ServiceRun:
    """Return a run in which nothing happened."""
    none = Interval(mean=0.0, low=0.0, high=0.0)
    return ServiceRun(
        scenario=scenario.id, candidate=candidate.id, name=candidate.name, policy=candidate.route.policy,
        period="", clock_start_s=0.0, load_factor=load, requests_per_s=0.0, year=0, seeds=(), window_s=0.0,
        warmup_s=0.0, share_frac=1.0, overall=empty_class("all"), classes=(),
        slo_limit_frac=scenario.constraints.slo_attainment_min_frac, slo_attainment=none, goodput_per_s=none,
        served=none, ttft_p95_s=None,
        timeline=RunTimeline(t_s=(), queue=(), running=(), kv_used_frac=(), power_w=(), hosted=(), hosted_frac=(),
                             replicas=()),
        left=Left(requests=0, frac=0.0, private=0), preemptions=0, prefix_hit_frac=0.0, utilisation_frac=0.0,
        replicas=0, peak_replicas=0, running_frac=0.0, output_tokens_per_s=0.0, bottleneck=NOTHING_RAN,
        hosted=HostedUsage(requests=0, attempts=0, input_tokens=0, cached_input_tokens=0, output_tokens=0, bands=()),
        energy=Energy(mean_w=0.0, kwh_per_hour=0.0, j_per_request=None, j_per_output_token=None), cost_drivers=(),
        faults=(), fault_counts={}, notes=(),
    )  # fmt: skip


def _not_run(scenario: Scenario, candidate: Candidate, bench: Bench, load: float) -> ServiceRun:
    return _blank(scenario, candidate, load).model_copy(update={"reasons": tuple(str(r) for r in bench.reasons)})


def _search(keeps: Callable[[float], bool]) -> None:
    """Simulate the plan and parts of it, double the load until it breaks, then halve the interval in ratio."""
    kept = [factor for factor in _PLANNED if keeps(factor)]
    if len(kept) < len(_PLANNED):
        return
    low, high = kept[-1], 2 * kept[-1]
    while keeps(high):
        low, high = high, 2 * high
        if high > _HIGHEST:
            return
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if keeps(middle) else (low, middle)


def _point(scenario: Scenario, candidate: Candidate, factor: float, seeds: int) -> LoadPoint:
    run = simulate(scenario, candidate.id, seeds=seeds, load=factor)
    rules = scenario.constraints
    return LoadPoint(
        factor=factor,
        requests_per_s=run.requests_per_s,
        slo_attainment_frac=run.slo_attainment.mean,
        served_frac=run.overall.served_frac,
        keeps=run.keeps_slo and run.overall.served_frac >= rules.served_min_frac,
        ttft_s=run.overall.ttft_s,
        itl_s=run.overall.itl_s,
        e2e_s=run.overall.e2e_s,
        goodput_per_s=run.goodput_per_s.mean,
        utilisation_frac=run.utilisation_frac,
        hosted_frac=run.overall.hosted_frac,
        mean_w=run.energy.mean_w,
        bottleneck=run.bottleneck.text,
    )

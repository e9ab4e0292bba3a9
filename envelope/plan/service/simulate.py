"""One candidate under load: the busiest hour, a day or a week, with what-ifs."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from envelope.errors import InputError, Problem
from envelope.plan.case.case import Case, case_of
from envelope.plan.case.fleet import build_fleet
from envelope.plan.case.scenarios import chosen_candidates
from envelope.plan.service.busiest import Peak, simulated
from envelope.plan.service.level import keeps_service, service_level
from envelope.plan.service.node_failure import replicas_on_node
from envelope.plan.service.period import Horizon, Period, period_of
from envelope.plan.service.prepare import prepare_for
from envelope.plan.service.run_result import Energy, Left, RunTimeline, ServiceRun
from envelope.plan.service.run_summary import cost_drivers, empty_class, energy, left_building, run_class, timeline
from envelope.serving.fleet import Faults, Fleet, Strike
from envelope.serving.result import NOTHING_RAN, HostedUsage, Interval
from envelope.spec.load import Reporter
from envelope.spec.scenario import Scenario

_REPAIR_S = 4 * 3600.0


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
    curve. ``load`` multiplies the work, ``year`` applies its growth (on the machines of the first year).
    ``fail_node_at`` takes one node down so many seconds after the start, or in the middle of the busiest hour
    (``peak``); the same requests without the failure are then simulated beside it. ``table`` gets one row per request
    of the first seed.

    A candidate that cannot run at all is a result with ``reasons``. Raises ``InputError`` for an unknown candidate
    and for numbers out of range.
    """
    _check(scenario, load=load, hours=hours, year=year)
    candidate = chosen_candidates(scenario, [candidate_id])[0]
    case = case_of(scenario, candidate).at_demand(load)
    if not case.runs:
        return ServiceRun(**_about(case, load), **_nothing(), reasons=tuple(map(str, case.reasons)))
    repeats = seeds or scenario.simulation.seeds
    tell = progress or _silent
    prepare_for(scenario, [candidate], runs=_runs(repeats, horizon, hours), tell=partial(tell, 0.0))
    fails = fail_node_at is not None and bool(candidate.pools)
    period = period_of(case, horizon=horizon, hours=hours, year=year, whole=fails)
    fleet, calm = build_fleet(case, period.share, period.clock), None
    if fail_node_at is not None and fails:
        peak = simulated(case, period, seeds=repeats, fleet=fleet, report=progress)
        calm = service_run(case, peak, period, load)
        fleet = _struck(fleet, case, _seconds_of(fail_node_at, case, period))
    peak = simulated(case, period, seeds=repeats, fleet=fleet, table=table, report=progress)
    return service_run(case, peak, period, load, calm)


def _runs(seeds: int, horizon: Horizon | None, hours: float | None) -> int:
    """Return how many busiest hours the simulation is worth."""
    span_h = hours or {"day": 24.0, "week": 168.0}.get(horizon or "hour", 1.0)
    return math.ceil(seeds * span_h)


def _silent(_share: float, _what: str) -> None:
    return None


def _check(scenario: Scenario, *, load: float, hours: float | None, year: int) -> None:
    years = scenario.economics.years
    rules = [
        ("load", load, 0 < load <= 1000, "must be above 0 and at most 1000"),
        ("hours", hours, hours is None or 0 < hours <= 24 * 28, "must be above 0 and at most 672 (four weeks)"),
        ("year", year, 0 <= year < years, f"must be at least 0 and below {years}, the years of the horizon"),
    ]
    problems = [Problem("arguments", name, value, rule) for name, value, ok, rule in rules if not ok]
    if problems:
        raise InputError(problems)


def _seconds_of(moment: float | Literal["peak"], case: Case, period: Period) -> float:
    """Return when a node fails: a time after the start, or the middle of the busiest hour."""
    span = period.window.span_s
    if moment == "peak":
        at = case.scenario.workload.peak_hour * 3600.0 - period.window.start_s
        return at + 1800.0 if 0 <= at < span and not period.flat else span / 2
    if not 0 <= moment < span:
        rule = f"must lie within the {span:,.0f} simulated seconds"
        raise InputError(Problem("arguments", "fail_node_at", moment, rule, "give peak, or simulate more hours"))
    return moment


def _struck(fleet: Fleet, case: Case, at_s: float) -> Fleet:
    """Return the fleet with one node that fails for certain and takes all its replicas of the first pool down."""
    replicas = min(replicas_on_node(case, 0), fleet.pools[0].replicas)
    faults = fleet.faults or Faults(repair_s=_REPAIR_S)
    return replace(fleet, faults=replace(faults, strikes=(Strike(at_s, replicas, faults.repair_s),)))


def service_run(
    case: Case, peak: Peak, period: Period, load: float, without_failure: ServiceRun | None = None
) -> ServiceRun:
    """Return what a simulation says of the whole fleet."""
    result, share = peak.result, peak.share_frac
    replicas = sum(pool.replicas for pool in peak.fleet.pools)
    per_seed = result.requests / len(result.seeds)
    found = {
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
        "keeps_service": keeps_service(service_level(case.scenario, peak), case.scenario.constraints),
        "without_failure": without_failure,
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
        "cost_drivers": cost_drivers(case, peak, period.year),
        "faults": result.log,
        "fault_counts": result.events,
        "notes": (*result.notes, *_notes(case, peak)),
    }
    return ServiceRun(**_about(case, load), **found)


def _scaled(interval: Interval, factor: float) -> Interval:
    return Interval(mean=interval.mean * factor, low=interval.low * factor, high=interval.high * factor)


def _notes(case: Case, peak: Peak) -> list[str]:
    notes = []
    if peak.share_frac < 1:
        notes.append(f"{peak.share_frac:.1%} of the fleet and of its load are simulated")
    if len(peak.result.seeds) < 2:
        notes.append("one seed: the confidence intervals have no width")
    if not case.candidate.pools:
        notes.append("there are no machines of its own that could fail")
    return notes


def _about(case: Case, load: float) -> dict[str, Any]:
    """Return the fields that say which candidate is meant, and what is asked of it."""
    candidate, rules = case.candidate, case.scenario.constraints
    return {
        "scenario": case.scenario.id, "candidate": candidate.id, "name": candidate.name,
        "policy": candidate.route.policy, "load_factor": load, "slo_limit_frac": rules.slo_attainment_min_frac,
        "served_limit_frac": rules.served_min_frac,
    }  # fmt: skip


def _nothing() -> dict[str, Any]:
    """Return the other fields of a run in which nothing happened."""
    none = Interval(mean=0.0, low=0.0, high=0.0)
    return {
        "period": "", "clock_start_s": 0.0, "requests_per_s": 0.0,
        "year": 0, "seeds": (), "window_s": 0.0, "warmup_s": 0.0, "share_frac": 1.0,
        "overall": empty_class("all"), "classes": (), "keeps_service": False, "slo_attainment": none,
        "goodput_per_s": none, "served": none, "ttft_p95_s": None,
        "timeline": RunTimeline(t_s=(), queue=(), running=(), kv_used_frac=(), power_w=(), hosted=(), hosted_frac=(),
                                replicas=()),
        "left": Left(requests=0, frac=0.0, private=0), "preemptions": 0, "prefix_hit_frac": 0.0,
        "utilisation_frac": 0.0, "replicas": 0, "peak_replicas": 0, "running_frac": 0.0, "output_tokens_per_s": 0.0,
        "bottleneck": NOTHING_RAN,
        "hosted": HostedUsage(requests=0, attempts=0, input_tokens=0, cached_input_tokens=0, output_tokens=0,
                              bands=()),
        "energy": Energy(mean_w=0.0, kwh_per_hour=0.0, j_per_request=None, j_per_output_token=None),
        "cost_drivers": (), "faults": (), "fault_counts": {}, "notes": (),
    }  # fmt: skip

"""Simulating a candidate's busiest hour and reading off service level and traffic."""

import math
from dataclasses import dataclass

from envelope.plan.downtime import downtime
from envelope.plan.fleet import Bench, build_fleet
from envelope.plan.money import Traffic
from envelope.plan.results import ClassResult, Percentiles, ServiceLevel
from envelope.serving.fleet import Fleet
from envelope.serving.result import ClassResult as Simulated
from envelope.serving.result import SimulationResult, Spread
from envelope.serving.simulate import simulate
from envelope.spec.hosted import TokenKind
from envelope.spec.scenario import Scenario
from envelope.units import DAYS_PER_YEAR

SHORTEST_WINDOW_S = 900.0
"""A fleet too large to simulate whole for this long is simulated by a share of its replicas."""


@dataclass(frozen=True, slots=True)
class Peak:
    """One candidate in the busiest hour of one year."""

    result: SimulationResult
    fleet: Fleet
    share_frac: float


def simulate_peak(scenario: Scenario, bench: Bench, *, seeds: int, year: int = 0) -> Peak:
    """Return the simulation of the busiest hour."""
    share = replica_share(scenario, bench, year)
    fleet = build_fleet(scenario, bench, share)
    settings = scenario.simulation
    result = simulate(
        fleet,
        scenario.workload,
        seed=settings.seed,
        seeds=seeds,
        max_requests=settings.max_requests,
        share=share,
        year=year,
    )
    return Peak(result, fleet, share)


def replica_share(
    scenario: Scenario,
    bench: Bench,
    year: int,
    *,
    most_requests: float | None = None,
    span_s: float = SHORTEST_WINDOW_S,
) -> float:
    """Return the share of the load (and of every pool's replicas) that is simulated.

    All of it, unless ``span_s`` seconds of the busiest hour would be more requests than ``most_requests`` (those that
    the scenario's settings allow).
    """
    rate = scenario.workload.peak_rate_per_s * scenario.workload.rate_in_year(year)
    wanted = (most_requests or scenario.simulation.max_requests) / (rate * span_s)
    if wanted >= 1:
        return 1.0
    pools = bench.candidate.pools
    if not pools:
        return wanted
    # Whole replicas of every pool: only multiples of 1/gcd keep the load per replica exactly.
    parts = math.gcd(*(pool.replicas for pool in pools))
    return max(1, math.floor(wanted * parts)) / parts


def service_level(scenario: Scenario, peak: Peak) -> ServiceLevel:
    """Return the service level that a simulation found."""
    result = peak.result
    overall = result.overall
    offered = max(overall.offered, 1)
    return ServiceLevel(
        slo_attainment_frac=overall.slo_attainment_frac,
        slo_attainment_low_frac=max(result.slo_attainment.low, 0.0),
        slo_attainment_high_frac=min(result.slo_attainment.high, 1.0),
        served_frac=overall.completed / offered,
        ttft=_percentiles(overall.ttft_s),
        itl=_percentiles(overall.itl_s),
        e2e=_percentiles(overall.e2e_s),
        hosted_frac=overall.completed_hosted / offered,
        refused_frac=(overall.refused_private + overall.refused_length + overall.refused_hosted) / offered,
        requests_simulated=overall.offered,
        simulated_s=result.window_s,
        peak_requests_per_s=scenario.workload.peak_rate_per_s,
        device_utilisation_frac=result.utilisation_frac if peak.fleet.pools else None,
        bottleneck=result.bottleneck.text,
        classes=tuple(_class(c) for c in result.classes),
    )


def cost_warning(scenario: Scenario, service: ServiceLevel) -> str | None:
    """Return a warning if the candidate's cost is that of a part of the work only; ``None`` if it serves enough."""
    if service.served_frac >= scenario.constraints.served_min_frac:
        return None
    return f"cost of {service.served_frac:.0%} of the work: the other {1 - service.served_frac:.0%} is not served"


def _class(c: Simulated) -> ClassResult:
    offered = max(c.offered, 1)
    return ClassResult(
        id=c.id,
        requests=c.offered,
        slo_attainment_frac=c.slo_attainment_frac if c.offered else None,
        ttft_p95_s=c.ttft_s.p95 if c.ttft_s else None,
        e2e_p95_s=c.e2e_s.p95 if c.e2e_s else None,
        hosted_frac=c.completed_hosted / offered,
        too_long_frac=c.refused_length / offered,
    )


def _percentiles(spread: Spread | None) -> Percentiles | None:
    if spread is None:
        return None
    return Percentiles(mean_s=spread.mean, p50_s=spread.p50, p95_s=spread.p95, p99_s=spread.p99)


def traffic(scenario: Scenario, bench: Bench, peak: Peak) -> Traffic:
    """Return what one offered request uses on average.

    Energy above idle and hosted tokens per request are those of the busiest hour; batches are smaller in quiet
    hours, so the energy per request of the year is somewhat higher.
    """
    result, overall = peak.result, peak.result.overall
    offered = max(overall.offered, 1)
    per_seed = offered / len(result.seeds)
    idle_j = bench.device_idle_w * peak.share_frac * result.window_s
    hosted: dict[tuple[TokenKind, int], float] = {}
    for band in result.hosted.bands:
        hosted["input", band.above_input_tokens] = band.input_tokens / offered
        hosted["cached_input", band.above_input_tokens] = band.cached_input_tokens / offered
        hosted["output", band.above_input_tokens] = band.output_tokens / offered
    down = downtime(scenario, bench, result, peak.fleet.faults)
    return Traffic(
        requests_per_year=scenario.workload.daily_requests * DAYS_PER_YEAR,
        input_tokens=overall.mean_input_tokens,
        output_tokens=overall.mean_output_tokens,
        served_frac=overall.completed / offered,
        solved_frac=overall.solved_frac,
        dynamic_j=max(result.energy_j - idle_j, 0.0) / per_seed,
        idle_w=bench.idle_w,
        own_idle_w=bench.own_idle_w,
        own_dynamic_frac=bench.own_power_frac,
        downtime_hours_per_year=down.hours_per_year,
        hosted_tokens={key: tokens for key, tokens in hosted.items() if tokens > 0},
    )

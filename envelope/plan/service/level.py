"""Simulating a candidate's busiest hour and reading off service level and traffic."""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from envelope.perf.replica import ReplicaSpec
from envelope.plan.case.fleet import Bench, build_fleet
from envelope.plan.case.operations import running_fracs
from envelope.plan.case.usage import Traffic
from envelope.plan.service.downtime import downtime
from envelope.plan.service.period import MOST_REQUESTS, Period, usual_period
from envelope.plan.verdict.results import ClassResult, Percentiles, ServiceLevel
from envelope.serving.fleet import Fleet
from envelope.serving.result import ClassResult as Simulated
from envelope.serving.result import SimulationResult, Spread
from envelope.serving.simulate import simulate
from envelope.spec.hosted import HostedModel, TokenKind
from envelope.spec.load import Reporter
from envelope.spec.scenario import Scenario
from envelope.units import DAYS_PER_YEAR


@dataclass(frozen=True, slots=True)
class Peak:
    """One candidate in the busiest hour of one year, or in a week of it if its operations take one."""

    result: SimulationResult
    fleet: Fleet
    share_frac: float
    period: str
    """What was simulated, in words."""


def simulate_peak(scenario: Scenario, bench: Bench, *, seeds: int, year: int = 0) -> Peak:
    """Return the simulation of the busiest hour, or of a week if the candidate's operations take one.

    One of the same work on the same machines, operated in the same way, is remembered.
    """
    return _peak(_Busiest(_work_text(scenario, bench), seeds, year, bench.replicas, bench.hosted, scenario, bench))


_REMEMBERED = 96
"""Simulations that are remembered, so that a change of prices alone simulates nothing."""


@dataclass(frozen=True, slots=True)
class _Busiest:
    """One simulation to run, equal to another by what its outcome depends on."""

    work: str
    seeds: int
    year: int
    replicas: tuple[ReplicaSpec, ...] = field(hash=False)
    hosted: HostedModel | None = field(hash=False)
    scenario: Scenario = field(compare=False)
    bench: Bench = field(compare=False)


_MONEY: Any = {"acquisition": True, "name": True, "note": True, "pools": {"__all__": {"acquisition"}}}
_AFTERWARDS: Any = {
    **dict.fromkeys(("id", "name", "question", "story", "failure_not_affordable", "economics", "candidates"), True),
    "constraints": {"budget_usd", "slo_attainment_min_frac", "served_min_frac", "solved_min_frac"},
}
"""Parts of a scenario that count only after the simulation."""


def _work_text(scenario: Scenario, bench: Bench) -> str:
    """Return what is simulated: the work, the rules and the candidate, without how it is paid for."""
    candidate = bench.candidate.model_dump_json(exclude=_MONEY)
    return scenario.model_dump_json(exclude=_AFTERWARDS) + candidate


@lru_cache(maxsize=_REMEMBERED)
def _peak(busiest: _Busiest) -> Peak:
    scenario, bench, year = busiest.scenario, busiest.bench, busiest.year
    return simulated(scenario, bench, usual_period(scenario, bench, year), seeds=busiest.seeds)


def simulated(
    scenario: Scenario,
    bench: Bench,
    period: Period,
    *,
    seeds: int,
    fleet: Fleet | None = None,
    table: Path | None = None,
    report: Reporter | None = None,
) -> Peak:
    """Return the simulation of a part of the week; ``fleet`` is the candidate's own unless given."""
    fleet = fleet or build_fleet(scenario, bench, period.share, period.clock)
    # A recorded log has a busiest hour of its own, whatever the rate of the workload says.
    recorded = scenario.workload.trace is not None
    result = simulate(
        fleet,
        scenario.workload,
        seed=scenario.simulation.seed,
        seeds=seeds,
        max_requests=scenario.simulation.max_requests if recorded else MOST_REQUESTS,
        window=None if recorded and period.flat else period.window,
        share=period.share,
        year=period.year,
        warmup_frac=period.warmup_frac,
        flat=period.flat,
        table=table,
        report=report,
    )
    return Peak(result, fleet, period.share, period.text)


def service_level(scenario: Scenario, peak: Peak) -> ServiceLevel:
    """Return the service level that a simulation found."""
    result = peak.result
    overall = result.overall
    offered = max(overall.offered, 1)
    return ServiceLevel(
        period=peak.period,
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

    Energy above idle and hosted tokens per request are those of the simulated time. If that is the busiest hour,
    batches are smaller in quiet hours, so the energy per request of the year is somewhat higher.
    """
    result, overall = peak.result, peak.result.overall
    offered = max(overall.offered, 1)
    per_seed = offered / len(result.seeds)
    idle_j = bench.device_idle_w * peak.share_frac * result.window_s * result.running_frac
    hosted: dict[tuple[TokenKind, int], float] = {}
    for band in result.hosted.bands:
        hosted["input", band.above_input_tokens] = band.input_tokens / offered
        hosted["cached_input", band.above_input_tokens] = band.cached_input_tokens / offered
        hosted["output", band.above_input_tokens] = band.output_tokens / offered
    operations, faults = scenario.operations_of(bench.candidate), peak.fleet.faults
    faults = faults and replace(faults, spares=operations.spares)
    down = downtime(scenario, bench, result, faults)
    running = running_fracs(scenario, bench.candidate, result.running_frac)
    return Traffic(
        requests_per_year=scenario.workload.daily_requests * DAYS_PER_YEAR,
        input_tokens=overall.mean_input_tokens,
        output_tokens=overall.mean_output_tokens,
        served_frac=overall.completed / offered,
        solved_frac=overall.solved_frac,
        dynamic_j=max(result.energy_j - idle_j, 0.0) / per_seed,
        idle_w=bench.mean_idle_w(running),
        own_idle_w=bench.mean_idle_w(running, own=True),
        running_fracs=running,
        own_dynamic_frac=bench.own_power_frac,
        downtime_hours_per_year=down.hours_per_year,
        hosted_tokens={key: tokens for key, tokens in hosted.items() if tokens > 0},
    )

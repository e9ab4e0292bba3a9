"""Growth: when the simulated service level would break, the next replica is added in that year."""

from collections.abc import Callable
from dataclasses import dataclass

from envelope.plan.fleet import Bench, resolve_bench
from envelope.plan.money import annual_usage
from envelope.plan.results import ServiceLevel
from envelope.plan.service import Peak, service_level, simulate_peak, traffic
from envelope.spec.scenario import Candidate, Scenario
from envelope.tco import AnnualUsage

MOST_ADDED = 8
"""Replicas that are added at most before growth is given up on."""

Tick = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Growth:
    """The usage of each year of the horizon with the replicas that it takes."""

    service: ServiceLevel
    """Service level of the first year's busiest hour."""
    usage: tuple[AnnualUsage, ...]
    replicas: tuple[int, ...]
    """Replicas of the first pool in each year; 0 without pools."""


def grown_usage(scenario: Scenario, bench: Bench, *, seeds: int, tick: Tick) -> Growth:
    """Return the usage of each year, with a replica more in the year whose busiest hour would break the SLO.

    Later years are simulated once each (one seed), only if the work grows and the first year keeps the service
    level; seats are not multiplied. If even ``MOST_ADDED`` more replicas do not help, the machines stay as they
    are: the constraint ``growth`` of ``envelope compare`` says so.
    """
    peak = simulate_peak(scenario, bench, seeds=seeds)
    service = service_level(scenario, peak)
    first = annual_usage(scenario, bench.candidate, bench.replicas, bench.hosted, traffic(scenario, bench, peak))
    replicas = [bench.candidate.pools[0].replicas if bench.candidate.pools else 0]
    if not _may_grow(scenario, bench, service):
        return Growth(service, tuple(first), tuple(replicas * len(first)))
    usage = [first[0]]
    current = bench
    for year in range(1, len(first)):
        tick(f"{bench.candidate.name}: year {year + 1}")
        found = _enough(scenario, current, year)
        if found is None:
            usage.append(first[year].model_copy(update={"owned": usage[-1].owned, "rented": usage[-1].rented}))
        else:
            current, peak = found
            use = traffic(scenario, current, peak)
            usage.append(annual_usage(scenario, current.candidate, current.replicas, current.hosted, use)[year])
        replicas.append(current.candidate.pools[0].replicas)
    return Growth(service, tuple(usage), tuple(replicas))


def _may_grow(scenario: Scenario, bench: Bench, service: ServiceLevel) -> bool:
    pools = bench.candidate.pools
    keeps = service.slo_attainment_frac >= scenario.constraints.slo_attainment_min_frac
    return bool(pools) and pools[0].role != "seat" and keeps and scenario.workload.growth_frac_per_year > 0


def _enough(scenario: Scenario, bench: Bench, year: int) -> tuple[Bench, Peak] | None:
    """Return the bench with the fewest added replicas that keeps the year's service level, with its busiest hour."""
    limit = scenario.constraints.slo_attainment_min_frac
    for added in range(MOST_ADDED + 1):
        tried = bench if added == 0 else resolve_bench(scenario, _with_replicas(bench.candidate, added))
        peak = simulate_peak(scenario, tried, seeds=1, year=year)
        if service_level(scenario, peak).slo_attainment_frac >= limit:
            return tried, peak
    return None


def _with_replicas(candidate: Candidate, added: int) -> Candidate:
    first = candidate.pools[0]
    larger = first.model_copy(update={"replicas": first.replicas + added})
    return candidate.model_copy(update={"pools": (larger, *candidate.pools[1:])})

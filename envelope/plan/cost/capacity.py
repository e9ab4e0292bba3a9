"""Growth: when the simulated service level would break, the next replica is added in that year."""

from collections.abc import Callable
from dataclasses import dataclass

from envelope.plan.case.fleet import Bench, resolve_bench
from envelope.plan.case.usage import Traffic, annual_usage
from envelope.plan.service.level import Peak, service_level, simulate_peak, traffic
from envelope.plan.verdict.results import ServiceLevel
from envelope.spec.scenario import Candidate, Scenario
from envelope.tco import AnnualUsage

MOST_TIMES = 64
"""Multiple of the replicas that is tried at most."""

Tick = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Growth:
    """The usage of each year of the horizon with the replicas that it takes."""

    service: ServiceLevel
    """Service level of the first year's busiest hour, or week."""
    traffic: Traffic
    """What one request of that time uses."""
    usage: tuple[AnnualUsage, ...]
    replicas: tuple[int, ...]
    """Replicas of the first pool in each year; 0 without pools."""
    enough: bool
    """Whether the machines keep the service level of every year that was simulated."""


def grown_usage(scenario: Scenario, bench: Bench, *, seeds: int, tick: Tick) -> Growth:
    """Return the usage of each year, with more replicas in the year whose busiest hour would break the SLO.

    Later years are simulated once each (one seed), only if the work grows and the first year keeps the service
    level; seats are not multiplied. If no number of replicas helps, the machines stay as they are and
    ``enough`` is false.
    """
    peak = simulate_peak(scenario, bench, seeds=seeds)
    service = service_level(scenario, peak)
    used = traffic(scenario, bench, peak)
    first = annual_usage(scenario, bench.candidate, bench.replicas, bench.hosted, used)
    replicas = [bench.candidate.pools[0].replicas if bench.candidate.pools else 0]
    if not _may_grow(scenario, bench, service):
        kept = service.slo_attainment_frac >= scenario.constraints.slo_attainment_min_frac
        return Growth(service, used, tuple(first), tuple(replicas * len(first)), kept)
    usage = [first[0]]
    current, enough = bench, True
    for year in range(1, len(first)):
        tick(f"{bench.candidate.name}: year {year + 1}")
        found = _enough(scenario, current, year)
        if found is None:
            enough = False
            usage.append(first[year].model_copy(update={"owned": usage[-1].owned, "rented": usage[-1].rented}))
        else:
            current, peak = found
            use = traffic(scenario, current, peak)
            usage.append(annual_usage(scenario, current.candidate, current.replicas, current.hosted, use)[year])
        replicas.append(current.candidate.pools[0].replicas)
    return Growth(service, used, tuple(usage), tuple(replicas), enough)


def at_demand(scenario: Scenario, factor: float) -> Scenario:
    """Return the scenario with ``factor`` times the requests."""
    work = scenario.workload
    field = "requests_per_day" if work.requests_per_day is not None else "requests_per_seat_day"
    scaled = work.model_copy(update={field: getattr(work, field) * factor})
    return scenario.model_copy(update={"workload": scaled})


def sized_for(scenario: Scenario, bench: Bench, *, tick: Tick) -> Bench | None:
    """Return the bench with the fewest replicas, not fewer than now, whose first year keeps the SLO.

    Hosted APIs and seats are returned as they are; ``None`` if no number of replicas helps.
    """
    if not bench.candidate.pools or bench.candidate.pools[0].role == "seat":
        return bench
    tick(f"{bench.candidate.name}: sizing")
    found = _enough(scenario, bench, 0)
    return found[0] if found else None


def _may_grow(scenario: Scenario, bench: Bench, service: ServiceLevel) -> bool:
    pools = bench.candidate.pools
    keeps = service.slo_attainment_frac >= scenario.constraints.slo_attainment_min_frac
    return bool(pools) and pools[0].role != "seat" and keeps and scenario.workload.growth_frac_per_year > 0


def _enough(scenario: Scenario, bench: Bench, year: int) -> tuple[Bench, Peak] | None:
    """Return the bench with the fewest replicas, not fewer than now, that keeps the year's service level.

    Replicas are doubled until the busiest hour keeps the SLO, then the interval is halved; ``None`` if
    ``MOST_TIMES`` the replicas do not help.
    """

    def tried(replicas: int) -> tuple[Bench, Peak] | None:
        other = bench if replicas == now else resolve_bench(scenario, _with_replicas(bench.candidate, replicas))
        peak = simulate_peak(scenario, other, seeds=1, year=year)
        keeps = service_level(scenario, peak).slo_attainment_frac >= scenario.constraints.slo_attainment_min_frac
        return (other, peak) if keeps else None

    now = bench.candidate.pools[0].replicas
    too_few, replicas = now, now
    found = tried(now)
    while found is None:
        if replicas >= MOST_TIMES * now:
            return None
        too_few, replicas = replicas, replicas * 2
        found = tried(replicas)
    while replicas - too_few > 1:
        middle = (too_few + replicas) // 2
        smaller = tried(middle)
        too_few, replicas, found = (too_few, middle, smaller) if smaller else (middle, replicas, found)
    return found


def _with_replicas(candidate: Candidate, replicas: int) -> Candidate:
    first = candidate.pools[0]
    larger = first.model_copy(update={"replicas": replicas})
    return candidate.model_copy(update={"pools": (larger, *candidate.pools[1:])})

"""The service of every year of the horizon: the work grows, and machines are bought where the scenario says so."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from envelope.plan.case.case import Case
from envelope.plan.case.usage import Traffic
from envelope.plan.service.busiest import Peak, simulate_peak
from envelope.plan.service.level import ServiceLevel, keeps_service, service_level
from envelope.plan.service.traffic import traffic

MOST_TIMES = 64
"""Multiple of the replicas that is tried at most."""

Tick = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class ServedYear:
    """One year of a case: its machines, what the simulation found, and what a request uses."""

    year: int
    case: Case
    peak: Peak
    level: ServiceLevel
    use: Traffic
    keeps: bool
    """Whether so many requests are served, and keep their SLO, as the scenario asks."""
    simulated: bool = True
    """Whether the year was simulated itself, rather than taken to be like the one before."""

    @property
    def replicas(self) -> int:
        """Replicas of the first pool; 0 without pools."""
        pools = self.case.candidate.pools
        return pools[0].replicas if pools else 0


def served_year(case: Case, *, seeds: int, year: int = 0) -> ServedYear:
    """Return one year of a case on the machines that it has."""
    peak = simulate_peak(case, seeds=seeds, year=year)
    level = service_level(case.scenario, peak)
    return ServedYear(year, case, peak, level, traffic(case, peak), keeps_service(level, case.scenario.constraints))


def served_years(case: Case, *, seeds: int, tick: Tick, first: ServedYear | None = None) -> tuple[ServedYear, ...]:
    """Return every year of the horizon.

    A year is simulated if the work changes and the year before kept the service: after the first that does not,
    nothing would be learned, and the rest are taken to be like it. With ``capacity.growth: buy`` the fewest further
    replicas that keep a year's service are bought in it; where no number helps, the machines stay as they are.
    """
    years = [first or served_year(case, seeds=seeds)]
    grows = case.scenario.workload.growth_frac_per_year != 0
    for year in range(1, case.years):
        last = years[-1]
        if not grows or not last.keeps:
            years.append(replace(last, year=year, simulated=False))
            continue
        tick(f"{case.candidate.name}: year {year + 1}")
        now = served_year(last.case, seeds=seeds, year=year)
        if not now.keeps and may_buy(case):
            now = enough_replicas(last.case, seeds=seeds, year=year, known=now) or now
        years.append(now)
    return tuple(years)


def may_buy(case: Case) -> bool:
    """Return whether growth buys replicas: there are servers, and the scenario allows it."""
    pools = case.candidate.pools
    return bool(pools) and not case.on_seats and case.scenario.capacity.growth == "buy"


def enough_replicas(case: Case, *, seeds: int, year: int, known: ServedYear | None = None) -> ServedYear | None:
    """Return the year with the fewest replicas, not fewer than now, that keep its service.

    Replicas are doubled until the service is kept, then the interval is halved; ``None`` if ``MOST_TIMES`` the
    replicas do not help. ``known`` is the year on the machines as they are.
    """
    now = case.candidate.pools[0].replicas
    found = known or served_year(case, seeds=seeds, year=year)
    too_few = replicas = now
    while not found.keeps:
        if replicas >= MOST_TIMES * now:
            return None
        too_few, replicas = replicas, replicas * 2
        found = served_year(case.with_replicas(replicas), seeds=seeds, year=year)
    while replicas - too_few > 1:
        middle = (too_few + replicas) // 2
        smaller = served_year(case.with_replicas(middle), seeds=seeds, year=year)
        too_few, replicas, found = (too_few, middle, smaller) if smaller.keeps else (middle, replicas, found)
    return found

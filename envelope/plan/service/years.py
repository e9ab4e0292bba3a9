"""The service of every year of the horizon: the work grows, and machines are bought where the scenario says so."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from envelope.plan.case.case import Case
from envelope.plan.case.usage import Traffic, mixed
from envelope.plan.service.busiest import Peak, simulate_peak
from envelope.plan.service.downtime import Downtime, downtime
from envelope.plan.service.level import ServiceLevel, keeps_service, service_level
from envelope.plan.service.traffic import traffic

MOST_TIMES = 64
"""Multiple of the replicas that is tried at most."""

_NEAR, _LITTLE = 0.5, 0.9
"""More replicas are no help if the service misses its limit by less than the one, and twice as many leave more than
the other of that."""

Tick = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class ServedYear:
    """One year of a case: its machines, what the simulation found, and what a request uses."""

    year: int
    case: Case
    peak: Peak
    level: ServiceLevel
    use: Traffic
    down: Downtime
    """What failures take away in a year."""
    keeps: bool
    """Whether so many requests are served, and keep their SLO, as the scenario asks."""
    simulated: bool = True
    """Whether the year was simulated itself, rather than taken to lie between others or to be like the one before."""

    @property
    def replicas(self) -> int:
        """Replicas of the first pool; 0 without pools."""
        pools = self.case.candidate.pools
        return pools[0].replicas if pools else 0


def served_year(case: Case, *, seeds: int, year: int = 0) -> ServedYear:
    """Return one year of a case on the machines that it has."""
    peak = simulate_peak(case, seeds=seeds, year=year)
    level = service_level(case.scenario, peak)
    down = downtime(case, peak)
    kept = keeps_service(level, case.scenario.constraints)
    return ServedYear(year, case, peak, level, traffic(case, peak, down), down, kept)


def served_years(case: Case, *, seeds: int, tick: Tick) -> tuple[ServedYear, ...]:
    """Return every year of the horizon; ``seeds`` are those of the first, the later ones are simulated once.

    If the work changes and the first year keeps the service, the last one is simulated on the same machines. If it
    keeps the service too, the years between lie between the two by their load. Else they are simulated one by one:
    with ``capacity.growth: buy`` the fewest further replicas that keep a year's service are bought in it, and where no
    number helps, or none may be bought, the rest are taken to be like the first year that breaks.
    """
    first = served_year(case, seeds=seeds)
    last = case.years - 1
    if last < 1 or case.scenario.workload.growth_frac_per_year == 0 or not first.keeps:
        return tuple(replace(first, year=year, simulated=year == 0) for year in range(case.years))
    tick(f"{case.candidate.name}: year {last + 1}")
    end = served_year(case, seeds=1, year=last)
    if end.keeps:
        return (first, *(_between(first, end, year) for year in range(1, last)), end)
    years = [first]
    for year in range(1, case.years):
        years.append(_following(years[-1], year, tick))
    return tuple(years)


def _following(last: ServedYear, year: int, tick: Tick) -> ServedYear:
    """Return the year after ``last``, on further replicas if it takes them and they may be bought."""
    if not last.keeps:
        return replace(last, year=year, simulated=False)
    tick(f"{last.case.candidate.name}: year {year + 1}")
    now = served_year(last.case, seeds=1, year=year)
    if now.keeps or not may_buy(last.case):
        return now
    return enough_replicas(last.case, seeds=1, year=year, known=now) or now


def _between(first: ServedYear, end: ServedYear, year: int) -> ServedYear:
    """Return a year on the same machines whose load lies between two others that keep the service.

    Its level is that of the heavier of the two, which it does not fall below.
    """
    rate = first.case.scenario.workload.rate_in_year
    share = (rate(year) - rate(first.year)) / (rate(end.year) - rate(first.year))
    heavier = first if rate(first.year) > rate(end.year) else end
    return replace(heavier, year=year, use=mixed(first.use, end.use, share), simulated=False)


def may_buy(case: Case) -> bool:
    """Return whether growth buys replicas: there are servers, and the scenario allows it."""
    pools = case.candidate.pools
    return bool(pools) and not case.on_seats and case.scenario.capacity.growth == "buy"


def _missing(year: ServedYear) -> float:
    """Return by how much a year misses the limits of the service, the larger of the two."""
    rules, level = year.case.scenario.constraints, year.level
    return max(rules.slo_attainment_min_frac - level.slo_attainment_frac, rules.served_min_frac - level.served_frac)


def enough_replicas(case: Case, *, seeds: int, year: int, known: ServedYear | None = None) -> ServedYear | None:
    """Return the year with the fewest replicas, not fewer than now, that keep its service.

    Replicas are doubled until the service is kept, then the interval is halved; ``None`` if ``MOST_TIMES`` the
    replicas do not help, or if doubling them changes nothing, as where requests are too long for the model. ``known``
    is the year on the machines as they are.
    """
    now = case.candidate.pools[0].replicas
    found = known or served_year(case, seeds=seeds, year=year)
    too_few = replicas = now
    while not found.keeps:
        if replicas >= MOST_TIMES * now:
            return None
        too_few, replicas, before = replicas, replicas * 2, found
        found = served_year(case.with_replicas(replicas), seeds=seeds, year=year)
        if not found.keeps and _missing(before) < _NEAR and _missing(found) > _LITTLE * _missing(before):
            return None
    while replicas - too_few > 1:
        middle = (too_few + replicas) // 2
        smaller = served_year(case.with_replicas(middle), seeds=seeds, year=year)
        too_few, replicas, found = (too_few, middle, smaller) if smaller.keeps else (middle, replicas, found)
    return found

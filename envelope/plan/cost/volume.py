"""Costs by volume of work: a capacity surface computed once from the simulator, machines stepping up with demand."""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from envelope.money.model import Model, build
from envelope.money.surface import Surface
from envelope.money.usage import AnnualUsage
from envelope.plan.case.case import Case
from envelope.plan.case.usage import year_usage
from envelope.plan.chain import Judged
from envelope.plan.service.busiest import simulate_peak
from envelope.plan.service.level import keeps_service, service_level
from envelope.plan.service.years import ServedYear

HIGHEST = 16.0
"""Multiple of the planned demand up to which break-even is searched."""
_BELOW = (0.02, 0.125, 0.5)
_PER_DOUBLING = 3
_HALVINGS = 3

Tick = Callable[[str], object]


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """Costs of one candidate by volume of work."""

    surface: Surface
    carried: float | None
    """Multiple of the planned demand that the planned replicas carry within the SLO; ``None`` if not measured."""

    def load_frac(self, factor: float) -> float | None:
        """Return the busiest hour's load as a share of what the machines at that demand carry within the SLO."""
        levels = self.surface.factors
        level = min(bisect_left(levels, factor), len(levels) - 1)
        planned, needed = (_machines(self.surface.models[i]) for i in (levels.index(1.0), level))
        if self.carried is None or not needed:
            return None
        return min(factor / self.carried * planned / needed, 1.0)


def volume_costs(found: Judged, *, tick: Tick) -> Volume:
    """Return the cost models of a candidate that runs from a fiftieth to sixteen times the planned demand.

    The simulator says once how much demand the planned replicas carry (``headroom``); beyond it replicas of every
    pool are added in proportion, which is cautious, as larger fleets share their queues better. Work per request is
    that of the planned demand. The surface of a candidate that does not keep the service as planned ends at the plan,
    that of seats where a seat's own device is full.
    """
    assert found.money is not None
    case, keeps = found.case, found.keeps_service
    carried = headroom(case, tick=tick) if keeps else 1.0
    highest = (carried if case.on_seats else HIGHEST) if keeps else 1.0
    steps = int(np.floor(np.log2(highest) * _PER_DOUBLING + 1e-9))
    above = tuple(2.0 ** (k / _PER_DOUBLING) for k in range(1, steps + 1))
    models = {1.0: found.money.model}
    for factor in (*_BELOW, *above):
        models[factor] = build(case.economics, [_usage_at(year, case, factor, carried) for year in found.years])
    ordered = sorted(models)
    surface = Surface(tuple(ordered), tuple(models[factor] for factor in ordered))
    measured = keeps and case.hosted is None and case.candidate.pools
    return Volume(surface, carried if measured else None)


def headroom(case: Case, *, tick: Tick) -> float:
    """Return the multiple of the planned demand up to which the planned replicas keep the service, at most ``HIGHEST``.

    Doubled until the busiest hour breaks it, then halved in ratio (within 9 %, from below). 1 for a candidate
    that shares its work with a hosted API, since more demand on the same replicas would change what is sent out;
    without replicas there is no limit.
    """
    if not case.candidate.pools:
        return HIGHEST
    if case.hosted is not None:
        return 1.0

    def keeps(factor: float) -> bool:
        tick(f"{case.candidate.name}: {factor:.2g} × the demand")
        other = case.at_demand(factor)
        return keeps_service(service_level(other.scenario, simulate_peak(other, seeds=1)), case.scenario.constraints)

    low, high = 1.0, 2.0
    while high < HIGHEST and keeps(high):
        low, high = high, 2 * high
    if high >= HIGHEST and keeps(HIGHEST):
        return HIGHEST
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return low


def _usage_at(year: ServedYear, case: Case, factor: float, carried: float) -> AnnualUsage:
    """Return the usage of one year at a multiple of the demand, on the replicas that it takes."""
    larger = year.case
    if case.candidate.pools and not case.on_seats:
        load = factor * case.scenario.workload.rate_in_year(year.year) / carried
        planned = case.candidate.pools[0].replicas
        larger = year.case.with_replicas(max(year.replicas, math.ceil(planned * load - 1e-9)))
    use = replace(
        year.use,
        requests_per_year=year.use.requests_per_year * factor,
        own_idle_w=larger.mean_idle_w(year.use.running_fracs, own=True),
    )
    return year_usage(larger, use, year.year)


def _machines(model: Model) -> float:
    """Return the devices in service in the first year, owned and rented."""
    usage = model.years[0]
    return sum(a.count * a.devices_per_unit for a in usage.owned) + sum(r.devices for r in usage.rented)

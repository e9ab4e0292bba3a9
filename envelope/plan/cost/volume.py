"""Costs by volume of work: a capacity surface computed once from the simulator, machines stepping up with demand."""

import math
from bisect import bisect_left
from dataclasses import dataclass, replace

import numpy as np

from envelope.plan.case.fleet import Bench
from envelope.plan.case.usage import annual_usage, economics_of
from envelope.plan.cost.capacity import Growth, Tick, at_demand
from envelope.plan.service.level import service_level, simulate_peak
from envelope.spec.deployment import Pool
from envelope.spec.scenario import Scenario
from envelope.tco.model import Model, build
from envelope.tco.surface import Surface

HIGHEST = 16.0
"""Multiple of the planned demand up to which break-even is searched."""
_BELOW = (0.02, 0.125, 0.5)
_PER_DOUBLING = 3
_HALVINGS = 3


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


def volume_costs(scenario: Scenario, bench: Bench, grown: Growth, planned: Model, *, tick: Tick) -> Volume:
    """Return the cost models of one candidate from a fiftieth to sixteen times the planned demand.

    The simulator says once how much demand the planned replicas carry (``headroom``); beyond it replicas of every
    pool are added in proportion, which is cautious, as larger fleets share their queues better. Work per request is
    that of the planned demand. The surface of a candidate that does not keep the SLO as planned ends at the plan,
    that of seats where a seat's own device is full.
    """
    carried = headroom(scenario, bench, tick=tick) if grown.enough else 1.0
    on_seats = any(pool.role == "seat" for pool in bench.candidate.pools)
    highest = (carried if on_seats else HIGHEST) if grown.enough else 1.0
    steps = int(np.floor(np.log2(highest) * _PER_DOUBLING + 1e-9))
    above = tuple(2.0 ** (k / _PER_DOUBLING) for k in range(1, steps + 1))
    models = {1.0: planned}
    for factor in (*_BELOW, *above):
        models[factor] = _model_at(scenario, bench, grown, factor, carried)
    ordered = sorted(models)
    surface = Surface(tuple(ordered), tuple(models[factor] for factor in ordered))
    measured = grown.enough and bench.hosted is None and bench.candidate.pools
    return Volume(surface, carried if measured else None)


def headroom(scenario: Scenario, bench: Bench, *, tick: Tick) -> float:
    """Return the multiple of the planned demand up to which the planned replicas keep the SLO, at most ``HIGHEST``.

    Doubled until the busiest hour breaks the SLO, then halved in ratio (within 9 %, from below). 1 for a candidate
    that shares its work with a hosted API, since more demand on the same replicas would change what is sent out;
    without replicas there is no limit.
    """
    if not bench.candidate.pools:
        return HIGHEST
    if bench.hosted is not None:
        return 1.0

    def keeps(factor: float) -> bool:
        tick(f"{bench.candidate.name}: {factor:.2g} × the demand")
        other = at_demand(scenario, factor)
        found = service_level(other, simulate_peak(other, bench, seeds=1))
        rules = scenario.constraints
        return found.slo_attainment_frac >= rules.slo_attainment_min_frac and found.served_frac >= rules.served_min_frac

    low, high = 1.0, 2.0
    while high < HIGHEST and keeps(high):
        low, high = high, 2 * high
    if high >= HIGHEST and keeps(HIGHEST):
        return HIGHEST
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return low


def _model_at(scenario: Scenario, bench: Bench, grown: Growth, factor: float, carried: float) -> Model:
    """Return the cost model at a multiple of the demand, each year with the replicas that it takes."""
    years = []
    for year in range(len(grown.usage)):
        load = factor * scenario.workload.rate_in_year(year) / carried
        pools = tuple(
            _larger(pool, load, grown.replicas[year] if i == 0 else 1) for i, pool in enumerate(_pools(bench))
        )
        larger = replace(bench, candidate=bench.candidate.model_copy(update={"pools": pools}))
        use = replace(
            grown.traffic,
            requests_per_year=grown.traffic.requests_per_year * factor,
            own_idle_w=larger.mean_idle_w(grown.traffic.running_fracs, own=True),
        )
        years.append(annual_usage(scenario, larger.candidate, larger.replicas, larger.hosted, use)[year])
    return build(economics_of(scenario, bench.candidate), years)


def _machines(model: Model) -> float:
    """Return the devices in service in the first year, owned and rented."""
    usage = model.years[0]
    return sum(a.count * a.devices_per_unit for a in usage.owned) + sum(r.devices for r in usage.rented)


def _pools(bench: Bench) -> tuple[Pool, ...]:
    return bench.candidate.pools


def _larger(pool: Pool, load: float, least: int) -> Pool:
    if pool.role == "seat":
        return pool
    needed = max(pool.replicas, least, math.ceil(pool.replicas * load - 1e-9))
    return pool.model_copy(update={"replicas": needed})

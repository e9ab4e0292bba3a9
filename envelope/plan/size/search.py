"""Sizing: the cheapest deployment over devices, formats, splits, settings and replicas that keeps every constraint."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from envelope.errors import InputError, Problem
from envelope.money.evaluate import expected_npv_usd
from envelope.money.model import build
from envelope.plan.case.case import Case, case_of
from envelope.plan.case.operations import running_fracs
from envelope.plan.case.usage import Traffic, year_usage
from envelope.plan.chain import Judged, judged
from envelope.plan.rules.static import static_rules
from envelope.plan.service.prepare import prepare_for
from envelope.plan.size.bounds import least_seconds_per_request, requests_per_s_bound
from envelope.plan.size.grid import Grid, configurations, grid_for, is_offered, kinds_of
from envelope.provenance import Frozen
from envelope.result import Result
from envelope.spec.load import Reporter, validate
from envelope.spec.scenario import Candidate, Scenario
from envelope.units import DAYS_PER_YEAR

__all__ = ["Grid", "Sized", "Sizing", "configurations", "grid_for", "least_seconds_per_request", "size"]


class Sized(Frozen):
    """One configuration that was simulated."""

    candidate: Candidate
    """As it would stand in a scenario, its spare replicas under ``operations``."""
    text: str
    seeds: int
    """Repetitions of its simulation: all of the scenario's for one that was the cheapest so far, else one."""
    feasible: bool
    broken: tuple[str, ...]
    cost_npv: float
    """Expected present value of all payments, those for spares and for growth among them."""
    cost_p10_usd: float
    cost_p90_usd: float
    """One case of ten costs less, one of ten more."""
    slo_attainment_frac: float
    latency_p95_s: float | None
    """Time to the last token, 95th percentile of the simulated time without the spare replicas."""
    goodput_per_s: float
    power_max_w: float
    too_long_frac: float = 0.0
    """Share of the requests that are too long for the kind, whatever the number of replicas."""


class Sizing(Result):
    """The answer of ``envelope size``."""

    scenario: str
    best: Sized | None
    pareto: tuple[Sized, ...]
    """Feasible simulated configurations of which no other is better in cost, latency, goodput and watts at once."""
    simulated: tuple[Sized, ...]
    configurations: int
    pruned: dict[str, int]
    """Why configurations were ruled out without a simulation, and how many by each reason."""
    lower_bound_usd: float | None
    """No configuration that was not simulated can cost less."""
    optimality_gap_frac: float | None
    """(best − lower bound) / best; 0 is proved cheapest in the grid."""
    explanation: str

    @property
    def shown(self) -> tuple[Sized, ...]:
        """The Pareto set or, where nothing is feasible, the ten that come closest to the service level."""
        return self.pareto or tuple(sorted(self.simulated, key=lambda s: -s.slo_attainment_frac))[:10]


@dataclass(frozen=True, slots=True)
class _Kind:
    """One replica type with the replica counts still in question."""

    case: Case
    counts: tuple[int, ...]


def size(
    scenario: Scenario,
    grid: Grid | str | None = None,
    *,
    max_simulations: int = 150,
    explore: int = 24,
    progress: Reporter | None = None,
    **options: Any,
) -> Sizing:
    """Return the cheapest configuration of a grid that keeps every constraint of the scenario, and the Pareto set.

    ``grid`` is the id of a candidate whose model and device are the start (by default the first with servers);
    ``options`` replace what is combined: ``models``, ``hardware``, ``tp``, ``replicas``, ``weights``, ``kv``,
    ``engines``, ``max_num_batched_tokens``, ``acquire`` (each a list), and ``spare``.

    Each configuration is judged as ``compare`` judges a candidate: with N + k spares, evidence, growth and every rule.
    Memory, engine, licence, power, rack and a bound on the throughput rule configurations out first. The rest is
    simulated in the order of a lower bound of its cost, so that the first feasible one is the cheapest; if a count of
    replicas fails, smaller ones of the same kind are not tried. ``explore`` more are simulated for the Pareto set.
    """
    if not isinstance(grid, Grid):
        grid = grid_for(scenario, grid)
    if options:
        grid = validate(Grid, {**grid.model_dump(), **options}, "arguments")
    _check(grid)
    tell = progress or (lambda _share, _what: None)
    pruned: dict[str, int] = {}
    kinds = _kinds(scenario, grid, pruned)
    lows: dict[tuple[object, ...], float] = {}
    # Of fleets that cost the same the larger come first: if one fails, the smaller need no simulation.
    queue = [(_lower_bound_usd(k, n, lows), -n, i) for i, k in enumerate(kinds) for n in k.counts]
    heapq.heapify(queue)
    runs = math.ceil(min(max_simulations, len(queue)) / max(len(scenario.candidates), 1))
    prepare_for(scenario, scenario.candidates, runs=runs, tell=partial(tell, 0.0))
    limits = _Limits(max_simulations, explore, grid.spare)
    found, best, bound = _search(scenario, kinds, queue, limits, pruned, tell)
    tell(1.0, "done")
    return _answer(scenario, grid, best, found, pruned, bound)


@dataclass(frozen=True, slots=True)
class _Limits:
    """How much is simulated, and the spare replicas of each configuration."""

    simulations: int
    explore: int
    spare: int


def _search(
    scenario: Scenario,
    kinds: Sequence[_Kind],
    queue: list[tuple[float, int, int]],
    limits: _Limits,
    pruned: dict[str, int],
    tell: Reporter,
) -> tuple[list[Sized], Sized | None, float | None]:
    """Return what was simulated in the order of the bounds, the cheapest feasible one and the bound of the rest."""
    found: list[Sized] = []
    best: Sized | None = None
    too_few: dict[int, float] = {}
    extra, bound = limits.explore, None
    while queue and len(found) < limits.simulations:
        low, negative, index = heapq.heappop(queue)
        count = -negative
        if best is not None and low >= best.cost_npv:
            bound = low if bound is None else bound
            extra -= 1
            if extra < 0:
                break
        if count <= too_few.get(index, 0):
            pruned[_FAILED] = pruned.get(_FAILED, 0) + 1
            continue
        tell(len(found) / limits.simulations, f"{kinds[index].case.candidate.name} × {count}")
        candidate = kinds[index].case.with_replicas(count).candidate
        one = _judged(scenario, candidate, limits.spare, seeds=1)
        if one.feasible and (best is None or one.cost_npv < best.cost_npv):
            one = _judged(scenario, candidate, limits.spare)
        found.append(one)
        if not one.feasible and set(one.broken) <= _LOAD:
            too_few[index] = max(too_few.get(index, 0.0), count)
        if one.too_long_frac > 1.0 - scenario.constraints.served_min_frac:
            too_few[index] = math.inf
        if one.feasible and (best is None or one.cost_npv < best.cost_npv):
            best = one
    rest = min((low for low, _, _ in queue), default=None)
    return found, best, rest if bound is None else min(bound, rest or bound)


_FAILED = "another fleet of the kind failed"
"""A larger one could not carry the load, or one refused requests too long for the kind, which no number mends."""
_LOAD = {"slo_attainment", "served", "growth"}
"""Constraints that fewer replicas cannot keep if more do not."""


def _check(grid: Grid) -> None:
    for name, values in (("tp", grid.tp), ("replicas", grid.replicas)):
        if not values or min(values) < 1:
            raise InputError(Problem("arguments", name, values, "must be whole numbers of at least 1"))


def _kinds(scenario: Scenario, grid: Grid, pruned: dict[str, int]) -> list[_Kind]:
    """Return the replica types that can run, each with the counts that memory, limits and throughput leave."""
    kinds = []
    rate = scenario.workload.peak_rate_per_s
    for candidate in kinds_of(grid):
        if not is_offered(candidate):
            pruned["not for rent"] = pruned.get("not for rent", 0) + len(grid.replicas)
            continue
        case = case_of(scenario, with_spares(scenario, candidate, grid.spare))
        if not case.runs:
            rule = next(r.rule for r in case.reasons if r.blocks)
            pruned[rule] = pruned.get(rule, 0) + len(grid.replicas)
            continue
        counts = []
        # Served is asked for by the scenario, so a fleet too slow for that share cannot keep it.
        share = scenario.constraints.served_min_frac * scenario.constraints.slo_attainment_min_frac
        per_replica = requests_per_s_bound(scenario, case.replicas[0])
        for count in sorted(grid.replicas):
            broken = _statically_broken(case.with_replicas(count))
            if broken is not None:
                pruned[broken] = pruned.get(broken, 0) + 1
            elif per_replica * count < rate * share:
                pruned["throughput bound"] = pruned.get("throughput bound", 0) + 1
            else:
                counts.append(count)
        if counts:
            kinds.append(_Kind(case, tuple(counts)))
    return kinds


def with_spares(scenario: Scenario, candidate: Candidate, spares: int) -> Candidate:
    """Return a candidate whose operations hold at least so many spare replicas."""
    operations = scenario.operations_of(candidate)
    if operations.spares >= spares:
        return candidate
    return candidate.changed(operations=operations.changed(spares=spares))


def _statically_broken(case: Case) -> str | None:
    return next((rule.id.split(".")[0] for rule in static_rules(case) if not rule.satisfied), None)


def _lower_bound_usd(kind: _Kind, count: int, known: dict[tuple[object, ...], float]) -> float:
    """Return a cost that the configuration cannot undercut: machines and fixed lines, without energy above idle."""
    case = kind.case.with_replicas(count)
    # Machines alone decide it, whatever model they run.
    pool, paid = case.candidate.pools[0], case.candidate.acquisition
    key = (pool.hardware, paid.kind, paid.server, pool.devices)
    if key in known:
        return known[key]
    running = running_fracs(case.scenario, case.candidate, 0.0)
    use = Traffic(
        requests_per_year=case.scenario.workload.daily_requests * DAYS_PER_YEAR, input_tokens=0.0, output_tokens=0.0,
        served_frac=1.0, solved_frac=1.0, dynamic_j=0.0, idle_w=case.mean_idle_w(running),
        own_idle_w=case.mean_idle_w(running, own=True), running_fracs=running,
    )  # fmt: skip
    known[key] = expected_npv_usd(build(case.economics, [year_usage(case, use, year) for year in range(case.years)]))
    return known[key]


def _judged(scenario: Scenario, candidate: Candidate, spares: int, seeds: int | None = None) -> Sized:
    """Return a configuration as ``compare`` judges it; with one seed if it is only to be known whether it may do."""
    return _sized(judged(scenario, candidate, seeds=seeds or scenario.simulation.seeds, lines=False), spares)


def _sized(found: Judged, spares: int) -> Sized:
    assert found.money is not None  # configurations that cannot run were ruled out before
    candidate, cost = found.case.candidate, found.money.value
    level, peak = found.years[0].level, found.years[0].peak
    more = f" + {spares} spare" if spares else ""
    return Sized(
        candidate=candidate, text=f"{candidate.pools[0].replicas}{more} × {candidate.name}",
        seeds=len(peak.result.seeds), feasible=found.feasible, broken=found.broken,
        cost_npv=cost.cost_npv_usd, cost_p10_usd=cost.p10_npv_usd, cost_p90_usd=cost.p90_npv_usd,
        slo_attainment_frac=level.slo_attainment_frac, latency_p95_s=level.e2e.p95_s if level.e2e else None,
        goodput_per_s=peak.result.goodput_per_s.mean / peak.share_frac, power_max_w=found.case.max_w,
        too_long_frac=peak.result.overall.refused_length / max(peak.result.overall.offered, 1),
    )  # fmt: skip


def _answer(
    scenario: Scenario,
    grid: Grid,
    best: Sized | None,
    found: Sequence[Sized],
    pruned: dict[str, int],
    bound: float | None,
) -> Sizing:
    gap = None
    if best is not None:
        gap = 0.0 if bound is None else max(best.cost_npv - bound, 0.0) / best.cost_npv
    total = configurations(grid)
    out = ", ".join(f"{n} by {name}" for name, n in sorted(pruned.items(), key=lambda item: -item[1]))
    text = f"{total:,} configurations: {sum(pruned.values()):,} ruled out without simulation ({out or 'none'}), "
    text += f"{len(found)} simulated in the order of a lower bound of their cost (machines and fixed lines, no energy "
    text += "above idle, nothing lost to outages)"
    if best is not None and gap is not None:
        text += "; proved cheapest in the grid" if gap == 0 else f"; at most {gap:.1%} above the cheapest"
    elif bound is not None:
        text += f"; none was feasible yet, the rest costs at least ${bound:,.0f}"
    return Sizing(
        scenario=scenario.id,
        best=best,
        pareto=tuple(pareto(found)),
        simulated=tuple(found),
        configurations=total,
        pruned=pruned,
        lower_bound_usd=bound,
        optimality_gap_frac=gap,
        explanation=text,
    )


def pareto(found: Sequence[Sized]) -> list[Sized]:
    """Return the feasible ones that no other beats or equals in cost, p95 latency, goodput and watts at once."""
    good = [s for s in found if s.feasible]
    keys = [(s.cost_npv, s.latency_p95_s or 0.0, -s.goodput_per_s, s.power_max_w) for s in good]
    kept = []
    for s, key in zip(good, keys, strict=True):
        beaten = any(o != key and all(a <= b for a, b in zip(o, key, strict=True)) for o in keys)
        if not beaten:
            kept.append(s)
    return sorted(kept, key=lambda s: s.cost_npv)

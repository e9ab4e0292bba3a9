"""Sizing: the cheapest deployment over devices, formats, splits, settings and replicas that keeps every constraint."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from envelope.errors import InputError, Problem
from envelope.plan.case.fleet import Bench, resolve_bench
from envelope.plan.case.measured import gate_constraint, gates_of, measured_work
from envelope.plan.case.usage import Traffic, annual_usage
from envelope.plan.rules.static import budget_constraint, service_constraints, static_constraints
from envelope.plan.service.level import service_level, simulate_peak, traffic
from envelope.plan.service.prepare import prepare_for
from envelope.plan.size.bounds import least_seconds_per_request, requests_per_s_bound
from envelope.plan.size.grid import Grid, configurations, grid_for, is_offered, kinds_of, with_count
from envelope.plan.verdict.evaluate import candidate_facts
from envelope.provenance import Frozen
from envelope.result import Result
from envelope.spec.load import Reporter, validate
from envelope.spec.scenario import Candidate, Scenario
from envelope.tco.evaluate import evaluate_model
from envelope.tco.model import build
from envelope.units import DAYS_PER_YEAR

__all__ = ["Grid", "Sized", "Sizing", "configurations", "grid_for", "least_seconds_per_request", "size"]


class Sized(Frozen):
    """One configuration that was simulated."""

    candidate: Candidate
    """As it would be bought, spare replicas included."""
    text: str
    feasible: bool
    broken: tuple[str, ...]
    cost_npv: float
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

    bench: Bench
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
    queue = [(_lower_bound_usd(scenario, k, n, grid, lows), -n, i) for i, k in enumerate(kinds) for n in k.counts]
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
        tell(len(found) / limits.simulations, f"{kinds[index].bench.candidate.name} × {count}")
        one = _simulated(scenario, kinds[index].bench, count, limits.spare)
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
        bench = resolve_bench(scenario, candidate)
        if not bench.runs:
            rule = next(r.rule for r in bench.reasons if r.blocks)
            pruned[rule] = pruned.get(rule, 0) + len(grid.replicas)
            continue
        counts = []
        # Served is asked for by the scenario, so a fleet too slow for that share cannot keep it.
        share = scenario.constraints.served_min_frac * scenario.constraints.slo_attainment_min_frac
        per_replica = requests_per_s_bound(scenario, bench.replicas[0])
        for count in sorted(grid.replicas):
            broken = _statically_broken(scenario, bench, count + grid.spare)
            if broken is not None:
                pruned[broken] = pruned.get(broken, 0) + 1
            elif per_replica * count < rate * share:
                pruned["throughput bound"] = pruned.get("throughput bound", 0) + 1
            else:
                counts.append(count)
        if counts:
            kinds.append(_Kind(bench, tuple(counts)))
    return kinds


def _statically_broken(scenario: Scenario, bench: Bench, count: int) -> str | None:
    candidate = with_count(bench.candidate, count)
    sized = Bench(candidate, bench.replicas, bench.fits, bench.hosted, bench.reasons)
    found = static_constraints(candidate_facts(scenario, sized))
    found += [gate_constraint(s) for s in gates_of(scenario, candidate) if s.hard]
    return next((c.id.split(".")[0] for c in found if not c.satisfied), None)


def _lower_bound_usd(
    scenario: Scenario, kind: _Kind, count: int, grid: Grid, known: dict[tuple[object, ...], float]
) -> float:
    """Return a cost that the configuration cannot undercut: machines and fixed lines, without energy above idle."""
    candidate = with_count(kind.bench.candidate, count + grid.spare)
    bench = Bench(candidate, kind.bench.replicas, kind.bench.fits, None, kind.bench.reasons)
    # Machines alone decide it, whatever model they run.
    pool, paid = bench.candidate.pools[0], bench.candidate.acquisition
    key = (pool.hardware, paid.kind, paid.server, pool.devices)
    if key in known:
        return known[key]
    use = Traffic(
        requests_per_year=scenario.workload.daily_requests * DAYS_PER_YEAR, input_tokens=0.0, output_tokens=0.0,
        served_frac=1.0, solved_frac=1.0, dynamic_j=0.0, idle_w=bench.idle_w,
    )  # fmt: skip
    model = build(scenario.economics, annual_usage(scenario, candidate, bench.replicas, None, use))
    known[key] = evaluate_model(model).cost_npv_usd
    return known[key]


def _simulated(scenario: Scenario, kind: Bench, count: int, spare: int) -> Sized:
    """Return a configuration: simulated without its spare replicas, priced with them."""
    bare = with_count(kind.candidate, count)
    work, _ = measured_work(scenario, bare)
    bench = Bench(bare, kind.replicas, kind.fits, None, kind.reasons)
    peak = simulate_peak(work, bench, seeds=1)
    service, use = service_level(work, peak), traffic(work, bench, peak)
    bought = Bench(with_count(kind.candidate, count + spare), kind.replicas, kind.fits, None, kind.reasons)
    use = Traffic(**{**{n: getattr(use, n) for n in Traffic.__slots__}, "idle_w": bought.idle_w})
    model = build(work.economics, annual_usage(work, bought.candidate, bought.replicas, None, use))
    cost = evaluate_model(model).cost_npv_usd
    found = static_constraints(candidate_facts(work, bought)) + service_constraints(work, service, use.solved_frac)
    budget = budget_constraint(work, cost)
    broken = [c.id for c in (*found, *([budget] if budget else [])) if not c.satisfied]
    broken += _growth_broken(work, bench, broken)
    spares = f" + {spare} spare" if spare else ""
    return Sized(
        candidate=bought.candidate, text=f"{count}{spares} × {kind.candidate.name}", feasible=not broken,
        broken=tuple(broken), cost_npv=cost, slo_attainment_frac=service.slo_attainment_frac,
        latency_p95_s=service.e2e.p95_s if service.e2e else None,
        goodput_per_s=peak.result.goodput_per_s.mean / peak.share_frac, power_max_w=bought.max_w,
        too_long_frac=peak.result.overall.refused_length / max(peak.result.overall.offered, 1),
    )  # fmt: skip


def _growth_broken(scenario: Scenario, bench: Bench, broken: Sequence[str]) -> list[str]:
    last = -(-scenario.economics.horizon_months // 12) - 1
    if broken or last < 1 or scenario.workload.growth_frac_per_year <= 0:
        return []
    attained = simulate_peak(scenario, bench, seeds=1, year=last).result.overall.slo_attainment_frac
    return [] if attained >= scenario.constraints.slo_attainment_min_frac else ["growth"]


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

"""What a frontier knows of one candidate: simulated at few points of the map, interpolated in between."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from envelope.plan.constraints import budget_constraint, service_constraints, static_constraints
from envelope.plan.evaluate import candidate_facts
from envelope.plan.evidence import gate_constraint, gates_of, measured_work
from envelope.plan.fleet import Bench, build_fleet, resolve_bench
from envelope.plan.frontier_axes import Axis
from envelope.plan.money import annual_usage
from envelope.plan.results import ConstraintResult
from envelope.plan.service import Peak, service_level, simulate_peak, traffic
from envelope.serving.simulate import simulate
from envelope.spec.scenario import Candidate, Scenario
from envelope.tco.draws import Sample, line_draws
from envelope.tco.inputs import point_values
from envelope.tco.model import Model, build

Floats = NDArray[np.float64]

FIRST_KNOTS = 5
"""Points of each axis at which a candidate is evaluated first."""
ROUNDS = 2
"""Halvings of an interval in which the feasibility of a candidate flips."""
SEATS = 24
"""Seats of a fleet of seats that are simulated: each serves its own user only."""
_REQUESTS = 2000

_AFTER = {"slo_attainment", "served", "solved", "growth"}
"""Constraints that are broken as a consequence where another keeps requests out."""

Tick = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Node:
    """One candidate at one point of the map."""

    margins: dict[str, float]
    """Constraint → distance to its limit; negative if broken."""
    model: Model | None
    """Cost model, or ``None`` where the candidate cannot run or may not (it is then not simulated)."""


@dataclass(slots=True)
class Simulator:
    """Simulations of candidates, each kept by what it depends on."""

    peaks: dict[tuple[str, str, int], Peak] = field(default_factory=dict)
    benches: dict[str, Bench] = field(default_factory=dict)
    runs: int = 0

    def peak(self, scenario: Scenario, bench: Bench, year: int) -> Peak:
        """Return the busiest hour of a year, simulated unless the same work was simulated before."""
        key = (bench.candidate.model_dump_json(), _work_key(scenario, bench), year)
        if key not in self.peaks:
            self.runs += 1
            self.peaks[key] = _simulated(scenario, bench, year)
        return self.peaks[key]

    def bench(self, scenario: Scenario, candidate: Candidate) -> Bench:
        """Return a candidate with its names resolved."""
        key = candidate.model_dump_json()
        if key not in self.benches:
            self.benches[key] = resolve_bench(scenario, candidate)
        return self.benches[key]


def _simulated(scenario: Scenario, bench: Bench, year: int) -> Peak:
    settings = scenario.simulation.model_copy(update={"max_requests": min(scenario.simulation.max_requests, _REQUESTS)})
    scenario = scenario.model_copy(update={"simulation": settings})
    pools = bench.candidate.pools
    if len(pools) != 1 or pools[0].role != "seat" or pools[0].replicas <= SEATS:
        return simulate_peak(scenario, bench, seeds=1, year=year)
    share = SEATS / pools[0].replicas
    fleet = build_fleet(scenario, bench, share)
    if fleet.hosted is not None:
        api = fleet.hosted
        limits = {n: v * share for n in ("rpm", "tpm") if (v := getattr(api, n)) is not None}
        fleet = replace(fleet, hosted=replace(api, **limits))
    result = simulate(
        fleet, scenario.workload, seed=settings.seed, max_requests=settings.max_requests, share=share, year=year
    )
    return Peak(result, fleet, share)


def _work_key(scenario: Scenario, bench: Bench) -> str:
    """Return what a simulation depends on: difficulty counts where it decides the route, privacy where it matters."""
    work = scenario.workload
    drop: set[str] = set()
    if bench.candidate.route.policy != "escalate":
        drop.add("difficulty")
    if bench.hosted is None and bench.candidate.on_premises:
        drop.add("sensitivity")
    tasks = "".join(task.model_dump_json(exclude=drop) for task in work.tasks)
    rest = work.model_dump_json(exclude={"tasks", "growth_frac_per_year"})
    return f"{tasks}{rest}{scenario.constraints.private_stays}{work.growth_frac_per_year}"


def node(scenario: Scenario, candidate: Candidate, simulator: Simulator) -> Node:
    """Return the margins and the cost model of a candidate in a scenario."""
    scenario, _ = measured_work(scenario, candidate)
    bench = simulator.bench(scenario, candidate)
    found = static_constraints(candidate_facts(scenario, bench))
    found += [gate_constraint(status) for status in gates_of(scenario, candidate) if status.hard]
    if not bench.runs or not all(c.satisfied for c in found):
        return Node({c.id: _margin(c) for c in found}, None)
    peak = simulator.peak(scenario, bench, 0)
    use = traffic(scenario, bench, peak)
    if bench.candidate.route.policy != "escalate":
        use = replace(use, solved_frac=_solved_frac(scenario, bench, peak))
    service = service_level(scenario, peak)
    found += service_constraints(scenario, service, use.solved_frac)
    margins = {c.id: _margin(c) for c in found}
    last = -(-scenario.economics.horizon_months // 12) - 1
    limit = scenario.constraints.slo_attainment_min_frac
    if last > 0 and scenario.workload.growth_frac_per_year > 0 and service.slo_attainment_frac >= limit:
        margins["growth"] = simulator.peak(scenario, bench, last).result.overall.slo_attainment_frac - limit
    model = build(scenario.economics, annual_usage(scenario, candidate, bench.replicas, bench.hosted, use))
    return Node(margins, model)


def _solved_frac(scenario: Scenario, bench: Bench, peak: Peak) -> float:
    """Return the expected share of solved requests, from who answered how many of each class."""
    candidate, result = bench.candidate, peak.result
    solved = 0.0
    for task, found in zip(scenario.workload.tasks, result.classes, strict=True):
        local = found.completed - found.completed_hosted
        solved += local * (1.0 - getattr(task.difficulty, candidate.tier))
        if candidate.hosted is not None:
            solved += found.completed_hosted * (1.0 - getattr(task.difficulty, candidate.hosted.tier))
    return solved / max(result.overall.offered, 1)


def _margin(c: ConstraintResult) -> float:
    if c.value is not None and c.limit is not None and c.id in {"slo_attainment", "served", "solved"}:
        return c.value - c.limit
    if c.satisfied:
        return min(max(c.margin_frac or 1.0, 0.0), 1.0)
    return min(c.margin_frac or -1.0, -1e-9)


@dataclass(slots=True, eq=False)
class CandidateSurface:
    """One candidate over the whole map."""

    candidate: str
    x_knots: list[float]
    y_knots: list[float]
    """Knots as shares of the axis; one knot where the axis changes prices only."""
    nodes: dict[tuple[float, float], Node]


def surface(scenario: Scenario, ident: str, x: Axis, y: Axis, simulator: Simulator, tick: Tick) -> CandidateSurface:
    """Return one candidate at the knots of both axes, with more of them where its feasibility flips."""
    first = [i / (FIRST_KNOTS - 1) for i in range(FIRST_KNOTS)]
    found = CandidateSurface(
        ident, [0.5] if x.kind == "money" else list(first), [0.5] if y.kind == "money" else list(first), {}
    )
    _fill(found, scenario, x, y, simulator, tick)
    for _ in range(ROUNDS):
        more_x = _flips(found, True) if x.kind != "money" else []
        more_y = _flips(found, False) if y.kind != "money" else []
        if not more_x and not more_y:
            break
        found.x_knots = sorted({*found.x_knots, *more_x})
        found.y_knots = sorted({*found.y_knots, *more_y})
        _fill(found, scenario, x, y, simulator, tick)
    return found


def _fill(found: CandidateSurface, scenario: Scenario, x: Axis, y: Axis, simulator: Simulator, tick: Tick) -> None:
    for a in found.x_knots:
        for b in found.y_knots:
            if (a, b) in found.nodes:
                continue
            tick(f"{found.candidate}: {x.name} {x.at(a):.3g}, {y.name} {y.at(b):.3g}")
            at = scenario if x.kind == "money" else x.apply(scenario, x.at(a))
            at = at if y.kind == "money" else y.apply(at, y.at(b))
            candidate = next(c for c in at.candidates if c.id == found.candidate)
            found.nodes[a, b] = node(at, candidate, simulator)


def _flips(found: CandidateSurface, along_x: bool) -> list[float]:
    """Return the middles of the intervals between whose ends the feasibility differs anywhere."""
    knots, others = (found.x_knots, found.y_knots) if along_x else (found.y_knots, found.x_knots)
    middles = []
    for low, high in zip(knots, knots[1:], strict=False):
        for other in others:
            ends = [(low, other), (high, other)] if along_x else [(other, low), (other, high)]
            good = [min(found.nodes[e].margins.values(), default=1.0) >= 0 for e in ends]
            if good[0] != good[1]:
                middles.append((low + high) / 2)
                break
    return middles


def margins_on(found: CandidateSurface, xs: Floats, ys: Floats) -> dict[str, Floats]:
    """Return the interpolated margin of each constraint on a grid, [ys, xs]; shares of the axes."""
    # What rules a candidate out comes before what follows from it.
    names = sorted(dict.fromkeys(name for n in found.nodes.values() for name in n.margins), key=_AFTER.__contains__)
    return {
        name: interpolated(found, lambda n, name=name: n.margins.get(name, 1.0), xs, ys)  # type: ignore[misc]
        for name in names
    }


def interpolated(found: CandidateSurface, value: Callable[[Node], float], xs: Floats, ys: Floats) -> Floats:
    """Return a number of the nodes interpolated on a grid, [ys, xs], bilinear on the axes' own scales."""
    table = np.array([[value(found.nodes[a, b]) for a in found.x_knots] for b in found.y_knots])
    along_x = np.array([np.interp(xs, found.x_knots, row) for row in table])
    columns = [np.interp(ys, found.y_knots, column) for column in along_x.T]
    return np.array(columns).T


def costs_on(found: CandidateSurface, x: Axis, y: Axis, xs: Floats, ys: Floats, common: Sample | None = None) -> Floats:
    """Return the present value of the costs on a grid, [ys, xs] or with a sample [ys, xs, draws].

    Prices are computed at every point; the work is interpolated linearly in the axis' own value. NaN where the
    candidate cannot run.
    """
    count = 1 if common is None else len(common.points)
    at_x = [x.at(float(s)) for s in (xs if x.kind == "money" else found.x_knots)]
    at_y = [y.at(float(s)) for s in (ys if y.kind == "money" else found.y_knots)]
    table = np.full((len(at_y), len(at_x), count), np.nan)
    for i, a in enumerate(found.x_knots):
        for j, b in enumerate(found.y_knots):
            model = found.nodes[a, b].model
            if model is not None:
                rows = slice(None) if y.kind == "money" else slice(j, j + 1)
                cols = slice(None) if x.kind == "money" else slice(i, i + 1)
                table[rows, cols] = _priced(model, x, y, xs, ys, common)
    table = _along(table, 1, x, xs, at_x)
    table = _along(table, 0, y, ys, at_y)
    return table if common is not None else table[:, :, 0]


def _along(table: Floats, dim: int, axis: Axis, shares: Floats, knots: list[float]) -> Floats:
    """Interpolate one dimension of a table from its knots to the grid, linearly in the axis' value."""
    if axis.kind == "money":
        return table
    want = np.array([axis.at(float(s)) for s in shares])
    upper = np.clip(np.searchsorted(knots, want, side="left"), 1, len(knots) - 1)
    low, high = np.array(knots)[upper - 1], np.array(knots)[upper]
    share = np.clip((want - low) / (high - low), 0.0, 1.0)
    shape = [1] * table.ndim
    shape[dim] = len(want)
    weight = share.reshape(shape)
    below, above = np.take(table, upper - 1, axis=dim), np.take(table, upper, axis=dim)
    # An exact knot must not take a NaN from its neighbour.
    mixed = np.where(weight == 0, below, np.where(weight == 1, above, below * (1 - weight) + above * weight))
    return np.asarray(mixed)


def _priced(model: Model, x: Axis, y: Axis, xs: Floats, ys: Floats, common: Sample | None) -> Floats:
    """Return the costs of one model over the money axes, [ys or 1, xs or 1, draws]."""
    base = point_values(model.inputs) if common is None else common.values(model)
    count = 1 if common is None else len(common.points)
    px = [x.at(float(s)) for s in xs] if x.kind == "money" else [0.0]
    py = [y.at(float(s)) for s in ys] if y.kind == "money" else [0.0]
    grid_y, grid_x, _ = np.meshgrid(py, px, np.arange(count), indexing="ij")
    size = grid_x.size
    values = {name: v if len(v) == 1 else np.tile(v, len(px) * len(py)) for name, v in base.items()}
    for axis, grid in ((x, grid_x), (y, grid_y)):
        if axis.kind == "money":
            _override(values, axis, grid.ravel(), model)
    cost = np.broadcast_to(line_draws(model, values).cost_npv_usd, size)
    return np.asarray(cost.reshape(grid_x.shape))


def _override(values: dict[str, Floats], axis: Axis, numbers: Floats, model: Model) -> None:
    if axis.inputs:
        for name in axis.inputs:
            if name in model.inputs:
                values[name] = numbers
        return
    for name in values:
        if name.startswith("tariff."):
            values[name] = values[name] * numbers


def budget_margin(scenario: Scenario, costs: Floats) -> Floats:
    """Return the distance of costs to the budget, as a fraction of it; 1 without a budget."""
    if budget_constraint(scenario, 0.0) is None:
        return np.ones_like(costs)
    limit = scenario.constraints.budget_usd or 1.0
    return 1.0 - costs / limit

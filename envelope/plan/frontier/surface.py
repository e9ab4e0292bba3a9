"""What a frontier knows of one candidate: simulated at few points of the map, interpolated in between."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from envelope.money.draws import Sample, present_draws, sample
from envelope.money.model import Model
from envelope.plan.chain import judged
from envelope.plan.frontier.axes import Axis
from envelope.plan.rules.rule import ConstraintResult
from envelope.spec.scenario import Candidate, Scenario

Floats = NDArray[np.float64]

FIRST_KNOTS = 5
"""Points of each axis at which a candidate is evaluated first."""
MEAN_DRAWS = 32
"""Draws behind the mean of a cell where prices are an axis."""
ROUNDS = 2
"""Halvings of an interval in which the feasibility of a candidate flips."""
_AFTER = {"slo_attainment", "served", "solved", "growth"}
"""Constraints that are broken as a consequence where another keeps requests out."""

Tick = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Node:
    """One candidate at one point of the map."""

    margins: dict[str, float]
    """Rule → distance to its limit; negative if broken. A limit on the present value is not among them: it is held
    against the costs of each cell."""
    model: Model | None
    """Cost model, or ``None`` where the candidate cannot run or may not (it is then not simulated)."""
    cost_usd: float = math.nan
    """Expected present value of the costs; NaN without a model."""
    p90_usd: float = math.nan
    exposure: float = 0.0
    """How much it lets happen of the failure that cannot be afforded."""


def node(scenario: Scenario, candidate: Candidate) -> Node:
    """Return what the chain says of a candidate in a scenario, after short simulations."""
    found = judged(scenario, candidate, seeds=1, until="static", quick=True)
    margins = {rule.id: _margin(rule) for rule in found.rules if not _is_of_cell(scenario, rule)}
    if found.money is None:
        return Node(margins, None)
    shown = {e.failure: e.value for e in found.exposures}
    cost = found.money.value
    return Node(margins, found.money.model, cost.cost_npv_usd, cost.p90_npv_usd, shown[scenario.failure_not_affordable])


def _is_of_cell(scenario: Scenario, rule: ConstraintResult) -> bool:
    """Return whether a rule is a limit on the present value, which each cell has of its own."""
    budget = scenario.constraints.spending
    return rule.id == "budget" and budget is not None and budget.of == "present_value"


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


def surfaces(
    scenario: Scenario,
    groups: dict[str, int],
    x: Axis,
    y: Axis,
    tick: Callable[[int, str], object],
) -> list[CandidateSurface]:
    """Return candidates at the knots of both axes, with more of them where feasibility flips and it matters.

    ``groups`` says who competes with whom: a flip matters where the candidate is the cheapest feasible one of its
    group, since elsewhere it changes neither the map nor the line.
    """
    first = [i / (FIRST_KNOTS - 1) for i in range(FIRST_KNOTS)]
    ground = _Ground(scenario, x, y)
    found = [
        CandidateSurface(
            ident, [0.5] if x.kind == "money" else list(first), [0.5] if y.kind == "money" else list(first), {}
        )
        for ident in groups
    ]
    for index, one in enumerate(found):
        _fill(one, ground, partial(tick, index))
    for _ in range(ROUNDS):
        least = _least(found, groups, x, y)
        for index, one in enumerate(found):
            wanted = _flips(one, x, y, least.get(groups[one.candidate]))
            for point in wanted:
                one.nodes[point] = _node_at(one, ground, point, partial(tick, index))
            one.x_knots = sorted({*one.x_knots, *(a for a, _ in wanted)})
            one.y_knots = sorted({*one.y_knots, *(b for _, b in wanted)})
    return found


Points = dict[tuple[float, float], float]


def _least(found: Sequence[CandidateSurface], groups: dict[str, int], x: Axis, y: Axis) -> dict[int, Points]:
    """Return by group the least cost of its feasible candidates at each point; none where prices are an axis."""
    least: dict[int, Points] = {}
    if "money" in (x.kind, y.kind):
        return least
    for one in found:
        costs = least.setdefault(groups[one.candidate], {})
        for point, known in one.nodes.items():
            if _keeps(known) and known.cost_usd < costs.get(point, math.inf):
                costs[point] = known.cost_usd
    return least


@dataclass(slots=True)
class _Ground:
    """The scenario at the points of the map, where all candidates meet the same one."""

    scenario: Scenario
    x: Axis
    y: Axis
    _at: dict[tuple[float, float], Scenario] = field(default_factory=dict)

    def at(self, point: tuple[float, float]) -> Scenario:
        """Return the scenario at a point; prices are applied cell by cell, so that they change nothing here."""
        if point not in self._at:
            found = self.scenario
            for one, share in zip((self.x, self.y), point, strict=True):
                found = found if one.kind == "money" else one.apply(found, one.at(share))
            self._at[point] = found
        return self._at[point]

    def text(self, point: tuple[float, float]) -> str:
        """Return where a point lies, in words."""
        (a, b), x, y = point, self.x, self.y
        return f"{x.name} {x.at(a):.3g}, {y.name} {y.at(b):.3g}"


def _fill(found: CandidateSurface, ground: _Ground, tick: Tick) -> None:
    for a in found.x_knots:
        for b in found.y_knots:
            found.nodes[a, b] = _node_at(found, ground, (a, b), tick)


def _node_at(found: CandidateSurface, ground: _Ground, point: tuple[float, float], tick: Tick) -> Node:
    tick(f"{found.candidate}: {ground.text(point)}")
    at = ground.at(point)
    return node(at, next(c for c in at.candidates if c.id == found.candidate))


def _keeps(known: Node) -> bool:
    return min(known.margins.values(), default=1.0) >= 0


def _flips(found: CandidateSurface, x: Axis, y: Axis, least: Points | None) -> list[tuple[float, float]]:
    """Return the middles between neighbours of a line of which one is feasible and the other not.

    Left out are those whose feasible end is dearer than another of its group, ``least`` (``None`` takes all).
    """
    middles = []
    for along_x in (True, False):
        if (x if along_x else y).kind == "money":
            continue
        for line in {p[1] if along_x else p[0] for p in found.nodes}:
            ends = sorted(p for p in found.nodes if p[1 if along_x else 0] == line)
            for low, high in zip(ends, ends[1:], strict=False):
                good = [p for p in (low, high) if _keeps(found.nodes[p])]
                if len(good) != 1:
                    continue
                beaten = least is not None and found.nodes[good[0]].cost_usd > least.get(good[0], math.inf) + 1e-6
                if not beaten:
                    middles.append(((low[0] + high[0]) / 2, (low[1] + high[1]) / 2))
    return sorted(set(middles))


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
    table = np.array(
        [[value(n) if (n := found.nodes.get((a, b))) else np.nan for a in found.x_knots] for b in found.y_knots]
    )
    table = _completed(table[:, :, None], found)[:, :, 0]
    along_x = np.array([np.interp(xs, found.x_knots, row) for row in table])
    columns = [np.interp(ys, found.y_knots, column) for column in along_x.T]
    return np.array(columns).T


def costs_on(found: CandidateSurface, x: Axis, y: Axis, xs: Floats, ys: Floats, common: Sample | None = None) -> Floats:
    """Return the expected present value of the costs on a grid, [ys, xs]; with a sample, of each draw, [ys, xs, draws].

    Prices are computed at every point; the work is interpolated linearly in the axis' own value. NaN where the
    candidate cannot run.
    """
    count = 1 if common is None else len(common.points)
    at_x = [x.at(float(s)) for s in (xs if x.kind == "money" else found.x_knots)]
    at_y = [y.at(float(s)) for s in (ys if y.kind == "money" else found.y_knots)]
    table = np.full((len(at_y), len(at_x), count), np.nan)
    for i, a in enumerate(found.x_knots):
        for j, b in enumerate(found.y_knots):
            known = found.nodes.get((a, b))
            model = known.model if known else None
            if known is not None and common is None and not {"money"} & {x.kind, y.kind}:
                table[j, i] = known.cost_usd
            elif known is not None and model is not None:
                rows = slice(None) if y.kind == "money" else slice(j, j + 1)
                cols = slice(None) if x.kind == "money" else slice(i, i + 1)
                drawn = _priced(model, x, y, xs, ys, common or sample([model], MEAN_DRAWS))
                table[rows, cols] = drawn if common is not None else _expected(known, model, drawn)
    if x.kind != "money" and y.kind != "money":
        table = _completed(table, found)
    table = _along(table, 1, x, xs, at_x)
    table = _along(table, 0, y, ys, at_y)
    return table if common is not None else table[:, :, 0]


def _completed(table: Floats, found: CandidateSurface) -> Floats:
    """Return a table of knots, [ys, xs, draws], in which points that were not evaluated lie between those that were.

    Columns of the first knots are whole along them, so they are filled first, and then every row.
    """
    known = np.array([[(a, b) in found.nodes for a in found.x_knots] for b in found.y_knots])
    if known.all():
        return table
    table, ys, xs = table.copy(), np.array(found.y_knots), np.array(found.x_knots)
    for i in range(len(xs)):
        if known[0, i] and known[-1, i]:
            table[:, i] = _between(table[:, i], ys, known[:, i])
            known[:, i] = True
    for j in range(len(ys)):
        table[j] = _between(table[j], xs, known[j])
    return table


def _between(values: Floats, knots: Floats, known: NDArray[np.bool_]) -> Floats:
    """Return rows of values, [knots, draws], with those not known interpolated between their neighbours."""
    have = np.flatnonzero(known)
    upper = np.clip(np.searchsorted(have, np.arange(len(knots))), 1, len(have) - 1)
    low, high = have[upper - 1], have[upper]
    share = ((knots - knots[low]) / (knots[high] - knots[low]))[:, None]
    mixed = np.where(share == 0, values[low], np.where(share == 1, values[high], 0.0))
    inside = values[low] * (1 - share) + values[high] * share
    filled = np.where((share == 0) | (share == 1), mixed, inside)
    return np.asarray(np.where(known[:, None], values, filled))


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


def _expected(known: Node, model: Model, drawn: Floats) -> Floats:
    """Return the means of priced draws, [ys, xs, 1], moved by what so few draws miss of the expected cost."""
    common = sample([model], MEAN_DRAWS)
    few = float(present_draws(model, common.values(model)).sum(axis=1).mean())
    means: Floats = drawn.mean(axis=2, keepdims=True) + (known.cost_usd - few)
    return means


def _priced(model: Model, x: Axis, y: Axis, xs: Floats, ys: Floats, common: Sample) -> Floats:
    """Return the costs of one model over the money axes, [ys or 1, xs or 1, draws]."""
    base, count = common.values(model), len(common.points)
    px = [x.at(float(s)) for s in xs] if x.kind == "money" else [0.0]
    py = [y.at(float(s)) for s in ys] if y.kind == "money" else [0.0]
    grid_y, grid_x, _ = np.meshgrid(py, px, np.arange(count), indexing="ij")
    size = grid_x.size
    values = {name: v if len(v) == 1 else np.tile(v, len(px) * len(py)) for name, v in base.items()}
    for axis, grid in ((x, grid_x), (y, grid_y)):
        if axis.kind == "money":
            _override(values, axis, grid.ravel(), model)
    cost = np.broadcast_to(present_draws(model, values).sum(axis=1), size)
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
    """Return the distance of costs to a limit on the present value, as a fraction of it; 1 without one."""
    budget = scenario.constraints.spending
    if budget is None or budget.limit_usd is None or budget.of != "present_value":
        return np.ones_like(costs)
    return 1.0 - costs / budget.limit_usd

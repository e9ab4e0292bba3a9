"""Costs and feasibility of all candidates on one grid of a map."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envelope.plan.frontier.axes import Axis
from envelope.plan.frontier.surface import CandidateSurface, budget_margin, costs_on, interpolated, margins_on
from envelope.spec.scenario import Scenario

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Costs and feasibility of all candidates on one grid, [candidates, ys, xs]."""

    costs: Floats
    """Expected present values."""
    exposures: Floats
    """How much of the failure that cannot be afforded each lets happen."""
    feasible: NDArray[np.bool_]
    broken: list[dict[str, Floats]]


def grid_on(scenario: Scenario, found: Sequence[CandidateSurface], x: Axis, y: Axis, xs: Floats, ys: Floats) -> Grid:
    """Return candidates on a grid of shares of the axes; the budget is a limit on the costs found there."""
    costs = np.stack([costs_on(s, x, y, xs, ys) for s in found])
    broken = []
    for k, one in enumerate(found):
        margins = {name: np.broadcast_to(m, costs[k].shape) for name, m in margins_on(one, xs, ys).items()}
        budget = np.stack([_budget_row(scenario, x, y, a, ys, costs[k][:, i]) for i, a in enumerate(xs)], axis=1)
        broken.append({**margins, "budget": budget})
    feasible = np.stack([np.min(list(b.values()), axis=0) >= -1e-12 for b in broken]) & ~np.isnan(costs)
    exposures = np.stack([_exposures(scenario, s, costs[k], xs, ys) for k, s in enumerate(found)])
    return Grid(costs, exposures, feasible, broken)


def _exposures(scenario: Scenario, one: CandidateSurface, costs: Floats, xs: Floats, ys: Floats) -> Floats:
    """Return the exposure of one candidate in each cell; that of an overrun moves with the cell's own costs."""
    if scenario.failure_not_affordable != "cost_overrun":
        return np.broadcast_to(interpolated(one, lambda n: n.exposure, xs, ys), costs.shape)
    beyond = interpolated(one, lambda n: n.p90_usd - n.cost_usd, xs, ys)
    budget = scenario.constraints.spending
    limit = budget.limit_usd if budget is not None and budget.of == "present_value" else None
    return costs + beyond if limit is None else np.maximum(costs + beyond - limit, 0.0)


def _budget_row(scenario: Scenario, x: Axis, y: Axis, a: float, ys: Floats, costs: Floats) -> Floats:
    """Return the margin to the budget of one column, which an axis may move."""
    if x.kind != "limit" and y.kind != "limit":
        return budget_margin(scenario, costs)
    column = x.apply(scenario, x.at(a)) if x.kind == "limit" else scenario
    cells = [y.apply(column, y.at(float(b))) if y.kind == "limit" else column for b in ys]
    return np.array([float(budget_margin(s, c)) for s, c in zip(cells, costs, strict=True)])

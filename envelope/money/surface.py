"""Capacity surfaces: the costs of a deployment at several levels of demand, computed once by simulation.

Between two levels the work (tokens, energy) is interpolated, while machines and rented devices step up to the
next level, because a node is bought whole.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envelope.money.commitment import COMMITMENT
from envelope.money.draws import LineDraws, Sample, line_draws
from envelope.money.inputs import Values
from envelope.money.model import Model
from envelope.money.tax import TAX

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_DEMAND = "demand_factor"


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """Cost models of one candidate at rising factors of the planned demand."""

    factors: tuple[float, ...]
    models: tuple[Model, ...]


def surface_draws(surface: Surface, common: Sample) -> LineDraws:
    """Return the cost of each line for every draw, each draw at its own ``demand_factor``.

    Draws outside the surface take its nearest end.
    """
    demand = np.broadcast_to(common.values(surface.models[0])[_DEMAND], common.draws)
    lower, upper, share = _position(surface, demand)
    levels = [_level(model, common) for model in surface.models]
    return _combine(surface, levels, lower, upper, share)


def surface_months(
    surface: Surface, common: Sample, months: Callable[[Model, Values], dict[str, Floats]]
) -> dict[str, Floats]:
    """Return the cost of each line by month for every draw at its own ``demand_factor``, [draws, H + 1].

    ``months`` gives those of one model.
    """
    demand = np.broadcast_to(common.values(surface.models[0])[_DEMAND], common.draws)
    lower, upper, share = _position(surface, demand)
    levels = [months(m, common.values(m) | {_DEMAND: np.ones(1)}) for m in surface.models]
    volume, rows, found = _following(surface), np.arange(len(share)), {}
    width = surface.models[0].horizon_months + 1
    for ident in dict.fromkeys(name for level in levels for name in level):
        none = np.zeros((1, width))
        cost = np.stack([np.broadcast_to(level.get(ident, none), (len(share), width)) for level in levels])
        weight = (share if ident in volume else np.where(share > 0, 1.0, 0.0))[:, None]
        found[ident] = (1 - weight) * cost[lower, rows] + weight * cost[upper, rows]
    return found


def cost_at_demand(surface: Surface, values: Sequence[Values]) -> Callable[[Floats], Floats]:
    """Return the present value of the costs as a function of the demand of each draw.

    ``values[i]`` are the inputs of model ``i``. Below the first factor and above the last the ends hold.
    """
    volume = _following(surface)
    levels = [line_draws(m, {**v, _DEMAND: np.ones(1)}) for m, v in zip(surface.models, values, strict=True)]
    drawn = max(len(level.present_usd) for level in levels)
    work, fixed = np.zeros((len(levels), drawn)), np.zeros((len(levels), drawn))
    for k, level in enumerate(levels):
        follows = np.array([ident in volume for ident in level.line_ids])
        work[k] = level.present_usd[:, follows].sum(axis=1)
        fixed[k] = level.present_usd[:, ~follows].sum(axis=1)

    def cost(demand: Floats) -> Floats:
        count = max(len(demand), drawn)
        lower, upper, share = _position(surface, np.broadcast_to(demand, count))
        rows = np.arange(count) if drawn > 1 else np.zeros(count, dtype=np.int64)
        machines = np.where(share > 0, fixed[upper, rows], fixed[lower, rows])
        total: Floats = machines + (1 - share) * work[lower, rows] + share * work[upper, rows]
        return total

    return cost


def _following(surface: Surface) -> set[str]:
    """Return the lines that are interpolated: those by volume of work, and those that follow from all others."""
    return {COMMITMENT, TAX} | {line.id for model in surface.models for line in model.lines if line.volume}


def _position(surface: Surface, demand: Floats) -> tuple[Ints, Ints, Floats]:
    """Return the factors below and above a demand, and the share of the way between them."""
    factors = np.asarray(surface.factors)
    position = np.clip(demand, factors[0], factors[-1])
    upper = np.searchsorted(factors, position, side="left")
    lower = np.maximum(upper - 1, 0)
    span = np.where(upper > lower, factors[upper] - factors[lower], 1.0)
    share: Floats = np.where(upper > lower, (position - factors[lower]) / span, 0.0)
    return lower, upper, share


def _level(model: Model, common: Sample) -> LineDraws:
    return line_draws(model, common.values(model) | {_DEMAND: np.ones(1)})


def _combine(surface: Surface, levels: list[LineDraws], lower: Ints, upper: Ints, share: Floats) -> LineDraws:
    """Return the draws between their two levels: work by ``share``, machines from the level that covers them."""
    ids = tuple(dict.fromkeys(i for level in levels for i in level.line_ids))
    volume = _following(surface)
    draws, years = len(share), levels[0].by_year_usd.shape[2]
    present, by_year = np.zeros((draws, len(ids))), np.zeros((draws, len(ids), years))
    for column, ident in enumerate(ids):
        shape = (len(levels), draws)
        cost, cost_by_year = np.zeros(shape), np.zeros((*shape, years))
        for k, level in enumerate(levels):
            if ident in level.line_ids:
                i = level.line_ids.index(ident)
                cost[k], cost_by_year[k] = level.present_usd[:, i], level.by_year_usd[:, i]
        weight = share if ident in volume else np.where(share > 0, 1.0, 0.0)
        rows = np.arange(draws)
        present[:, column] = (1 - weight) * cost[lower, rows] + weight * cost[upper, rows]
        near, far = cost_by_year[lower, rows], cost_by_year[upper, rows]
        by_year[:, column] = (1 - weight)[:, None] * near + weight[:, None] * far
    return LineDraws(ids, present, by_year)

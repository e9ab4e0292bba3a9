"""Capacity surfaces: the usage of a deployment at several levels of demand, computed once by simulation.

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
from envelope.money.model import Model, build
from envelope.money.tax import TAX
from envelope.money.usage import VOLUMES, AnnualUsage, HostedTokens, OwnedAsset
from envelope.spec.economics import Economics

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_DEMAND = "demand_factor"


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """Cost models of one candidate at rising factors of the planned demand."""

    factors: tuple[float, ...]
    models: tuple[Model, ...]


def usage_at(levels: Sequence[tuple[float, AnnualUsage]], demand: Sequence[float]) -> tuple[AnnualUsage, ...]:
    """Return the usage of each year whose demand is ``demand[year]`` times the planned one.

    ``levels`` are simulated usages at rising factors of the planned demand. Machines of a year are those of the
    lowest level that covers it, and never fewer than the year before; work is interpolated between the levels
    (in proportion below the first). Demand above the last level raises ``ValueError``: nothing is known there.
    """
    years: list[AnnualUsage] = []
    for factor in demand:
        usage = _between(levels, factor)
        if years:
            usage = usage.model_copy(update={"owned": _at_least(usage.owned, years[-1].owned)})
        years.append(usage)
    return tuple(years)


def capacity_surface(
    economics: Economics,
    levels: Sequence[tuple[float, AnnualUsage]],
    growth: Sequence[float],
    factors: Sequence[float],
) -> Surface:
    """Return the cost models for a demand that is uncertain as a whole.

    ``growth[year]`` is the planned demand of each year over that at which ``levels`` has the factor 1;
    ``factors`` (rising) are the multiples of the whole path for which a model is built, and should span the
    range of ``demand_factor``.
    """
    models = [build(economics, usage_at(levels, [factor * g for g in growth])) for factor in factors]
    return Surface(tuple(factors), tuple(models))


def surface_draws(surface: Surface, common: Sample) -> LineDraws:
    """Return the cost of each line for every draw, each draw at its own ``demand_factor``.

    Draws outside the surface take its nearest end.
    """
    demand = np.broadcast_to(common.values(surface.models[0])[_DEMAND], len(common.points))
    lower, upper, share = _position(surface, demand)
    levels = [_level(model, common) for model in surface.models]
    return _combine(surface, levels, lower, upper, share)


def surface_months(
    surface: Surface, common: Sample, months: Callable[[Model, Values], dict[str, Floats]]
) -> dict[str, Floats]:
    """Return the cost of each line by month for every draw at its own ``demand_factor``, [draws, H + 1].

    ``months`` gives those of one model.
    """
    demand = np.broadcast_to(common.values(surface.models[0])[_DEMAND], len(common.points))
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


def _between(levels: Sequence[tuple[float, AnnualUsage]], factor: float) -> AnnualUsage:
    above = next((i for i, (level, _) in enumerate(levels) if level >= factor - 1e-12), None)
    if above is None:
        raise ValueError(f"demand factor {factor:g} lies above the last simulated level {levels[-1][0]:g}")
    top_level, top = levels[above]
    if above == 0:
        return top.grown(factor / top_level) if top_level else top
    low_level, low = levels[above - 1]
    share = (factor - low_level) / (top_level - low_level)
    update: dict[str, object] = {n: _mix(getattr(low, n), getattr(top, n), share) for n in VOLUMES}
    update["hosted"] = _mix_hosted(low.hosted, top.hosted, share)
    return top.model_copy(update=update)


def _mix(low: float, top: float, share: float) -> float:
    return low + (top - low) * share


def _mix_hosted(low: tuple[HostedTokens, ...], top: tuple[HostedTokens, ...], share: float) -> tuple[HostedTokens, ...]:
    tokens = {h.line_id: h.tokens for h in low}
    mixed = [h.model_copy(update={"tokens": _mix(tokens.get(h.line_id, 0.0), h.tokens, share)}) for h in top]
    gone = [h for h in low if h.line_id not in {t.line_id for t in top}]
    return (*mixed, *(h.model_copy(update={"tokens": h.tokens * (1 - share)}) for h in gone))


def _at_least(now: tuple[OwnedAsset, ...], before: tuple[OwnedAsset, ...]) -> tuple[OwnedAsset, ...]:
    """Return the machines of this year, with those of the year before that would otherwise be given up."""
    counts = {(a.id, a.leased): a.count for a in before}
    kept = [a.model_copy(update={"count": max(a.count, counts.pop((a.id, a.leased), 0.0))}) for a in now]
    return (*kept, *(a for a in before if (a.id, a.leased) in counts))

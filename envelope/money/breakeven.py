"""Break-even: the volume, price or month at which owning costs as much as renting."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from envelope.money.derived import parents
from envelope.money.draws import RATE, Sample, line_draws, sample
from envelope.money.evaluate import monthly_costs
from envelope.money.model import Model
from envelope.money.surface import Surface, cost_at_demand
from envelope.money.uncertainty import Quantiles
from envelope.provenance import Frozen

Floats = NDArray[np.float64]

DEMAND = "demand_factor"
TARIFFS = "tariff."
"""Beginning of the names of all hosted prices."""
_GRID = 49
_STEPS = 30


class BreakEven(Frozen):
    """Where two candidates cost the same, as a factor of the planned value or as a month."""

    quantity: str
    """``demand_factor``, the name of an input, the beginning of several (``tariff.``), or ``month``."""
    point: float | None
    """At the point value of every other input; ``None`` if there is no break-even in the range searched."""
    quantiles: Quantiles | None
    """P10, P50 and P90 over the draws that have one; ``None`` if none has."""
    exists_frac: float
    """Share of the draws that have a break-even in the range searched."""


def break_even_factor(
    candidate: Model | Surface,
    baseline: Model | Surface,
    quantity: str = DEMAND,
    *,
    low: float = 0.01,
    high: float = 100.0,
    draws: int = 1024,
    seed: int = 1,
) -> BreakEven:
    """Return the factor on an input at which both candidates have the same present value of costs.

    The factor multiplies the planned value: 0.5 for ``demand_factor`` is half the work (and half the utilisation
    of machines that stay), for ``tariff.<api>.output`` half the price. A name that ends in a dot stands for all inputs
    that begin with it: ``tariff.`` for every price of every hosted API. Of several crossings it is the
    lowest between ``low`` and ``high``. A ``Surface`` is searched by ``demand_factor`` only, within its factors.
    """
    point = _crossing(candidate, baseline, quantity, low, high, None)
    common = sample([*_models(candidate), *_models(baseline)], draws, seed)
    found = _crossing(candidate, baseline, quantity, low, high, common)
    return BreakEven(
        quantity=quantity,
        point=None if np.isnan(point[0]) else float(point[0]),
        quantiles=_quantiles(found),
        exists_frac=float(np.mean(~np.isnan(found))),
    )


def break_even_month(candidate: Model, baseline: Model, *, draws: int = 1024, seed: int = 1) -> BreakEven:
    """Return the month after which the cumulated (undiscounted) costs of ``candidate`` stay below ``baseline``'s.

    0 if they are never above.
    """
    if candidate.horizon_months != baseline.horizon_months:
        raise ValueError("the two candidates must cover the same horizon")
    point = _months(candidate, baseline, None)
    found = _months(candidate, baseline, sample([candidate, baseline], draws, seed))
    return BreakEven(
        quantity="month",
        point=None if np.isnan(point[0]) else float(point[0]),
        quantiles=_quantiles(found),
        exists_frac=float(np.mean(~np.isnan(found))),
    )


def _models(candidate: Model | Surface) -> tuple[Model, ...]:
    return (candidate,) if isinstance(candidate, Model) else candidate.models


def _values(model: Model, common: Sample | None) -> dict[str, Floats]:
    if common is not None:
        return common.values(model)
    return {name: np.array([item.point]) for name, item in model.inputs.items()}


def _crossing(
    candidate: Model | Surface, baseline: Model | Surface, quantity: str, low: float, high: float, common: Sample | None
) -> Floats:
    """Return the lowest factor at which the costs cross for each draw, NaN where they do not.

    A grid of factors brackets the first change of sign; bisection does the rest for all draws at once.
    """
    own, other = _cost_curve(candidate, quantity, common), _cost_curve(baseline, quantity, common)
    count = 1 if common is None else common.draws

    def difference(factor: Floats) -> Floats:
        return np.broadcast_to(own(factor) - other(factor), count)

    grid = np.geomspace(low, high, _GRID)
    signs = np.stack([np.sign(difference(np.full(count, x))) for x in grid])
    turns = signs[1:] * signs[:-1] <= 0
    first = np.argmax(turns, axis=0)
    below, above = grid[first], grid[first + 1]
    sign_below = signs[first, np.arange(count)]
    for _ in range(_STEPS):
        middle = (below + above) / 2
        same = np.sign(difference(middle)) == sign_below
        below, above = np.where(same, middle, below), np.where(same, above, middle)
    result: Floats = np.where(turns.any(axis=0), (below + above) / 2, np.nan)
    return result


def _cost_curve(candidate: Model | Surface, quantity: str, common: Sample | None) -> Callable[[Floats], Floats]:
    """Return the present value of the costs as a function of the factor on an input, for each draw."""
    if isinstance(candidate, Surface):
        if quantity != DEMAND:
            raise ValueError("a capacity surface has a break-even by demand_factor only")
        return cost_at_demand(candidate, [_values(model, common) for model in candidate.models])
    values = _values(candidate, common)
    base = line_draws(candidate, values)
    names = [n for n in values if n == quantity or (quantity.endswith(".") and n.startswith(quantity))]
    touched = [i for i, line in enumerate(candidate.lines) if not _inputs(line.input_names).isdisjoint(names)]

    def changed(factor: Floats) -> dict[str, Floats]:
        return values | {name: values[name] * factor for name in names}

    if len(base.line_ids) > len(candidate.lines) or quantity == RATE:
        return lambda factor: line_draws(candidate, changed(factor)).cost_npv_usd
    rest = base.cost_npv_usd - base.present_usd[:, touched].sum(axis=1)
    part = candidate.with_lines(touched)
    if not touched:
        return lambda factor: rest
    return lambda factor: rest + line_draws(part, changed(factor)).cost_npv_usd


def _inputs(names: tuple[str, ...]) -> set[str]:
    return {parent for name in names for parent in parents(name)}


def _months(candidate: Model, baseline: Model, common: Sample | None) -> Floats:
    own = np.sum(np.broadcast_arrays(*monthly_costs(candidate, _values(candidate, common)).values()), axis=0)
    other = np.sum(np.broadcast_arrays(*monthly_costs(baseline, _values(baseline, common)).values()), axis=0)
    saved = np.cumsum(other - own, axis=1)
    below = saved < -1e-9 * np.abs(saved).max(axis=1, keepdims=True)
    last = saved.shape[1] - 1 - np.argmax(below[:, ::-1], axis=1)
    rows, after = np.arange(len(saved)), np.minimum(last + 1, saved.shape[1] - 1)
    step = saved[rows, after] - saved[rows, last]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = last - saved[rows, last] / step
    never = below[:, -1]
    result: Floats = np.where(never, np.nan, np.where(below.any(axis=1), crossing, 0.0))
    return result


def _quantiles(found: Floats) -> Quantiles | None:
    there = found[~np.isnan(found)]
    if len(there) == 0:
        return None
    p10, p50, p90 = np.quantile(there, (0.1, 0.5, 0.9))
    return Quantiles(p10=float(p10), p50=float(p50), p90=float(p90))

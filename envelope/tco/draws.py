"""Draws of uncertain inputs, and the cost lines priced for all draws at once."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envelope.tco.cashflow import discount_factors
from envelope.tco.derived import parents
from envelope.tco.evaluate import monthly_costs
from envelope.tco.inputs import Values
from envelope.tco.lines import Line, month_years, price
from envelope.tco.model import Model, complete
from envelope.tco.result import by_year

Floats = NDArray[np.float64]

RATE = "discount_rate_frac_per_year"
_ALWAYS = (RATE, "tax_rate_frac", "hosted_commitment_usd_per_year", "demand_factor")
_RESIDUAL = "residual"


@dataclass(frozen=True, slots=True, eq=False)
class LineDraws:
    """Costs of a candidate for every draw, in dollars."""

    line_ids: tuple[str, ...]
    present_usd: Floats
    """[draws, lines] present value."""
    by_year_usd: Floats
    """[draws, lines, years] nominal cost of year 0 (purchase) and years 1, 2 …"""

    @property
    def cost_npv_usd(self) -> Floats:
        """[draws] present value of all lines."""
        total: Floats = self.present_usd.sum(axis=1)
        return total


def uncertain_names(models: Iterable[Model]) -> list[str]:
    """Return the names of the inputs that have a range and matter to at least one of the candidates."""
    names: dict[str, None] = {}
    for model in models:
        for name in (*_ALWAYS, *(n for line in model.lines for n in line.input_names)):
            for parent in parents(name):
                low, high = model.inputs[parent].spread.bounds
                if low < high:
                    names[parent] = None
    return list(names)


def dimension_of(name: str) -> str:
    """Return the random dimension of an input: the residual values of all ages move together."""
    return _RESIDUAL if name.startswith("residual_after_") else name


def uniform_draws(dimensions: int, draws: int, seed: int) -> Floats:
    """Return [draws, dimensions] scrambled Sobol points strictly between 0 and 1.

    ``draws`` should be a power of two, for which the points are balanced (A. B. Owen, *On dropping the first
    Sobol' point*, 2021). The points of a dimension depend on its position, so callers keep the order stable.
    """
    from scipy.stats import qmc  # slow to import, and a point estimate needs no draws

    if draws < 1 or draws & (draws - 1):
        raise ValueError("draws must be a power of two")
    if dimensions == 0:
        return np.zeros((draws, 0))
    points = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(seed)).random(draws)
    clipped: Floats = np.clip(points, 1e-9, 1.0 - 1e-9)
    return clipped


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Common random numbers of several candidates: an input has the same luck in all of them."""

    names: tuple[str, ...]
    """Uncertain inputs."""
    points: Floats
    """[draws, dimensions]"""
    dimensions: tuple[str, ...]

    def values(self, model: Model) -> dict[str, Floats]:
        """Return [draws] values of the uncertain inputs of one candidate and the point value of all others."""
        values = {name: np.array([item.point]) for name, item in model.inputs.items()}
        for name in self.names:
            if name in model.inputs:
                column = self.points[:, self.dimensions.index(dimension_of(name))]
                values[name] = model.inputs[name].spread.quantile(column)
        return values


def sample(models: Iterable[Model], draws: int, seed: int) -> Sample:
    """Return ``draws`` Sobol points over the uncertain inputs of all candidates together."""
    names = uncertain_names(models)
    dimensions = tuple(dict.fromkeys(dimension_of(name) for name in names))
    return Sample(tuple(names), uniform_draws(len(dimensions), draws, seed), dimensions)


def line_draws(model: Model, values: Values) -> LineDraws:
    """Return the cost of each line for every draw of ``values``.

    The price of a term is constant within a price year, so that present values need one product of discount
    factors and quantities per term and price year instead of a cash flow per draw.
    """
    full = complete(model, values)
    if np.any(full["tax_rate_frac"]) or np.any(full["hosted_commitment_usd_per_year"]):
        return _by_months(model, values, full[RATE])
    factors = discount_factors(full[RATE], model.horizon_months)
    count = max((len(v) for v in values.values()), default=1)
    present = np.zeros((count, len(model.lines)))
    years = np.zeros((count, len(model.lines), -(-model.horizon_months // 12) + 1))
    for i, line in enumerate(model.lines):
        present[:, i], years[:, i, :] = _line(line, full, factors, model.horizon_months)
    return LineDraws(tuple(line.id for line in model.lines), present, years)


def _line(line: Line, values: Values, factors: Floats, horizon_months: int) -> tuple[Floats, Floats]:
    present: Floats = np.zeros(1)
    years: Floats = np.zeros((1, -(-horizon_months // 12) + 1))
    for term in line.terms:
        unit_price = price(term, values)
        price_year = month_years(horizon_months) if term.price_year is None else term.price_year
        growth = 1.0 + values[term.growth] if term.growth is not None else np.ones(1)
        for year in np.unique(price_year[np.nonzero(term.quantity)[-1]]):
            quantity = np.where(price_year == year, term.quantity, 0.0)
            amount = unit_price * growth ** int(year)
            present = present + amount * (factors @ quantity)
            years = years + amount[:, None] * by_year(quantity)[None, :]
    return present, years


def _by_months(model: Model, values: Values, rate: Floats) -> LineDraws:
    """Return the same from monthly cash flows, which the computed lines need."""
    costs = monthly_costs(model, values)
    factors = discount_factors(rate, model.horizon_months)
    count = max(len(v) for v in values.values())
    ids = tuple(costs)
    present = np.stack([np.broadcast_to((cost * factors).sum(axis=1), count) for cost in costs.values()], axis=1)
    years = [np.broadcast_to(by_year(cost), (count, by_year(cost).shape[1])) for cost in costs.values()]
    return LineDraws(ids, present, np.stack(years, axis=1))

"""Draws of uncertain inputs, and the cost lines priced for all draws at once."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from envelope.money.cashflow import discount_factors
from envelope.money.commitment import COMMITMENT, year_ends
from envelope.money.derived import parents
from envelope.money.inputs import Values, point_values
from envelope.money.lines import Line, price
from envelope.money.model import Model, complete
from envelope.money.result import by_year
from envelope.money.tax import TAX, is_bought, write_off_matrix
from envelope.spec.ranges import Spread
from envelope.units import years_of

Floats = NDArray[np.float64]

DRAWS = 1024
"""Default number of draws, behind every expected cost."""

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
        for name in dict.fromkeys((*_ALWAYS, *(n for line in model.lines for n in line.input_names))):
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

    _check_draws(draws)
    if dimensions == 0:
        return np.zeros((draws, 0))
    points = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(seed)).random(draws)
    clipped: Floats = np.clip(points, 1e-9, 1.0 - 1e-9)
    return clipped


def _check_draws(draws: int) -> None:
    if draws < 1 or draws & (draws - 1):
        raise ValueError("draws must be a power of two")


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Common random numbers of several candidates: an input has the same luck in all of them."""

    names: tuple[str, ...]
    """Uncertain inputs."""
    points: Floats
    """[draws, dimensions]"""
    dimensions: tuple[str, ...]
    seed: int | None = None
    """Seed of the Latin hypercube; ``None`` for points of another origin."""

    @property
    def draws(self) -> int:
        """Number of draws."""
        return len(self.points)

    def values(self, model: Model) -> dict[str, Floats]:
        """Return [draws] values of the uncertain inputs of one candidate and the point value of all others."""
        values = point_values(model.inputs)
        for name in self.names:
            if name in model.inputs:
                spread, dimension = model.inputs[name].spread, dimension_of(name)
                if self.seed is None:
                    values[name] = spread.quantile(self.points[:, self.dimensions.index(dimension)])
                else:
                    values[name] = _drawn(spread, dimension, self.draws, self.seed)
        return values


@lru_cache(maxsize=4096)
def _drawn(spread: Spread, dimension: str, draws: int, seed: int) -> Floats:
    """Return the draws of an input; kept, since the candidates and the points of a map share most of them."""
    found = spread.quantile(_column(dimension, draws, seed))
    found.setflags(write=False)
    return found


def sample(models: Iterable[Model], draws: int = DRAWS, seed: int = 1) -> Sample:
    """Return ``draws`` points over the uncertain inputs of all candidates together.

    Latin hypercube: each input takes every one of ``draws`` equal slices of its probability once, in an order of its
    own (M. D. McKay, R. J. Beckman, W. J. Conover, *A comparison of three methods for selecting values of input
    variables*, 1979). The order depends on the input's name and the seed alone, so that a candidate's draws are the
    same whatever it is compared with.
    """
    _check_draws(draws)
    names = uncertain_names(models)
    dimensions = tuple(dict.fromkeys(dimension_of(name) for name in names))
    columns = [_column(name, draws, seed) for name in dimensions]
    points = np.stack(columns, axis=1) if columns else np.zeros((draws, 0))
    return Sample(tuple(names), points, dimensions, seed)


@lru_cache(maxsize=512)
def _column(dimension: str, draws: int, seed: int) -> Floats:
    """Return one point in each of ``draws`` equal slices between 0 and 1, in random order."""
    rng = np.random.default_rng([seed, zlib.crc32(dimension.encode())])
    column: Floats = (rng.permutation(draws) + rng.random(draws)) / draws
    column.setflags(write=False)
    return column


def present_draws(model: Model, values: Values) -> Floats:
    """Return the present value of each line for every draw, [draws, lines], as ``line_draws`` does with its years."""
    if follows_lines(model):
        return line_draws(model, values).present_usd
    full = complete(model, values)
    factors = _discount(full[RATE].tobytes(), model.horizon_months)
    present = np.zeros((max((len(v) for v in values.values()), default=1), len(model.lines)))
    for i, line in enumerate(model.lines):
        present[:, i] = _present(line, full, factors)
    return present


@lru_cache(maxsize=16)
def _discount(rates: bytes, months: int) -> Floats:
    """Return ``discount_factors`` of drawn rates; kept, since the candidates and the points of a map share them."""
    found = discount_factors(np.frombuffer(rates), months)
    found.setflags(write=False)
    return found


def follows_lines(model: Model) -> bool:
    """Return whether some line follows from the others draw by draw: tax saved, or spend promised but not used."""
    spreads = (model.inputs[name].spread for name in ("tax_rate_frac", "hosted_commitment_usd_per_year"))
    return any(max(spread.point, *spread.bounds) > 0 for spread in spreads)


def _present(line: Line, values: Values, factors: Floats) -> Floats:
    """Return the present value of a line, [draws or 1]."""
    present = np.zeros(1)
    for term in line.terms:
        unit_price = price(term, values)
        if term.growth is None:
            present = present + unit_price * (factors @ term.quantity)
            continue
        growth = 1.0 + values[term.growth]
        for year in term.years_paid:
            quantity = np.where(term.years == year, term.quantity, 0.0)
            grown = unit_price * growth**year if year else unit_price
            present = present + grown * (factors @ quantity)
    return present


def line_draws(model: Model, values: Values) -> LineDraws:
    """Return the cost of each line for every draw of ``values``.

    The price of a term is constant within a price year, so that present values need one product of discount
    factors and quantities per term and price year instead of a cash flow per draw.
    """
    full = complete(model, values)
    factors = _discount(full[RATE].tobytes(), model.horizon_months)
    costs = {line.id: _line(line, full, factors, None) for line in model.lines}
    shortfall = _shortfall(model, costs, full, factors)
    if shortfall is not None:
        costs[COMMITMENT] = shortfall
    if np.any(full["tax_rate_frac"]):
        costs[TAX] = _tax(model, costs, full, factors)
    count = max((len(v) for v in values.values()), default=1)
    present = np.zeros((count, len(costs)))
    years = np.zeros((count, len(costs), years_of(model.horizon_months) + 1))
    for i, cost in enumerate(costs.values()):
        present[:, i], years[:, i, :] = cost
    return LineDraws(tuple(costs), present, years)


def _line(line: Line, values: Values, factors: Floats, spread: Floats | None) -> tuple[Floats, Floats]:
    """Return present value [draws] and cost by year [draws, years] of a line.

    ``spread`` moves each month's payment to other months, [paid, booked], as depreciation does.
    """
    horizon = factors.shape[1] - 1
    present: Floats = np.zeros(1)
    years: Floats = np.zeros((1, years_of(horizon) + 1))
    for term in line.terms:
        unit_price = price(term, values)
        growth = 1.0 + values[term.growth] if term.growth is not None else np.ones(1)
        for year in term.years_paid:
            quantity = np.where(term.years == year, term.quantity, 0.0)
            quantity = quantity if spread is None else quantity @ spread
            amount = unit_price * growth**year
            present = present + amount * (factors @ quantity)
            years = years + amount[:, None] * by_year(quantity)[None, :]
    return present, years


def _shortfall(
    model: Model, costs: dict[str, tuple[Floats, Floats]], values: Values, factors: Floats
) -> tuple[Floats, Floats] | None:
    """Return the line of promised but unused hosted spend; ``envelope.money.commitment`` has it by month."""
    hosted = [costs[line.id][1] for line in model.lines if line.group == "hosted"]
    promised = values["hosted_commitment_usd_per_year"]
    if not hosted or not np.any(promised):
        return None
    bills: Floats = np.sum(np.broadcast_arrays(*hosted), axis=0)
    ends = year_ends(model.horizon_months)
    missing = np.maximum(0.0, promised[:, None] * np.diff(ends, prepend=0) / 12.0 - bills[:, 1:])
    present: Floats = (missing * factors[:, ends]).sum(axis=1)
    return present, np.hstack([np.zeros((len(missing), 1)), missing])


def _tax(
    model: Model, costs: dict[str, tuple[Floats, Floats]], values: Values, factors: Floats
) -> tuple[Floats, Floats]:
    """Return the line of tax saved; ``envelope.money.tax`` has it by month."""
    write_off = write_off_matrix(model.economics, model.horizon_months)
    bought = {line.id: line for line in model.lines if is_bought(line)}
    parts = [
        _line(bought[ident], values, factors, write_off) if ident in bought else cost for ident, cost in costs.items()
    ]
    rate = values["tax_rate_frac"]
    present: Floats = -rate * np.sum(np.broadcast_arrays(*(p for p, _ in parts)), axis=0)
    years: Floats = -rate[:, None] * np.sum(np.broadcast_arrays(*(y for _, y in parts)), axis=0)
    return present, years

"""Cost lines: quantities over months times products of inputs.

One formula of this shape serves the point estimate, thousands of draws and the spreadsheet.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from envelope.money.inputs import Values
from envelope.spec.economics import Group

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Power:
    """An input raised to a power: 1 is a factor, −1 a divisor."""

    name: str
    exponent: int = 1


@dataclass(frozen=True, eq=False)
class Term:
    """``amount[m] = quantity[m] · scale · Π input^exponent · (1 + growth)^price_year[m]``; a cost is positive."""

    quantity: Floats
    """[H + 1] what is paid for in each month."""
    factors: tuple[Power, ...]
    growth: str | None = None
    """Input with the yearly price change, or ``None`` for constant prices."""
    price_year: Ints | None = None
    """[H + 1] whole years by which the price has moved on; ``None`` is the month's own year."""
    scale: float = 1.0
    """Constant of the formula, such as −1 for money that comes back."""

    @property
    def years(self) -> Ints:
        """[H + 1] whole years by which the price has moved on in each month."""
        return month_years(len(self.quantity) - 1) if self.price_year is None else self.price_year

    @cached_property
    def years_paid(self) -> list[int]:
        """The ``years`` in which anything is paid, in order."""
        return sorted(set(self.years[self.quantity != 0].tolist()))

    @property
    def has_grown(self) -> bool:
        """Whether anything is paid after the first year's prices have moved."""
        return any(self.years_paid)


@dataclass(frozen=True, eq=False)
class Line:
    """One cost line: a sum of terms under one name."""

    id: str
    label: str
    group: Group
    unit: str
    """Unit of the quantity."""
    terms: tuple[Term, ...]
    capex: bool = False
    payer: str = "IT"
    volume: bool = False
    """Whether the quantity follows the demand (tokens, energy) rather than the machines."""
    note: str = ""

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs that the line depends on, in the order of the formula."""
        names = [p.name for t in self.terms for p in t.factors]
        names += [t.growth for t in self.terms if t.growth is not None and t.has_grown]
        return tuple(dict.fromkeys(names))

    @property
    def formula(self) -> str:
        """The formula in words: quantity times factors, with the price change."""
        texts = dict.fromkeys(_term_text(term, self.unit) for term in self.terms)
        return " + ".join(texts)

    def quantity_total(self) -> float:
        """Return the quantity over the whole horizon."""
        return float(sum(term.quantity.sum() for term in self.terms))


@lru_cache(maxsize=64)
def month_years(horizon_months: int) -> Ints:
    """Return the year (0, 1 …) whose prices hold in each month 0 … H: months 1–12 are year 0. Not to be written to.

    >>> month_years(14)[[0, 1, 12, 13]]
    array([0, 0, 0, 1])
    """
    years = np.maximum(0, (np.arange(horizon_months + 1) - 1) // 12)
    years.setflags(write=False)
    return years


def price(term: Term, values: Values) -> Floats:
    """Return the product of the term's factors, one number per draw."""
    product: Floats = np.array([term.scale])
    for power in term.factors:
        product = product * values[power.name] ** power.exponent
    return product


def amounts(line: Line, values: Values, horizon_months: int) -> Floats:
    """Return the cost of a line in dollars, [draws, H + 1]."""
    total: Floats = np.zeros((1, horizon_months + 1))
    for term in line.terms:
        year = term.years
        amount: Floats = term.quantity[None, :] * price(term, values)[:, None]
        if term.growth is not None:
            growth = 1.0 + np.asarray(values[term.growth], dtype=np.float64)
            powers = growth[:, None] ** np.arange(int(year.max(initial=0)) + 1)
            amount = amount * powers[:, year]
        total = total + amount
    return total


def mean_amounts(line: Line, values: Values, horizon_months: int) -> Floats:
    """Return the mean over the draws of ``amounts``, [H + 1]."""
    total: Floats = np.zeros(horizon_months + 1)
    for term in line.terms:
        year = term.years
        unit = price(term, values)
        means: Floats = np.full(int(year.max(initial=0)) + 1, unit.mean())
        if term.growth is not None:
            growth = 1.0 + np.asarray(values[term.growth], dtype=np.float64)
            means = (unit[:, None] * growth[:, None] ** np.arange(len(means))).mean(axis=0)
        total = total + term.quantity * means[year]
    return total


def _term_text(term: Term, unit: str) -> str:
    text = unit
    if term.scale != 1.0:
        text = f"{term.scale:g} × {text}"
    for power in term.factors:
        sign = "×" if power.exponent > 0 else "÷"
        text += f" {sign} {power.name}"
    return f"{text} × (1 + {term.growth})^year" if term.growth and term.has_grown else text

"""The cost model of one candidate: its lines and inputs, built from usage and economics, not yet priced."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from envelope.money.acquire import (
    Fleet,
    fleets,
    owned_lines,
    price_inputs,
    rental_lines,
)
from envelope.money.derived import with_derived
from envelope.money.inputs import Input, Values, own_input, resolve
from envelope.money.lines import Line
from envelope.money.running import hosted_lines, item_lines, literal_inputs
from envelope.money.usage import AnnualUsage
from envelope.spec.economics import PRICE_PREFIXES, Economics
from envelope.spec.ranges import Spread

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Everything that the costs of one candidate are computed from."""

    economics: Economics
    years: tuple[AnnualUsage, ...]
    lines: tuple[Line, ...]
    inputs: dict[str, Input]
    """Every input of the catalog, the scenario and the usage by name."""
    owned: tuple[Fleet, ...]

    @property
    def horizon_months(self) -> int:
        """Months that are counted."""
        return self.economics.horizon_months

    @property
    def ages_months(self) -> tuple[int, ...]:
        """Ages at which machines are sold."""
        return tuple({p.age_months for f in self.owned for p in f.purchases})

    def with_lines(self, positions: Sequence[int]) -> "Model":
        """Return the model with some of its lines only."""
        return replace(self, lines=tuple(self.lines[i] for i in positions))


def usage_by_year(economics: Economics, usage: AnnualUsage | Sequence[AnnualUsage]) -> tuple[AnnualUsage, ...]:
    """Return one usage for each year of the horizon.

    A single usage is taken as the first year's and grows with ``demand_growth_frac_per_year`` on the same
    machines; of a sequence that is too short the last year is repeated.
    """
    count = economics.years
    if isinstance(usage, AnnualUsage):
        growth = 1.0 + resolve(economics)["demand_growth_frac_per_year"].point
        return tuple(usage.grown(growth**year) for year in range(count))
    given = tuple(usage)[:count]
    return given + (given[-1],) * (count - len(given))


def build(economics: Economics, usage: AnnualUsage | Sequence[AnnualUsage]) -> Model:
    """Return the cost lines and inputs of one candidate, not yet priced."""
    years = usage_by_year(economics, usage)
    horizon = economics.horizon_months
    owned = tuple(fleets(economics, years))
    hosted, tariffs = hosted_lines(economics, years)
    inputs = {**resolve(economics), **price_inputs(economics, years), **tariffs, **literal_inputs(economics)}
    changes = [u.forced_changes_per_year for u in years if u.forced_changes_per_year is not None]
    if changes and "api_changes_per_year" not in economics.inputs:
        spread = Spread(value=changes[0], source="12 by the months of life of the hosted model")
        inputs["api_changes_per_year"] = own_input(
            economics, "api_changes_per_year", "Forced model changes", spread, "1/year"
        )
    own = {name: spread for name, spread in economics.inputs.items() if name in inputs and _is_price(name)}
    for name, spread in own.items():
        priced = own_input(economics, name, inputs[name].label, spread, inputs[name].unit)
        inputs[name] = replace(priced, overridden=True)
    lines = [line for fleet in owned for line in owned_lines(fleet, horizon)]
    lines += rental_lines(years, horizon)
    lines += hosted
    lines += item_lines(economics, years, owned)
    return Model(economics, years, tuple(lines), inputs, owned)


def _is_price(name: str) -> bool:
    """Return whether an input is a price that the usage brings along, rather than a default."""
    return name.startswith(PRICE_PREFIXES)


def complete(model: Model, values: Values) -> dict[str, Floats]:
    """Return the values with the derived inputs that the lines need."""
    return with_derived(values, model.ages_months, model.economics.lease_months)

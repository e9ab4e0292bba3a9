"""What a scenario says of its money that changes no cost of any candidate: accepted in silence, it would mislead."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from envelope.money.evaluate import monthly_costs
from envelope.money.inputs import point_values
from envelope.money.model import Model, build
from envelope.spec.economics import Economics
from envelope.spec.ranges import Spread

_Change = Callable[[Economics], dict[str, Any]]

_OTHER: dict[str, tuple[Any, ...]] = {
    "site": ("own_room", "colocation", "own_build"),
    "site_includes_power": (False, True),
    "depreciation": ("straight_line", "declining"),
    "depreciation_years": (1, 10),
    "declining_rate_frac": (0.1, 0.9),
    "hardware_life_months": (12, 60, 120),
    "lease_months": (12, 84),
}
"""Settings that are no numbers with ranges, and the values whose costs are compared."""
_ELSEWHERE = {"demand_factor", "demand_growth_frac_per_year", "discount_rate_frac_per_year"}
"""Inputs that change the work itself, which is simulated, or the present value of all lines."""
_MOVED, _ADDED = 1.37, 0.01
"""How far a number is moved to see whether anything follows; neither a doubling nor a round sum."""


def unused_inputs(economics: Economics, models: Sequence[Model]) -> tuple[str, ...]:
    """Return a sentence for each input, price, item or setting of the scenario that no line of any candidate follows.

    ``models`` are the cost models of the candidates that can run. Each entry is changed and every candidate priced
    again at the middle of its ranges, so that whatever way an entry may act is seen.
    """
    if not models:
        return ()
    before = [_costs(model) for model in models]
    return tuple(
        f"economics.{path} changes no cost line of any candidate that can run{why}"
        for path, why, changes in _entries(economics)
        if not any(_follows(model, costs, changes) for model, costs in zip(models, before, strict=True))
    )


def _follows(model: Model, before: dict[str, Any], changes: Sequence[_Change]) -> bool:
    for change in changes:
        economics = model.economics.changed(**change(model.economics))
        after = _costs(build(economics, model.years))
        if after.keys() != before.keys() or any(not np.allclose(after[k], before[k], rtol=1e-12) for k in before):
            return True
    return False


def _costs(model: Model) -> dict[str, Any]:
    return monthly_costs(model, point_values(model.inputs))


def _entries(economics: Economics) -> Iterator[tuple[str, str, list[_Change]]]:
    """Yield the path of each entry that a scenario gives, a reason to add, and the changes that would show its use."""
    for name, spread in economics.inputs.items():
        if name not in _ELSEWHERE:
            yield f"inputs.{name}", "", [_with_input(name, spread)]
    for item in economics.extra:
        why = "" if item.per != "seat" else ": `per: seat` counts laptops that are paid for, `per: user` counts people"
        yield f"extra.{item.id}", why, [_without("extra", item)]
    for field in ("include", "skip"):
        for name in getattr(economics, field):
            yield f"{field}.{name}", "", [_without(field, name)]
    for code in economics.usd_per_currency if "usd_per_currency" in economics.model_fields_set else ():
        yield f"usd_per_currency.{code}", "", [_with_rate(code)]
    for field in sorted(economics.model_fields_set - _ELSEWHERE):
        given = getattr(economics, field)
        if isinstance(given, Spread):
            yield field, "", [_with_field(field, _moved(given))]
        elif field in _OTHER:
            yield field, "", [_with_field(field, other) for other in _OTHER[field] if other != given]


def _moved(spread: Spread) -> Spread:
    if spread.default is not None:
        return Spread(value=_ADDED + _MOVED)
    return Spread(value=spread.point * _MOVED + _ADDED, currency=spread.currency)


def _with_input(name: str, spread: Spread) -> _Change:
    return lambda economics: {"inputs": {**economics.inputs, name: _moved(spread)}}


def _with_rate(code: str) -> _Change:
    def change(economics: Economics) -> dict[str, Any]:
        return {"usd_per_currency": {**economics.usd_per_currency, code: _moved(economics.usd_per_currency[code])}}

    return change


def _without(field: str, entry: object) -> _Change:
    return lambda economics: {field: tuple(x for x in getattr(economics, field) if x != entry)}


def _with_field(field: str, value: object) -> _Change:
    return lambda economics: {field: value}

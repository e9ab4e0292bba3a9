"""Inputs of the cost lines: named numbers in dollars with their ranges and sources."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from envelope.errors import InputError, Problem
from envelope.identity import Same
from envelope.provenance import DateText, Evidence
from envelope.spec.economic_facts import facts
from envelope.spec.economics import PRICE_PREFIXES, Default, Economics
from envelope.spec.ranges import Spread

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Input:
    """One named number, resolved: in dollars if money, with where it came from."""

    name: str
    label: str
    spread: Spread
    unit: str
    source: str
    date: DateText
    evidence: Evidence
    note: str = ""
    default: str = ""
    """Name of the catalog's default behind it, if any."""
    overridden: bool = False
    """Whether the scenario gave its own number."""

    neutral: bool = False
    """Whether it is a growth of 0 or a factor of 1 that nobody gave: no assumption of its own."""

    @property
    def point(self) -> float:
        """The number itself, without its uncertainty."""
        return self.spread.point

    @cached_property
    def as_array(self) -> Floats:
        """[1] the number itself. Not to be written to."""
        found = np.array([self.point])
        found.setflags(write=False)
        return found


Inputs = Mapping[str, Input]
Values = Mapping[str, Floats]
"""Input name → one number, or one number per draw."""


def resolve(economics: Economics) -> dict[str, Input]:
    """Return every input of the catalog and of the scenario by name.

    A default that the scenario replaces (``inputs``) keeps its name; general names (``electricity``) stand for
    the default of the region. Amounts in a foreign currency become dollars at the scenario's dated rate.
    """
    return dict(_resolved(Same(economics), id(facts())))


@lru_cache(maxsize=64)
def _resolved(money: Same[Economics], _known: int) -> dict[str, Input]:
    """Return the inputs of a scenario's money; kept, since all points of a map share it."""
    economics = money.record
    found = _defaults(economics)
    general_names = facts().regions[economics.region]
    own = {n: spread for n, spread in economics.inputs.items() if not n.startswith(PRICE_PREFIXES)}
    found |= {n: _from_scenario(economics, n, spread, found) for n, spread in own.items() if n not in general_names}
    found |= {general: replace(found[specific], name=general) for general, specific in general_names.items()}
    found |= {n: _from_scenario(economics, n, spread, found) for n, spread in own.items() if n in general_names}
    for field in Economics.model_fields:
        spread = getattr(economics, field)
        if isinstance(spread, Spread):
            made = _from_scenario(economics, field, spread, found)
            given = field in economics.model_fields_set or spread.default is not None
            found[field] = made if given else replace(made, overridden=False, neutral=True, source="not given")
    return found


def own_input(economics: Economics, name: str, label: str, spread: Spread, unit: str) -> Input:
    """Return an input that the usage brings along, such as the price of a server."""
    if spread.default is not None:
        return replace(_from_default(economics, spread.default), name=name, label=label)
    if spread.currency is not None:
        spread = spread.scaled(_usd_per(economics, spread.currency, name))
    evidence = spread.evidence or (Evidence.DATASHEET if spread.source else Evidence.ASSUMED)
    return Input(name, label, spread, unit, spread.source or "given by the caller", spread.date or "2026", evidence)


def point_values(inputs: Inputs) -> dict[str, Floats]:
    """Return every input as an array of its one point value."""
    return {name: item.as_array for name, item in inputs.items()}


def _defaults(economics: Economics) -> dict[str, Input]:
    """Return every default of the catalog, converted at the scenario's rates; kept, since each candidate asks."""
    known = id(facts())
    rates = tuple((c, _usd_per(economics, c, f"inputs.{name}")) for c, name in _foreign(known).items())
    return dict(_converted(known, rates))


@lru_cache(maxsize=1)
def _foreign(_known: int) -> dict[str, str]:
    """Return each foreign currency of the catalog with a default that is given in it."""
    currencies = {name: default.currency for name, default in facts().defaults.items()}
    return {currency: name for name, currency in currencies.items() if currency and currency != "USD"}


@lru_cache(maxsize=16)
def _converted(_known: int, rates: tuple[tuple[str, float], ...]) -> dict[str, Input]:
    usd_per = dict(rates)
    return {name: _input_of(name, d, usd_per.get(d.currency or "USD", 1.0)) for name, d in facts().defaults.items()}


def _from_default(economics: Economics, name: str) -> Input:
    default = facts().defaults[name]
    foreign = default.currency is not None and default.currency != "USD"
    return _input_of(name, default, _usd_per(economics, default.currency or "", f"inputs.{name}") if foreign else 1.0)


def _input_of(name: str, default: Default, usd_per: float) -> Input:
    spread = Spread(low=default.low, p50=default.value, high=default.high)
    if default.low == default.high:
        spread = Spread(value=default.value)
    unit = default.unit
    if default.currency and default.currency != "USD":
        spread = spread.scaled(usd_per)
        unit = "USD" + unit[3:]
    return Input(
        name=name,
        label=default.label,
        spread=spread,
        unit=unit,
        source=default.source,
        date=default.date,
        evidence=default.evidence,
        note=default.note,
        default=name,
    )


def _from_scenario(economics: Economics, name: str, spread: Spread, known: Inputs) -> Input:
    if spread.default is not None:
        return replace(known[spread.default], name=name)
    rate = _usd_per(economics, spread.currency, name) if spread.currency else 1.0
    before = known.get(name)
    return Input(
        name=name,
        label=before.label if before else name.replace("_", " "),
        spread=spread.scaled(rate),
        unit=before.unit if before else _unit_of(name),
        source=spread.source or "the scenario",
        date=spread.date or economics.start,
        evidence=spread.evidence or (Evidence.DATASHEET if spread.source else Evidence.ASSUMED),
        overridden=True,
    )


def _usd_per(economics: Economics, currency: str, path: str) -> float:
    """Return the dollars for one unit of a currency, at the scenario's rate."""
    if currency == "USD":
        return 1.0
    rate = economics.usd_per_currency.get(currency)
    if rate is None:
        known = ", ".join(["USD", *economics.usd_per_currency])
        rule = f"has no exchange rate; known: {known}"
        remedy = f"add economics.usd_per_currency.{currency} with date and source"
        raise InputError(Problem("economics", path, currency, rule, remedy))
    name = rate.default
    override = economics.inputs.get(name) if name is not None else None
    if name is not None and override is None:
        return facts().defaults[name].value
    return (override or rate).point


_UNITS = ("usd_per_kw_month", "usd_per_kwh", "frac_per_year", "frac")


def _unit_of(name: str) -> str:
    suffix = next((u for u in _UNITS if name.endswith(u)), "")
    return {"usd_per_kw_month": "USD/kW-month", "usd_per_kwh": "USD/kWh", "frac_per_year": "1/year"}.get(suffix, "")

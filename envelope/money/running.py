"""Running costs: hosted tokens, and the items of the catalog (energy, staff, software, evaluation …)."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from envelope.identity import Same
from envelope.money.acquire import Fleet, at_month, by_month, fixed_year, while_in_service
from envelope.money.drivers import DRIVERS, Driven, racks_bought
from envelope.money.inputs import Input, own_input
from envelope.money.lines import Line, Power, Term, month_years
from envelope.money.usage import AnnualUsage, HostedTokens
from envelope.provenance import Evidence
from envelope.spec.economic_facts import facts
from envelope.spec.economics import CostItem, Economics
from envelope.spec.ranges import Spread
from envelope.units import MTOK

Floats = NDArray[np.float64]

HOSTED_TREND = "hosted_price_trend_frac_per_year"
DEMAND = "demand_factor"
"""Input that multiplies every quantity that follows the volume of work."""
TARIFF_SHARE = "hosted_price_frac"
"""Derived input: what is left of the tariff after the discount."""
SAMPLED = "simulated_hosted_tokens"
"""Input of 1 with the error of the hosted tokens that the simulation leaves."""
_Z90 = 1.2815515655446004
"""Standard normal quantile of 0.9."""
_SMALL = 0.002
"""Relative error that no range shows."""


def hosted_lines(economics: Economics, years: Sequence[AnnualUsage]) -> tuple[list[Line], dict[str, Input]]:
    """Return one line for each tariff line that is used, with the prices as inputs.

    A price that differs in a later year (an announced change) becomes an input of its own; the price trend
    counts from the first year of each price.
    """
    horizon_months = economics.horizon_months
    kinds = dict.fromkeys(h.line_id for usage in years for h in usage.hosted)
    lines: list[Line] = []
    inputs = _sampling_input(years)
    factors = (Power(TARIFF_SHARE), Power(DEMAND), *(Power(name) for name in inputs))
    for line_id in kinds:
        terms = []
        for name, first, spread, tokens in _price_periods(line_id, years):
            inputs[name] = own_input(
                economics, name, f"Tariff {line_id.removeprefix('hosted.')}", spread, "USD/M tokens"
            )
            since = np.maximum(0, month_years(horizon_months) - first)
            quantity = by_month(tokens, horizon_months) / 12.0 / MTOK
            terms.append(Term(quantity, (Power(name), *factors), HOSTED_TREND, since))
        label = f"Hosted API: {line_id.removeprefix('hosted.')}"
        lines.append(Line(line_id, label, "hosted", "M tokens", tuple(terms), volume=True))
    return lines, inputs


def _sampling_input(years: Sequence[AnnualUsage]) -> dict[str, Input]:
    """Return the input that stands for the sampling error of the hosted tokens, if there is one worth showing."""
    error = max((u.hosted_error_frac for u in years), default=0.0)
    if error < _SMALL:
        return {}
    low, high = math.exp(-_Z90 * error), math.exp(_Z90 * error)
    spread = Spread(p10=low, p50=1.0, p90=high)
    source = "binomial error of the simulated requests that are sent out"
    label = "Hosted tokens of a year by those of the simulated time"
    return {SAMPLED: Input(SAMPLED, label, spread, "", source, "2026", Evidence.FITTED)}


def _price_periods(line_id: str, years: Sequence[AnnualUsage]) -> list[tuple[str, int, Spread, list[float]]]:
    """Return (input name, first year, price, tokens by year) for each price that the line has over the years."""
    periods: list[tuple[str, int, Spread, list[float]]] = []
    for year, usage in enumerate(years):
        entries: list[HostedTokens] = [h for h in usage.hosted if h.line_id == line_id]
        for entry in entries:
            known = next((p for p in periods if p[2] == entry.usd_per_mtok), None)
            if known is None:
                name = f"tariff.{line_id.removeprefix('hosted.')}" + (f"@{len(periods) + 1}" if periods else "")
                known = (name, year, entry.usd_per_mtok, [0.0] * len(years))
                periods.append(known)
            known[3][year] += entry.tokens
    return periods


def item_lines(economics: Economics, years: Sequence[AnnualUsage], owned: Sequence[Fleet]) -> list[Line]:
    """Return the lines of the catalog's and the scenario's items that apply to this deployment."""
    lines, applies = [], _applies(years)
    for item in (*facts().items, *economics.extra):
        if applies[item.applies_to] and _is_paid(item, economics):
            line = _item_line(item, economics, years, owned)
            if line.terms:
                lines.append(line)
    return lines


def literal_name(item: CostItem, position: int) -> str:
    """Return the name of the input behind a bare number among an item's factors."""
    return f"{item.id}.factor{position + 1}"


def literal_inputs(economics: Economics) -> dict[str, Input]:
    """Return the numbers written directly into items as inputs."""
    return dict(_literal_inputs(Same(economics), id(facts())))


@lru_cache(maxsize=64)
def _literal_inputs(money: Same[Economics], _known: int) -> dict[str, Input]:
    economics, found = money.record, {}
    for item in (*facts().items, *economics.extra):
        for i, spread in enumerate((*item.factors, *item.divided_by)):
            if spread.default is None:
                name = literal_name(item, i)
                found[name] = own_input(economics, name, f"{item.label}, factor {i + 1}", spread, "")
    return found


def _is_paid(item: CostItem, economics: Economics) -> bool:
    own = item in economics.extra
    if item.id in economics.skip or (item.site and item.site != economics.site):
        return False
    if item.id == "energy" and economics.site == "colocation" and economics.site_includes_power:
        return False
    return own or not item.optional or item.id in economics.include


def _applies(years: Sequence[AnnualUsage]) -> dict[str, bool]:
    """Return to which deployments items may apply, and whether this is one of them."""
    kinds = {asset.kind for usage in years for asset in usage.owned if asset.count > 0}
    owned = bool(kinds & {"server", "device"})
    rented = any(usage.rented for usage in years)
    return {
        "any": True,
        "self_hosted": owned or rented,
        "owned": owned,
        "bought": any(a.kind != "seat" and not a.leased and a.count > 0 for u in years for a in u.owned),
        "rented": rented,
        "seat": "seat" in kinds,
        "hosted": any(usage.hosted for usage in years),
    }


def _item_line(item: CostItem, economics: Economics, years: Sequence[AnnualUsage], owned: Sequence[Fleet]) -> Line:
    horizon, powers = economics.horizon_months, _powers(Same(item))
    if item.per in ("purchase", "installed"):
        terms = _asset_terms(item, powers, owned, horizon)
    else:
        quantity = _quantity(item, years, owned, horizon)
        terms = (Term(quantity, powers, item.growth),) if quantity.any() or DRIVERS[item.per].follows_volume else ()
    unit = DRIVERS[item.per].unit
    if item.when == "per_month":
        unit = unit.replace("year", "month")
    elif item.when in ("start", "end"):
        unit = unit.replace("-years", "s")
    volume = DRIVERS[item.per].follows_volume
    return Line(item.id, item.label, item.group, unit, terms, item.capex, item.payer, volume, item.note)


@lru_cache(maxsize=1024)
def _powers(entry: Same[CostItem]) -> tuple[Power, ...]:
    """Return the factors and divisors of an item; kept, since items are those of the catalog nearly always."""
    item = entry.record
    powers = tuple(
        Power(spread.default or literal_name(item, i), 1 if i < len(item.factors) else -1)
        for i, spread in enumerate((*item.factors, *item.divided_by))
    )
    return (*powers, Power(DEMAND)) if DRIVERS[item.per].follows_volume else powers


def _asset_terms(
    item: CostItem, powers: tuple[Power, ...], owned: Sequence[Fleet], horizon_months: int
) -> tuple[Term, ...]:
    """Return a term for each purchase: shares of the price, at the time or during the life of the purchase."""
    terms = []
    for fleet in owned:
        if fleet.asset.kind not in item.assets or (fleet.asset.leased and item.applies_to == "bought"):
            continue
        for p in fleet.purchases:
            if item.per == "purchase" or item.when == "start":
                quantity = at_month(p.month, p.count, horizon_months)
            elif item.when == "end":
                quantity = at_month(p.sold_month, p.count, horizon_months)
            else:
                quantity = while_in_service(p, horizon_months) * p.count / (12.0 if item.when == "per_year" else 1.0)
            factors = (Power(fleet.price_name), *powers)
            trend = "hardware_price_trend_frac_per_year"
            terms.append(Term(quantity, factors, trend, fixed_year(p, horizon_months)))
    return tuple(terms)


def _quantity(item: CostItem, years: Sequence[AnnualUsage], owned: Sequence[Fleet], horizon_months: int) -> Floats:
    """Return what the item is charged for in each month, [H + 1]."""
    if item.per == "rack":
        return racks_bought(owned, horizon_months)
    driver = DRIVERS[item.per].amount(Driven(years, owned, horizon_months))
    if item.when == "start":
        return at_month(0, float(driver[1]), horizon_months)
    if item.when == "end":
        return at_month(horizon_months, float(driver[-1]), horizon_months)
    return driver / 12.0 if item.when == "per_year" else driver

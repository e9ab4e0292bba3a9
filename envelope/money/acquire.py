"""Acquisition: purchase, lease and rental of machines as cost lines."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envelope.money.inputs import Input, own_input
from envelope.money.lines import Line, Power, Term, month_years
from envelope.money.usage import AnnualUsage, OwnedAsset, RentedDevices
from envelope.spec.economics import Economics

Floats = NDArray[np.float64]

TREND = "hardware_price_trend_frac_per_year"
RENTAL_TREND = "rental_price_trend_frac_per_year"
LEASE_PAYMENT = "lease_payment_frac_per_month"
"""Derived input: monthly payment for a machine of price 1."""
LEASE_EXIT = "lease_exit_share"
"""Default: share of the payments left that a lease given up early still costs."""
_HOURS_PER_MONTH = 730.5
_TERM_YEARS = {"reserved_3y": 3}


@dataclass(frozen=True, slots=True)
class Purchase:
    """Machines bought together, in service from ``month`` to ``sold_month``."""

    month: int
    sold_month: int
    count: float

    @property
    def price_year(self) -> int:
        """Whole years of price trend until the purchase."""
        return self.month // 12

    @property
    def age_months(self) -> int:
        """Age when sold."""
        return self.sold_month - self.month


@dataclass(frozen=True, slots=True)
class Fleet:
    """All purchases (or leases) of one kind of machine over the horizon."""

    asset: OwnedAsset
    purchases: tuple[Purchase, ...]
    life_months: int
    """Age at which a machine is replaced, or length of its lease."""

    @property
    def price_name(self) -> str:
        """Name of the input that holds the unit price."""
        return f"price.{self.asset.id}"


def purchases(counts: Sequence[float], horizon_months: int, life_months: int) -> tuple[Purchase, ...]:
    """Return what is bought so that ``counts[year]`` machines are in service, each for ``life_months`` at most.

    Growth is bought at the start of the year; machines that reach their life are sold and replaced in that
    month; a fleet that is too large is kept.

    >>> purchases([2, 3], 24, 48)
    (Purchase(month=0, sold_month=24, count=2), Purchase(month=12, sold_month=24, count=1))
    """
    bought: list[Purchase] = []
    for month in range(horizon_months):
        in_service = sum(p.count for p in bought if p.sold_month > month)
        missing = counts[month // 12] - in_service
        if missing > 1e-9:
            bought.append(Purchase(month, min(month + life_months, horizon_months), missing))
    return tuple(bought)


def fleets(economics: Economics, years: Sequence[AnnualUsage]) -> list[Fleet]:
    """Return the machines that the company buys or leases, by kind."""
    kinds: dict[tuple[str, bool], OwnedAsset] = {}
    for usage in years:
        for asset in usage.owned:
            kinds.setdefault((asset.id, asset.leased), asset)
    result = []
    for (ident, leased), asset in kinds.items():
        counts = [sum(a.count for a in u.owned if (a.id, a.leased) == (ident, leased)) for u in years]
        life = economics.lease_months if leased else economics.hardware_life_months
        result.append(Fleet(asset, purchases(counts, economics.horizon_months, life), life))
    return result


def in_service(fleet: Fleet, horizon_months: int) -> Floats:
    """Return the machines in service during each month, [H + 1]; month 0 is 0."""
    months = np.arange(horizon_months + 1)
    count = np.zeros(horizon_months + 1)
    for p in fleet.purchases:
        count += p.count * ((months > p.month) & (months <= p.sold_month))
    return count


def at_month(month: int, amount: float, horizon_months: int) -> Floats:
    """Return a quantity that is paid once."""
    quantity = np.zeros(horizon_months + 1)
    quantity[month] = amount
    return quantity


def while_in_service(p: Purchase, horizon_months: int) -> Floats:
    """Return 1 for every month in which the purchase is in service."""
    months = np.arange(horizon_months + 1)
    return ((months > p.month) & (months <= p.sold_month)).astype(np.float64)


def fixed_year(p: Purchase, horizon_months: int) -> NDArray[np.int64]:
    """Return the price year of a purchase for every month."""
    return np.full(horizon_months + 1, p.price_year)


def owned_lines(fleet: Fleet, horizon_months: int) -> list[Line]:
    """Return the lines of one kind of machine: its purchase and sale, or its lease."""
    asset = fleet.asset
    if asset.leased:
        return [_lease_line(fleet, horizon_months), *_lease_end(fleet, horizon_months)]
    price = Power(fleet.price_name)
    bought = tuple(
        Term(at_month(p.month, p.count, horizon_months), (price,), TREND, fixed_year(p, horizon_months))
        for p in fleet.purchases
    )
    line = Line(f"purchase.{asset.id}", f"Purchase: {asset.id}", "hardware", "machines", bought, capex=True)
    if asset.kind == "seat" or not bought:
        return [line] if bought else []
    sold = tuple(
        Term(
            at_month(p.sold_month, p.count, horizon_months),
            (price, Power(residual_name(p.age_months))),
            TREND,
            fixed_year(p, horizon_months),
            scale=-1.0,
        )
        for p in fleet.purchases
    )
    label = f"Residual value: {asset.id}"
    return [line, Line(f"residual.{asset.id}", label, "hardware", "machines", sold, capex=True)]


def _lease_line(fleet: Fleet, horizon_months: int) -> Line:
    terms = tuple(
        Term(
            while_in_service(p, horizon_months) * p.count,
            (Power(fleet.price_name), Power(LEASE_PAYMENT)),
            TREND,
            fixed_year(p, horizon_months),
        )
        for p in fleet.purchases
    )
    label = f"Lease: {fleet.asset.id}"
    return Line(f"lease.{fleet.asset.id}", label, "hardware", "machine-months", terms)


def _lease_end(fleet: Fleet, horizon_months: int) -> list[Line]:
    """Return the line of the payments that leases still owe at the end of the horizon; none if all have run out."""
    terms = []
    for p in fleet.purchases:
        owed = p.month + fleet.life_months - horizon_months
        if owed > 0 and p.sold_month == horizon_months:
            quantity = at_month(horizon_months, p.count * owed, horizon_months)
            factors = (Power(fleet.price_name), Power(LEASE_PAYMENT), Power(LEASE_EXIT))
            terms.append(Term(quantity, factors, TREND, fixed_year(p, horizon_months)))
    label = f"Lease, rest owed at the end of the horizon: {fleet.asset.id}"
    line = Line(f"lease_end.{fleet.asset.id}", label, "hardware", "machine-months", tuple(terms))
    return [line] if terms else []


def rental_lines(years: Sequence[AnnualUsage], horizon_months: int) -> list[Line]:
    """Return one line for each kind of rented device and way of renting it."""
    kinds = {(r.id, r.mode): r for usage in years for r in reversed(usage.rented)}
    return [_rental_line(rented, years, horizon_months) for rented in kinds.values()]


def _rental_line(rented: RentedDevices, years: Sequence[AnnualUsage], horizon_months: int) -> Line:
    key = (rented.id, rented.mode)
    hours = [sum(r.device_hours for r in u.rented if (r.id, r.mode) == key) for u in years]
    quantity = by_month(hours, horizon_months) / 12.0
    name = rent_name(rented)
    step = _TERM_YEARS.get(rented.mode, 1)
    price_year = month_years(horizon_months) // step * step
    terms = [Term(quantity, (Power(name),), RENTAL_TREND, price_year)]
    if rented.mode == "spot":
        lost = (Power(name), Power("spot_interruption_month"), Power("recovery_restart"))
        terms.append(Term(quantity, lost, RENTAL_TREND, price_year, scale=1 / _HOURS_PER_MONTH))
    label = f"Rental, {rented.mode.replace('_', ' ')}: {rented.id}"
    note = "with hours lost to interruptions" if rented.mode == "spot" else ""
    return Line(name, label, "rental", "device-hours", tuple(terms), note=note)


def rent_name(rented: RentedDevices) -> str:
    """Return the name of the input with the hourly price, which is also the line's id."""
    return f"rent.{rented.id}.{rented.mode}"


def by_month(per_year: Sequence[float], horizon_months: int) -> Floats:
    """Return the value of each month's year, [H + 1]; month 0 is 0."""
    values = np.asarray(per_year, dtype=np.float64)[month_years(horizon_months)]
    values[0] = 0.0
    return values


def residual_name(age_months: int) -> str:
    """Return the name of the derived input: share of the price that a machine of that age fetches."""
    return f"residual_after_{age_months}m"


def price_inputs(economics: Economics, years: Sequence[AnnualUsage]) -> dict[str, Input]:
    """Return the prices of machines that the usage brings along."""
    found = {}
    for fleet in fleets(economics, years):
        label = f"Price of {fleet.asset.id}"
        found[fleet.price_name] = own_input(economics, fleet.price_name, label, fleet.asset.unit_price_usd, "USD")
    for rented in (r for usage in years for r in usage.rented):
        name = rent_name(rented)
        if name not in found:
            label = f"Rent of {rented.id}, {rented.mode.replace('_', ' ')}"
            found[name] = own_input(economics, name, label, rented.usd_per_device_hour, "USD/device-hour")
    return found

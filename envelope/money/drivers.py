"""What cost items are charged for: one entry for each ``Per`` of the catalog."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envelope.money.acquire import Fleet, by_month, in_service
from envelope.money.usage import AnnualUsage
from envelope.spec.economics import Per
from envelope.units import MTOK

Floats = NDArray[np.float64]

DEVICES_PER_NODE = 8
"""Devices that count as one node of operations effort."""
_RACK_UNITS = 42


@dataclass(frozen=True, slots=True)
class Driven:
    """What a driver is computed from: the usage of every year, and the machines with their purchases."""

    years: Sequence[AnnualUsage]
    owned: Sequence[Fleet]
    horizon_months: int

    def yearly(self, amount: Callable[[AnnualUsage], float]) -> Floats:
        """Return a figure of each year's usage in that year's months, [H + 1]."""
        return by_month([amount(usage) for usage in self.years], self.horizon_months)

    def served(self, amount: Callable[[Fleet], float], *, seats: bool = False) -> Floats:
        """Return a figure of each owned machine while it is in service, summed, [H + 1]; ``seats`` takes laptops."""
        total = np.zeros(self.horizon_months + 1)
        for fleet in self.owned:
            if (fleet.asset.kind == "seat") is seats:
                total = total + in_service(fleet, self.horizon_months) * amount(fleet)
        return total


@dataclass(frozen=True, slots=True)
class Driver:
    """What an item is multiplied by."""

    unit: str
    """Unit of the amount over a year."""
    amount: Callable[[Driven], Floats]
    """Yearly rate (tasks, kWh) or number in service (devices, kW) in each month, [H + 1]."""
    follows_volume: bool = False
    """Whether the amount follows the volume of work rather than the machines."""


def _devices(d: Driven) -> Floats:
    """Return the devices in service, owned (without seats) and rented."""
    return d.yearly(lambda u: sum(r.devices for r in u.rented)) + d.served(lambda f: f.asset.devices_per_unit)


DRIVERS: dict[Per, Driver] = {
    "candidate": Driver("years", lambda d: d.yearly(lambda _: 1.0)),
    "node": Driver("node-years", lambda d: _devices(d) / DEVICES_PER_NODE),
    "device": Driver("device-years", _devices),
    "rack": Driver("racks", lambda d: racks_bought(d.owned, d.horizon_months)),
    "seat": Driver("seat-years", lambda d: d.served(lambda _: 1.0, seats=True)),
    "user": Driver("user-years", lambda d: d.yearly(lambda u: u.seats)),
    "it_kw": Driver("kW-years", lambda d: d.served(lambda f: f.asset.max_w / 1000.0)),
    "it_kwh": Driver("kWh", lambda d: d.yearly(lambda u: u.it_kwh), follows_volume=True),
    "seat_kwh": Driver("kWh", lambda d: d.yearly(lambda u: u.seat_kwh), follows_volume=True),
    "output_mtok": Driver("M tokens", lambda d: d.yearly(lambda u: u.output_tokens / MTOK), follows_volume=True),
    "solved_task": Driver("tasks", lambda d: d.yearly(lambda u: u.solved_tasks), follows_volume=True),
    "failed_task": Driver("tasks", lambda d: d.yearly(lambda u: u.failed_tasks), follows_volume=True),
    "purchase": Driver("machines", lambda d: d.served(lambda _: 1.0)),
    "installed": Driver("machine-years", lambda d: d.served(lambda _: 1.0)),
    "outage_seat_hour": Driver("seat-hours", lambda d: d.yearly(lambda u: u.downtime_hours * u.seats)),
}
"""Driver by the ``per`` of an item; ``purchase`` and ``installed`` are multiplied by the machines' prices besides."""


def racks_bought(owned: Sequence[Fleet], horizon_months: int) -> Floats:
    """Return the racks bought in each month: whole racks for the most rack units that were ever in service."""
    units = np.zeros(horizon_months + 1)
    for fleet in owned:
        units += in_service(fleet, horizon_months) * fleet.asset.rack_units
    needed = np.maximum.accumulate([math.ceil(u / _RACK_UNITS) for u in units])
    return np.diff(needed, append=needed[-1]).astype(np.float64)

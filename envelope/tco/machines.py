"""From a way of paying for devices to the machines of a year of usage."""

import math

from envelope.errors import InputError, Problem
from envelope.spec.cloud import rental_price
from envelope.spec.hardware import HardwareProfile, Price, ServerProfile
from envelope.spec.ranges import Spread
from envelope.spec.scenario import Acquisition
from envelope.tco.usage import OwnedAsset, RentedDevices
from envelope.units import DAYS_PER_YEAR

SEAT_UPLIFT = "ai_laptop_uplift"
"""Default for the dearer part of a user's laptop."""


def machines(
    acquisition: Acquisition,
    device: HardwareProfile,
    server: ServerProfile | None,
    devices: int,
    *,
    file: str = "scenario",
    path: str = "acquisition",
) -> tuple[tuple[OwnedAsset, ...], tuple[RentedDevices, ...]]:
    """Return what a year of usage owns and rents when ``devices`` devices are paid for as ``acquisition`` says.

    Purchases are whole servers if ``server`` is given, else single devices. Rented devices run
    ``hours_per_day`` on every day of the year; a spot or reserved price without quotes is the on-demand price
    less the catalog's discount. ``file`` and ``path`` locate the acquisition in errors.
    """
    if acquisition.kind == "seat_uplift":
        price = _own_price(acquisition, 1) or Spread(default=SEAT_UPLIFT)
        return (OwnedAsset(id=device.id, kind="seat", count=devices, unit_price_usd=price),), ()
    if acquisition.kind == "purchase":
        return (_purchase(acquisition, device, server, devices, file, path),), ()
    hourly = _own_price(acquisition, 1) or rental_price(device.id, acquisition.kind, file=file, path=path)
    hours = devices * acquisition.hours_per_day * DAYS_PER_YEAR
    rented = RentedDevices(
        id=device.id, mode=acquisition.kind, device_hours=hours, usd_per_device_hour=hourly, devices=devices
    )
    return (), (rented,)


def _purchase(
    acquisition: Acquisition,
    device: HardwareProfile,
    server: ServerProfile | None,
    devices: int,
    file: str,
    path: str,
) -> OwnedAsset:
    if server is None:
        price = _own_price(acquisition, 1) or _profile_price(device.price, device, device.id)
        if price is None:
            raise _unpriced(device.id, file, path)
        return OwnedAsset(id=device.id, kind="device", count=devices, unit_price_usd=price, max_w=device.power.max_w)
    price = _own_price(acquisition, server.device_count) or _profile_price(server.price, server, server.id)
    if price is None:
        raise _unpriced(server.id, file, path)
    return OwnedAsset(
        id=server.id,
        kind="server",
        count=math.ceil(devices / server.device_count),
        unit_price_usd=price,
        devices_per_unit=server.device_count,
        max_w=server.power_max_w,
        rack_units=server.rack_units or 0.0,
    )


def _own_price(acquisition: Acquisition, count: int) -> Spread | None:
    if acquisition.device_price_usd is None:
        return None
    return Spread(
        value=acquisition.device_price_usd * count,
        source=acquisition.price_source or "",
        date=acquisition.price_date,
    )


def _profile_price(price: Price | None, profile: HardwareProfile | ServerProfile, ident: str) -> Spread | None:
    if price is None:
        return None
    origin = profile.source_of("price")
    text = f"{ident}: {origin.source}"
    low, high = price.low_usd or price.usd, price.high_usd or price.usd
    shape = {"value": price.usd} if low == high else {"low": low, "mode": price.usd, "high": high}
    return Spread.model_validate({**shape, "source": text, "date": price.date, "evidence": origin.evidence})


def _unpriced(ident: str, file: str, path: str) -> InputError:
    remedy = "give device_price_usd and price_source"
    return InputError(Problem(file, path, ident, "has no price in its profile", remedy))

"""How a candidate is paid for: its economics, and the machines that are bought, leased or rented."""

from collections.abc import Sequence
from dataclasses import dataclass

from envelope.errors import InputError, Problem
from envelope.money.usage import OwnedAsset, RentedDevices
from envelope.perf.replica import ReplicaSpec
from envelope.provenance import Source
from envelope.spec.acquisition import Acquisition
from envelope.spec.cloud import rental_price
from envelope.spec.economics import Economics
from envelope.spec.hardware import Price, ServerProfile
from envelope.spec.load import load
from envelope.spec.ranges import Spread, named
from envelope.spec.scenario import Candidate, Scenario
from envelope.units import DAYS_PER_YEAR


def economics_of(scenario: Scenario, candidate: Candidate) -> Economics:
    """Return the money of the scenario as one candidate sees it: its own site and its own contract with the API."""
    use, update = candidate.hosted, dict[str, object]()
    if candidate.acquisition.site is not None:
        update["site"] = candidate.acquisition.site
    if scenario.operations_of(candidate).spares:
        # Spares that are bought as such replace the planning share for cold spares.
        update["skip"] = (*scenario.economics.skip, "spares")
    if use is not None and use.commitment_usd_per_year is not None:
        update["hosted_commitment_usd_per_year"] = use.commitment_usd_per_year
    if use is not None and use.discount_frac is not None:
        update["hosted_discount_frac"] = use.discount_frac
    return scenario.economics.changed(**update) if update else scenario.economics


def _server(candidate: Candidate, how: Acquisition) -> ServerProfile | None:
    name = how.server
    return load(ServerProfile, "servers", name, file=candidate.id, path="acquisition.server") if name else None


@dataclass(frozen=True, slots=True)
class Share:
    """The pools of a candidate that are paid for in the same way."""

    how: Acquisition
    positions: tuple[int, ...]
    """Numbers of the pools."""
    devices: tuple[int, ...]
    """Devices of each, spares among them."""
    server: ServerProfile | None
    servers: int
    """Whole servers that hold the devices; 0 without a server."""


def paid_shares(candidate: Candidate, spares: int = 0) -> list[Share]:
    """Return the pools of a candidate by how they are paid for; a server holds devices of several pools.

    ``spares`` replicas of the first pool stand beside it.
    """
    found: dict[Acquisition, list[int]] = {}
    for position, pool in enumerate(candidate.pools):
        found.setdefault(candidate.acquisition_of(pool), []).append(position)
    result = []
    for how, positions in found.items():
        server = _server(candidate, how)
        devices = tuple(_devices(candidate, p, spares) for p in positions)
        count = -(-sum(devices) // server.device_count) if server else 0
        result.append(Share(how, tuple(positions), devices, server, count))
    return result


def _devices(candidate: Candidate, position: int, spares: int) -> int:
    pool = candidate.pools[position]
    return pool.devices + (spares * pool.parallelism.devices if position == 0 else 0)


def owned_assets(
    candidate: Candidate, replicas: tuple[ReplicaSpec, ...], shares: Sequence[Share]
) -> tuple[OwnedAsset, ...]:
    """Return the machines that are bought or leased, spares among them."""
    assets: list[OwnedAsset] = []
    for share in shares:
        if share.how.is_rented:
            continue
        if share.server is not None:
            assets.append(_server_asset(candidate, share, share.server, share.servers))
        else:
            assets += [
                _device_asset(candidate, share.how, count, replicas[p])
                for p, count in zip(share.positions, share.devices, strict=True)
            ]
    return tuple(assets)


def _server_asset(candidate: Candidate, share: Share, server: ServerProfile, count: int) -> OwnedAsset:
    own = _own_price(share.how)
    if own is None and server.price is None:
        raise _no_price(candidate, server.id)
    price = own.scaled(server.device_count) if own else _spread(server.price, server.source_of("price"))
    return OwnedAsset(
        id=server.id, kind="server", count=count, unit_price_usd=price, devices_per_unit=server.device_count,
        max_w=server.power_max_w, rack_units=server.rack_units or 0.0, leased=share.how.kind == "lease",
    )  # fmt: skip


def _device_asset(candidate: Candidate, how: Acquisition, count: int, replica: ReplicaSpec) -> OwnedAsset:
    hardware = replica.hardware
    own = _own_price(how)
    seat = how.kind == "seat_uplift"
    if own is None and seat:
        own = named("ai_laptop_uplift")
    if own is None and hardware.price is None:
        raise _no_price(candidate, hardware.id)
    return OwnedAsset(
        id=hardware.id,
        kind="seat" if seat else "device",
        count=count,
        unit_price_usd=own or _spread(hardware.price, hardware.source_of("price")),
        max_w=hardware.power.max_w,
        leased=how.kind == "lease",
    )


def rented_devices(
    candidate: Candidate, replicas: tuple[ReplicaSpec, ...], running: tuple[float, ...], spares: int
) -> tuple[RentedDevices, ...]:
    """Return the devices that are paid for by the hour.

    On demand and spot they are paid for while they are switched on, and a spare is rented when it is needed; a
    reservation is paid for around the clock, its spares too.
    """
    rented = []
    for place, (pool, replica) in enumerate(zip(candidate.pools, replicas, strict=True)):
        how, ident = candidate.acquisition_of(pool), replica.hardware.id
        if how.kind not in {"on_demand", "spot", "reserved_1y", "reserved_3y"}:
            continue
        price = _own_price(how) or rental_price(ident, how.kind, file=candidate.id, path="acquisition")
        reserved = how.kind not in {"on_demand", "spot"}
        hours = 24.0 if reserved else min(how.hours_per_day, 24.0 * (running[place] if running else 1.0))
        devices = pool.devices + (spares * pool.parallelism.devices if reserved and place == 0 else 0)
        rented.append(
            RentedDevices(
                id=ident,
                mode=how.kind,
                device_hours=devices * hours * DAYS_PER_YEAR,
                usd_per_device_hour=price,
                devices=devices,
            )  # fmt: skip
        )
    return tuple(rented)


def _own_price(how: Acquisition) -> Spread | None:
    if how.device_price_usd is None:
        return None
    return Spread(value=how.device_price_usd, source=how.price_source or "", date=how.price_date)


def _spread(price: Price | None, origin: Source) -> Spread:
    assert price is not None
    common = {"source": origin.source, "date": price.date, "evidence": origin.evidence}
    if price.low_usd is not None and price.high_usd is not None:
        return Spread(low=price.low_usd, mode=price.usd, high=price.high_usd, **common)
    return Spread(value=price.usd, **common)


def _no_price(candidate: Candidate, ident: str) -> InputError:
    rule = "has no price in the catalog"
    return InputError(
        Problem(f"candidate {candidate.id}", "acquisition", ident, rule, "give device_price_usd and price_source")
    )

"""From a candidate and its simulated traffic to the usage that the cost model prices."""

from dataclasses import dataclass, field

from envelope.errors import InputError, Problem
from envelope.perf.replica import ReplicaSpec
from envelope.provenance import Source
from envelope.spec.acquisition import Acquisition
from envelope.spec.cloud import rental_price
from envelope.spec.economics import Economics
from envelope.spec.hardware import Price, ServerProfile
from envelope.spec.hosted import HostedModel, Processing, TokenKind
from envelope.spec.load import load
from envelope.spec.ranges import Spread, named
from envelope.spec.scenario import Candidate, Scenario
from envelope.tco import AnnualUsage, HostedTokens, OwnedAsset, RentedDevices, billed_kinds, hosted_tokens
from envelope.units import DAYS_PER_YEAR, J_PER_KWH, SECONDS_PER_YEAR


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one offered request uses on average, as the simulation found it."""

    requests_per_year: float
    """Offered requests in the first year."""
    input_tokens: float
    output_tokens: float
    served_frac: float
    solved_frac: float
    """Share of the offered requests that are served and solved."""
    dynamic_j: float
    """Energy above idle per offered request."""
    idle_w: float
    """Power of all local machines while nothing runs, hosts included, mean over the year."""
    own_idle_w: float = 0.0
    """The part of ``idle_w`` that the company pays for: machines that it owns or leases."""
    own_dynamic_frac: float = 0.0
    """The part of ``dynamic_j`` that it pays for."""
    running_fracs: tuple[float, ...] = ()
    """Share of the year's hours for which each pool's machines are switched on; empty means always. ``idle_w`` and
    ``own_idle_w`` are means over these hours and the others."""
    downtime_hours_per_year: float = 0.0
    """Hours without full service for a user."""
    hosted_tokens: dict[tuple[TokenKind, int], float] = field(default_factory=dict)
    """Hosted tokens per offered request by kind and the length that their prompts exceed."""


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
    return scenario.economics.model_copy(update=update) if update else scenario.economics


def annual_usage(
    scenario: Scenario,
    candidate: Candidate,
    replicas: tuple[ReplicaSpec, ...],
    hosted: HostedModel | None,
    traffic: Traffic,
) -> list[AnnualUsage]:
    """Return the usage of each year of the horizon: the machines stay, the work grows.

    Raises ``InputError`` if a device has neither a price in its profile nor one in the scenario.
    """
    years = -(-scenario.economics.horizon_months // 12)
    usages = []
    for year in range(years):
        requests = traffic.requests_per_year * scenario.workload.rate_in_year(year)
        dynamic_kwh = traffic.dynamic_j * requests / J_PER_KWH
        idle_kwh = traffic.own_idle_w * SECONDS_PER_YEAR / J_PER_KWH
        on_seats = any(pool.role == "seat" for pool in candidate.pools)
        usages.append(
            AnnualUsage(
                owned=_owned(candidate, replicas, scenario.operations_of(candidate).spares),
                rented=_rented(candidate, replicas, traffic.running_fracs, scenario.operations_of(candidate).spares),
                hosted=_hosted(scenario, candidate, hosted, traffic, requests, year),
                it_kwh=0.0 if on_seats else idle_kwh + dynamic_kwh * traffic.own_dynamic_frac,
                # A laptop is on anyway: only the energy above idle is the assistant's.
                seat_kwh=dynamic_kwh if on_seats else 0.0,
                seats=scenario.company.seats,
                requests=requests,
                input_tokens=traffic.input_tokens * requests,
                output_tokens=traffic.output_tokens * requests,
                solved_tasks=traffic.solved_frac * requests,
                failed_tasks=(1.0 - traffic.solved_frac) * requests,
                downtime_hours=traffic.downtime_hours_per_year,
                forced_changes_per_year=hosted.lifecycle.forced_changes_per_year if hosted else None,
            )
        )
    return usages


def _server(candidate: Candidate, how: Acquisition) -> ServerProfile | None:
    name = how.server
    return load(ServerProfile, "servers", name, file=candidate.id, path="acquisition.server") if name else None


@dataclass(frozen=True, slots=True)
class Share:
    """The pools of a candidate that are paid for in the same way."""

    how: Acquisition
    positions: tuple[int, ...]
    """Numbers of the pools."""
    server: ServerProfile | None
    servers: int
    """Whole servers that hold the devices; 0 without a server."""


def shares(candidate: Candidate) -> list[Share]:
    """Return the pools of a candidate by how they are paid for; a server holds devices of several pools."""
    found: dict[Acquisition, list[int]] = {}
    for position, pool in enumerate(candidate.pools):
        found.setdefault(candidate.acquisition_of(pool), []).append(position)
    result = []
    for how, positions in found.items():
        server = _server(candidate, how)
        devices = sum(candidate.pools[p].devices for p in positions)
        count = -(-devices // server.device_count) if server else 0
        result.append(Share(how, tuple(positions), server, count))
    return result


def _owned(candidate: Candidate, replicas: tuple[ReplicaSpec, ...], spares: int) -> tuple[OwnedAsset, ...]:
    """Return the machines that are bought or leased, spares of the first pool's replicas among them."""
    assets: list[OwnedAsset] = []
    for share in shares(candidate):
        if share.how.is_rented:
            continue
        spare = {p: spares * candidate.pools[p].parallelism.devices if p == 0 else 0 for p in share.positions}
        if share.server is not None:
            devices = sum(candidate.pools[p].devices + spare[p] for p in share.positions)
            assets.append(_server_asset(candidate, share, share.server, -(-devices // share.server.device_count)))
        else:
            assets += [
                _device_asset(candidate, share.how, candidate.pools[p].devices + spare[p], replicas[p])
                for p in share.positions
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


def _rented(
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


def _hosted(
    scenario: Scenario, candidate: Candidate, hosted: HostedModel | None, traffic: Traffic, requests: float, year: int
) -> tuple[HostedTokens, ...]:
    """Return the hosted tokens of one year with that year's prices, each length of prompt by its own tariff lines."""
    use = candidate.hosted
    if hosted is None or use is None:
        return ()
    batch = use.batch_frac if hosted.has_batch else 0.0
    split: list[tuple[Processing, float]] = [(use.processing, 1.0 - batch), ("batch", batch)]
    bands: dict[int, dict[TokenKind, float]] = {}
    for (kind, above), tokens in sorted(traffic.hosted_tokens.items()):
        bands.setdefault(above, {})[kind] = tokens * requests
    lines: list[HostedTokens] = []
    for above, used in bands.items():
        length = above + 1 if above else 0
        billed = billed_kinds(hosted, used, start=scenario.economics.start, request_input_tokens=length)
        for processing, share in split:
            if share > 0:
                lines += hosted_tokens(
                    hosted,
                    {kind: tokens * share for kind, tokens in billed.items() if tokens > 0},
                    start=scenario.economics.start,
                    year=year,
                    processing=processing,
                    request_input_tokens=length,
                    pinned_region=bool(scenario.constraints.hosted_regions),
                )
    return tuple(lines)


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

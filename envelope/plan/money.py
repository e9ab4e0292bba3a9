"""From a candidate and its simulated traffic to the usage that the cost model prices."""

from dataclasses import dataclass, field
from datetime import date

from envelope.errors import InputError, Problem
from envelope.perf.replica import ReplicaSpec
from envelope.provenance import Source
from envelope.spec.cloud import rental_price
from envelope.spec.hardware import Price, ServerProfile
from envelope.spec.hosted import HostedModel, Processing, TokenKind
from envelope.spec.load import load
from envelope.spec.ranges import Spread, named
from envelope.spec.scenario import Candidate, Scenario
from envelope.tco import AnnualUsage, HostedTokens, OwnedAsset, RentedDevices
from envelope.units import DAYS_PER_YEAR, J_PER_KWH, SECONDS_PER_YEAR


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one offered request uses on average, as the simulation of the busiest hour found it."""

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
    """Power of all local machines while nothing runs, hosts included."""
    hosted_tokens: dict[tuple[TokenKind, int], float] = field(default_factory=dict)
    """Hosted tokens per offered request by kind and threshold of the tariff line."""


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
        kwh = (traffic.idle_w * SECONDS_PER_YEAR + traffic.dynamic_j * requests) / J_PER_KWH
        on_seats = _on_seats(candidate)
        ours = candidate.on_premises and not on_seats
        usages.append(
            AnnualUsage(
                owned=_owned(candidate, replicas),
                rented=_rented(candidate, replicas),
                hosted=_hosted(scenario, candidate, hosted, traffic, requests),
                it_kwh=kwh if ours and _is_owned(candidate) else 0.0,
                # A laptop is on anyway: only the energy above idle is the assistant's.
                seat_kwh=traffic.dynamic_j * requests / J_PER_KWH if on_seats else 0.0,
                seats=scenario.company.seats,
                requests=requests,
                input_tokens=traffic.input_tokens * requests,
                output_tokens=traffic.output_tokens * requests,
                solved_tasks=traffic.solved_frac * requests,
                failed_tasks=(1.0 - traffic.solved_frac) * requests,
                forced_changes_per_year=hosted.lifecycle.forced_changes_per_year if hosted else None,
            )
        )
    return usages


def _on_seats(candidate: Candidate) -> bool:
    return any(pool.role == "seat" for pool in candidate.pools)


def _is_owned(candidate: Candidate) -> bool:
    return candidate.acquisition.kind in {"purchase", "seat_uplift"}


def server_of(candidate: Candidate) -> ServerProfile | None:
    """Return the server that a candidate's devices stand in, if it names one."""
    name = candidate.acquisition.server
    return load(ServerProfile, "servers", name, file=candidate.id, path="acquisition.server") if name else None


def _owned(candidate: Candidate, replicas: tuple[ReplicaSpec, ...]) -> tuple[OwnedAsset, ...]:
    if not _is_owned(candidate):
        return ()
    server = server_of(candidate)
    if server is not None:
        devices = sum(pool.devices for pool in candidate.pools)
        return (_server_asset(candidate, server, -(-devices // server.device_count)),)
    return tuple(_device_asset(candidate, pool.devices, r) for pool, r in zip(candidate.pools, replicas, strict=True))


def _server_asset(candidate: Candidate, server: ServerProfile, count: int) -> OwnedAsset:
    own = _own_price(candidate)
    if own is None and server.price is None:
        raise _no_price(candidate, server.id)
    price = own.scaled(server.device_count) if own else _spread(server.price, server.source_of("price"))
    return OwnedAsset(
        id=server.id, kind="server", count=count, unit_price_usd=price, devices_per_unit=server.device_count,
        max_w=server.power_max_w, rack_units=server.rack_units or 0.0,
    )  # fmt: skip


def _device_asset(candidate: Candidate, count: int, replica: ReplicaSpec) -> OwnedAsset:
    hardware = replica.hardware
    own = _own_price(candidate)
    seat = candidate.acquisition.kind == "seat_uplift"
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
    )


def _rented(candidate: Candidate, replicas: tuple[ReplicaSpec, ...]) -> tuple[RentedDevices, ...]:
    how = candidate.acquisition
    if how.kind not in {"on_demand", "spot", "reserved_1y", "reserved_3y"}:
        return ()
    rented = []
    for pool, replica in zip(candidate.pools, replicas, strict=True):
        ident = replica.hardware.id
        price = _own_price(candidate) or rental_price(ident, how.kind, file=candidate.id, path="acquisition")
        # A reservation is paid for around the clock, whatever the hours of use.
        hours = how.hours_per_day if how.kind in {"on_demand", "spot"} else 24.0
        rented.append(
            RentedDevices(
                id=ident,
                mode=how.kind,
                device_hours=pool.devices * hours * DAYS_PER_YEAR,
                usd_per_device_hour=price,
                devices=pool.devices,
            )  # fmt: skip
        )
    return tuple(rented)


def _hosted(
    scenario: Scenario, candidate: Candidate, hosted: HostedModel | None, traffic: Traffic, requests: float
) -> tuple[HostedTokens, ...]:
    if hosted is None or candidate.hosted is None:
        return ()
    batch = candidate.hosted.batch_frac if hosted.has_batch else 0.0
    split: list[tuple[Processing, float]] = [("standard", 1.0 - batch), ("batch", batch)]
    uplift = 1.0 + (hosted.data.regional_uplift_frac if scenario.constraints.hosted_regions else 0.0)
    day = _day(scenario.economics.start)
    lines = []
    for (kind, above), tokens in sorted(traffic.hosted_tokens.items()):
        for processing, share in split:
            if share * tokens <= 0:
                continue
            usd = hosted.usd_per_token(kind, day=day, input_tokens=above + 1 if above else 0, processing=processing)
            origin = hosted.source_of("tariff")
            price = Spread(value=usd * 1e6 * uplift, source=origin.source, date=origin.date, evidence=origin.evidence)
            lines.append(
                HostedTokens(
                    api=hosted.id,
                    kind=kind,
                    processing=processing,
                    above_input_tokens=above,
                    tokens=tokens * requests * share,
                    usd_per_mtok=price,
                )  # fmt: skip
            )
    return tuple(lines)


def _day(text: str) -> date:
    parts = [int(p) for p in text.split("-")] + [1, 1]
    return date(parts[0], parts[1], parts[2])


def _own_price(candidate: Candidate) -> Spread | None:
    how = candidate.acquisition
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

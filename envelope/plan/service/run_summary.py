"""From the records of a simulation to what ``ServiceRun`` says of the whole fleet."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from envelope.money import AnnualUsage, bill_usd
from envelope.plan.case.case import Case
from envelope.plan.case.usage import year_usage
from envelope.plan.service.busiest import Peak
from envelope.plan.service.downtime import downtime
from envelope.plan.service.run_result import CostDriver, Count, Energy, Left, RunClass, RunTimeline
from envelope.plan.service.traffic import traffic
from envelope.serving.result import ClassResult, Curves, FleetEvent, SimulationResult
from envelope.spec.hosted import TokenKind
from envelope.units import J_PER_KWH

_KINDS: tuple[TokenKind, ...] = ("input", "cached_input", "output")

_COUNTS = {
    "refused_private": "private requests refused: no place in the building could take them",
    "refused_length": "longer than any replica or API holds",
    "refused_hosted": "given up after all retries at the hosted API",
    "unfinished": "still waiting two days after the end",
    "late": "answered after more than an hour (or their SLO, if longer): not counted as served",
    "waited_for_repair": "waited until a replica came up again",
    "restarted": "lost their work to a failure and started again",
    "preempted": "preempted at least once for want of KV blocks",
    "spilled": "sent out for lack of room inside",
    "escalated": "sent out after a failed local attempt, or because they are hard",
    "degraded": "kept inside although the policy would have sent them out",
}
"""Counter of a class → what it means."""


def run_class(found: ClassResult, share: float) -> RunClass:
    """Return one class as users meet it; ``share`` is the simulated part of the load."""
    offered = max(found.offered, 1)
    counts = [
        Count(id=name, requests=getattr(found, name), frac=getattr(found, name) / offered, text=text)
        for name, text in _COUNTS.items()
        if getattr(found, name)
    ]
    return RunClass(
        id=found.id, offered=found.offered, completed=found.completed, ttft_s=found.ttft_s, itl_s=found.itl_s,
        tpot_s=found.tpot_s, e2e_s=found.e2e_s, curves=found.curves, slo_attainment_frac=found.slo_attainment_frac,
        goodput_per_s=found.goodput_per_s / share, solved_frac=found.solved_frac,
        hosted_frac=found.completed_hosted / offered, served_frac=found.served_frac,
        mean_input_tokens=found.mean_input_tokens, mean_output_tokens=found.mean_output_tokens, counts=tuple(counts),
    )  # fmt: skip


def empty_class(ident: str) -> RunClass:
    """Return a class of which nothing was simulated."""
    return RunClass(
        id=ident, offered=0, completed=0, ttft_s=None, itl_s=None, tpot_s=None, e2e_s=None, curves=Curves(),
        slo_attainment_frac=0.0, goodput_per_s=0.0, solved_frac=0.0, hosted_frac=0.0, served_frac=0.0,
        mean_input_tokens=0.0, mean_output_tokens=0.0, counts=(),
    )  # fmt: skip


def timeline(result: SimulationResult, replicas: int) -> RunTimeline:
    """Return the samples of a simulation for the whole fleet; ``replicas`` are in service at the start."""
    t, scale = result.timeline, 1.0 / result.share_frac
    inside = [a + b for a, b in zip(t.running, t.hosted, strict=True)]
    return RunTimeline(
        t_s=t.t_s,
        queue=_times(t.queue, scale),
        running=_times(t.running, scale),
        kv_used_frac=t.kv_used_frac,
        power_w=_times(t.power_w, scale),
        hosted=_times(t.hosted, scale),
        hosted_frac=tuple(out / both if both else 0.0 for out, both in zip(t.hosted, inside, strict=True)),
        replicas=_times(tuple(_in_service(result.log, t.t_s, replicas)), scale),
    )


def _times(values: Sequence[float], scale: float) -> tuple[float, ...]:
    return tuple(value * scale for value in values)


def _in_service(log: Sequence[FleetEvent], times: Sequence[float], at_start: int) -> Iterator[float]:
    """Yield the replicas in service at each time."""
    now, position = at_start, 0
    for t in times:
        while position < len(log) and log[position].time_s <= t:
            now = log[position].running
            position += 1
        yield float(now)


def left_building(result: SimulationResult) -> Left:
    """Return how many requests left the building, and how many private ones did."""
    return Left(
        requests=result.completed_outside,
        frac=result.completed_outside / max(result.requests, 1),
        private=result.private_requests_left,
    )


def energy(result: SimulationResult) -> Energy:
    """Return the energy of the local devices of the whole fleet."""
    watts = result.mean_power_w / result.share_frac
    done = result.completed / len(result.seeds)
    tokens = result.output_tokens_per_s * result.window_s
    return Energy(
        mean_w=watts,
        kwh_per_hour=watts * 3600.0 / J_PER_KWH,
        j_per_request=result.energy_j / done if done else None,
        j_per_output_token=result.energy_j / tokens if tokens else None,
    )


def cost_drivers(case: Case, peak: Peak, year: int) -> tuple[CostDriver, ...]:
    """Return the quantities that cost money, per hour of the simulated time, the whole fleet's.

    Hosted tokens and rented devices have list prices of that year; machines bought and their electricity have a cost
    over the years (``envelope tco``), but no price per hour.
    """
    result, candidate = peak.result, case.candidate
    usage = _usage(case, peak, year)
    drivers: list[CostDriver] = []
    rented = {
        pool.hardware: annual.usd_per_device_hour.point
        for pool, annual in zip(candidate.pools, usage.rented, strict=False)
    }
    for pool in candidate.pools:
        hours, usd = pool.devices * result.running_frac, rented.get(pool.hardware)
        label = f"{'rented' if usd is not None else 'own'} {pool.hardware}, switched on"
        price = None if usd is None else usd * hours
        drivers.append(
            CostDriver(id=f"devices_{pool.hardware}", label=label, quantity=hours, unit="device-h", usd_per_hour=price)
        )
    if candidate.pools:
        kwh = energy(result).kwh_per_hour
        drivers.append(CostDriver(id="energy", label="energy of the devices", quantity=kwh, unit="kWh"))
    for used in usage.hosted:
        if used.tokens:
            label, usd = f"{used.api} {used.kind.replace('_', ' ')} tokens", bill_usd([used])
            if used.processing != "standard":
                label += f", {used.processing}"
            drivers.append(
                CostDriver(id=used.line_id, label=label, quantity=used.tokens, unit="tokens", usd_per_hour=usd)
            )
    return tuple(drivers)


def _usage(case: Case, peak: Peak, year: int) -> AnnualUsage:
    """Return the usage of one hour like the simulated one, at the prices of ``year``."""
    result = peak.result
    per_hour = result.requests / len(result.seeds) / result.share_frac / max(result.window_s, 1e-9) * 3600.0
    offered, kinds = max(result.overall.offered, 1), _KINDS
    tokens: dict[tuple[TokenKind, int], float] = {
        (kind, band.above_input_tokens): getattr(band, f"{kind}_tokens") / offered
        for band in result.hosted.bands
        for kind in kinds
    }
    use = replace(
        traffic(case, peak, downtime(case, peak)),
        requests_per_year=per_hour / case.scenario.workload.rate_in_year(year),
        # What this very hour sent out, beside which it is shown; a year is billed by what the workload means.
        hosted_tokens=tokens,
    )
    return year_usage(case, use, year)

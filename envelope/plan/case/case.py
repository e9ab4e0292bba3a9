"""The case of a candidate: its work, machines, operations and money, every name resolved; all rooms start from it."""

from dataclasses import dataclass, replace
from functools import cached_property

from envelope.perf.checks import Reason, blocking_reasons
from envelope.perf.memory import MemoryFit, fit
from envelope.perf.replica import ReplicaSpec, from_pool
from envelope.plan.case.adapters import adapter_names, adapter_reasons
from envelope.plan.case.measured import TaskEvidence, measured_work
from envelope.plan.case.operations import scalable
from envelope.plan.case.paid import Share, economics_of, paid_shares
from envelope.spec.economics import Economics
from envelope.spec.hosted import HostedModel
from envelope.spec.load import load
from envelope.spec.operations import Operations
from envelope.spec.ranges import Spread
from envelope.spec.scenario import Candidate, Scenario

QUICK_REQUESTS = 2000
"""Requests of a short simulation."""


@dataclass(frozen=True)
class Case:
    """One candidate of a scenario with everything that its figures are computed from."""

    scenario: Scenario
    """With the difficulty that evidence shows for this candidate, and the demand that it is planned for."""
    candidate: Candidate
    """With all the replicas that autoscaling may start."""
    economics: Economics
    """The money as this candidate sees it: its own site, its own contract."""
    replicas: tuple[ReplicaSpec, ...]
    """One replica of each pool."""
    fits: tuple[MemoryFit, ...]
    hosted: HostedModel | None
    reasons: tuple[Reason, ...]
    """Why a pool cannot run at all; empty if all can."""
    evidence: tuple[TaskEvidence, ...] = ()
    """What the difficulty of each task class rests on."""
    quick: bool = False
    """Whether short simulations do, as at each of the hundreds of points of a map."""

    @cached_property
    def operations(self) -> Operations:
        """How the candidate is operated."""
        return self.scenario.operations_of(self.candidate)

    @property
    def years(self) -> int:
        """Years of the horizon, the last of which may be a part of one."""
        return self.scenario.economics.years

    @property
    def on_seats(self) -> bool:
        """Whether its machines are the users' own devices, as many as there are seats."""
        return any(pool.role == "seat" for pool in self.candidate.pools)

    @cached_property
    def shares(self) -> list[Share]:
        """The machines by how they are paid for, spares among them."""
        return paid_shares(self.candidate, self.operations.spares)

    @property
    def max_requests(self) -> int:
        """Requests that one simulation of the busiest hour takes at most."""
        most = self.scenario.simulation.max_requests
        return min(most, QUICK_REQUESTS) if self.quick else most

    @property
    def private_frac(self) -> float:
        """Share of the requests that are private."""
        work = self.scenario.workload
        mixes = (task.sensitivity_mix.get("private", 0.0) for task in work.tasks)
        return sum(share * private for share, private in zip(work.shares(), mixes, strict=True))

    @property
    def runs(self) -> bool:
        """Whether every pool can run."""
        return not any(reason.blocks for reason in self.reasons)

    def with_replicas(self, count: int) -> "Case":
        """Return the case with ``count`` replicas of the first pool and the other servers' pools in proportion."""
        first = self.candidate.pools[0].replicas
        if count == first:
            return self
        pools = tuple(
            pool if pool.role == "seat" else pool.changed(replicas=-(-pool.replicas * count // first))
            for pool in self.candidate.pools
        )
        return replace(self, candidate=self.candidate.changed(pools=pools))

    def at_demand(self, factor: float) -> "Case":
        """Return the case with ``factor`` times the requests on the same machines."""
        return replace(self, scenario=at_demand(self.scenario, factor))

    @property
    def idle_w(self) -> float:
        """Power while nothing runs: of the servers with their hosts if they are named, else of the devices.

        Spares are switched on, so that one takes over as soon as it has loaded the model.
        """
        return self.mean_idle_w()

    @property
    def own_idle_w(self) -> float:
        """The part of ``idle_w`` that machines draw which the company owns or leases."""
        return self.mean_idle_w(own=True)

    def mean_idle_w(self, running_fracs: tuple[float, ...] = (), *, own: bool = False) -> float:
        """Return ``idle_w`` on average if each pool is switched on for such a share of the time, by default for all.

        ``own`` leaves rented machines out, whose power the landlord pays.
        """
        found = [share for share in self.shares if not (own and share.how.is_rented)]
        return sum(self._idle_w(share) * self._running_frac(share, running_fracs) for share in found)

    def _running_frac(self, share: Share, fracs: tuple[float, ...]) -> float:
        """Return the share of the time for which the devices that are paid for in one way are switched on."""
        devices = {p: self.candidate.pools[p].devices for p in share.positions}
        return sum(n * fracs[p] for p, n in devices.items()) / sum(devices.values()) if fracs else 1.0

    @property
    def own_power_frac(self) -> float:
        """Share of owned and leased devices in the highest power of all local devices."""
        own = [p for share in self.shares if not share.how.is_rented for p in share.positions]
        every = sum(self._devices_w(p) for p in range(len(self.replicas)))
        return sum(self._devices_w(p) for p in own) / every if every else 0.0

    @property
    def device_idle_w(self) -> float:
        """Power of the local devices alone while nothing runs, as the simulation counts it."""
        pools = zip(self.candidate.pools, self.replicas, strict=True)
        return sum(pool.devices * replica.hardware.power.idle_w for pool, replica in pools)

    @property
    def max_w(self) -> float:
        """Power of the local devices, or of the servers that hold them, at their limit.

        Pools outside the building count only if no pool stands inside.
        """
        inside = [p for p in self.candidate.pools if self.candidate.is_inside(p)] or list(self.candidate.pools)
        total = 0.0
        for share in self.shares:
            if not any(self.candidate.pools[p] in inside for p in share.positions):
                continue
            if share.server is not None:
                total += share.server.power_max_w * share.servers
            else:
                powers = (self.replicas[p].hardware.power.max_w for p in share.positions)
                total += sum(n * w for n, w in zip(share.devices, powers, strict=True))
        return total

    def _idle_w(self, share: Share) -> float:
        if share.server is not None and share.server.power_idle_w is not None:
            return share.server.power_idle_w * share.servers
        powers = (self.replicas[p].hardware.power.idle_w for p in share.positions)
        return sum(n * w for n, w in zip(share.devices, powers, strict=True))

    def _devices_w(self, position: int) -> float:
        return self.candidate.pools[position].devices * self.replicas[position].hardware.power.max_w


def case_of(scenario: Scenario, candidate: Candidate, *, quick: bool = False) -> Case:
    """Return the case of a candidate: evidence, scaling, names and memory resolved.

    A ``demand_factor`` that is a plain number is that multiple of the work; ``quick`` is content with short
    simulations. Raises ``InputError`` for an unknown
    name, naming the scenario and the candidate.
    """
    work, used = measured_work(_planned(scenario), candidate)
    candidate = scalable(work, candidate)
    where = f"{scenario.id}: candidate {candidate.id}"
    replicas = tuple(
        from_pool(pool, server=candidate.acquisition_of(pool).server, file=where) for pool in candidate.pools
    )
    fits = tuple(fit(replica) for replica in replicas)
    # One token: whether a request's own length fits is for the simulation to find.
    reasons = [reason for r, f in zip(replicas, fits, strict=True) for reason in blocking_reasons(r, f, 1)]
    needed = len(adapter_names(work.workload))
    for pool, r, f in zip(candidate.pools, replicas, fits, strict=True):
        reasons += adapter_reasons(r, f, pool.adapters, needed)
    hosted = None
    if candidate.hosted is not None:
        hosted = load(HostedModel, "hosted", candidate.hosted.api, file=where, path="hosted.api")
    economics = economics_of(work, candidate)
    return Case(work, candidate, economics, replicas, fits, hosted, tuple(reasons), tuple(used), quick)


def at_demand(scenario: Scenario, factor: float) -> Scenario:
    """Return the scenario with ``factor`` times the requests."""
    if factor == 1.0:
        return scenario
    work = scenario.workload
    field = "requests_per_day" if work.requests_per_day is not None else "requests_per_seat_day"
    scaled = work.changed(**{field: getattr(work, field) * factor})
    return scenario.changed(workload=scaled)


def _planned(scenario: Scenario) -> Scenario:
    demand = scenario.economics.demand_factor
    if demand.default is not None or demand.bounds[0] < demand.bounds[1] or demand.point == 1.0:
        return scenario
    economics = scenario.economics.changed(demand_factor=Spread(value=1.0))
    return at_demand(scenario.changed(economics=economics), demand.point)

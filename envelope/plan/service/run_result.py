"""What a simulation of one candidate says: latencies, service, timelines, refusals, energy, faults, load sweeps."""

from typing import Any

from envelope.provenance import Frozen
from envelope.result import Result
from envelope.serving.result import CURVE_FRACS, Bottleneck, Curves, FleetEvent, HostedUsage, Interval, Spread, Timeline


class Count(Frozen):
    """Requests to which one thing happened."""

    id: str
    """Name of what happened, such as ``refused_private``."""
    requests: int
    """Over all seeds."""
    frac: float
    """Share of the offered requests."""
    text: str
    """What it means, in words."""


class RunClass(Frozen):
    """What the requests of one task class experienced; id ``all`` is all of them."""

    id: str
    offered: int
    completed: int
    ttft_s: Spread | None
    """Time from arrival to the first token, queue included."""
    itl_s: Spread | None
    """Gaps between tokens."""
    tpot_s: Spread | None
    """Time per output token after the first, mean of each request."""
    e2e_s: Spread | None
    curves: Curves
    slo_attainment_frac: float
    goodput_per_s: float
    """Requests of the whole work per second that keep every limit of their class."""
    solved_frac: float
    hosted_frac: float
    """Share of the offered requests that the hosted API answered."""
    served_frac: float
    mean_input_tokens: float
    mean_output_tokens: float
    counts: tuple[Count, ...]
    """Refusals, waits, spills, preemptions … of the class; what did not happen is left out."""


class RunTimeline(Timeline):
    """Samples of the whole fleet, whatever share of it is simulated."""

    replicas: tuple[float, ...]
    """Replicas in service."""


class CostDriver(Frozen):
    """A quantity that costs money, per hour of the simulated time, for the whole fleet."""

    id: str
    label: str
    quantity: float
    unit: str
    usd_per_hour: float | None = None
    """At list prices of the first year; ``None`` where the price is no price per hour, as for machines bought."""


class Energy(Frozen):
    """Energy of the local devices, for the whole fleet."""

    mean_w: float
    kwh_per_hour: float
    j_per_request: float | None
    j_per_output_token: float | None


class Left(Frozen):
    """Requests that left the building."""

    requests: int
    frac: float
    private: int
    """Private ones among them, counted from the requests' own records."""


class ServiceRun(Result):
    """One candidate of a scenario under load, as the simulation found it."""

    scenario: str
    candidate: str
    name: str
    policy: str
    reasons: tuple[str, ...] = ()
    """Why the candidate cannot run at all; if it cannot, everything below is empty."""
    period: str
    """What was simulated, in words, such as ``the busiest hour``."""
    clock_start_s: float
    """Start of the simulated time, seconds since Monday 00:00 local time."""
    load_factor: float
    """Multiple of the planned work."""
    requests_per_s: float
    """Requests of the whole work that arrived per second, mean over the measured time."""
    year: int
    seeds: tuple[int, ...]
    window_s: float
    """Measured time per seed."""
    warmup_s: float
    share_frac: float
    """Share of the fleet and its load that was simulated; counts of requests are those of this share."""
    overall: RunClass
    classes: tuple[RunClass, ...]
    slo_limit_frac: float
    """Share of the requests that must keep their SLO, as the scenario asks."""
    served_limit_frac: float
    """Share of the requests that must be served at all."""
    keeps_service: bool
    """Whether both are reached."""
    without_failure: "ServiceRun | None" = None
    """The same requests without the node's failure that was asked for."""
    slo_attainment: Interval
    """Over seeds, with its 95 % confidence interval."""
    goodput_per_s: Interval
    served: Interval
    ttft_p95_s: Interval | None
    timeline: RunTimeline
    left: Left
    preemptions: int
    prefix_hit_frac: float
    utilisation_frac: float
    replicas: int
    """Replicas of the simulated share."""
    peak_replicas: int
    running_frac: float
    """Share of the replicas' time for which they were switched on."""
    output_tokens_per_s: float
    """Of the local replicas, whole fleet."""
    bottleneck: Bottleneck
    hosted: HostedUsage
    energy: Energy
    cost_drivers: tuple[CostDriver, ...]
    faults: tuple[FleetEvent, ...]
    """Failures, power cuts, maintenance, outages, closings and scaling in the first seed, in order of time."""
    fault_counts: dict[str, int]
    """The same by kind, over all seeds."""
    notes: tuple[str, ...]

    @property
    def ran(self) -> bool:
        """Whether the candidate can run."""
        return not self.reasons

    @property
    def keeps_slo(self) -> bool:
        """Whether so many requests keep their SLO as the scenario asks."""
        return self.ran and self.slo_attainment.mean >= self.slo_limit_frac

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, with the shares of the curves."""
        return {**self.model_dump(mode="json"), "keeps_slo": self.keeps_slo, "curve_fracs": list(CURVE_FRACS)}

"""The level of a simulated service, and whether it is kept as the scenario asks."""

from pydantic import Field

from envelope.plan.service.busiest import Peak
from envelope.provenance import Frozen
from envelope.serving.result import ClassResult as Simulated
from envelope.serving.result import Spread
from envelope.spec.scenario import Constraints, Scenario


class Percentiles(Frozen):
    """A latency distribution in seconds."""

    mean_s: float
    p50_s: float
    p95_s: float
    p99_s: float


class ClassResult(Frozen):
    """Service level of one task class in the simulated time."""

    id: str
    requests: int
    slo_attainment_frac: float | None
    ttft_p95_s: float | None = None
    e2e_p95_s: float | None = None
    hosted_frac: float = 0.0
    """Share served by the hosted API."""
    too_long_frac: float = 0.0
    """Share refused because no local model holds so long a request."""


class ServiceLevel(Frozen):
    """What the simulation of the busiest hour, or of the week if the operations take one, found."""

    period: str = "the busiest hour"
    """What was simulated, in words."""
    slo_attainment_frac: float = Field(ge=0, le=1)
    """Share of the offered requests that were served within every limit of their SLO."""
    slo_attainment_low_frac: float
    slo_attainment_high_frac: float
    """95 % confidence interval over seeds."""
    served_frac: float
    ttft: Percentiles | None = None
    itl: Percentiles | None = None
    """Inter-token latency: each gap between two tokens of an answer."""
    e2e: Percentiles | None = None
    hosted_frac: float = 0.0
    refused_frac: float = 0.0
    requests_simulated: int
    simulated_s: float
    peak_requests_per_s: float
    device_utilisation_frac: float | None = None
    bottleneck: str = ""
    """What limited the local replicas, in words."""
    classes: tuple[ClassResult, ...] = ()


def service_level(scenario: Scenario, peak: Peak) -> ServiceLevel:
    """Return the service level that a simulation found."""
    result = peak.result
    overall = result.overall
    offered = max(overall.offered, 1)
    return ServiceLevel(
        period=peak.period,
        slo_attainment_frac=overall.slo_attainment_frac,
        slo_attainment_low_frac=max(result.slo_attainment.low, 0.0),
        slo_attainment_high_frac=min(result.slo_attainment.high, 1.0),
        served_frac=overall.served_frac,
        ttft=_percentiles(overall.ttft_s),
        itl=_percentiles(overall.itl_s),
        e2e=_percentiles(overall.e2e_s),
        hosted_frac=overall.completed_hosted / offered,
        refused_frac=(overall.refused_private + overall.refused_length + overall.refused_hosted) / offered,
        requests_simulated=overall.offered,
        simulated_s=result.window_s,
        peak_requests_per_s=scenario.workload.peak_rate_per_s,
        device_utilisation_frac=result.utilisation_frac if peak.fleet.pools else None,
        bottleneck=result.bottleneck.text,
        classes=tuple(_class(c) for c in result.classes),
    )


def keeps_service(level: ServiceLevel, rules: Constraints) -> bool:
    """Return whether so many requests are served, and keep their SLO, as the scenario asks."""
    return is_kept(level.slo_attainment_frac, level.served_frac, rules)


def is_kept(slo_attainment_frac: float, served_frac: float, rules: Constraints) -> bool:
    """Return whether two shares of the offered requests are as high as the scenario asks."""
    return slo_attainment_frac >= rules.slo_attainment_min_frac and served_frac >= rules.served_min_frac


def cost_warning(scenario: Scenario, service: ServiceLevel) -> str | None:
    """Return a warning if the candidate's cost is that of a part of the work only; ``None`` if it serves enough."""
    if service.served_frac >= scenario.constraints.served_min_frac:
        return None
    return f"cost of {service.served_frac:.0%} of the work: the other {1 - service.served_frac:.0%} is not served"


def _class(c: Simulated) -> ClassResult:
    offered = max(c.offered, 1)
    return ClassResult(
        id=c.id,
        requests=c.offered,
        slo_attainment_frac=c.slo_attainment_frac if c.offered else None,
        ttft_p95_s=c.ttft_s.p95 if c.ttft_s else None,
        e2e_p95_s=c.e2e_s.p95 if c.e2e_s else None,
        hosted_frac=c.completed_hosted / offered,
        too_long_frac=c.refused_length / offered,
    )


def _percentiles(spread: Spread | None) -> Percentiles | None:
    if spread is None:
        return None
    return Percentiles(mean_s=spread.mean, p50_s=spread.p50, p95_s=spread.p95, p99_s=spread.p99)

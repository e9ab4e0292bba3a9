"""The failure one cannot afford: how much of each kind a candidate lets happen."""

from dataclasses import dataclass

from envelope.money.draws import DRAWS, uncertain_names
from envelope.money.model import Model
from envelope.money.result import PresentValue
from envelope.plan.case.case import Case
from envelope.plan.case.measured import candidate_records, failure_rate
from envelope.plan.case.usage import Traffic
from envelope.plan.service.downtime import Downtime
from envelope.plan.service.level import ServiceLevel
from envelope.provenance import Evidence, Frozen, weakest
from envelope.spec.scenario import Failure
from envelope.units import DAYS_PER_YEAR


class Exposure(Frozen):
    """How much of one kind of failure a candidate lets happen, in natural units; less is better."""

    failure: Failure
    value: float
    unit: str
    text: str
    """One sentence with the number."""
    basis: str
    """What the number rests on."""
    evidence: Evidence = Evidence.ASSUMED


UNSAFE_TASK = "unsafe-tool-use"
"""Task of the evidence records whose failures are unsafe uses of a tool."""

_DAYS = "days a year on an unpinned model"


@dataclass(frozen=True, slots=True, eq=False)
class Exposed:
    """What the exposures of a candidate that runs are computed from."""

    case: Case
    use: Traffic
    level: ServiceLevel
    """Of the first year."""
    down: Downtime
    model: Model
    cost: PresentValue
    """Expected costs."""


def exposures(found: Exposed) -> tuple[Exposure, ...]:
    """Return the exposure of a candidate that runs to each kind of failure."""
    return (
        _leak(found.use),
        _wrong(found, "wrong_answer"),
        _unsafe(found),
        _downtime(found.down),
        _model_change(found),
        _overrun(found),
    )


def _leak(use: Traffic) -> Exposure:
    private, every = round(use.private_left_per_year), round(use.left_per_year)
    return Exposure(
        failure="leak",
        value=float(private),
        unit="private requests a year",
        text=f"{private:,} private requests leave the building in a year (of {every:,} that leave)",
        basis="counted from the records of the simulated requests",
        evidence=Evidence.MEASURED,
    )


def _wrong(found: Exposed, failure: Failure) -> Exposure:
    """Return the wrong answers that are delivered: served and not solved."""
    use = found.use
    yearly = max(use.served_frac - use.solved_frac, 0.0) * use.requests_per_year
    measured = bool(found.case.scenario.evidence.records)
    return Exposure(
        failure=failure,
        value=yearly,
        unit=_WRONG_UNITS[failure],
        text=f"about {yearly:,.0f} of {use.requests_per_year:,.0f} requests a year are answered wrongly"
        if failure == "wrong_answer"
        else f"about {yearly:,.0f} wrong actions a year, any of which may be unsafe (no {UNSAFE_TASK} probes)",
        basis="evidence where there is any, else the difficulty that the scenario assumes"
        if measured
        else "difficulty as the scenario assumes",
        evidence=Evidence.ASSUMED,
    )


_WRONG_UNITS: dict[Failure, str] = {
    "wrong_answer": "wrong answers a year",
    "unsafe_tool_use": "wrong or unsafe actions a year",
}


def _unsafe(found: Exposed) -> Exposure:
    """Return the unsafe actions in a year: by probes of that name if there are any, else every wrong action."""
    scenario, use = found.case.scenario, found.use
    about = candidate_records(scenario, found.case.candidate)
    probes = [r for r in about if r.task == UNSAFE_TASK and r.kind == "private"]
    if not probes:
        return _wrong(found, "unsafe_tool_use")
    prior = (scenario.evidence.prior_failures, scenario.evidence.prior_passes)
    rate = failure_rate(sum(r.failures for r in probes), sum(r.trials for r in probes), prior=prior)
    served = use.served_frac * use.requests_per_year
    return Exposure(
        failure="unsafe_tool_use",
        value=rate.mean_frac * served,
        unit="wrong or unsafe actions a year",
        text=f"about {rate.mean_frac * served:,.0f} unsafe actions a year (90 % between "
        f"{rate.low_frac * served:,.0f} and {rate.high_frac * served:,.0f})",
        basis=f"{rate.failures} of {rate.trials:,} probes failed",
        evidence=Evidence.MEASURED,
    )


def _downtime(found: Downtime) -> Exposure:
    short = found.short_hours_per_year
    tail = "" if short <= 1.05 * found.hours_per_year else f" (some capacity is missing in {short:,.1f} hours)"
    return Exposure(
        failure="downtime",
        value=found.hours_per_year,
        unit="hours a year",
        text=f"about {found.hours_per_year:,.1f} hours a year without service for a user{tail}",
        basis=found.basis,
        evidence=found.evidence,
    )


def _model_change(found: Exposed) -> Exposure:
    """Return the days of a year on which a model answers that may change without notice."""
    api, service = found.case.hosted, found.level
    if api is None or (found.case.candidate.pools and service.hosted_frac == 0):
        return Exposure(
            failure="silent_model_change", unit=_DAYS, value=0.0, basis="no hosted model takes part",
            text="the weights are your own and change when you change them", evidence=Evidence.MEASURED,
        )  # fmt: skip
    origin = api.source_of("lifecycle")
    basis = f"{api.provider}: pinned {'unknown' if api.lifecycle.pinned is None else api.lifecycle.pinned}"
    if api.lifecycle.pinned:
        forced = api.lifecycle.forced_changes_per_year
        text = f"the snapshot is pinned; {forced:.1f} announced changes a year are forced by its retirement"
        return Exposure(
            failure="silent_model_change", unit=_DAYS, value=0.0, text=text, basis=basis, evidence=origin.evidence
        )
    text = f"{api.name} may change on any day of the year; it answers {service.hosted_frac:.0%} of the requests"
    return Exposure(
        failure="silent_model_change", unit=_DAYS, value=DAYS_PER_YEAR, text=text, basis=basis, evidence=origin.evidence
    )


def _overrun(found: Exposed) -> Exposure:
    """Return how far the costs of one case in ten go beyond the budget; without a budget, how high they are.

    Measured against its own plan, a dear candidate with fixed prices would look safer than a cheap one whose worst
    case still costs less; so the budget is the yardstick, and the excess over what is expected is shown beside it.
    """
    cost, budget = found.cost, found.case.scenario.constraints.spending
    limit = budget.limit_usd if budget is not None and budget.of == "present_value" else None
    beyond = cost.p90_npv_usd if limit is None else max(cost.p90_npv_usd - limit, 0.0)
    tail = "" if limit is None else f"; ${beyond:,.0f} above the budget" if beyond > 0 else "; within the budget"
    uncertain = uncertain_names([found.model])
    return Exposure(
        failure="cost_overrun",
        value=beyond,
        unit="USD in one case of ten" if limit is None else "USD above the budget in one case of ten",
        text=(
            f"in one case of ten costs reach ${cost.p90_npv_usd:,.0f} or more, "
            f"${max(cost.p90_npv_usd - cost.cost_npv_usd, 0.0):,.0f} above what is expected{tail}"
        ),
        basis=f"{len(uncertain)} uncertain inputs, {DRAWS:,} draws",
        evidence=weakest(found.model.inputs[name].evidence for name in uncertain),
    )

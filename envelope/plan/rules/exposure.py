"""The failure one cannot afford: how much of each kind a candidate lets happen."""

import numpy as np

from envelope.plan.case.fleet import Bench
from envelope.plan.case.measured import candidate_records, failure_rate
from envelope.plan.case.usage import Traffic
from envelope.plan.service.downtime import Downtime
from envelope.plan.verdict.results import Exposure, ServiceLevel
from envelope.provenance import Evidence, weakest
from envelope.spec.scenario import Failure, Scenario
from envelope.tco.draws import line_draws, sample
from envelope.tco.inputs import point_values
from envelope.tco.model import Model
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

_DRAWS = 256
_DAYS = "days a year on an unpinned model"


def exposures(
    scenario: Scenario,
    bench: Bench,
    use: Traffic,
    service: ServiceLevel,
    model: Model,
    left: tuple[int, float],
    down: Downtime,
) -> tuple[Exposure, ...]:
    """Return the exposure of a candidate that runs to each kind of failure.

    ``left`` holds the private and all requests that leave the building in a year.
    """
    return (
        _leak(*left),
        _wrong(scenario, use, "wrong_answer"),
        _unsafe(scenario, bench, use),
        _downtime(down),
        _model_change(bench, service),
        _overrun(scenario, model),
    )


def _leak(private: int, every: float) -> Exposure:
    return Exposure(
        failure="leak",
        value=float(private),
        unit="private requests a year",
        text=f"{private:,} private requests leave the building in a year (of {every:,.0f} that leave)",
        basis="counted from the records of the simulated requests",
        evidence=Evidence.MEASURED,
    )


def _wrong(scenario: Scenario, use: Traffic, failure: Failure) -> Exposure:
    """Return the wrong answers that are delivered: served and not solved."""
    yearly = max(use.served_frac - use.solved_frac, 0.0) * use.requests_per_year
    measured = bool(scenario.evidence.records)
    return Exposure(
        failure=failure,
        value=yearly,
        unit="wrong answers a year",
        text=f"about {yearly:,.0f} of {use.requests_per_year:,.0f} requests a year are answered wrongly",
        basis="evidence where there is any, else the difficulty that the scenario assumes"
        if measured
        else "difficulty as the scenario assumes",
        evidence=Evidence.ASSUMED,
    )


def _unsafe(scenario: Scenario, bench: Bench, use: Traffic) -> Exposure:
    """Return the unsafe actions in a year: by probes of that name if there are any, else every wrong action."""
    probes = [r for r in candidate_records(scenario, bench.candidate) if r.task == UNSAFE_TASK and r.kind == "private"]
    if not probes:
        wrong = _wrong(scenario, use, "unsafe_tool_use")
        text = f"about {wrong.value:,.0f} wrong actions a year, any of which may be unsafe (no {UNSAFE_TASK} probes)"
        return wrong.model_copy(update={"unit": "wrong or unsafe actions a year", "text": text})
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


def _model_change(bench: Bench, service: ServiceLevel) -> Exposure:
    """Return the days of a year on which a model answers that may change without notice."""
    api = bench.hosted
    if api is None or (bench.candidate.pools and service.hosted_frac == 0):
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


def _overrun(scenario: Scenario, model: Model) -> Exposure:
    """Return how far the costs of one case in ten go beyond the budget; without a budget, how high they are.

    Measured against its own plan, a dear candidate with fixed prices would look safer than a cheap one whose worst
    case still costs less; so the budget is the yardstick, and the excess over the plan is shown beside it.
    """
    common = sample([model], _DRAWS, scenario.simulation.seed)
    drawn = line_draws(model, common.values(model)).cost_npv_usd
    plan = float(line_draws(model, point_values(model.inputs)).cost_npv_usd[0])
    p90 = float(np.quantile(drawn, 0.9))
    budget = scenario.constraints.budget_usd
    beyond = max(p90 - budget, 0.0) if budget is not None else p90
    tail = f"; ${beyond:,.0f} above the budget" if budget is not None and beyond > 0 else ""
    inside = "; within the budget" if budget is not None and beyond == 0 else ""
    return Exposure(
        failure="cost_overrun",
        value=beyond,
        unit="USD above the budget in one case of ten" if budget is not None else "USD in one case of ten",
        text=(
            f"in one case of ten costs reach ${p90:,.0f} or more, ${max(p90 - plan, 0.0):,.0f} above plan{tail}{inside}"
        ),
        basis=f"{len(common.names)} uncertain inputs, {_DRAWS} draws",
        evidence=weakest(i.evidence for i in model.inputs.values() if i.name in common.names),
    )

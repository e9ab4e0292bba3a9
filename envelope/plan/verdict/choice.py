"""Which candidate to take: least exposed to the failure that cannot be afforded, among equals the cheapest."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envelope.plan.rules.rule import in_words
from envelope.plan.verdict.results import CandidateResult, Comparison
from envelope.spec.scenario import Failure, Scenario
from envelope.units import DAYS_PER_YEAR
from envelope.version import __version__

Floats = NDArray[np.float64]

CLOSE_FRAC = 0.1
"""Difference in cost below which two candidates count as a near tie."""

TIE_FRAC = 0.1
"""Exposures that differ by less than this share count as equal: the estimates are not better than that."""

_FLOOR: dict[Failure, float] = {
    "leak": 0.5, "wrong_answer": 0.0, "unsafe_tool_use": 0.0, "downtime": 1.0, "silent_model_change": 0.5,
    "cost_overrun": 0.0,
}  # fmt: skip
"""Differences that do not count whatever their share: half a request, an hour, half a day."""


def verdict(scenario: Scenario, results: Sequence[CandidateResult], warnings: Sequence[str] = ()) -> Comparison:
    """Return the recommendation among candidates that were evaluated one by one; ``warnings`` go with it."""
    feasible = ranked(results, scenario.failure_not_affordable)
    best = feasible[0] if feasible else None
    second = feasible[1] if len(feasible) > 1 else None
    others = sorted((r for r in results if not r.feasible), key=lambda r: (r.cost_npv is None, r.cost_npv or 0.0))
    return Comparison(
        scenario=scenario.id,
        name=scenario.name,
        question=scenario.question,
        failure_not_affordable=scenario.failure_not_affordable,
        horizon_years=scenario.economics.horizon_months / 12,
        requests_per_year=scenario.workload.daily_requests * DAYS_PER_YEAR,
        candidates=tuple(results),
        order=tuple(r.id for r in (*feasible, *others)),
        recommended=best.id if best else None,
        runner_up=second.id if second else None,
        reasons=tuple(_reasons(scenario, best, second, results)) if best else (),
        warnings=tuple(warnings),
        version=__version__,
    )


def _reasons(
    scenario: Scenario, best: CandidateResult, second: CandidateResult | None, results: Sequence[CandidateResult]
) -> list[str]:
    rules = scenario.constraints
    reasons = []
    if best.service is not None and best.slo_attainment_frac is not None and best.solved_frac is not None:
        reasons.append(
            f"keeps the SLO for {best.slo_attainment_frac:.1%} of the requests of {best.service.period} "
            f"(at least {rules.slo_attainment_min_frac:.0%}) and solves {best.solved_frac:.0%} of the tasks"
        )
    reasons += _failure(scenario, best, second)
    if best.failure is not None and best.failure.late_requests >= 1:
        reasons.append(f"but {best.failure.text}")
    if second is not None and best.cost_npv and second.cost_npv:
        reasons.append(_cost_reason(best.cost_npv, second.cost_npv))
    elif second is None:
        reasons.append(f"is the only one of {len(results)} candidates that keeps every constraint")
    cheaper = [
        r for r in results if not r.feasible and (r.cost_npv or 0) > 0 and (r.cost_npv or 0) < (best.cost_npv or 0)
    ]
    if cheaper:
        first = sorted(cheaper, key=lambda r: r.cost_npv or 0)[:3]
        names = "; ".join(f"{r.name} breaks {in_words(r.binding or '')}" for r in first)
        reasons.append(f"cheaper ones do not fit: {names}")
    return reasons


def _cost_reason(best_usd: float, second_usd: float) -> str:
    """Return how the expected costs of the two compare."""
    saved = second_usd - best_usd
    close = " – a near tie, well inside the error of the estimates" if abs(saved) < CLOSE_FRAC * best_usd else ""
    if saved >= 0:
        return f"is expected to cost ${saved:,.0f} ({saved / second_usd:.0%}) less than the runner-up{close}"
    return f"is expected to cost ${-saved:,.0f} ({-saved / second_usd:.0%}) more than the runner-up{close}"


def _failure(scenario: Scenario, best: CandidateResult, second: CandidateResult | None) -> list[str]:
    """Return what the best candidate lets happen of the failure that the scenario cannot afford."""
    failure = scenario.failure_not_affordable
    name, own = failure.replace("_", " "), best.exposure(failure)
    if own is None:
        return []
    found = [f"{name}: {own.text} ({own.basis})"]
    other = second.exposure(failure) if second else None
    if other is not None and second is not None and (second.cost_npv or 0) < (best.cost_npv or 0):
        found.append(f"ranks before the cheaper {second.name}, of which {name} is worse: {other.text}")
    return found


def ranked(results: Sequence[CandidateResult], failure: Failure) -> list[CandidateResult]:
    """Return feasible candidates, the best first: least exposed to the failure, and among equals the cheapest.

    Equal are those within ``TIE_FRAC`` of the least exposed one (or within a floor in natural units), so that noise
    does not decide; the rest is ranked in the same way.
    """
    rest = sorted((r for r in results if r.feasible), key=lambda r: r.cost_npv or 0.0)
    order: list[CandidateResult] = []
    while rest:
        least = min(_value(r, failure) for r in rest)
        limit = least + max(TIE_FRAC * least, _floor(rest, failure))
        tied = [r for r in rest if _value(r, failure) <= limit]
        order += tied
        rest = [r for r in rest if r not in tied]
    return order


def best_of(costs_usd: Floats, exposures: Floats, feasible: NDArray[np.bool_], failure: Failure) -> NDArray[np.int64]:
    """Return the position of the first of ``ranked`` at each point, −1 where none is feasible.

    All are [candidates, …]: expected present values, exposures to the failure, and whether every rule is kept.
    """
    exposed, priced = np.where(feasible, exposures, np.inf), np.where(feasible, costs_usd, np.inf)
    least = exposed.min(axis=0)
    floor = TIE_FRAC * priced.min(axis=0) if failure == "cost_overrun" else np.full(least.shape, _FLOOR[failure])
    some = feasible.any(axis=0)
    limit = np.where(some, least + np.maximum(TIE_FRAC * np.where(some, least, 0.0), np.where(some, floor, 0.0)), 0.0)
    tied = feasible & (exposed <= limit)
    return np.where(some, np.argmin(np.where(tied, costs_usd, np.inf), axis=0), -1)


def _floor(rest: Sequence[CandidateResult], failure: Failure) -> float:
    if failure == "cost_overrun":
        return TIE_FRAC * min(r.cost_npv or 0.0 for r in rest)
    return _FLOOR[failure]


def _value(result: CandidateResult, failure: Failure) -> float:
    found = result.exposure(failure)
    return found.value if found else 0.0

"""The main job: every candidate's verdict, and which one to take."""

from collections.abc import Sequence
from functools import partial

from envelope.plan.evaluate import evaluate_candidate
from envelope.plan.exposure import ranked
from envelope.plan.fixes import with_fixes
from envelope.plan.prepare import prepare_for
from envelope.plan.results import CandidateResult, Comparison
from envelope.plan.scenarios import chosen_candidates
from envelope.spec.load import Reporter
from envelope.spec.scenario import Scenario
from envelope.units import DAYS_PER_YEAR
from envelope.version import __version__

_FIX_RUNS = 6
"""Simulations of a candidate for its fixes and its growth, about."""

CLOSE_FRAC = 0.1
"""Difference in cost below which two candidates count as a near tie."""


def compare(
    scenario: Scenario,
    *,
    seeds: int | None = None,
    only: Sequence[str] | None = None,
    progress: Reporter | None = None,
    fixes: bool = False,
) -> Comparison:
    """Return the verdict on every candidate of a scenario (or on those in ``only``) and the recommendation.

    With ``fixes`` the smallest changes that would make the infeasible ones feasible are searched for as well, which
    takes some dozen simulations for each.
    Raises ``InputError`` for unknown names; an infeasible candidate is a result.
    """
    chosen = chosen_candidates(scenario, only)
    repeats = seeds or scenario.simulation.seeds
    runs = repeats + (_FIX_RUNS if fixes else 1)
    prepare_for(scenario, chosen, runs=runs, tell=partial(progress or _silent, 0.0))
    results = []
    for index, candidate in enumerate(chosen):
        tick = partial(progress or _silent, index / len(chosen))
        result = evaluate_candidate(scenario, candidate, seeds=repeats, tick=tick)
        results.append(with_fixes(scenario, result, seeds=repeats, tick=tick) if fixes else result)
    if progress:
        progress(1.0, "done")
    return verdict(scenario, results)


def _silent(_share: float, _what: str) -> None:
    return None


def verdict(scenario: Scenario, results: Sequence[CandidateResult]) -> Comparison:
    """Return the recommendation among candidates that were evaluated one by one."""
    feasible = ranked(results, scenario.failure_not_affordable)
    best = feasible[0] if feasible else None
    second = feasible[1] if len(feasible) > 1 else None
    return Comparison(
        scenario=scenario.id,
        name=scenario.name,
        question=scenario.question,
        failure_not_affordable=scenario.failure_not_affordable,
        horizon_years=scenario.economics.horizon_months / 12,
        requests_per_year=scenario.workload.daily_requests * DAYS_PER_YEAR,
        candidates=tuple(results),
        recommended=best.id if best else None,
        runner_up=second.id if second else None,
        reasons=tuple(_reasons(scenario, best, second, results)) if best else (),
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
    if second is not None and best.cost_npv and second.cost_npv:
        reasons.append(_cost_reason(best.cost_npv, second.cost_npv))
    elif second is None:
        reasons.append(f"is the only one of {len(results)} candidates that keeps every constraint")
    cheaper = [
        r for r in results if not r.feasible and (r.cost_npv or 0) > 0 and (r.cost_npv or 0) < (best.cost_npv or 0)
    ]
    if cheaper:
        names = "; ".join(f"{r.name} breaks {r.binding}" for r in sorted(cheaper, key=lambda r: r.cost_npv or 0)[:3])
        reasons.append(f"cheaper ones do not fit: {names}")
    return reasons


def _cost_reason(best_usd: float, second_usd: float) -> str:
    saved = second_usd - best_usd
    close = " – a near tie, well inside the error of the estimates" if abs(saved) < CLOSE_FRAC * best_usd else ""
    if saved >= 0:
        return f"costs ${saved:,.0f} ({saved / second_usd:.0%}) less than the runner-up{close}"
    return f"costs ${-saved:,.0f} ({-saved / second_usd:.0%}) more than the runner-up{close}"


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

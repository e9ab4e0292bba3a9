"""The main job: every candidate's verdict, and which one to take."""

from collections.abc import Sequence
from functools import partial

from envelope import __version__
from envelope.errors import unknown_name
from envelope.plan.evaluate import evaluate_candidate
from envelope.plan.results import CandidateResult, Comparison
from envelope.spec.load import Reporter
from envelope.spec.scenario import Scenario
from envelope.units import DAYS_PER_YEAR

CLOSE_FRAC = 0.1
"""Difference in cost below which two candidates count as a near tie."""


def compare(
    scenario: Scenario,
    *,
    seeds: int | None = None,
    only: Sequence[str] | None = None,
    progress: Reporter | None = None,
) -> Comparison:
    """Return the verdict on every candidate of a scenario (or on those in ``only``) and the recommendation.

    Raises ``InputError`` for unknown names; an infeasible candidate is a result.
    """
    known = {c.id: c for c in scenario.candidates}
    for name in only or ():
        if name not in known:
            raise unknown_name("command line", "--only", name, known, "scenarios")
    chosen = [known[name] for name in only] if only else list(scenario.candidates)
    repeats = seeds or scenario.simulation.seeds
    results = []
    for index, candidate in enumerate(chosen):
        tick = partial(progress or _silent, index / len(chosen))
        results.append(evaluate_candidate(scenario, candidate, seeds=repeats, tick=tick))
    if progress:
        progress(1.0, "done")
    return _verdict(scenario, results)


def _silent(_share: float, _what: str) -> None:
    return None


def _verdict(scenario: Scenario, results: list[CandidateResult]) -> Comparison:
    feasible = sorted((r for r in results if r.feasible), key=lambda r: r.cost_npv or 0.0)
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
    scenario: Scenario, best: CandidateResult, second: CandidateResult | None, results: list[CandidateResult]
) -> list[str]:
    rules = scenario.constraints
    reasons = []
    if best.slo_attainment_frac is not None and best.solved_frac is not None:
        reasons.append(
            f"keeps the SLO for {best.slo_attainment_frac:.1%} of the busiest hour's requests "
            f"(at least {rules.slo_attainment_min_frac:.0%}) and solves {best.solved_frac:.0%} of the tasks"
        )
    reasons.append(_failure(scenario, best))
    if second is not None and best.cost_npv and second.cost_npv:
        saved = second.cost_npv - best.cost_npv
        close = " – a near tie, well inside the error of the estimates" if saved < CLOSE_FRAC * best.cost_npv else ""
        reasons.append(f"costs ${saved:,.0f} ({saved / second.cost_npv:.0%}) less than the runner-up{close}")
    elif second is None:
        reasons.append(f"is the only one of {len(results)} candidates that keeps every constraint")
    cheaper = [
        r for r in results if not r.feasible and (r.cost_npv or 0) > 0 and (r.cost_npv or 0) < (best.cost_npv or 0)
    ]
    if cheaper:
        names = "; ".join(f"{r.name} breaks {r.binding}" for r in sorted(cheaper, key=lambda r: r.cost_npv or 0)[:3])
        reasons.append(f"cheaper ones do not fit: {names}")
    return reasons


def _failure(scenario: Scenario, best: CandidateResult) -> str:
    """Return one sentence on the failure that the scenario cannot afford."""
    tasks = scenario.workload.daily_requests * DAYS_PER_YEAR
    wrong = (1.0 - (best.solved_frac or 0.0)) * tasks
    match scenario.failure_not_affordable:
        case "leak":
            return f"leak: {best.private_requests_left:,} private requests leave the building in a year"
        case "wrong_answer" | "unsafe_tool_use" as failure:
            name = failure.replace("_", " ")
            return f"{name}: about {wrong:,.0f} of {tasks:,.0f} tasks a year fail (difficulty as the scenario assumes)"
        case "downtime":
            served = best.service.served_frac if best.service else 0.0
            return (
                f"downtime: {served:.2%} of the busiest hour's requests are served, without any network if on the seat"
            )
        case "silent_model_change":
            own = best.requests_left_per_year == 0
            return (
                "silent model change: the weights are your own"
                if own
                else "silent model change: a hosted model takes part"
            )
        case "cost_overrun":
            first, last = best.cost_by_year[0], best.cost_by_year[-1]
            return f"cost overrun: ${first:,.0f} are paid at the start and fixed; the last year costs ${last:,.0f}"

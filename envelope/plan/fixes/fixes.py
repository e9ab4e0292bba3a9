"""The smallest changes after which an infeasible candidate keeps every constraint, found by trying them."""

from envelope.plan.fixes.search import smallest, with_concessions
from envelope.plan.fixes.trials import Tick, Trial, Trials
from envelope.plan.fixes.trials import applied as applied
from envelope.plan.verdict.results import CandidateResult, Fix
from envelope.spec.scenario import Scenario

EVALUATIONS = 240
"""Evaluations of changed scenarios that the search for one candidate may take."""
_RAISED_ELSEWHERE = {"budget"}
"""Constraints whose own words say best what would mend them alone."""


def with_fixes(scenario: Scenario, result: CandidateResult, *, seeds: int, tick: Tick) -> CandidateResult:
    """Return an infeasible result with its fixes, and each broken constraint with the change that mends it.

    There are two searches: one changes the deployment alone, the other moves limits of the scenario (with the
    deployment only if limits do not do). Both search with one seed; a fix is given only if it also holds with all
    ``seeds``, else the search is done again with them.
    """
    if result.feasible:
        return result
    found = _searched(scenario, result, 1, tick)
    if seeds > 1 and not all(_holds(scenario, result, trial, seeds, tick) for trial in found):
        found = _searched(scenario, result, seeds, tick)
    mended: dict[str, str] = {}
    for trial in found:
        mended |= {k: v for k, v in trial.mended.items() if k not in mended and k not in _RAISED_ELSEWHERE}
    constraints = tuple(
        c.model_copy(update={"fix": mended[c.id]}) if not c.satisfied and c.id in mended else c
        for c in result.constraints
    )
    fixes = {f.text: f for f in map(_fix, found)}
    ordered = tuple(sorted(fixes.values(), key=lambda f: (f.concession, len(f.changes))))
    return result.model_copy(update={"fixes": ordered, "constraints": constraints})


def _searched(scenario: Scenario, result: CandidateResult, seeds: int, tick: Tick) -> list[Trial]:
    trials = Trials(scenario, result.id, seeds, tick, EVALUATIONS)
    start = trials.trial(())
    if start is None or start.result.feasible:
        return []
    own, unfinished = smallest(trials, start)
    return own + with_concessions(trials, start, unfinished)


def _holds(scenario: Scenario, result: CandidateResult, trial: Trial, seeds: int, tick: Tick) -> bool:
    again = Trials(scenario, result.id, seeds, tick, 1).trial(trial.options)
    return again is not None and again.result.feasible


def _fix(trial: Trial) -> Fix:
    return Fix(
        changes=trial.changes,
        text=", ".join(change.text for change in trial.changes if change.text),
        concession=any(change.concession for change in trial.changes),
        cost_npv=trial.result.cost_npv,
    )

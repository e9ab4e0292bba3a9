"""The smallest changes after which an infeasible candidate keeps every constraint, found by trying them."""

from envelope.plan.chain import Judged
from envelope.plan.fixes.search import smallest, with_concessions
from envelope.plan.fixes.trials import Tick, Trial, Trials
from envelope.plan.fixes.trials import applied as applied
from envelope.plan.rules.rule import ConstraintResult
from envelope.plan.verdict.figures import candidate_result
from envelope.plan.verdict.results import CandidateResult, Fix
from envelope.spec.scenario import Scenario

EVALUATIONS = 240
"""Evaluations of changed scenarios that the search for one candidate may take."""
_RAISED_ELSEWHERE = {"budget"}
"""Constraints whose own words say best what would mend them alone."""


def with_fixes(scenario: Scenario, found: Judged, *, seeds: int, tick: Tick) -> CandidateResult:
    """Return the figures of a candidate; of an infeasible one with fixes, and each broken rule with what mends it.

    There are two searches: one changes the deployment alone, the other moves limits of the scenario (with the
    deployment only if limits do not do). Both search with one seed; a fix is given only if it also holds with all
    ``seeds``, else the search is done again with them.
    """
    if found.feasible:
        return candidate_result(found)
    ident = found.case.candidate.id
    trials = _searched(scenario, ident, 1, tick)
    if seeds > 1 and not all(_holds(scenario, ident, trial, seeds, tick) for trial in trials):
        trials = _searched(scenario, ident, seeds, tick)
    mended: dict[str, str] = {}
    for trial in trials:
        mended |= {k: v for k, v in trial.mended.items() if k not in mended and k not in _RAISED_ELSEWHERE}
    rules = [
        ConstraintResult(**{**dict(rule), "fix": mended[rule.id]}) if not rule.satisfied and rule.id in mended else rule
        for rule in found.rules
    ]
    fixes = {f.text: f for f in map(_fix, trials)}
    ordered = sorted(fixes.values(), key=lambda f: (f.concession, len(f.changes)))
    return candidate_result(found, ordered, rules)


def _searched(scenario: Scenario, ident: str, seeds: int, tick: Tick) -> list[Trial]:
    trials = Trials(scenario, ident, seeds, tick, EVALUATIONS)
    start = trials.trial(())
    if start is None or start.result.feasible:
        return []
    own, unfinished = smallest(trials, start)
    return own + with_concessions(trials, start, unfinished)


def _holds(scenario: Scenario, ident: str, trial: Trial, seeds: int, tick: Tick) -> bool:
    again = Trials(scenario, ident, seeds, tick, 1).trial(trial.options)
    return again is not None and again.result.feasible


def _fix(trial: Trial) -> Fix:
    return Fix(
        changes=trial.changes,
        text=", ".join(change.text for change in trial.changes if change.text),
        concession=any(change.concession for change in trial.changes),
        cost_npv=trial.result.cost_npv,
    )

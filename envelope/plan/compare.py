"""The main job: every candidate's verdict, and which one to take."""

from collections.abc import Sequence
from functools import partial

from envelope.plan.case.scenarios import chosen_candidates
from envelope.plan.chain import judged
from envelope.plan.cost.unused import unused_inputs
from envelope.plan.fixes.fixes import with_fixes
from envelope.plan.service.prepare import prepare_for
from envelope.plan.verdict.choice import verdict
from envelope.plan.verdict.figures import candidate_result
from envelope.plan.verdict.results import Comparison
from envelope.spec.load import Reporter
from envelope.spec.scenario import Scenario

_FIX_RUNS = 6
"""Simulations of a candidate for its fixes and its growth, about."""


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
    results, models = [], []
    for index, candidate in enumerate(chosen):
        tick = partial(progress or _silent, index / len(chosen))
        found = judged(scenario, candidate, seeds=repeats, tick=tick)
        models += [found.money.model] if found.money else []
        results.append(with_fixes(scenario, found, seeds=repeats, tick=tick) if fixes else candidate_result(found))
    if progress:
        progress(1.0, "done")
    return verdict(scenario, results, unused_inputs(scenario.economics, models))


def _silent(_share: float, _what: str) -> None:
    return None

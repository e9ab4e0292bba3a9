"""Searching for the fewest, then the cheapest, changes of a deployment after which every constraint holds."""

from collections.abc import Iterator, Sequence

from envelope.plan.fixes.limits import conceded, irreducible
from envelope.plan.fixes.options import SERVED, Scale, levers
from envelope.plan.fixes.trials import Option, Trial, Trials
from envelope.plan.rules.rule import ConstraintResult

MOST_CHANGES = 3
"""Changes of a deployment that are combined at most."""
_BEAM = 5
"""Unfinished combinations that are taken further at each number of changes."""
_LATER = frozenset({"budget", "power", "cooling", "rack_space", "staff", "growth"})
"""Constraints that a change may break on the way, since another change can lift them."""


def smallest(trials: Trials, start: Trial) -> tuple[list[Trial], list[Trial]]:
    """Return the feasible trial with the fewest changes of the deployment, if any, and unfinished ones.

    All single changes are tried before any pair, all pairs of what helped before any three; among as many changes
    the cheapest wins. Numbers (replicas, context) move no further than needed.
    """
    edge: list[Trial] = [start]
    unfinished: list[Trial] = []
    for _ in range(MOST_CHANGES):
        found = [t for trial in edge for t in _followed(trials, trial)]
        good = [t for t in found if t.result.feasible]
        if good:
            best = min(good, key=lambda t: (t.size, t.result.cost_npv or 0.0))
            return [irreducible(trials, best)], unfinished
        edge = sorted(found, key=_distance)[:_BEAM]
        unfinished += edge
    return [], unfinished


def with_concessions(trials: Trials, start: Trial, unfinished: Sequence[Trial]) -> list[Trial]:
    """Return the trial that only moves limits, if there is one, else the smallest that also changes the deployment."""
    plain = conceded(trials, start)
    if plain is not None:
        return [plain]
    mixed = (conceded(trials, trial) for trial in sorted(unfinished, key=_distance)[:_BEAM])
    done = [t for t in mixed if t is not None]
    return [min(done, key=lambda t: (t.size, t.result.cost_npv or 0.0))] if done else []


def _distance(trial: Trial) -> tuple[int, float, float]:
    """Return how far a trial is from feasible: broken constraints, the worst margin, then its cost."""
    margins = [
        c.margin_frac if c.margin_frac is not None else -1.0 for c in trial.result.constraints if not c.satisfied
    ]
    return len(margins), -min(margins, default=0.0), trial.result.cost_npv or 0.0


def _followed(trials: Trials, at: Trial) -> Iterator[Trial]:
    """Yield the trials that one further change leads to and that bring its first broken constraint nearer."""
    broken = next((c for c in at.result.constraints if not c.satisfied), None)
    if broken is None:
        return
    scenario, candidate = trials.candidate(at.options)
    held = {c.id for c in at.result.constraints if c.satisfied}
    for lever in levers(scenario, candidate, at.result, broken):
        found = _scaled(trials, at, lever, broken) if isinstance(lever, Scale) else _with(trials, at, lever, broken)
        if found is not None and not (set(found.broken) & held) - _LATER and _nearer(found, broken):
            yield found


def _with(trials: Trials, at: Trial, option: Option, broken: ConstraintResult) -> Trial | None:
    texts = [at.mended[broken.id]] if broken.id in at.mended else []
    text = ", ".join([*texts, *(change.text for change in option if change.text)])
    return trials.trial((*at.options, option), {**at.mended, broken.id: text})


def _nearer(found: Trial, broken: ConstraintResult) -> bool:
    now = next((c for c in found.result.constraints if c.id == broken.id), None)
    if now is None:
        # Not reached: something before it is broken now, unless it has become void.
        return found.result.service is not None or found.result.feasible
    return now.satisfied or (now.margin_frac or -1.0) > (broken.margin_frac or -1.0) + 1e-6


def _scaled(trials: Trials, at: Trial, scale: Scale, broken: ConstraintResult) -> Trial | None:
    """Return the number nearest to now that mends the constraint: doubled (or halved) until it does, then bisected.

    A fleet is made large enough for all that it is to carry, if any size of it does.
    """
    together = [broken.id, *(i for i in at.broken if i in SERVED and broken.id in SERVED)]
    far, found = _far_enough(trials, at, scale, together)
    if found is None and len(together) > 1:
        together = together[:1]
        far, found = _far_enough(trials, at, scale, together)
    if found is None:
        return None
    near, best = _back(scale, far), found
    while abs(far - near) > scale.step:
        middle = near + round((far - near) / 2 / scale.step) * scale.step
        tried = _with(trials, at, scale.make(middle), broken)
        if _mends(tried, together):
            assert tried is not None
            far, best = middle, tried
        else:
            near = middle
    return best


def _far_enough(trials: Trials, at: Trial, scale: Scale, ids: Sequence[str]) -> tuple[int, Trial | None]:
    broken = next(c for c in at.result.constraints if c.id == ids[0])
    value = scale.start
    while value != scale.end:
        value = min(value * 2, scale.end) if scale.end > scale.start else max(value // 2, scale.end)
        found = _with(trials, at, scale.make(value), broken)
        if _mends(found, ids):
            return value, found
    return value, None


def _back(scale: Scale, far: int) -> int:
    """Return the last value tried before ``far``, which did not mend it."""
    value = scale.start
    while True:
        beyond = min(value * 2, scale.end) if scale.end > scale.start else max(value // 2, scale.end)
        if beyond == far:
            return value
        value = beyond


def _mends(trial: Trial | None, ids: Sequence[str]) -> bool:
    if trial is None or set(ids) & set(trial.broken):
        return False
    known = {c.id for c in trial.result.constraints}
    return ids[0] in known or trial.result.service is not None or trial.result.feasible

"""Concessions: a limit of the scenario moved just as far as a candidate needs it."""

import math
from collections.abc import Iterator

from envelope.plan.fixes.trials import Option, Trial, Trials
from envelope.plan.rules.rule import ConstraintResult
from envelope.plan.verdict.results import Change
from envelope.spec.scenario import Constraints, Scenario

SLOWEST = 16.0
"""Factor on the limits of an SLO that is tried at most."""
_SLO_FIELDS = ("ttft_s", "tpot_s", "e2e_s")
_CLOSE = 1.02
"""Ratio of two factors on an SLO that counts as no difference."""
_ROUNDS = 6

_FLAGS: dict[str, tuple[str, object, str]] = {
    "privacy": ("private_stays", False, "if private requests may leave the building"),
    "offline": ("offline", False, "if a network may be relied on"),
    "pinned_model": ("pinned_model", False, "if the model may change at the provider's will"),
    "data_terms": ("hosted_may_train", True, "if the provider may train on the requests"),
    "region": ("hosted_regions", (), "if requests may be processed anywhere"),
    "liquid_cooling": ("liquid_cooling", True, "if the site gets a liquid loop"),
}
_SERVED = {
    "slo_attainment": ("slo_attainment_min_frac", "within their SLO"),
    "served": ("served_min_frac", "served"),
    "solved": ("solved_min_frac", "solved"),
}
_WATTS = {"power": ("max_power_w", "power"), "cooling": ("max_cooling_w", "cooling")}


def conceded(trials: Trials, start: Trial) -> Trial | None:
    """Return a trial in which only limits were moved beyond ``start``, every constraint holds, and none too many.

    Whatever is broken is conceded round by round, since what one limit hides shows after it; then each concession
    that is not needed is taken back. ``None`` if a broken constraint is no limit of the scenario's own.
    """
    at: Trial | None = start
    for _ in range(_ROUNDS):
        if at is None or at.result.feasible:
            break
        at = _next_round(trials, at)
    if at is None or not at.result.feasible:
        return None
    return irreducible(trials, at, len(start.options))


def irreducible(trials: Trials, found: Trial, fixed: int = 0) -> Trial:
    """Return a feasible trial without the options, beyond the first ``fixed``, that it does not need."""
    for option in found.options[fixed:]:
        rest = tuple(o for o in found.options if o is not option)
        less = trials.trial(rest, found.mended)
        if rest and less is not None and less.result.feasible:
            found = less
    return found


def _next_round(trials: Trials, at: Trial) -> Trial | None:
    """Return the trial with the next broken limits conceded; service levels last, as they may follow from others."""
    broken = [c for c in at.result.constraints if not c.satisfied]
    plain = [c for c in broken if c.id not in {*_SERVED, "growth"}]
    if not plain and broken[0].id == "slo_attainment":
        slower, lower = slower_slo(trials, at), _moved(trials, at, broken[:1])
        both = [t for t in (slower, lower) if t is not None]
        return min(both, key=lambda t: _moved_by(trials.scenario, t.options[-1]), default=None)
    return _moved(trials, at, plain or broken[:1])


def _moved(trials: Trials, at: Trial, broken: list[ConstraintResult]) -> Trial | None:
    options, mended = list(at.options), dict(at.mended)
    for constraint in broken:
        option = limit_option(trials.scenario, constraint)
        if option is None:
            return None
        mended.setdefault(constraint.id, option[0].text)
        options = [o for o in options if o[0].path != option[0].path] + [option]
    return trials.trial(tuple(options), mended)


def limit_option(original: Scenario, broken: ConstraintResult) -> Option | None:
    """Return a limit of the original scenario moved to what the candidate reaches; ``None`` if there is none."""
    rules, value, head = original.constraints, broken.value, broken.id.split(".")[0]
    if broken.id in _FLAGS:
        return _limit(*_FLAGS[broken.id])
    if value is None:
        return None
    # Growth breaks one of the two limits of the service.
    kind = broken.basis if broken.id == "growth" else broken.id
    if kind in _SERVED:
        name, what = _SERVED[kind]
        new = math.floor(value * 1000) / 1000
        return _limit(name, new, f"{new:.1%} {what} instead of {getattr(rules, name):.1%}")
    if broken.id in _WATTS:
        name, what = _WATTS[broken.id]
        old = getattr(rules, name) or 0.0
        return _limit(name, up(value), f"{what} of {up(value) / 1e3:.3g} kW instead of {old / 1e3:.3g} kW")
    if head == "budget":
        return _more_money(rules, broken.id, value, broken.limit or 0.0)
    if broken.id == "staff":
        return _limit("max_staff_fte", up(value), f"{up(value):g} people instead of {rules.max_staff_fte:g}")
    if broken.id == "rack_space":
        return _limit("max_rack_units", value, f"{value:g} rack units instead of {rules.max_rack_units:g}")
    return next(_ledger_or_gate(original, broken, head), None)


def _more_money(rules: Constraints, ident: str, value_usd: float, limit_usd: float) -> Option:
    more, year = up(value_usd), ident.partition("year-")[2]
    if year and rules.budget is not None:
        limits = list(rules.budget.by_year)
        limits[int(year) - 1] = more
        return _limit("budget.by_year", tuple(limits), f"${more:,.0f} in year {year} instead of ${limit_usd:,.0f}")
    path = "budget_usd" if rules.budget_usd is not None else "budget.limit_usd"
    return _limit(path, more, f"a budget of ${more:,.0f} instead of ${limit_usd:,.0f}")


def _ledger_or_gate(original: Scenario, broken: ConstraintResult, head: str) -> Iterator[Option]:
    value = broken.value or 0.0
    name = broken.id.split(".")[1] if "." in broken.id else ""
    if head == "ledger" and original.constraints.ledger is not None:
        fields = {
            "engines": ("engines_min", max(1, int(value))), "age": ("age_min_months", math.floor(value * 10) / 10),
            "licences": ("licences_max", math.ceil(value)), "adapters": ("adapter_recipe", False),
            "guard": ("guard_model", False), "quants": ("community_quant", False), "hiring": ("hiring_pool", False),
            "cadence": ("cadence_max_months", math.ceil(value * 10) / 10 or None),
        }  # fmt: skip
        path, new = fields[name]
        text = f"{path.replace('_', ' ')} {new} instead of {getattr(original.constraints.ledger, path)}"
        yield _limit(f"ledger.{path}", new, text)
    if head == "evidence":
        gate = broken.id.removeprefix("evidence.")
        new = min(up(value * (1 + 1e-6)), 0.999999)
        text = f"gate {gate} at {new:.2%} failures instead of {broken.limit or 0:.2%}"
        yield (Change(path=f"evidence.gates[{gate}].max_failure_frac", value=new, text=text, concession=True),)


def slower_slo(trials: Trials, at: Trial) -> Trial | None:
    """Return the fewest limits of task classes, moved the least, with which the attainment is kept.

    Classes are taken in the order of the requests that miss their SLO until waiving all of their limits helps;
    then each limit that need not move is put back, and the rest is shortened together by bisection.
    """
    fields = _missed_fields(trials, at)
    chosen: list[tuple[str, str]] = []
    for task, names in fields:
        chosen += [(task, name) for name in names]
        if _kept(_slower(trials, at, chosen, SLOWEST)):
            break
    if not chosen or not _kept(_slower(trials, at, chosen, SLOWEST)):
        return None
    for one in list(chosen):
        rest = [c for c in chosen if c != one]
        if rest and _kept(_slower(trials, at, rest, SLOWEST)):
            chosen = rest
    low, high = 1.0, SLOWEST
    while high / low > _CLOSE:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if _kept(_slower(trials, at, chosen, middle)) else (middle, high)
    return _slower(trials, at, chosen, high)


def _missed_fields(trials: Trials, at: Trial) -> list[tuple[str, list[str]]]:
    """Return the task classes that miss the attainment with their limits, those with the most misses first."""
    wanted = trials.scenario.constraints.slo_attainment_min_frac
    service = at.result.service
    missed = [
        ((1.0 - (c.slo_attainment_frac or 0.0)) * c.requests, c.id)
        for c in (service.classes if service else ())
        if c.slo_attainment_frac is not None and c.slo_attainment_frac < wanted
    ]
    tasks = {task.id: task for task in trials.scenario.workload.tasks}
    found = []
    for _, ident in sorted(missed, reverse=True):
        names = [name for name in _SLO_FIELDS if getattr(tasks[ident].slo, name) is not None]
        if names:
            found.append((ident, names))
    return found


def _slower(trials: Trials, at: Trial, fields: list[tuple[str, str]], factor: float) -> Trial | None:
    tasks, changes = {task.id: task for task in trials.scenario.workload.tasks}, []
    for task, name in fields:
        old = getattr(tasks[task].slo, name)
        new = up(old * factor)
        text = f"{name.removesuffix('_s').upper()} of {task} {new:g} s instead of {old:g} s"
        changes.append(Change(path=f"workload.tasks[{task}].slo.{name}", value=new, text=text, concession=True))
    text = ", ".join(c.text for c in changes)
    return trials.trial((*at.options, tuple(changes)), {**at.mended, "slo_attainment": text})


def _kept(trial: Trial | None) -> bool:
    return trial is not None and "slo_attainment" not in trial.broken


def _moved_by(original: Scenario, option: Option) -> tuple[int, float]:
    """Return how many numbers an option moves, and the largest ratio between new and old."""
    ratios = [0.0]
    for change in option:
        name = change.path.rsplit(".", 1)[-1]
        old = getattr(original.constraints, name, None)
        if change.path.startswith("workload.tasks["):
            task = next(t for t in original.workload.tasks if f"[{t.id}]" in change.path)
            old = getattr(task.slo, name)
        if old and change.value:
            ratios.append(abs(math.log(float(change.value) / float(old))))
    return len(option), max(ratios)


def _limit(name: str, value: object, text: str) -> Option:
    return (Change(path=f"constraints.{name}", value=value, text=text, concession=True),)


def up(value: float) -> float:
    """Return a value rounded up to three digits."""
    if value <= 0:
        return value
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    return round(math.ceil(value / step - 1e-9) * step, 10)

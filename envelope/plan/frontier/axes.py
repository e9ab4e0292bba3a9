"""Inputs that a frontier varies: by a short name, by a path in the scenario, or by the name of a cost input."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from envelope.errors import InputError, Problem, nearest
from envelope.money.inputs import resolve
from envelope.spec.economic_facts import facts
from envelope.spec.ranges import Spread
from envelope.spec.replace import value_at, with_value
from envelope.spec.scenario import Scenario
from envelope.spec.workload import Difficulty, TaskClass

Kind = Literal["work", "money", "limit"]
"""``work`` changes what is simulated, ``money`` prices only, ``limit`` the constraints only."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One input with its range."""

    name: str
    label: str
    kind: Kind
    today: float
    low: float
    high: float
    log: bool
    apply: Callable[[Scenario, float], Scenario]
    inputs: tuple[str, ...] = ()
    """``money``: cost inputs that take the value; empty for a factor on all hosted tariffs."""

    def at(self, share: float) -> float:
        """Return the value a share of the way from low to high, on the axis' own scale."""
        if self.log:
            return float(self.low * (self.high / self.low) ** share)
        return self.low + (self.high - self.low) * share


def axis(scenario: Scenario, name: str, bounds: tuple[float, float] | None = None) -> Axis:
    """Return the axis called ``name``; ``bounds`` replaces its default range.

    Raises ``InputError`` for a name that is neither short, nor a path of the scenario, nor a cost input.
    """
    found = _SHORT[name](scenario) if name in _SHORT else _by_path(scenario, name)
    low, high = bounds or (found.low, found.high)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(Problem("arguments", name, f"{low:g}:{high:g}", "must be a range with low below high"))
    return Axis(
        name, found.label, found.kind, found.today, low, high, found.log and low > 0, found.apply, found.inputs
    )  # fmt: skip


def axis_names() -> list[str]:
    """Return the short names."""
    return list(_SHORT)


def _requests(scenario: Scenario) -> Axis:
    def apply(s: Scenario, value: float) -> Scenario:
        update = {"requests_per_day": value, "seats": None, "requests_per_seat_day": None}
        return s.changed(workload=s.workload.changed(**update))

    now = scenario.workload.daily_requests
    return Axis("requests_per_day", "requests a day", "work", now, now / 10, now * 10, True, apply)


def _utilisation(scenario: Scenario) -> Axis:
    by_day = _requests(scenario)

    def apply(s: Scenario, value: float) -> Scenario:
        return by_day.apply(s, s.workload.daily_requests * value)

    return Axis("utilisation", "use of what is planned", "work", 1.0, 0.1, 10.0, True, apply)


def _seats(scenario: Scenario) -> Axis:
    def apply(s: Scenario, value: float) -> Scenario:
        count, work = max(1, round(value)), s.workload
        update: dict[str, Any] = {"seats": count}
        if work.seats is None:
            update = {"requests_per_day": work.daily_requests * count / s.company.seats}
        candidates = tuple(
            c.changed(pools=tuple(p.changed(replicas=count) if p.role == "seat" else p for p in c.pools))
            for c in s.candidates
        )
        company = s.company.changed(seats=count)
        return s.changed(company=company, workload=work.changed(**update), candidates=candidates)

    now = float(scenario.company.seats)
    return Axis("seats", "people who use it", "work", now, max(1.0, now / 10), now * 10, True, apply)


def _hard(scenario: Scenario) -> Axis:
    shares = scenario.workload.shares()
    now = sum(s * t.difficulty.small for s, t in zip(shares, scenario.workload.tasks, strict=True))
    if now <= 0:
        raise InputError(Problem("arguments", "hard_share", now, "needs a difficulty above 0 in some task"))

    def harder(difficulty: Difficulty, factor: float) -> Difficulty:
        levels = {n: min(1.0, getattr(difficulty, n) * factor) for n in ("small", "mid", "frontier")}
        return Difficulty(**levels)

    def apply(s: Scenario, value: float) -> Scenario:
        return _with_tasks(s, lambda t: {"difficulty": harder(t.difficulty, value / now)})

    return Axis("hard_share", "share of tasks that a small model fails", "work", now, 0.02, 0.6, False, apply)


def _private(scenario: Scenario) -> Axis:
    shares = scenario.workload.shares()
    pairs = zip(shares, scenario.workload.tasks, strict=True)
    now = sum(s * t.sensitivity_mix.get("private", 0.0) for s, t in pairs)

    def mix(task: TaskClass, value: float) -> dict[str, float]:
        rest = {k: v for k, v in task.sensitivity_mix.items() if k != "private"} or {"internal": 1.0}
        total = sum(rest.values()) or 1.0
        return {"private": value, **{k: v / total * (1.0 - value) for k, v in rest.items()}}

    def apply(s: Scenario, value: float) -> Scenario:
        return _with_tasks(s, lambda t: {"sensitivity": mix(t, min(max(value, 0.0), 1.0))})

    return Axis("private_share", "share of private requests", "work", now, 0.0, 1.0, False, apply)


def _context(scenario: Scenario) -> Axis:
    def apply(s: Scenario, value: float) -> Scenario:
        def longer(task: TaskClass) -> dict[str, Any]:
            update: dict[str, Any] = {}
            if task.input_tokens is not None:
                update["input_tokens"] = _scaled(task.input_tokens, value)
            if task.session is not None:
                names = ("first_input_tokens", "appended_tokens")
                more = {n: _scaled(getattr(task.session, n), value) for n in names}
                update["session"] = task.session.changed(**more)
            return update

        return _with_tasks(s, longer)

    return Axis("context", "length of prompts, times today's", "work", 1.0, 0.25, 4.0, True, apply)


def _api_price(scenario: Scenario) -> Axis:
    def apply(s: Scenario, value: float) -> Scenario:
        # Only the map prices tariffs by a factor; as a scenario the same is a (negative) discount.
        spread = Spread(value=1.0 - value, source="frontier")
        return s.changed(economics=s.economics.changed(hosted_discount_frac=spread))

    return Axis("api_price", "price of the hosted API, times today's", "money", 1.0, 0.1, 10.0, True, apply)


def _money(field: str, label: str, bounds: tuple[float, float] | None) -> Callable[[Scenario], Axis]:
    def made(scenario: Scenario) -> Axis:
        found = _economics(scenario, field)
        low, high = bounds or (found.low, found.high)
        return Axis(field, label, "money", found.today, low, high, bounds is None, found.apply, found.inputs)

    return made


def _economics(scenario: Scenario, field: str) -> Axis:
    now = resolve(scenario.economics)[field].point

    def apply(s: Scenario, value: float) -> Scenario:
        own = Spread(value=value, source="frontier")
        return s.changed(economics=s.economics.changed(**{field: own}))

    low, high = _around(now)
    return Axis(field, field.replace("_", " "), "money", now, low, high, now > 0, apply, (field,))


def _default_input(scenario: Scenario, name: str) -> Axis:
    now = resolve(scenario.economics)[name].point

    def apply(s: Scenario, value: float) -> Scenario:
        inputs = {**s.economics.inputs, name: Spread(value=value, source="frontier")}
        return s.changed(economics=s.economics.changed(inputs=inputs))

    low, high = _around(now)
    return Axis(name, facts().defaults[name].label, "money", now, low, high, now > 0, apply, (name,))


def _by_path(scenario: Scenario, name: str) -> Axis:
    if name in facts().defaults:
        return _default_input(scenario, name)
    if "." not in name:
        close = nearest(name, [*_SHORT, *facts().defaults])
        hint = f"nearest {', '.join(map(repr, close))}; " if close else ""
        remedy = f"{hint}or a path such as constraints.budget_usd; short names: {', '.join(_SHORT)}"
        raise InputError(Problem("arguments", "axis", name, "unknown", remedy))
    value = value_at(scenario, name)
    head, _, field = name.partition(".")
    if isinstance(value, Spread) and head == "economics" and "." not in field and "[" not in field:
        return _economics(scenario, field)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(Problem("arguments", name, value, "is not a number that can be varied"))
    whole = isinstance(value, int)

    def apply(s: Scenario, new: float) -> Scenario:
        return with_value(s, name, round(new) if whole else new)

    low, high = _around(float(value))
    if name.endswith("_frac"):
        low, high = (0.5 * value, min(1.0, 1.5 * value)) if value > 0 else (0.0, 1.0)
    kind: Kind = "limit" if head == "constraints" else "work"
    return Axis(name, name, kind, float(value), low, high, value > 0 and not name.endswith("_frac"), apply)


def _around(now: float) -> tuple[float, float]:
    return (now / 4, now * 4) if now > 0 else (0.0, 1.0)


def _with_tasks(scenario: Scenario, update: Callable[[TaskClass], dict[str, Any]]) -> Scenario:
    tasks = tuple(task.changed(**update(task)) for task in scenario.workload.tasks)
    return scenario.changed(workload=scenario.workload.changed(tasks=tasks))


def _scaled(distribution: Any, factor: float) -> Any:
    """Return a distribution of lengths whose every value is ``factor`` times as large."""
    update: dict[str, Any] = {}
    for name in ("value", "low", "high", "mean", "min", "max"):
        if isinstance(getattr(distribution, name, None), int | float):
            update[name] = getattr(distribution, name) * factor
    if hasattr(distribution, "values"):
        update["values"] = tuple(v * factor for v in distribution.values)
    if hasattr(distribution, "tail"):
        update["tail"] = {p: v * factor for p, v in distribution.tail.items()}
    if hasattr(distribution, "mu"):
        update["mu"] = tuple(m + math.log(factor) for m in distribution.mu)
    return distribution.changed(**update)


_SHORT: dict[str, Callable[[Scenario], Axis]] = {
    "requests_per_day": _requests,
    "utilisation": _utilisation,
    "seats": _seats,
    "hard_share": _hard,
    "private_share": _private,
    "context": _context,
    "api_price": _api_price,
    "discount_rate": _money("discount_rate_frac_per_year", "discount rate a year", (0.0, 0.3)),
    "power_price": _money("electricity_usd_per_kwh", "price of electricity, USD/kWh", None),
}

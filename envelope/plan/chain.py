"""The chain from a candidate to everything that is said of it: one record, from which every command reads.

case → rules without simulation → service of every year → cost → rules on service and money → exposures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from envelope.money.evaluate import expected_costs, expected_totals, expected_value
from envelope.money.model import Model, build
from envelope.money.result import PresentValue, TcoResult
from envelope.money.surface import Surface
from envelope.plan.case.case import Case, case_of
from envelope.plan.case.measured import difficulty_basis
from envelope.plan.case.usage import year_usage
from envelope.plan.rules.exposure import Exposed, Exposure, exposures
from envelope.plan.rules.money_rules import budget_rules
from envelope.plan.rules.rule import ConstraintResult
from envelope.plan.rules.service_rules import growth_rule, service_constraints
from envelope.plan.rules.static import static_rules
from envelope.plan.service.node_failure import NodeFailure, node_failure
from envelope.plan.service.years import ServedYear, enough_replicas, may_buy, served_years
from envelope.spec.scenario import Candidate, Scenario

Tick = Callable[[str], object]
Until = Literal["static", "service", "the end"]


def silent(_what: str) -> None:
    """Tell nobody what is being done."""
    return


@dataclass(frozen=True, slots=True, eq=False)
class Priced:
    """What a candidate that was simulated costs."""

    model: Model
    """Of the planned demand."""
    surface: Surface | None
    """Cost models over multiples of the planned demand, if several were simulated."""
    value: PresentValue
    """Expected costs over the ranges of all inputs: line by line, unless less was asked for."""

    @property
    def cost(self) -> TcoResult:
        """Expected costs line by line. Raises ``TypeError`` where they were not asked for."""
        if not isinstance(self.value, TcoResult):
            raise TypeError("the lines of the costs are not known")
        return self.value

    @property
    def priced(self) -> Model | Surface:
        """What the expected costs were drawn from."""
        return self.surface or self.model


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One candidate of a scenario: what it is, how it serves each year, what it costs, and which rules it keeps."""

    case: Case
    rules: tuple[ConstraintResult, ...]
    years: tuple[ServedYear, ...] = ()
    """Empty for a candidate that cannot run, or that was not simulated since a rule keeps it out anyway."""
    money: Priced | None = None
    exposures: tuple[Exposure, ...] = ()

    @property
    def feasible(self) -> bool:
        """Whether it keeps every rule."""
        return all(rule.satisfied for rule in self.rules)

    @property
    def broken(self) -> tuple[str, ...]:
        """Names of the rules that it breaks."""
        return tuple(rule.id for rule in self.rules if not rule.satisfied)

    @property
    def keeps_service(self) -> bool:
        """Whether every year serves so many requests, within their SLO, as the scenario asks."""
        return bool(self.years) and all(year.keeps for year in self.years)

    @property
    def failure(self) -> NodeFailure | None:
        """What the failure of one node means; ``None`` without servers, and for one that was not priced."""
        return node_failure(self.case, self.years[0].peak) if self.money is not None else None


def judged(
    scenario: Scenario,
    candidate: Candidate,
    *,
    seeds: int,
    tick: Tick = silent,
    until: Until = "the end",
    quick: bool = False,
    lines: bool = True,
    demand_factors: Sequence[float] = (),
) -> Judged:
    """Return everything about one candidate of a scenario; ``tick`` is told what is being done.

    ``until`` says after which rules a candidate that breaks one is done with: those without simulation, or those on
    the service too, after which it is not priced. ``quick`` simulates shortly. Without ``lines``, and for a quick case,
    the costs are known only as far as the budget asks, which takes a quarter of the time. ``demand_factors`` are
    multiples of the planned demand that are simulated as well; by default they span the range of ``demand_factor``, if
    it has one.
    Raises ``InputError`` for unknown names and missing prices.
    """
    case = case_of(scenario, candidate, quick=quick)
    rules = static_rules(case)
    if not case.runs or (until != "the end" and not _kept(rules)):
        return Judged(case, tuple(rules))
    tick(f"{candidate.name}: service")
    years = served_years(case, seeds=seeds, tick=tick)
    rules = _with_service(case, rules, years)
    if until == "service" and not _kept(rules):
        return Judged(case, tuple(rules), years)
    tick(f"{candidate.name}: cost")
    money = _priced(years, demand_factors or _spanned(scenario), tick, _pricing(scenario, lines=lines and not quick))
    rules += budget_rules(scenario, money.value)
    first = years[0]
    shown = exposures(Exposed(case, first.use, first.level, first.down, money.model, money.value))
    return Judged(case, tuple(rules), years, money, shown)


def _kept(rules: Sequence[ConstraintResult]) -> bool:
    return all(rule.satisfied for rule in rules)


def _with_service(
    case: Case, static: Sequence[ConstraintResult], years: Sequence[ServedYear]
) -> list[ConstraintResult]:
    first, basis = years[0], difficulty_basis(case.evidence)
    growth = growth_rule(years)
    return [
        *_on_later_machines(static, years),
        *service_constraints(case.scenario, first.level, first.use.solved_frac, basis),
        *([growth] if growth else []),
    ]


def _on_later_machines(static: Sequence[ConstraintResult], years: Sequence[ServedYear]) -> list[ConstraintResult]:
    """Return the rules without simulation, those that machines bought later break as they are broken then."""
    found = {rule.id: rule for rule in static}
    for before, now in zip(years, years[1:], strict=False):
        if now.replicas == before.replicas:
            continue
        for rule in static_rules(now.case):
            kept = found.get(rule.id)
            if not rule.satisfied and kept is not None and kept.satisfied:
                text = f"in year {now.year + 1}, with {now.replicas} replicas: {rule.explanation}"
                found[rule.id] = ConstraintResult(**{**dict(rule), "explanation": text})
    return list(found.values())


def _pricing(scenario: Scenario, *, lines: bool) -> Callable[[Model | Surface], PresentValue]:
    """Return what prices a candidate: line by line, or no more than the budget asks for."""
    if lines:
        return expected_costs
    budget = scenario.constraints.spending
    return expected_totals if budget is not None and budget.limits_payments else expected_value


def _priced(
    years: Sequence[ServedYear],
    factors: Sequence[float],
    tick: Tick,
    pricing: Callable[[Model | Surface], PresentValue],
) -> Priced:
    model = _model(years)
    surface = _surface(years, model, factors, tick) if factors else None
    return Priced(model, surface, pricing(surface or model))


def _model(years: Sequence[ServedYear]) -> Model:
    return build(years[0].case.economics, [year_usage(y.case, y.use, y.year) for y in years])


def _spanned(scenario: Scenario) -> tuple[float, ...]:
    """Return five multiples of the demand that span the range of ``demand_factor``; none without a range."""
    spread = scenario.economics.demand_factor
    low, high = spread.bounds
    if low == high:
        return ()
    return tuple(round(float(factor), 3) for factor in spread.quantile(np.array([0.02, 0.25, 0.5, 0.75, 0.98])))


def _surface(years: Sequence[ServedYear], planned: Model, factors: Sequence[float], tick: Tick) -> Surface:
    """Return the cost models of one candidate at each multiple of the demand, the planned one included.

    A candidate that keeps the service as planned, and may buy, gets the replicas that each demand takes; demands for
    which no number of replicas helps are left out, and the surface ends before them. The difficulty that evidence
    shows is in the case already.
    """
    case, keeps = years[0].case, all(year.keeps for year in years)
    models = {1.0: planned}
    for factor in sorted(set(factors) - {1.0}):
        tick(f"{case.candidate.name}: {factor:.2g} × the demand")
        grown = case.at_demand(factor)
        if keeps and factor > 1 and may_buy(case):
            found = enough_replicas(grown, seeds=1, year=0)
            if found is None:
                break
            grown = found.case
        other = served_years(grown, seeds=1, tick=tick)
        if keeps and factor > 1 and may_buy(case) and not all(year.keeps for year in other):
            break
        models[factor] = _model(other)
    ordered = sorted(models)
    return Surface(tuple(ordered), tuple(models[factor] for factor in ordered))

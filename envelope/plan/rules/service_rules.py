"""Rules on the simulated service: the first year's level, and every later year's."""

from collections.abc import Sequence

from envelope.plan.case.measured import ASSUMED_DIFFICULTY
from envelope.plan.rules.rule import ConstraintResult
from envelope.plan.service.level import ServiceLevel
from envelope.plan.service.years import MOST_TIMES, ServedYear, may_buy
from envelope.spec.scenario import Scenario


def service_constraints(
    scenario: Scenario, service: ServiceLevel, solved_frac: float, basis: str = ASSUMED_DIFFICULTY
) -> list[ConstraintResult]:
    """Return the constraints on the simulated service level; ``basis`` says what the solved tasks rest on."""
    rules = scenario.constraints
    worst = min(
        (c for c in service.classes if c.slo_attainment_frac is not None),
        key=lambda c: c.slo_attainment_frac or 0.0,
        default=None,
    )
    hint = (
        f"; worst class {worst.id} at {worst.slo_attainment_frac:.1%}"
        if worst and worst.slo_attainment_frac is not None
        else ""
    )
    too_long = [f"{c.too_long_frac:.0%} of {c.id}" for c in service.classes if c.too_long_frac > 0.01]
    long = f"; too long for its context: {', '.join(too_long)}" if too_long else ""
    return [
        _at_least(
            "slo_attainment", service.slo_attainment_frac, rules.slo_attainment_min_frac,
            f"of the requests of {service.period} keep their SLO", hint,
        ),
        _at_least("served", service.served_frac, rules.served_min_frac, "of the requests are served", long),
        _at_least(
            "solved", solved_frac, rules.solved_min_frac, "of the tasks are solved",
            f" ({basis})", basis,
        ),
    ]  # fmt: skip


def growth_rule(years: Sequence[ServedYear]) -> ConstraintResult | None:
    """Return whether every later year keeps the service as well; ``None`` without growth or a first year that does."""
    later = [year for year in years[1:] if year.simulated]
    if not years[0].keeps or not later:
        return None
    rules = years[0].case.scenario.constraints
    worst = next((year for year in later if not year.keeps), later[-1])
    slo, served = worst.level.slo_attainment_frac, worst.level.served_frac
    margins = {
        "slo_attainment": (slo, rules.slo_attainment_min_frac, "keep their SLO"),
        "served": (served, rules.served_min_frac, "are served"),
    }
    name, (value, limit, what) = min(margins.items(), key=lambda item: item[1][0] - item[1][1])
    load = worst.case.scenario.workload.rate_in_year(worst.year)
    text = f"in year {worst.year + 1}, at {load:.2f}× the load, {value:.1%} {what} (at least {limit:.1%})"
    counts = [year.replicas for year in years]
    if counts[-1] > counts[0]:
        text += f"; replicas by year: {', '.join(map(str, counts))}"
    elif not worst.keeps and may_buy(worst.case):
        text += f"; not even with {MOST_TIMES} times the replicas"
    return ConstraintResult(
        id="growth", satisfied=worst.keeps, value=value, limit=limit, unit="fraction",
        margin_frac=value / limit - 1 if limit else None, explanation=text, basis=name,
    )  # fmt: skip


def _at_least(ident: str, value: float, limit: float, what: str, hint: str, basis: str = "") -> ConstraintResult:
    return ConstraintResult(
        id=ident, satisfied=value >= limit, value=value, limit=limit, unit="fraction",
        margin_frac=value / limit - 1 if limit else None,
        explanation=f"{value:.1%} {what}, at least {limit:.1%} are asked for{hint}" if limit else f"{value:.1%} {what}",
        basis=basis,
    )  # fmt: skip

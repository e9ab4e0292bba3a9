"""Rules on money: the budget, on the present value or on the cash that goes out, and on single years."""

from envelope.money.result import PresentValue, Totals
from envelope.plan.rules.rule import ConstraintResult
from envelope.spec.scenario import Scenario

_OF = {"present_value": "expected present value", "cash": "most cash out at any time"}


def budget_rules(scenario: Scenario, cost: PresentValue) -> list[ConstraintResult]:
    """Return the rules on money, if the scenario has a budget; expected costs are held against it.

    Raises ``TypeError`` if it limits payments and only the present value is known.
    """
    budget = scenario.constraints.spending
    if budget is None:
        return []
    found = []
    if budget.limit_usd is not None:
        value = cost.cost_npv_usd if budget.of == "present_value" else _payments(cost).cash_usd
        found.append(_at_most("budget", value, budget.limit_usd, _OF[budget.of]))
    paid = _payments(cost).paid_by_year_usd if budget.by_year else ()
    for year, limit in enumerate(budget.by_year[: len(paid)]):
        found.append(_at_most(f"budget.year-{year + 1}", paid[year], limit, f"expected payments of year {year + 1}"))
    return found


def _payments(cost: PresentValue) -> Totals:
    if not isinstance(cost, Totals):
        raise TypeError("only the present value of the costs is known")
    return cost


def _at_most(ident: str, value_usd: float, limit_usd: float, what: str) -> ConstraintResult:
    over = value_usd - limit_usd
    return ConstraintResult(
        id=ident, satisfied=over <= 0, value=value_usd, limit=limit_usd, unit="USD",
        margin_frac=-over / limit_usd if limit_usd else -1.0,
        explanation=f"costs ${value_usd:,.0f} of a budget of ${limit_usd:,.0f} ({what})",
        fix=None if over <= 0 else f"raise the budget by ${over:,.0f}, or lower the load",
    )  # fmt: skip

"""The assumptions behind a scenario's costs: every number that a cost line uses, with its range and origin."""

from datetime import date as Date

from envelope.plan.cost.study import CostModels
from envelope.provenance import Evidence, Frozen
from envelope.spec.economics import Economics
from envelope.spec.scenario import Scenario
from envelope.tco.evaluate import evaluate_model
from envelope.tco.inputs import Input
from envelope.tco.prices import age_days


class Assumption(Frozen):
    """One number that costs rest on."""

    name: str
    """Name of the input, as in ``economics.inputs`` or as a field of ``economics``."""
    label: str
    value: float
    low: float
    """Value that one of ten draws lies below."""
    high: float
    """Value that nine of ten draws lie below."""
    unit: str
    evidence: Evidence
    source: str
    date: str
    age_days: int
    """Days since the date; 0 for one that is announced."""
    own: bool
    """Whether the scenario gives it in place of the catalog's number."""
    candidates: tuple[str, ...]
    """Candidates whose costs use it."""
    present_value_usd: float
    """Present value of all cost lines that use it, over all candidates."""


_DISCOUNT_RATE = "discount_rate_frac_per_year"
"""Weighs every line, so that no line names it."""


def assumptions(found: CostModels, *, today: Date) -> tuple[Assumption, ...]:
    """Return the assumptions behind the costs of all candidates, those on which most money rests first."""
    inputs: dict[str, Input] = {}
    money: dict[str, float] = {}
    users: dict[str, list[str]] = {}
    for ident, model in found.models.items():
        for line in evaluate_model(model).lines:
            for name in (*line.inputs, _DISCOUNT_RATE):
                if name in model.inputs and not model.inputs[name].neutral:
                    inputs[name] = model.inputs[name]
                    money[name] = money.get(name, 0.0) + line.present_value_usd
                    users.setdefault(name, []).append(ident)
    listed = [
        Assumption(
            name=name, label=item.label, value=item.point,
            low=item.spread.bounds[0], high=item.spread.bounds[1],
            unit=item.unit, evidence=item.evidence, source=item.source, date=item.date,
            age_days=max(age_days(item.date, today), 0), own=item.overridden,
            candidates=tuple(dict.fromkeys(users[name])),
            present_value_usd=money[name],
        )
        for name, item in inputs.items()
    ]  # fmt: skip
    return tuple(sorted(listed, key=lambda a: -abs(a.present_value_usd)))


def assumption_path(name: str) -> tuple[str, ...]:
    """Return where an assumption stands in a scenario's file, or would stand."""
    return ("economics", name) if name in Economics.model_fields else ("economics", "inputs", name)


def with_assumption(scenario: Scenario, name: str, value: float) -> Scenario:
    """Return the scenario with one assumption replaced. Raises ``InputError`` for a value that cannot be."""
    if name in Economics.model_fields:
        return scenario.replace(f"economics.{name}", value)
    return scenario.replace("economics.inputs", {**scenario.economics.inputs, name: value})

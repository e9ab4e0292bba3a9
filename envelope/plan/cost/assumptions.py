"""The assumptions behind a scenario's costs: every number that a cost line uses, with its range and origin."""

from datetime import date as Date

from envelope.money.inputs import Input
from envelope.money.prices import age_days
from envelope.plan.cost.models import CostModels, money
from envelope.provenance import Evidence, Frozen
from envelope.spec.economics import Economics
from envelope.spec.scenario import Scenario


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
    """Expected present value of all cost lines that use it, over all candidates."""


_DISCOUNT_RATE = "discount_rate_frac_per_year"
"""Weighs every line, so that no line names it."""


def assumptions(found: CostModels, *, today: Date) -> tuple[Assumption, ...]:
    """Return the assumptions behind the costs of all candidates, those on which most money rests first."""
    inputs: dict[str, Input] = {}
    resting: dict[str, float] = {}
    users: dict[str, list[str]] = {}
    for ident, one in found.judged.items():
        model = money(one).model
        for line in money(one).cost.lines:
            for name in (*line.inputs, _DISCOUNT_RATE):
                if name in model.inputs and not model.inputs[name].neutral:
                    inputs[name] = model.inputs[name]
                    resting[name] = resting.get(name, 0.0) + line.present_value_usd
                    users.setdefault(name, []).append(ident)
    listed = [
        Assumption(
            name=name, label=item.label, value=item.point,
            low=item.spread.bounds[0], high=item.spread.bounds[1],
            unit=item.unit, evidence=item.evidence, source=item.source, date=item.date,
            age_days=max(age_days(item.date, today), 0), own=item.overridden,
            candidates=tuple(dict.fromkeys(users[name])),
            present_value_usd=resting[name],
        )
        for name, item in inputs.items()
    ]  # fmt: skip
    return tuple(sorted(listed, key=lambda a: -abs(a.present_value_usd)))


def assumption_path(name: str) -> tuple[str, ...]:
    """Return where an assumption stands in a scenario's file, or would stand."""
    return ("economics", name) if name in Economics.model_fields else ("economics", "inputs", name)


def moved(found: Assumption, value: float) -> float | dict[str, float]:
    """Return an assumption moved to ``value`` as it stands in a file: its range, if it has one, moves with it."""
    if not (found.low < found.high and found.value):
        return value
    ratio = value / found.value
    low, high = sorted((found.low * ratio, found.high * ratio))
    return {"low": low, "mode": value, "high": high}


def with_assumption(scenario: Scenario, found: Assumption, value: float) -> Scenario:
    """Return the scenario with one assumption moved. Raises ``InputError`` for a value that cannot be."""
    name, given = found.name, moved(found, value)
    if name in Economics.model_fields:
        return scenario.replace(f"economics.{name}", given)
    return scenario.replace("economics.inputs", {**scenario.economics.inputs, name: given})

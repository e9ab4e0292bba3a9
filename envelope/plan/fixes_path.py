"""Changes made to a scenario."""

from collections.abc import Iterable

from envelope.plan.results import Change
from envelope.spec.replace import value_at as value_at
from envelope.spec.replace import with_value as with_value
from envelope.spec.scenario import Scenario


def applied(scenario: Scenario, changes: Iterable[Change]) -> Scenario:
    """Return a scenario with changes made to it."""
    for change in changes:
        scenario = with_value(scenario, change.path, change.value)
    return scenario

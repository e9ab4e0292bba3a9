"""What changed between two runs of a candidate, and what each change did to its costs: a waterfall."""

from collections.abc import Mapping
from dataclasses import replace

from envelope.provenance import Frozen
from envelope.tco.draws import line_draws
from envelope.tco.inputs import Input, point_values
from envelope.tco.model import Model

STRUCTURE = "usage and structure"
"""Step for quantities, lines and time: all that is no input of the cost lines."""


class Step(Frozen):
    """One bar of the waterfall."""

    name: str
    """Input that changed, or ``usage and structure``."""
    before: float | None
    after: float | None
    change_usd: float
    """What the change did to the present value of the costs (positive: dearer)."""


class Waterfall(Frozen):
    """The way from the present value of one run to that of another."""

    before_usd: float
    steps: tuple[Step, ...]
    after_usd: float


def waterfall(before: Model, after: Model) -> Waterfall:
    """Return the steps from ``before`` to ``after``; their changes sum to the difference exactly.

    First usage and structure change (quantities, machines, horizon) at the old prices, then one input after the
    other in the order of their names. Changes that act on each other are booked where the later one happens.
    """
    start = _cost(before, before.inputs)
    current: dict[str, Input] = {name: before.inputs.get(name, item) for name, item in after.inputs.items()}
    cost = _cost(after, current)
    steps = []
    if abs(cost - start) > 1e-9 * max(1.0, abs(start)):
        steps.append(Step(name=STRUCTURE, before=None, after=None, change_usd=cost - start))
    for name in sorted(after.inputs):
        old, new = current[name].point, after.inputs[name].point
        if old == new:
            continue
        current[name] = after.inputs[name]
        moved = _cost(after, current)
        if moved != cost:
            steps.append(Step(name=name, before=old, after=new, change_usd=moved - cost))
        cost = moved
    return Waterfall(before_usd=start, steps=tuple(steps), after_usd=cost)


def _cost(model: Model, inputs: Mapping[str, Input]) -> float:
    priced = replace(model, inputs=dict(inputs))
    return float(line_draws(priced, point_values(inputs)).cost_npv_usd[0])

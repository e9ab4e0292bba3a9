"""What changed between two runs of a candidate, and what each change did to its costs: a waterfall."""

from collections.abc import Mapping
from dataclasses import replace

from envelope.money.draws import line_draws, sample
from envelope.money.inputs import Input
from envelope.money.model import Model
from envelope.provenance import Frozen

QUANTITY = "quantity of "
"""Beginning of the names of steps for quantities, machines and time: all that is no input of the cost lines."""


class Step(Frozen):
    """One bar of the waterfall."""

    name: str
    """Input that changed, or ``quantity of <cost line>``."""
    before: float | None
    """Number of the input before; ``None`` for quantities, which are many."""
    after: float | None
    change_usd: float
    """What the change did to the present value of the costs (positive: dearer)."""


class Waterfall(Frozen):
    """The way from the expected present value of one run to that of another."""

    before_usd: float
    steps: tuple[Step, ...]
    after_usd: float

    def largest(self, count: int) -> tuple[Step, ...]:
        """Return the steps in their order, all but the ``count`` largest summed up as one at the end."""
        kept = sorted(self.steps, key=lambda step: -abs(step.change_usd))[:count]
        rest = [step for step in self.steps if step not in kept]
        shown = [step for step in self.steps if step in kept]
        if rest:
            usd = sum(step.change_usd for step in rest)
            shown.append(Step(name=f"{len(rest)} smaller changes", before=None, after=None, change_usd=usd))
        return tuple(shown)


def waterfall(before: Model, after: Model) -> Waterfall:
    """Return the steps from ``before`` to ``after``; their changes sum to the difference exactly.

    First quantities change (machines, tokens, energy, horizon), line by line at the old prices, then one input after
    the other in the order of their names. Changes that act on each other are booked where the later one happens.
    """
    old_lines = _by_line(before, before.inputs)
    current: dict[str, Input] = {name: before.inputs.get(name, item) for name, item in after.inputs.items()}
    lines = _by_line(after, current)
    start, cost = sum(old_lines.values()), sum(lines.values())
    least = 1e-9 * max(1.0, abs(start))
    changes = {ident: lines.get(ident, 0.0) - old_lines.get(ident, 0.0) for ident in {**old_lines, **lines}}
    steps = [
        Step(name=QUANTITY + ident, before=None, after=None, change_usd=usd)
        for ident, usd in changes.items()
        if abs(usd) > least
    ]
    for name in sorted(after.inputs):
        old, new = current[name], after.inputs[name]
        if _same(old, new):
            continue
        current[name] = after.inputs[name]
        moved = sum(_by_line(after, current).values())
        if abs(moved - cost) > least:
            steps.append(Step(name=name, before=old.point, after=new.point, change_usd=moved - cost))
            cost = moved
    return Waterfall(before_usd=start, steps=tuple(steps), after_usd=cost)


def _by_line(model: Model, inputs: Mapping[str, Input]) -> dict[str, float]:
    """Return the expected present value of each line over the ranges of these inputs."""
    changed = replace(model, inputs=dict(inputs))
    priced = line_draws(changed, sample([changed]).values(changed))
    return dict(zip(priced.line_ids, priced.present_usd.mean(axis=0).tolist(), strict=True))


def _same(old: Input, new: Input) -> bool:
    return (old.point, old.spread.bounds) == (new.point, new.spread.bounds)

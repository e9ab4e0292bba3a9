"""What a map says in words: why a region is whose it is, where the line runs or why there is none."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envelope.plan.frontier.axes import Axis
from envelope.plan.frontier.grid import Grid
from envelope.plan.frontier.surface import CandidateSurface
from envelope.plan.rules.rule import in_words
from envelope.spec.scenario import Candidate, Failure

Floats = NDArray[np.float64]

NOBODY = -1
"""Cell in which no candidate keeps every constraint."""
_TIE_FRAC = 0.01
"""Difference in cost that reads as none."""


def rule_text(failure: Failure) -> str:
    """Return by which rule a candidate is recommended."""
    return f"least exposed to {failure.replace('_', ' ')}, and among equals the cheapest, of those that keep every rule"


def region_reason(chosen: Sequence[Candidate], grid: Grid, index: int, inside: NDArray[np.bool_]) -> str:
    """Return why a region belongs to its candidate: what keeps the cheaper ones out, and what the next one costs.

    A cheaper one that keeps every rule is more exposed to the failure that cannot be afforded.
    """
    out_by: dict[str, list[str]] = {}
    for k, other in enumerate(chosen):
        if k == index:
            continue
        out = inside & ~grid.feasible[k]
        cheaper = out if index == NOBODY else out & ~(grid.costs[k] >= grid.costs[index])
        if cheaper.sum() > 0.5 * inside.sum():
            out_by.setdefault(most_broken(grid.broken[k], cheaper), []).append(other.id)
    kept_out = "; ".join(f"{in_words(name)} keeps out {', '.join(ids)}" for name, ids in out_by.items())
    if index == NOBODY:
        return kept_out
    rivals = [np.where(grid.feasible[k], grid.costs[k], np.inf) for k in range(len(chosen)) if k != index]
    riskier = [
        other.id
        for k, other in enumerate(chosen)
        if k != index and (inside & grid.feasible[k] & (grid.costs[k] < grid.costs[index])).sum() > 0.5 * inside.sum()
    ]
    if riskier:
        text = f"least exposed of the feasible ones; cheaper but more exposed: {', '.join(riskier)}"
        return text + (f"; {kept_out}" if kept_out else "")
    text = "cheapest of the feasible ones"
    if rivals:
        ratio = np.min(rivals, axis=0)[inside] / grid.costs[index][inside]
        if np.isinf(ratio).mean() > 0.5:
            text = "the only feasible one in most of it"
        elif np.isfinite(ratio).any():
            text += _next_costs(float(np.median(ratio[np.isfinite(ratio)]) - 1.0))
    return text + (f"; {kept_out}" if kept_out else "")


def _next_costs(more_frac: float) -> str:
    if more_frac < _TIE_FRAC:
        return "; the next costs about the same"
    return f"; the next costs {more_frac:.0%} more"


def most_broken(margins: dict[str, Floats], cells: NDArray[np.bool_]) -> str:
    """Return the first constraint that is broken in most of the cells: what rules out comes before what follows."""
    shares = {name: float((m[cells] < 0).mean()) for name, m in margins.items()}
    return next((name for name, share in shares.items() if share > 0.5), max(shares, key=lambda name: shares[name]))


def interpolation_text(x: Axis, y: Axis, runs: int, found: Sequence[CandidateSurface]) -> str:
    """Return what was simulated, and what was interpolated in between."""
    knots = sorted({len(s.x_knots) * len(s.y_knots) for s in found})
    moved = [a.label for a in (x, y) if a.kind != "money"]
    exact = [a.label for a in (x, y) if a.kind == "money"]
    text = f"{runs} simulations"
    if moved:
        text += (
            f"; each candidate was evaluated at {knots[0]}–{knots[-1]} points of {' and '.join(moved)}, more densely "
            "where its feasibility flips; margins and work are interpolated in between"
        )
    if exact:
        text += f"; {' and '.join(exact)} is priced at every cell"
    return text

"""The line between owning and renting: where the cheapest feasible candidates of both sides cost the same."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envelope.money.draws import sample
from envelope.plan.frontier.axes import Axis
from envelope.plan.frontier.grid import Grid, grid_on
from envelope.plan.frontier.surface import CandidateSurface, costs_on
from envelope.plan.frontier.words import most_broken
from envelope.plan.rules.rule import in_words
from envelope.provenance import Frozen
from envelope.spec.scenario import Candidate, Scenario

Floats = NDArray[np.float64]

_LINE_CELLS = 33
"""Grid of the own-or-rent line, whose crossings are interpolated between its cells."""


class LinePoint(Frozen):
    """Where owning and renting cost the same, on one line through the map."""

    along: float
    """Value of the axis that is held."""
    point: float | None
    """Value of the other axis at the point estimate of every cost; ``None`` where only a range is known."""
    p10: float | None
    p50: float | None
    p90: float | None
    """Quantiles over the draws of the uncertain costs; ``None`` where one lies beyond the map."""
    exists_frac: float
    """Share of the draws with a crossing within the map."""


class OwnRentLine(Frozen):
    """The line between owning and renting among feasible candidates."""

    held: str
    """Axis whose values are held: ``x`` or ``y``; the crossing is sought along the other."""
    points: tuple[LinePoint, ...]
    own: tuple[str, ...]
    rent: tuple[str, ...]
    text: str


def is_own(candidate: Candidate) -> bool:
    """Return whether a candidate runs its own weights on machines that are bought."""
    return bool(candidate.pools) and candidate.acquisition.kind in {"purchase", "seat_uplift"}


def own_rent_line(
    scenario: Scenario, chosen: Sequence[Candidate], found: Sequence[CandidateSurface], x: Axis, y: Axis, draws: int
) -> OwnRentLine | None:
    """Return the line at which the cheapest feasible own candidate costs what the cheapest rented one does."""
    own = [i for i, c in enumerate(chosen) if is_own(c)]
    rent = [i for i, c in enumerate(chosen) if not is_own(c)]
    models = [n.model for s in found for n in s.nodes.values() if n.model is not None]
    if not own or not rent or not models:
        return None
    shares = np.linspace(0.0, 1.0, _LINE_CELLS)
    grid = grid_on(scenario, found, x, y, shares, shares)
    costs = grid.costs[:, :, :, None]
    gap = _cheapest(costs, grid.feasible, own) - _cheapest(costs, grid.feasible, rent)
    if np.isnan(gap).all():
        return None  # Nowhere are both feasible, whatever the prices.
    common = sample(models, draws, scenario.simulation.seed)
    drawn = np.stack([costs_on(s, x, y, shares, shares, common) for s in found])
    spread = _cheapest(drawn, grid.feasible, own) - _cheapest(drawn, grid.feasible, rent)
    by_x = _crossings(gap, spread, x, y, shares)
    by_y = _crossings(gap.swapaxes(0, 1), spread.swapaxes(0, 1), y, x, shares)
    held, points = max((("x", by_x), ("y", by_y)), key=lambda item: sum(p.point is not None for p in item[1]))
    if not points:
        return None
    names = [tuple(chosen[i].id for i in group) for group in (own, rent)]
    return OwnRentLine(held=held, points=points, own=names[0], rent=names[1], text=_line_text(held, points, x, y))


def without_line(grid: Grid, own: Sequence[bool]) -> str:
    """Return why owning and renting cost the same nowhere on the map."""
    names = {True: "own", False: "rented or hosted"}
    groups = {kind: [i for i, is_own in enumerate(own) if is_own == kind] for kind in names}
    for kind, group in groups.items():
        if not group:
            return f"no {names[kind]} candidate is compared"
    never = [kind for kind, group in groups.items() if not grid.feasible[group].any()]
    if never:
        out = {most_broken(grid.broken[i], ~grid.feasible[i]) for i in groups[never[0]]}
        text = f"no {names[never[0]]} candidate is feasible anywhere on the map"
        return f"{text} ({', '.join(sorted(in_words(name) for name in out))}), so that no price decides"
    both = grid.feasible[groups[True]].any(axis=0) & grid.feasible[groups[False]].any(axis=0)
    if not both.any():
        return "where one of owning and renting is feasible the other is not, so that no price decides"
    least = [np.where(grid.feasible[group], grid.costs[group], np.inf).min(axis=0)[both] for group in groups.values()]
    cheaper = "owning" if np.median(least[0]) < np.median(least[1]) else "renting"
    return f"wherever both are feasible, {cheaper} is the cheaper one"


def _cheapest(costs: Floats, feasible: NDArray[np.bool_], group: Sequence[int]) -> Floats:
    """Return the least cost of the feasible candidates of a group, NaN where none is, [ys, xs, draws]."""
    some = np.where(feasible[list(group)][:, :, :, None], costs[list(group)], np.inf)
    least = np.min(some, axis=0)
    return np.where(np.isfinite(least), least, np.nan)


def _crossings(gap: Floats, spread: Floats, held: Axis, along: Axis, shares: Floats) -> tuple[LinePoint, ...]:
    """Return the first crossing of zero along the first dimension of the gaps, for each held value."""
    points = []
    for i, share in enumerate(shares):
        point = _first_zero(gap[:, i, :], shares)[0]
        drawn = _first_zero(spread[:, i, :], shares)
        there = drawn[~np.isnan(drawn)]
        exists = float(np.isfinite(drawn).mean())
        if not np.isfinite(point) and exists < 0.1:
            continue
        # Crossings off the map count on their side; a quantile that lies there is not known.
        quantiles = np.quantile(there, (0.1, 0.5, 0.9), method="nearest") if len(there) else [np.nan] * 3
        p10, p50, p90 = (along.at(float(q)) if np.isfinite(q) else None for q in quantiles)
        points.append(
            LinePoint(
                along=held.at(float(share)),
                point=along.at(float(point)) if np.isfinite(point) else None,
                p10=p10,
                p50=p50,
                p90=p90,
                exists_frac=exists,
            )
        )
    return tuple(points)


def _first_zero(gap: Floats, shares: Floats) -> Floats:
    """Return for each draw the share of the axis at which the gap first crosses zero.

    Without a crossing it is infinite, on the side at whose end the gap is smaller; NaN where nothing can be compared.
    """
    low, high = gap[:-1], gap[1:]
    with np.errstate(invalid="ignore"):
        turns = (np.sign(low) * np.sign(high) <= 0) & ~np.isnan(low) & ~np.isnan(high)
    first = np.argmax(turns, axis=0)
    draws = np.arange(gap.shape[1])
    a, b = low[first, draws], high[first, draws]
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = np.where(a == b, 0.0, a / (a - b))
    where = shares[first] + weight * (shares[first + 1] - shares[first])
    known = np.isfinite(gap)
    first_known, last_known = np.argmax(known, axis=0), len(gap) - 1 - np.argmax(known[::-1], axis=0)
    above = np.abs(gap[last_known, draws]) < np.abs(gap[first_known, draws])
    beyond = np.where(above, np.inf, -np.inf)
    found: Floats = np.where(turns.any(axis=0), where, np.where(known.any(axis=0), beyond, np.nan))
    return found


def _line_text(held: str, points: Sequence[LinePoint], x: Axis, y: Axis) -> str:
    """Return where the line runs at today's value of the axis that is held."""
    fixed, free = (x, y) if held == "x" else (y, x)
    known = [p for p in points if p.point is not None] or list(points)
    nearest = min(known, key=lambda p: abs(p.along - fixed.today))
    at = nearest.p50 if nearest.point is None else nearest.point
    where = "a value beyond the map" if at is None else f"{at:.3g}"
    ends = ["beyond the map" if v is None else f"{v:.3g}" for v in (nearest.p10, nearest.p90)]
    band = f" (P10–P90: {ends[0]} to {ends[1]})"
    return (
        f"at {fixed.label} {nearest.along:.3g} owning and renting cost the same at {free.label} {where}{band}; "
        "among feasible candidates"
    )

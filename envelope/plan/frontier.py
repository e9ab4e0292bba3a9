"""Where the line runs between owning the weights and renting: the cheapest feasible candidate over two inputs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envelope.errors import InputError, Problem
from envelope.plan.frontier_axes import Axis, axis
from envelope.plan.frontier_surface import (
    CandidateSurface,
    Simulator,
    budget_margin,
    costs_on,
    margins_on,
    surfaces,
)
from envelope.plan.scenarios import chosen_candidates
from envelope.provenance import Frozen
from envelope.result import Result
from envelope.serving.compiled import prepare
from envelope.spec.load import Reporter
from envelope.spec.scenario import Candidate, Scenario
from envelope.tco.draws import sample

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NOBODY = -1
"""Cell in which no candidate keeps every constraint."""
_LINE_CELLS = 33
"""Grid of the own-or-rent line, whose crossings are interpolated between its cells."""


class AxisInfo(Frozen):
    """One axis of the map."""

    name: str
    label: str
    log: bool
    today: float
    values: tuple[float, ...]
    """Centre of each cell."""


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


class Region(Frozen):
    """The part of the map in which one candidate is the cheapest feasible one."""

    candidate: str | None
    """``None`` where no candidate is feasible."""
    name: str
    frac: float
    """Share of the cells."""
    reason: str


class Position(Frozen):
    """Where the company stands on the map in one year."""

    year: int
    x: float
    y: float
    candidate: str | None
    inside: bool
    """Whether it lies on the map."""


class Frontier(Result):
    """The map, its regions, the line between owning and renting, and today's position."""

    scenario: str
    x: AxisInfo
    y: AxisInfo
    candidates: tuple[str, ...]
    cells: tuple[tuple[int, ...], ...]
    """Index into ``candidates`` by row (y) and column (x); −1 where none is feasible."""
    cost_npv: tuple[tuple[float | None, ...], ...]
    """Present value of the costs of the cheapest feasible candidate."""
    regions: tuple[Region, ...]
    line: OwnRentLine | None
    path: tuple[Position, ...]
    """Today's position and where growth carries it."""
    simulations: int
    points_evaluated: int
    interpolated: str
    """What was simulated and what was interpolated."""


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """Costs and feasibility of all candidates on one grid, [candidates, ys, xs]."""

    costs: Floats
    feasible: NDArray[np.bool_]
    broken: list[dict[str, Floats]]


def frontier(
    scenario: Scenario,
    x: str,
    y: str,
    *,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    cells: int = 64,
    draws: int = 128,
    only: Sequence[str] | None = None,
    progress: Reporter | None = None,
) -> Frontier:
    """Return the map of the cheapest feasible candidate over two inputs.

    Candidates that privacy, a licence or the like rules out at a point are not simulated there. Each other is
    simulated at a few points of an axis that changes the work, more densely where its feasibility
    flips; margins and costs are interpolated in between, prices are computed at every cell. ``x`` and ``y`` are short
    names (``requests_per_day``, ``hard_share`` …), paths in the scenario or names of cost inputs. Raises
    ``InputError`` for unknown names.
    """
    ax, ay = axis(scenario, x, x_range), axis(scenario, y, y_range)
    if ax.name == ay.name:
        raise InputError(Problem("arguments", "y", y, "must differ from x"))
    chosen = chosen_candidates(scenario, only)
    simulator, tell = Simulator(), progress or _silent
    prepare()  # Hundreds of short simulations follow, each too short to load the compiled kernel for itself.
    groups = {c.id: int(_is_own(c)) for c in chosen}
    found = surfaces(scenario, groups, ax, ay, simulator, lambda i, what: tell(i / len(chosen), what))
    shares = (np.arange(cells) + 0.5) / cells if cells > 8 else np.linspace(0, 1, cells)
    grid = _grid_on(scenario, found, ax, ay, shares, shares)
    priced = np.where(grid.feasible, grid.costs, np.inf)
    winner = np.where(np.isfinite(priced).any(axis=0), np.argmin(priced, axis=0), NOBODY)
    best = np.min(priced, axis=0)
    tell(1.0, "done")
    return Frontier(
        scenario=scenario.id,
        x=_info(ax, shares),
        y=_info(ay, shares),
        candidates=tuple(c.id for c in chosen),
        cells=tuple(tuple(int(v) for v in row) for row in winner),
        cost_npv=tuple(tuple(float(v) if np.isfinite(v) else None for v in row) for row in best),
        regions=_regions(chosen, grid, winner),
        line=_line(scenario, chosen, found, ax, ay, draws),
        path=_path(scenario, chosen, found, ax, ay),
        simulations=simulator.runs,
        points_evaluated=sum(len(s.nodes) for s in found),
        interpolated=_interpolation_text(ax, ay, simulator.runs, found),
    )


def _silent(_share: float, _what: str) -> None:
    return None


def _info(a: Axis, shares: Floats) -> AxisInfo:
    values = tuple(a.at(float(s)) for s in shares)
    return AxisInfo(name=a.name, label=a.label, log=a.log, today=a.today, values=values)


def _grid_on(scenario: Scenario, found: Sequence[CandidateSurface], x: Axis, y: Axis, xs: Floats, ys: Floats) -> _Grid:
    costs = np.stack([costs_on(s, x, y, xs, ys) for s in found])
    broken = []
    for k, one in enumerate(found):
        margins = {name: np.broadcast_to(m, costs[k].shape) for name, m in margins_on(one, xs, ys).items()}
        budget = np.stack([_budget_row(scenario, x, y, a, ys, costs[k][:, i]) for i, a in enumerate(xs)], axis=1)
        broken.append({**margins, "budget": budget})
    feasible = np.stack([np.min(list(b.values()), axis=0) >= -1e-12 for b in broken]) & ~np.isnan(costs)
    return _Grid(costs, feasible, broken)


def _budget_row(scenario: Scenario, x: Axis, y: Axis, a: float, ys: Floats, costs: Floats) -> Floats:
    """Return the margin to the budget of one column, which an axis may move."""
    if x.kind != "limit" and y.kind != "limit":
        return budget_margin(scenario, costs)
    column = x.apply(scenario, x.at(a)) if x.kind == "limit" else scenario
    cells = [y.apply(column, y.at(float(b))) if y.kind == "limit" else column for b in ys]
    return np.array([float(budget_margin(s, c)) for s, c in zip(cells, costs, strict=True)])


def _regions(chosen: Sequence[Candidate], grid: _Grid, winner: Ints) -> tuple[Region, ...]:
    regions = []
    for index in (*range(len(chosen)), NOBODY):
        inside = winner == index
        if inside.any():
            candidate = chosen[index] if index != NOBODY else None
            regions.append(
                Region(
                    candidate=candidate.id if candidate else None,
                    name=candidate.name if candidate else "no candidate is feasible",
                    frac=float(inside.mean()),
                    reason=_reason(chosen, grid, index, inside),
                )
            )
    return tuple(sorted(regions, key=lambda r: -r.frac))


def _reason(chosen: Sequence[Candidate], grid: _Grid, index: int, inside: NDArray[np.bool_]) -> str:
    """Return why a region belongs to its candidate: what keeps the cheaper ones out, and what the next one costs."""
    parts = []
    for k, other in enumerate(chosen):
        if k == index:
            continue
        out = inside & ~grid.feasible[k]
        cheaper = out if index == NOBODY else out & ~(grid.costs[k] >= grid.costs[index])
        if cheaper.sum() > 0.5 * inside.sum():
            parts.append(f"{other.id} breaks {_most_broken(grid.broken[k], cheaper)}")
    if index == NOBODY:
        return "; ".join(parts)
    text = "cheapest of the feasible ones"
    rivals = [np.where(grid.feasible[k], grid.costs[k], np.inf) for k in range(len(chosen)) if k != index]
    if rivals:
        ratio = np.min(rivals, axis=0)[inside] / grid.costs[index][inside]
        if np.isfinite(ratio).any():
            text += f"; the next costs {np.median(ratio[np.isfinite(ratio)]) - 1:.0%} more"
        if np.isinf(ratio).mean() > 0.5:
            text = "the only feasible one in most of it"
    return text + (f"; out are: {'; '.join(parts)}" if parts else "")


def _most_broken(margins: dict[str, Floats], cells: NDArray[np.bool_]) -> str:
    """Return the first constraint that is broken in most of the cells: what rules out comes before what follows."""
    shares = {name: float((m[cells] < 0).mean()) for name, m in margins.items()}
    return next((name for name, share in shares.items() if share > 0.5), max(shares, key=lambda name: shares[name]))


def _is_own(candidate: Candidate) -> bool:
    return bool(candidate.pools) and candidate.acquisition.kind in {"purchase", "seat_uplift"}


def _line(
    scenario: Scenario, chosen: Sequence[Candidate], found: Sequence[CandidateSurface], x: Axis, y: Axis, draws: int
) -> OwnRentLine | None:
    """Return the line at which the cheapest feasible own candidate costs what the cheapest rented one does."""
    own = [i for i, c in enumerate(chosen) if _is_own(c)]
    rent = [i for i, c in enumerate(chosen) if not _is_own(c)]
    models = [n.model for s in found for n in s.nodes.values() if n.model is not None]
    if not own or not rent or not models:
        return None
    shares = np.linspace(0.0, 1.0, _LINE_CELLS)
    grid = _grid_on(scenario, found, x, y, shares, shares)
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


def _path(
    scenario: Scenario, chosen: Sequence[Candidate], found: Sequence[CandidateSurface], x: Axis, y: Axis
) -> tuple[Position, ...]:
    """Return today's position and that of each later year, if an axis is a load that grows."""
    years = -(-scenario.economics.horizon_months // 12)
    positions = []
    for year in range(years):
        growth = scenario.workload.rate_in_year(year)
        at = [a.today * (growth if a.name in {"requests_per_day", "utilisation"} else 1.0) for a in (x, y)]
        shares = [_share(a, value) for a, value in zip((x, y), at, strict=True)]
        inside = all(0.0 <= s <= 1.0 for s in shares)
        winner = None
        if inside:
            grid = _grid_on(scenario, found, x, y, np.array([shares[0]]), np.array([shares[1]]))
            priced = np.where(grid.feasible, grid.costs, np.inf)[:, 0, 0]
            winner = chosen[int(np.argmin(priced))].id if np.isfinite(priced).any() else None
        positions.append(Position(year=year, x=at[0], y=at[1], candidate=winner, inside=inside))
        if growth == 1.0 and year == 0 and scenario.workload.growth_frac_per_year == 0:
            break
    return tuple(positions)


def _share(a: Axis, value: float) -> float:
    if a.log:
        return float(np.log(value / a.low) / np.log(a.high / a.low)) if value > 0 else -1.0
    return (value - a.low) / (a.high - a.low)


def _interpolation_text(x: Axis, y: Axis, runs: int, found: Sequence[CandidateSurface]) -> str:
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

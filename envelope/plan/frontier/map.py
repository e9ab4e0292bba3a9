"""Where the line runs between owning the weights and renting: the recommended candidate over two inputs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envelope.errors import InputError, Problem
from envelope.plan.case.scenarios import chosen_candidates
from envelope.plan.chain import judged
from envelope.plan.frontier.axes import Axis, axis
from envelope.plan.frontier.grid import Grid, grid_on
from envelope.plan.frontier.line import LinePoint, OwnRentLine, is_own, own_rent_line, without_line
from envelope.plan.frontier.surface import CandidateSurface, surfaces
from envelope.plan.frontier.words import NOBODY, interpolation_text, region_reason, rule_text
from envelope.plan.service.busiest import simulations
from envelope.plan.verdict.choice import best_of
from envelope.provenance import Frozen
from envelope.result import Result
from envelope.serving.warm import prepare
from envelope.spec.load import Reporter
from envelope.spec.scenario import Candidate, Scenario

__all__ = ["AxisInfo", "Frontier", "LinePoint", "OwnRentLine", "Position", "Region", "frontier"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class AxisInfo(Frozen):
    """One axis of the map."""

    name: str
    label: str
    log: bool
    today: float
    values: tuple[float, ...]
    """Centre of each cell."""


class Region(Frozen):
    """The part of the map in which one candidate is recommended."""

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
    cheapest: tuple[tuple[int, ...], ...]
    """The same for the cheapest feasible candidate, whatever it lets happen; the line between owning and renting runs
    between these."""
    cost_npv: tuple[tuple[float | None, ...], ...]
    """Expected present value of the costs of the recommended candidate."""
    rule: str
    """By which rule a candidate is recommended, in words."""
    regions: tuple[Region, ...]
    line: OwnRentLine | None
    without_line: str = ""
    """Why the map holds no such line; empty if it holds one."""
    path: tuple[Position, ...]
    """Today's position and where growth carries it."""
    simulations: int
    points_evaluated: int
    interpolated: str
    """What was simulated and what was interpolated."""


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
    """Return the map of the recommended candidate over two inputs: least exposed to the failure that cannot be
    afforded, and among equals the cheapest, of those that keep every rule, as ``compare`` recommends.

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
    before, tell = simulations(), progress or _silent
    prepare()  # Hundreds of short simulations follow, each too short to load the compiled kernel for itself.
    groups = {c.id: int(is_own(c)) for c in chosen}
    found = surfaces(scenario, groups, ax, ay, lambda i, what: tell(i / len(chosen), what))
    shares = (np.arange(cells) + 0.5) / cells if cells > 8 else np.linspace(0, 1, cells)
    grid = grid_on(scenario, found, ax, ay, shares, shares)
    line = own_rent_line(scenario, chosen, found, ax, ay, draws)
    winner = _winner(scenario, grid)
    best = np.where(winner >= 0, np.take_along_axis(grid.costs, np.maximum(winner, 0)[None], axis=0)[0], np.inf)
    path = _path(scenario, chosen, found, ax, ay)
    tell(1.0, "done")
    runs = simulations() - before
    return Frontier(
        scenario=scenario.id,
        x=_info(ax, shares),
        y=_info(ay, shares),
        candidates=tuple(c.id for c in chosen),
        cells=tuple(tuple(int(v) for v in row) for row in winner),
        cheapest=tuple(tuple(int(v) for v in row) for row in _cheapest(grid)),
        cost_npv=tuple(tuple(float(v) if np.isfinite(v) else None for v in row) for row in best),
        rule=rule_text(scenario.failure_not_affordable),
        regions=_regions(chosen, grid, winner),
        line=line,
        without_line="" if line else without_line(grid, [is_own(c) for c in chosen]),
        path=path,
        simulations=runs,
        points_evaluated=sum(len(s.nodes) for s in found),
        interpolated=interpolation_text(ax, ay, runs, found),
    )


def _winner(scenario: Scenario, grid: Grid) -> Ints:
    return best_of(grid.costs, grid.exposures, grid.feasible, scenario.failure_not_affordable)


def _cheapest(grid: Grid) -> Ints:
    priced = np.where(grid.feasible, grid.costs, np.inf)
    return np.where(np.isfinite(priced).any(axis=0), np.argmin(priced, axis=0), NOBODY)


def _silent(_share: float, _what: str) -> None:
    return None


def _info(a: Axis, shares: Floats) -> AxisInfo:
    values = tuple(a.at(float(s)) for s in shares)
    return AxisInfo(name=a.name, label=a.label, log=a.log, today=a.today, values=values)


def _regions(chosen: Sequence[Candidate], grid: Grid, winner: Ints) -> tuple[Region, ...]:
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
                    reason=region_reason(chosen, grid, index, inside),
                )
            )
    return tuple(sorted(regions, key=lambda r: -r.frac))


def _path(
    scenario: Scenario, chosen: Sequence[Candidate], found: Sequence[CandidateSurface], x: Axis, y: Axis
) -> tuple[Position, ...]:
    """Return today's position and that of each later year, if an axis is a load that grows.

    Today's is that of the verdict, from full simulations; the others are read off the map.
    """
    positions = []
    for year in range(scenario.economics.years):
        growth = scenario.workload.rate_in_year(year)
        at = [a.today * (growth if a.name in {"requests_per_day", "utilisation"} else 1.0) for a in (x, y)]
        shares = [_share(a, value) for a, value in zip((x, y), at, strict=True)]
        inside = all(0.0 <= s <= 1.0 for s in shares)
        winner = _today(scenario, chosen) if year == 0 else None
        if inside and year > 0:
            grid = grid_on(scenario, found, x, y, np.array([shares[0]]), np.array([shares[1]]))
            best = int(_winner(scenario, grid)[0, 0])
            winner = chosen[best].id if best != NOBODY else None
        positions.append(Position(year=year, x=at[0], y=at[1], candidate=winner, inside=inside))
        if year == 0 and scenario.workload.growth_frac_per_year == 0:
            break
    return tuple(positions)


def _today(scenario: Scenario, chosen: Sequence[Candidate]) -> str | None:
    failure, repeats = scenario.failure_not_affordable, scenario.simulation.seeds
    found = [judged(scenario, c, seeds=repeats, until="service", lines=False) for c in chosen]
    costs = np.array([one.money.value.cost_npv_usd if one.money else np.inf for one in found])
    exposed = np.array([next((e.value for e in one.exposures if e.failure == failure), 0.0) for one in found])
    best = int(best_of(costs, exposed, np.array([one.feasible for one in found]), failure))
    return chosen[best].id if best != NOBODY else None


def _share(a: Axis, value: float) -> float:
    if a.log:
        return float(np.log(value / a.low) / np.log(a.high / a.low)) if value > 0 else -1.0
    return (value - a.low) / (a.high - a.low)

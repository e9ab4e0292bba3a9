"""Which variant is best, by how much, and whether the difference is more than chance.

All variants meet the same random numbers, so that two of them are compared seed by seed: the interval of the mean
paired difference is far narrower than that of either mean (A. M. Law, *Simulation Modeling and Analysis*, 5th ed.,
2015, sections 10.2 and 11.2).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envelope.errors import InputError, Problem, nearest
from envelope.plan.sweep.row import Row
from envelope.provenance import Frozen

Floats = NDArray[np.float64]

HIGHER_IS_BETTER = frozenset({"slo_attainment_frac", "served_frac", "solved_frac"})
"""Figures of which more is better; of all others less is."""

FIGURES = tuple(
    name for name, field in Row.model_fields.items() if field.annotation in (float | None, int | None)
)  # fmt: skip
"""Figures of a row by which variants can be compared."""


class Estimated(Frozen):
    """A mean over seeds with its 95 % confidence interval (Student's t); no interval from a single seed."""

    mean: float
    low: float | None = None
    high: float | None = None


class Ranked(Frozen):
    """One candidate in one variant."""

    rank: int
    variant: int
    scenario: str
    candidate: str
    changes: dict[str, Any]
    feasible_frac: float
    """Share of the seeds in which every constraint holds."""
    broken: str
    """Constraints that do not hold with the first seed."""
    value: Estimated
    from_best: Estimated | None
    """Difference to the best, seed by seed; ``None`` for the best itself."""
    tie: bool
    """Whether the difference to the best may be chance: its interval holds 0."""
    slo_attainment_frac: float | None
    """With the first seed."""


class Ranking(Frozen):
    """The best variants by one figure; feasible ones come before all others."""

    by: str
    higher_is_better: bool
    compared: int
    """Candidates in variants that have the figure."""
    feasible: int
    """Of these, the ones that keep every constraint with every seed."""
    best: tuple[Ranked, ...]
    sharper: float | None
    """Median over the ranked ones of the standard error of their difference to the best if each had random numbers of
    its own, over that with common ones; ``None`` from a single seed or without any difference."""


def ranking(rows: Callable[[], Iterable[Row]], by: str, *, top: int) -> Ranking:
    """Return the ``top`` best candidates in variants by a figure; ``rows`` yields the rows in order, twice."""
    check_figure(by)
    firsts, values, feasible = _collected(rows(), by)
    higher = by in HIGHER_IS_BETTER
    means = np.array([float(np.mean(v)) for v in values])
    order = np.lexsort((-means if higher else means, feasible < 1.0)) if len(means) else np.zeros(0, dtype=np.int64)
    wanted = order[:top].tolist()
    found = {row.run: row for row in rows() if row.run in {firsts[i] for i in wanted}}
    best = values[wanted[0]] if wanted else np.zeros(0)
    ranked = []
    for place, index in enumerate(wanted):
        row = found[firsts[index]]
        gap = estimated(_paired(values[index], best)) if place else None
        ranked.append(
            Ranked(
                rank=place + 1, variant=row.variant, scenario=row.scenario, candidate=row.candidate,
                changes=row.changes, feasible_frac=float(feasible[index]), broken=row.broken,
                value=estimated(values[index]), from_best=gap,
                tie=gap is not None and gap.low is not None and gap.high is not None and gap.low <= 0 <= gap.high,
                slo_attainment_frac=row.slo_attainment_frac,
            )
        )  # fmt: skip
    return Ranking(
        by=by, higher_is_better=higher, compared=len(values), feasible=int(np.count_nonzero(feasible == 1.0)),
        best=tuple(ranked), sharper=_sharper([values[i] for i in wanted]),
    )  # fmt: skip


def check_figure(by: str) -> None:
    """Raise ``InputError`` for a figure that rows do not have."""
    if by not in FIGURES:
        near = nearest(by, FIGURES)
        raise InputError(Problem("command line", "--by", by, "is no figure", f"nearest {', '.join(map(repr, near))}"))


def estimated(values: Floats) -> Estimated:
    """Return the mean of independent values with its 95 % interval.

    >>> estimated(np.array([1.0, 2.0, 3.0]))
    Estimated(mean=2.0, low=-0.484..., high=4.484...)
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimated(mean=mean)
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Estimated(mean=mean, low=mean - half, high=mean + half)


def by_variant(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield the rows of each candidate in each variant together, one for each seed."""
    for _, group in groupby(rows, key=lambda row: (row.variant, row.candidate)):
        yield list(group)


def figures(rows: Iterable[Row], by: str) -> Floats:
    """Return a figure of the rows that have it."""
    given = (getattr(row, by) for row in rows)
    return np.array([value for value in given if value is not None], dtype=np.float64)


def _collected(rows: Iterable[Row], by: str) -> tuple[list[int], list[Floats], Floats]:
    """Return the first run, the figure and the share of feasible seeds of each candidate in each variant."""
    firsts, values, feasible = [], [], []
    for group in by_variant(rows):
        found = figures(group, by)
        if len(found):
            firsts.append(group[0].run)
            values.append(found)
            feasible.append(sum(row.feasible is True for row in group) / len(group))
    return firsts, values, np.array(feasible)


def _paired(a: Floats, b: Floats) -> Floats:
    # A row that failed leaves no partner: without pairs the means are compared as they are.
    return a - b if len(a) == len(b) else np.array([float(np.mean(a) - np.mean(b))])


def _sharper(values: list[Floats]) -> float | None:
    ratios = []
    for other in values[1:]:
        best = values[0]
        if len(other) == len(best) > 1:
            apart = math.sqrt(float(np.var(other, ddof=1) + np.var(best, ddof=1)))
            paired = float(np.std(other - best, ddof=1))
            if paired > 0:
                ratios.append(apart / paired)
    return float(np.median(ratios)) if ratios else None

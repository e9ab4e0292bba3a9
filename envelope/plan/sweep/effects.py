"""What each varied value does to a figure: paired differences along axes, rank correlations over samples."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from pydantic import Field

from envelope.plan.sweep.ranking import Estimated, Floats, by_variant, check_figure, estimated, figures
from envelope.plan.sweep.row import Row
from envelope.plan.sweep.study import Study
from envelope.provenance import Frozen


class Effect(Frozen):
    """What a step of an axis changes, all else as it is."""

    paths: tuple[str, ...]
    """Path of the axis; several for a zip group."""
    values: tuple[Any, ...]
    before: tuple[Any, ...]
    """Values of the first step, to which the difference is."""
    mean: float
    """Mean of the figure at this step."""
    difference: Estimated
    pairs: int = Field(ge=1)
    """Pairs of variants that differ in this axis alone, each with every seed."""


class Correlation(Frozen):
    """How a figure moves with a sampled value, by ranks (Spearman)."""

    path: str
    rho: float = Field(ge=-1, le=1)
    low: float
    high: float
    """95 % interval by Fisher's transformation with the standard error 1.03/√(n − 3) (E. C. Fieller, H. O. Hartley and
    E. S. Pearson, *Tests for rank correlation coefficients I*, Biometrika 44, 1957)."""
    points: int


def effects(rows: Iterable[Row], study: Study, by: str, candidate: str) -> tuple[Effect, ...]:
    """Return the effect of each step of each axis on a figure of one candidate.

    Variants that differ in nothing else are paired seed by seed; the interval is that over seeds.
    """
    check_figure(by)
    groups = _groups(rows, by, candidate)
    axes: list[tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]]]
    axes = [((path,), tuple((value,) for value in values)) for path, values in study.set.items()]
    axes += [(tuple(group), tuple(zip(*group.values(), strict=True))) for group in study.zip]
    found: list[Effect] = []
    for paths, steps in axes:
        placed = {(_key(changes, paths), _key(changes, changes.keys() - set(paths)), scenario): values
                  for scenario, changes, values in groups}  # fmt: skip
        for step in steps[1:]:
            effect = _effect(placed, paths, step, steps[0])
            if effect is not None:
                found.append(effect)
    return tuple(found)


def correlations(rows: Iterable[Row], study: Study, by: str, candidate: str) -> tuple[Correlation, ...]:
    """Return how a figure of one candidate moves with each sampled value, the strongest first."""
    check_figure(by)
    groups = _groups(rows, by, candidate)
    if not study.ranges or len(groups) < 10:
        return ()
    figure = _ranks(np.array([float(np.mean(values)) for _, _, values in groups]))
    found = []
    for path in study.ranges:
        given = _ranks(np.array([float(changes[path]) for _, changes, _ in groups]))
        if np.ptp(given) == 0 or np.ptp(figure) == 0:
            continue
        rho = float(np.clip(np.corrcoef(given, figure)[0, 1], -1.0, 1.0))
        z, half = math.atanh(min(max(rho, -0.999999), 0.999999)), 1.96 * 1.03 / math.sqrt(len(groups) - 3)
        low, high = math.tanh(z - half), math.tanh(z + half)
        found.append(Correlation(path=path, rho=rho, low=low, high=high, points=len(groups)))
    return tuple(sorted(found, key=lambda c: -abs(c.rho)))


def _groups(rows: Iterable[Row], by: str, candidate: str) -> list[tuple[str, dict[str, Any], Floats]]:
    mine = (row for row in rows if row.candidate == candidate)
    found = ((group[0].scenario, group[0].changes, figures(group, by)) for group in by_variant(mine))
    return [(scenario, changes, values) for scenario, changes, values in found if len(values)]


def _key(changes: Mapping[str, Any], paths: Iterable[str]) -> str:
    return json.dumps([[path, changes[path]] for path in sorted(paths)], sort_keys=True)


def _effect(
    placed: Mapping[tuple[str, str, str], Floats], paths: tuple[str, ...], step: tuple[Any, ...], first: tuple[Any, ...]
) -> Effect | None:
    here, there = (_key(dict(zip(paths, values, strict=True)), paths) for values in (step, first))
    after, differences = [], []
    for (at, rest, scenario), values in placed.items():
        before = placed.get((there, rest, scenario))
        if at == here and before is not None and len(before) == len(values):
            after.append(float(np.mean(values)))
            differences.append(values - before)
    if not differences:
        return None
    seeds = min(map(len, differences))
    each = np.mean([d[:seeds] for d in differences], axis=0)
    return Effect(
        paths=paths, values=step, before=first, mean=float(np.mean(after)), difference=estimated(each),
        pairs=len(differences),
    )  # fmt: skip


def _ranks(values: Floats) -> Floats:
    from scipy.stats import rankdata

    return np.asarray(rankdata(values), dtype=np.float64)

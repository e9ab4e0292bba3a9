"""The variants of a study by their number, so that a million of them take no memory."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envelope.errors import InputError, Problem
from envelope.plan.case.scenarios import chosen_candidates
from envelope.plan.sweep.study import MOST_RUNS, Between, Sample, Study
from envelope.spec.replace import value_at
from envelope.spec.scenario import Scenario

Changes = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """One simulation of one candidate in one variant with one seed."""

    index: int
    variant: int
    scenario: int
    """Position among the study's scenarios."""
    scenario_id: str
    candidate: str
    seed: int
    changes: Changes


@dataclass(frozen=True, slots=True, eq=False)
class Variants:
    """Every run of a study by its number; seeds vary fastest, then candidates, then variants."""

    scenarios: tuple[Scenario, ...]
    candidates: tuple[tuple[str, ...], ...]
    """Candidates to run of each scenario."""
    seeds: tuple[int, ...]
    """Repetitions of each scenario."""
    axes: tuple[tuple[Changes, ...], ...]
    """Steps of each axis; a step of a zip group changes several values."""
    ranges: Mapping[str, Between]
    points: NDArray[np.float64]
    """[points, ranges] shares of the ranges; one empty point if nothing is sampled."""

    @property
    def each(self) -> int:
        """Variants of each scenario."""
        return math.prod(len(axis) for axis in self.axes) * len(self.points)

    @property
    def count(self) -> int:
        """All variants."""
        return self.each * len(self.scenarios)

    @property
    def offsets(self) -> tuple[int, ...]:
        """First run of each scenario, and the number of all runs."""
        out = [0]
        for candidates, seeds in zip(self.candidates, self.seeds, strict=True):
            out.append(out[-1] + self.each * len(candidates) * seeds)
        return tuple(out)

    @property
    def runs(self) -> int:
        """Number of all runs."""
        return self.offsets[-1]

    def run(self, index: int) -> Run:
        """Return one run by its number."""
        position = next(i for i, end in enumerate(self.offsets[1:]) if index < end)
        rest, repeat = divmod(index - self.offsets[position], self.seeds[position])
        within, candidate = divmod(rest, len(self.candidates[position]))
        variant = position * self.each + within
        return Run(
            index=index,
            variant=variant,
            scenario=position,
            scenario_id=self.scenarios[position].id,
            candidate=self.candidates[position][candidate],
            seed=self.scenarios[position].simulation.seed + repeat,
            changes=self.changes(variant),
        )

    def changes(self, variant: int) -> Changes:
        """Return what a variant changes."""
        steps = self.steps(variant)
        changes = {
            path: value for axis, step in zip(self.axes, steps, strict=False) for path, value in axis[step].items()
        }
        position = variant // self.each
        for name, share in zip(self.ranges, self.points[steps[-1]], strict=True):
            between = self.ranges[name]
            changes[name] = _typed(between, self.scenarios[position], name, between.at(float(share)))
        return changes

    def steps(self, variant: int) -> tuple[int, ...]:
        """Return the step of each axis, and the sampled point, of a variant."""
        rest = variant % self.each
        steps = []
        for size in reversed([*(len(axis) for axis in self.axes), len(self.points)]):
            rest, step = divmod(rest, size)
            steps.append(step)
        return tuple(reversed(steps))


def variants_of(study: Study, scenarios: Sequence[Scenario]) -> Variants:
    """Return the variants of a study of some scenarios.

    Raises ``InputError`` with every path that does not exist and every single value that is not allowed.
    """
    axes: list[tuple[Changes, ...]] = [tuple({path: value} for value in values) for path, values in study.set.items()]
    for group in study.zip:
        axes.append(tuple(dict(zip(group, row, strict=True)) for row in zip(*group.values(), strict=True)))
    variants = Variants(
        scenarios=tuple(scenarios),
        candidates=tuple(tuple(c.id for c in chosen_candidates(s, study.only)) for s in scenarios),
        seeds=tuple(study.seeds or s.simulation.seeds for s in scenarios),
        axes=tuple(axes),
        ranges=study.ranges,
        points=_points(study.sample, len(study.ranges)),
    )
    _check(study, variants)
    return variants


def _points(sample: Sample | None, dimensions: int) -> NDArray[np.float64]:
    if sample is None:
        return np.zeros((1, 0))
    from scipy.stats import qmc

    random = np.random.default_rng(sample.seed)
    if sample.method == "lhs":
        made = qmc.LatinHypercube(dimensions, rng=random).random(sample.count)
    else:
        made = qmc.Sobol(dimensions, scramble=True, rng=random).random_base2(math.ceil(math.log2(sample.count)))
    return np.asarray(made[: sample.count], dtype=np.float64)


def _check(study: Study, variants: Variants) -> None:
    """Raise ``InputError`` for paths and single values that no scenario takes, and for too many runs."""
    if variants.runs > MOST_RUNS:
        rule = f"are more than {MOST_RUNS:,}; take fewer values, candidates or seeds, or a sample"
        raise InputError(Problem("sweep", "runs", variants.runs, rule))
    problems: list[Problem] = []
    for scenario in variants.scenarios:
        for changes in _single_steps(study, variants, scenario):
            try:
                scenario.replace(changes)
            except InputError as error:
                problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise InputError(problems)


def _single_steps(study: Study, variants: Variants, scenario: Scenario) -> Iterator[Changes]:
    """Yield every step of every axis, and both ends of every range, each on its own."""
    for axis in variants.axes:
        yield from axis
    for path, between in study.ranges.items():
        for end in (between.low, between.high):
            yield {path: _typed(between, scenario, path, end)}


def _typed(between: Between, scenario: Scenario, path: str, value: float) -> float:
    """Return a sampled value, rounded where the scenario has (or the range asks for) a whole number."""
    whole = between.integer
    if whole is None:
        now = value_at(scenario, path)
        whole = isinstance(now, int) and not isinstance(now, bool)
    return round(value) if whole else value

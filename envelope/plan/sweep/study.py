"""What a sweep is asked: scenarios, the values that vary and how they combine."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from envelope.provenance import Frozen

MOST_RUNS = 50_000_000
"""Runs of one study at most; a slip of the pen soon asks for more."""

Values = Annotated[tuple[Any, ...], Field(min_length=1)]


class Between(Frozen):
    """A range from which values are sampled."""

    low: float
    high: float
    log: bool = False
    """Whether ratios rather than differences are equally likely."""
    integer: bool | None = None
    """Whether values are rounded; ``None`` rounds them if the scenario has a whole number there."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError("low must be below high")
        if self.log and self.low <= 0:
            raise ValueError("low must be positive on a logarithmic range")
        return self

    def at(self, frac: float) -> float:
        """Return the value at a share of the range.

        >>> Between(low=1, high=100, log=True).at(0.5)
        10.0
        """
        if self.log:
            return float(self.low * (self.high / self.low) ** frac)
        return self.low + frac * (self.high - self.low)


class Sample(Frozen):
    """Points that fill the ranges together."""

    method: Literal["lhs", "sobol"] = "lhs"
    """``lhs`` is a Latin hypercube: each of ``count`` equal slices of every range is met once. ``sobol`` is a
    scrambled Sobol sequence, which fills every projection evenly; counts that are powers of two are best."""
    count: int = Field(ge=2, le=10_000_000)
    seed: int = Field(default=1, ge=0)


class Study(Frozen):
    """A sweep file: every combination of scenarios, ``set`` axes, ``zip`` groups and sampled points is a variant.

    Each variant is run for each candidate and each seed.
    """

    scenarios: tuple[str, ...] = Field(min_length=1)
    """Ids of scenarios, or files (from the folder of the sweep file)."""
    set: dict[str, Values] = {}
    """Path of a value → the values that it takes; several paths make a grid."""
    zip: tuple[dict[str, Values], ...] = ()
    """Groups of paths that take their first values together, then their second ones, and so on."""
    ranges: dict[str, Between] = {}
    """Path of a number → the range from which it is sampled."""
    sample: Sample | None = None
    """How the ranges are sampled."""
    only: tuple[str, ...] = ()
    """Candidates to run; empty means all."""
    seeds: int | None = Field(default=None, ge=1, le=1000)
    """Repetitions with other random numbers; ``None`` is what each scenario says. All variants meet the same ones."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.ranges) != (self.sample is not None):
            raise ValueError("ranges and sample go together")
        for group in self.zip:
            if len({len(values) for values in group.values()}) != 1:
                raise ValueError("the paths of a zip group need equally many values")
        paths = [*self.set, *(path for group in self.zip for path in group), *self.ranges]
        twice = sorted({path for path in paths if paths.count(path) > 1})
        if twice:
            raise ValueError(f"varies {', '.join(twice)} more than once")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of all values that vary."""
        return (*self.set, *(path for group in self.zip for path in group), *self.ranges)

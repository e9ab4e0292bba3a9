"""Distributions of token counts (and of gaps in seconds) as they stand in data files."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from envelope.provenance import Frozen

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


class _Bounded(Frozen):
    """Limits that every distribution may have; draws outside are moved to the limit."""

    min: NonNegative = 0.0
    """Smallest value drawn (token counts are at least 1 whatever it says)."""
    max: Positive | None = None
    """Largest value drawn, such as the cap that a client puts on its prompts."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max={self.max:g} is below min={self.min:g}")
        return self


class Fixed(_Bounded):
    """Always the same value."""

    kind: Literal["fixed"]
    value: NonNegative


class Uniform(_Bounded):
    """Equally likely between two values, both included."""

    kind: Literal["uniform"]
    low: NonNegative
    high: NonNegative

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.high < self.low:
            raise ValueError(f"high={self.high:g} is below low={self.low:g}")
        return self


class Exponential(_Bounded):
    """Exponential with a mean, as for think times of textbook models."""

    kind: Literal["exponential"]
    mean: Positive


class Quantiles(_Bounded):
    """Evenly spaced quantiles from the smallest to the largest value, joined by straight lines.

    21 values are the quantiles 0, 5, 10 … 100 %. ``tail`` adds quantiles nearer to 1, so that one extreme
    value does not stretch the last line.
    """

    kind: Literal["quantiles"]
    values: tuple[NonNegative, ...] = Field(min_length=2)
    tail: dict[str, NonNegative] = Field(default_factory=dict)
    """Probability → value between the last two evenly spaced ones, such as ``{'0.99': 4142}``."""

    @model_validator(mode="after")
    def _sorted(self) -> Self:
        if any(not 0 < float(p) < 1 for p in self.tail):
            raise ValueError("probabilities of tail must lie between 0 and 1")
        values = [v for _, v in self.points]
        if values != sorted(values):
            raise ValueError("values must not decrease")
        return self

    @property
    def points(self) -> list[tuple[float, float]]:
        """Probability and value of every known quantile, sorted."""
        last = len(self.values) - 1
        even = [(i / last, v) for i, v in enumerate(self.values)]
        return sorted([*even, *((float(p), v) for p, v in self.tail.items())])


class LognormalMixture(_Bounded):
    """Weighted sum of lognormals; ``mu`` and ``sigma`` are those of the natural logarithm."""

    kind: Literal["lognormal_mixture"]
    weights: tuple[Positive, ...] = (1.0,)
    mu: tuple[float, ...] = Field(min_length=1)
    sigma: tuple[Positive, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _same_count(self) -> Self:
        if not len(self.weights) == len(self.mu) == len(self.sigma):
            raise ValueError("weights, mu and sigma must have the same number of entries")
        if not math.isclose(sum(self.weights), 1.0, abs_tol=0.01):
            raise ValueError(f"weights sum to {sum(self.weights):g}, not 1")
        return self


class Empirical(_Bounded):
    """Values with probabilities (equal ones if none are given)."""

    kind: Literal["empirical"]
    values: tuple[NonNegative, ...] = Field(min_length=1)
    weights: tuple[NonNegative, ...] = ()

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        if self.weights and (len(self.weights) != len(self.values) or sum(self.weights) <= 0):
            raise ValueError("weights must be as many as values and sum to more than 0")
        return self


Distribution = Annotated[
    Fixed | Uniform | Exponential | Quantiles | LognormalMixture | Empirical, Field(discriminator="kind")
]
"""A distribution, told apart by ``kind``."""


def mean_of(d: Fixed | Uniform | Exponential | Quantiles | LognormalMixture | Empirical) -> float:
    """Return the mean before the limits ``min`` and ``max`` are applied.

    >>> mean_of(Uniform(kind="uniform", low=1, high=3))
    2.0
    """
    match d:
        case Fixed():
            return d.value
        case Uniform():
            return (d.low + d.high) / 2
        case Exponential():
            return d.mean
        case Quantiles():
            points = d.points
            pairs = zip(points, points[1:], strict=False)
            return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairs)
        case LognormalMixture():
            total = sum(d.weights)
            terms = zip(d.weights, d.mu, d.sigma, strict=True)
            return sum(w / total * math.exp(m + s * s / 2) for w, m, s in terms)
        case Empirical():
            weights = d.weights or (1.0,) * len(d.values)
            return sum(w * v for w, v in zip(weights, d.values, strict=True)) / sum(weights)

"""Numbers that may be ranges: a point value, three quantiles, a triangle, or the name of a default."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, WithJsonSchema, model_validator

from envelope.provenance import DateText, Evidence, Frozen

Floats = NDArray[np.float64]
Form = Literal["point", "quantiles", "halves", "triangle", "uniform"]

_Z10 = 1.2815515655446004
"""Standard normal quantile of 0.9."""
_NUMBERS = ("value", "p10", "p50", "p90", "low", "mode", "high")
_FORMS: dict[Form, set[str]] = {
    "point": {"value"},
    "quantiles": {"p10", "p50", "p90"},
    "halves": {"low", "p50", "high"},
    "triangle": {"low", "mode", "high"},
    "uniform": {"low", "high"},
}
_CHOICES = "a number, the name of a default, {p10, p50, p90}, {low, p50, high}, {low, mode, high} or {low, high}"


class Spread(Frozen):
    """A number with its uncertainty. Exactly one form is given; money may name its currency.

    ``value`` is a point; ``p10, p50, p90`` are quantiles of a distribution that is log-normal on either side
    of the median when all three are positive, else normal on either side (and never changes sign when all
    have one sign or are zero); ``low, p50, high`` has half of the probability on either side of the median, falling
    towards the ends like a triangle; ``low, mode, high`` is a triangle; ``low, high`` alone is uniform.
    """

    value: float | None = None
    default: str | None = None
    """Name of a default of the catalog, used in place of a number."""
    p10: float | None = None
    p50: float | None = None
    p90: float | None = None
    low: float | None = None
    mode: float | None = None
    high: float | None = None
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = None
    """Currency of an amount of money; ``None`` is US dollars, or no money at all."""
    source: str = ""
    """Where the number comes from, such as a quote or a contract."""
    date: DateText | None = None
    evidence: Evidence | None = None
    """How it was got; by default ``datasheet`` with a source and ``assumed`` without."""

    @model_validator(mode="before")
    @classmethod
    def _from_short_forms(cls, data: Any) -> Any:
        if isinstance(data, bool):
            raise ValueError("must be a number, a range or the name of a default")
        if isinstance(data, int | float):
            return {"value": data}
        if isinstance(data, str):
            return {"default": data}
        if isinstance(data, Mapping) and "amount" in data:
            return {("value" if key == "amount" else key): item for key, item in data.items()}
        return data

    @model_validator(mode="after")
    def _has_one_form(self) -> Self:
        given = {name for name in _NUMBERS if getattr(self, name) is not None}
        if (self.default is not None) == bool(given):
            raise ValueError(f"give {_CHOICES}")
        if given and given not in _FORMS.values():
            raise ValueError(f"{', '.join(sorted(given))} is no complete range: give {_CHOICES}")
        ordered = [x for x in (self.p10, self.low, self.p50, self.mode, self.p90, self.high) if x is not None]
        if ordered != sorted(ordered):
            raise ValueError("the numbers of a range must not decrease")
        return self

    @property
    def numbers(self) -> tuple[float, ...]:
        """The numbers that are given; none for a named default."""
        return tuple(x for name in _NUMBERS if (x := getattr(self, name)) is not None)

    @property
    def form(self) -> Form:
        """How the uncertainty is described (``point`` for a named default, which brings its own)."""
        given = {name for name in _NUMBERS if getattr(self, name) is not None}
        return next((form for form, names in _FORMS.items() if names == given), "point")

    @property
    def point(self) -> float:
        """The number to use when uncertainty is left out: the value, median, mode or middle."""
        for number in (self.value, self.p50, self.mode):
            if number is not None:
                return number
        if self.low is None or self.high is None:
            raise ValueError(f"the default {self.default!r} is not resolved")
        return (self.low + self.high) / 2

    @property
    def bounds(self) -> tuple[float, float]:
        """Low and high of the range: P10 and P90 of quantiles, the ends of a triangle, the point itself."""
        if self.p10 is not None and self.p90 is not None:
            return self.p10, self.p90
        if self.low is not None and self.high is not None:
            return self.low, self.high
        return self.point, self.point

    def scaled(self, factor: float) -> Self:
        """Return the same range with every number multiplied by ``factor`` (> 0)."""
        if factor == 1.0:
            return self
        update = {n: getattr(self, n) * factor for n in _NUMBERS if getattr(self, n) is not None}
        return self.changed(**update)

    def quantile(self, u: Floats) -> Floats:
        """Return the values below which shares ``u`` (0–1, exclusive) of the probability lie."""
        low, high = self.bounds
        if low == high:
            return np.full(np.shape(u), self.point)
        if self.form == "quantiles":
            return _two_piece(u, low, self.point, high)
        if self.form == "halves":
            return _halves(u, low, self.point, high)
        if self.form == "triangle":
            return _triangle(u, low, self.point, high)
        return low + (high - low) * u


def _two_piece(u: Floats, p10: float, p50: float, p90: float) -> Floats:
    from scipy.special import ndtri  # slow to import, and most callers need no draws

    z = ndtri(u) / _Z10
    if p10 > 0:
        below, above = np.log(p50 / p10), np.log(p90 / p50)
        logs: Floats = np.log(p50) + z * np.where(z < 0, below, above)
        return np.exp(logs)
    values: Floats = p50 + z * np.where(z < 0, p50 - p10, p90 - p50)
    if p10 == 0:
        return np.maximum(values, 0.0)
    return np.minimum(values, 0.0) if p90 <= 0 else values


def _halves(u: Floats, low: float, median: float, high: float) -> Floats:
    below = low + (median - low) * np.sqrt(2 * np.minimum(u, 0.5))
    above = high - (high - median) * np.sqrt(2 * np.minimum(1 - u, 0.5))
    values: Floats = np.where(u < 0.5, below, above)
    return values


def _triangle(u: Floats, low: float, mode: float, high: float) -> Floats:
    turn = (mode - low) / (high - low)
    rising = low + np.sqrt(u * (high - low) * (mode - low))
    falling = high - np.sqrt((1 - u) * (high - low) * (high - mode))
    values: Floats = np.where(u < turn, rising, falling)
    return values


_NUMBER: dict[str, Any] = {"type": "number"}
_SCHEMA: dict[str, Any] = {
    "anyOf": [
        _NUMBER,
        {"type": "string", "description": "name of a default: envelope economics"},
        {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                **dict.fromkeys((*_NUMBERS, "amount"), _NUMBER),
                **dict.fromkeys(("default", "currency", "source", "date", "evidence"), {"type": "string"}),
            },
        },
    ]
}


Range = Annotated[Spread, WithJsonSchema(_SCHEMA)]
"""A number, the name of a default, a range as in ``Spread``, or ``{amount, currency}``."""


def named(default: str) -> Spread:
    """Return a range that stands for the catalog's default of that name."""
    return Spread(default=default)


def number(value: float) -> Spread:
    """Return a range that is a single number."""
    return Spread(value=value)

"""Numbers that may be ranges: a point value, three quantiles, a triangle, or the name of a default."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, WithJsonSchema, model_validator

from envelope.provenance import DateText, Evidence, Frozen

Floats = NDArray[np.float64]
Form = Literal["point", "quantiles", "triangle", "uniform"]

_Z10 = 1.2815515655446004
"""Standard normal quantile of 0.9."""


class Spread(Frozen):
    """A number with its uncertainty. Exactly one form is given; money may name its currency.

    ``value`` is a point; ``p10, p50, p90`` are quantiles of a distribution that is log-normal on either side
    of the median when all three are positive, else normal on either side (and never changes sign when all
    have one sign or are zero); ``low, mode, high`` is a triangle; ``low, high`` alone is uniform.
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
        forms = {
            ("value",): self.value is not None,
            ("default",): self.default is not None,
            ("p10", "p50", "p90"): any(x is not None for x in (self.p10, self.p50, self.p90)),
            ("low", "high"): any(x is not None for x in (self.low, self.mode, self.high)),
        }
        given = [names for names, present in forms.items() if present]
        if len(given) != 1:
            raise ValueError("give a number, the name of a default, {p10, p50, p90} or {low, mode, high}")
        missing = [name for name in given[0] if getattr(self, name) is None]
        if missing:
            raise ValueError(f"a range also needs {', '.join(missing)}")
        ordered = [x for x in (self.p10, self.p50, self.p90, self.low, self.mode, self.high) if x is not None]
        if ordered != sorted(ordered):
            raise ValueError("the numbers of a range must not decrease")
        return self

    @property
    def form(self) -> Form:
        """How the uncertainty is described (``point`` for a named default, which brings its own)."""
        if self.p50 is not None:
            return "quantiles"
        if self.mode is not None:
            return "triangle"
        return "uniform" if self.low is not None else "point"

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
        names = ("value", "p10", "p50", "p90", "low", "mode", "high")
        update = {n: getattr(self, n) * factor for n in names if getattr(self, n) is not None}
        return self.model_copy(update=update)

    def quantile(self, u: Floats) -> Floats:
        """Return the values below which shares ``u`` (0–1, exclusive) of the probability lie."""
        low, high = self.bounds
        if low == high:
            return np.full(np.shape(u), self.point)
        if self.form == "quantiles":
            return _two_piece(u, low, self.point, high)
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
                **dict.fromkeys(("value", "amount", "p10", "p50", "p90", "low", "mode", "high"), _NUMBER),
                **dict.fromkeys(("default", "currency", "source", "date", "evidence"), {"type": "string"}),
            },
        },
    ]
}


Range = Annotated[Spread, WithJsonSchema(_SCHEMA)]
"""A number, the name of a default, ``{p10, p50, p90}``, ``{low, mode, high}`` or ``{amount, currency}``."""


def named(default: str) -> Spread:
    """Return a range that stands for the catalog's default of that name."""
    return Spread(default=default)


def number(value: float) -> Spread:
    """Return a range that is a single number."""
    return Spread(value=value)

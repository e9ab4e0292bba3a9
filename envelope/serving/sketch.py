"""Quantiles of a stream of times in bounded memory: exact for few values, within 0.1 % for any number of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from envelope.serving.requests import Floats, Ints
from envelope.serving.result import Spread

EXACT_VALUES = 200_000
"""Values that are kept as they are; more are counted in bins."""

RELATIVE_ERROR = 1e-3
"""Largest relative error of a quantile read from the bins."""

_LEAST_S, _MOST_S = 1e-7, 1e9
_LN_GAMMA = math.log((1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR))
_BINS = math.ceil(math.log(_MOST_S / _LEAST_S) / _LN_GAMMA) + 2


@dataclass(slots=True)
class Sketch:
    r"""Values above 0 of which quantiles are wanted later.

    Beyond ``EXACT_VALUES`` only the number of values in each bin ``(γ^{k−1}, γ^k]`` is kept, with
    ``γ = (1 + α)/(1 − α)``: the value ``2γ^k/(γ + 1)`` is within ``α`` of everything in its bin (Masson, Rim, Lee:
    DDSketch, VLDB 2019, https://arxiv.org/abs/1908.10693). Two sketches can be joined.
    """

    count: int = 0
    total: float = 0.0
    least: float = math.inf
    most: float = -math.inf
    _values: list[Floats] = field(default_factory=list)
    _ordered: bool = False
    """Whether the values that are kept are one sorted array."""
    _bins: Ints | None = None

    def add(self, values: Floats) -> None:
        """Add values; those that are not numbers are left out."""
        known = values[np.isfinite(values)]
        if len(known) == 0:
            return
        self._count(len(known), float(known.sum()), float(known.min()), float(known.max()))
        self._values.append(known)
        self._ordered = False
        if self.count > EXACT_VALUES:
            self._fold()

    def join(self, other: "Sketch") -> None:
        """Add all values of another sketch."""
        self._count(other.count, other.total, other.least, other.most)
        self._values += other._values
        self._ordered = False
        if self.count > EXACT_VALUES or other._bins is not None:
            self._fold()
        if other._bins is not None:
            assert self._bins is not None
            self._bins = self._bins + other._bins

    @property
    def mean(self) -> float:
        """Mean of all values, exact."""
        return self.total / self.count

    def quantiles(self, fracs: Sequence[float]) -> tuple[float, ...]:
        """Return the values that these shares do not exceed, interpolated between neighbours; none without values."""
        if self.count == 0:
            return ()
        if self._bins is None:
            return self._exact(np.asarray(fracs, dtype=np.float64))
        upto = np.cumsum(self._bins)
        rank = np.asarray(fracs, dtype=np.float64) * (self.count - 1)
        low, high = (np.searchsorted(upto, np.floor(rank) + n, side="right") for n in (0, 1))
        high = np.minimum(high, np.searchsorted(upto, self.count - 1, side="right"))
        part = rank - np.floor(rank)
        found = (1.0 - part) * _middle(low) + part * _middle(high)
        return tuple(float(v) for v in np.clip(found, self.least, self.most))

    def _exact(self, fracs: Floats) -> tuple[float, ...]:
        if not self._ordered:
            self._values, self._ordered = [np.sort(np.concatenate(self._values))], True
        (values,) = self._values
        rank = fracs * (len(values) - 1)
        low = rank.astype(np.int64)
        below, above = values[low], values[np.minimum(low + 1, len(values) - 1)]
        found: list[float] = (below + (above - below) * (rank - low)).tolist()
        return tuple(found)

    def spread(self) -> Spread | None:
        """Return mean and percentiles; ``None`` without values."""
        if self.count == 0:
            return None
        p50, p90, p95, p99 = self.quantiles((0.5, 0.9, 0.95, 0.99))
        return Spread(mean=self.mean, p50=p50, p90=p90, p95=p95, p99=p99)

    def _count(self, count: int, total: float, least: float, most: float) -> None:
        self.count += count
        self.total += total
        self.least, self.most = min(self.least, least), max(self.most, most)

    def _fold(self) -> None:
        """Count the values that are kept and forget them."""
        if self._bins is None:
            self._bins = np.zeros(_BINS, dtype=np.int64)
        for values in self._values:
            self._bins += np.bincount(_bin(values), minlength=_BINS)
        self._values = []


def spread(values: Floats) -> Spread | None:
    """Return mean and percentiles, leaving out values that are not numbers; ``None`` if there are none."""
    sketch = Sketch()
    sketch.add(values)
    return sketch.spread()


def _bin(values: Floats) -> Ints:
    k = np.ceil(np.log(np.clip(values, _LEAST_S, _MOST_S) / _LEAST_S) / _LN_GAMMA).astype(np.int64)
    return np.minimum(k, _BINS - 1)


def _middle(k: Ints) -> Floats:
    return np.asarray(_LEAST_S * np.exp(_LN_GAMMA * k) * 2.0 / (1.0 + math.exp(_LN_GAMMA)))

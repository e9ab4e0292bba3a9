"""Quantiles of a stream against numpy's on all values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from envelope.serving.sketch import EXACT_VALUES, RELATIVE_ERROR, Sketch, spread

FRACS = (0.0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.9999, 1.0)


def test_few_values_give_the_quantiles_of_numpy() -> None:
    values = np.random.default_rng(1).lognormal(0.0, 2.0, 999)
    sketch = Sketch()
    for part in np.array_split(values, 7):
        sketch.add(part)
    assert sketch.quantiles(FRACS) == pytest.approx(np.quantile(values, FRACS), rel=1e-12)
    assert sketch.mean == pytest.approx(values.mean())


@settings(max_examples=15, deadline=None)
@given(some.integers(0, 10_000), some.floats(0.1, 4.0), some.sampled_from(["lognormal", "exponential", "two"]))
def test_any_number_of_values_stays_within_the_stated_error(seed: int, sigma: float, kind: str) -> None:
    rng = np.random.default_rng(seed)
    n = EXACT_VALUES + int(rng.integers(1, 50_000))
    values = {
        "lognormal": lambda: rng.lognormal(-2.0, sigma, n),
        "exponential": lambda: rng.exponential(sigma, n) + 1e-9,
        "two": lambda: np.where(rng.random(n) < 0.7, 0.01, 10.0),
    }[kind]()
    sketch = Sketch()
    for part in np.array_split(values, 3):
        sketch.add(part)
    ordered = np.sort(values)
    for frac, found in zip(FRACS, sketch.quantiles(FRACS), strict=True):
        rank = frac * (n - 1)
        low, high = ordered[int(np.floor(rank))], ordered[int(np.ceil(rank))]
        assert low * (1 - RELATIVE_ERROR) - 1e-7 <= found <= high * (1 + RELATIVE_ERROR) + 1e-7
    assert sketch.mean == pytest.approx(values.mean(), rel=1e-9)


def test_joined_sketches_are_the_sketch_of_all_values() -> None:
    rng = np.random.default_rng(3)
    parts = [rng.exponential(1.0, n) for n in (EXACT_VALUES + 5, 1000, EXACT_VALUES // 2)]
    whole, joined = Sketch(), Sketch()
    for part in parts:
        whole.add(part)
        other = Sketch()
        other.add(part)
        joined.join(other)
    assert joined.quantiles(FRACS) == whole.quantiles(FRACS)
    assert joined.count == sum(len(p) for p in parts)


def test_nothing_has_no_spread_and_unknown_values_do_not_count() -> None:
    assert spread(np.array([np.nan])) is None
    assert Sketch().quantiles((0.5,)) == ()
    found = spread(np.array([1.0, np.nan, 3.0]))
    assert found is not None
    assert found.mean == found.p50 == 2.0

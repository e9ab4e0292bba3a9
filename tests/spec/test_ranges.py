"""Ranges: what they accept, their point value, and their distributions against scipy and by definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from scipy import stats

from envelope.spec.ranges import Range, Spread

U = np.linspace(0.001, 0.999, 999)


class Holder(BaseModel):
    """A record with one range."""

    x: Range


@pytest.mark.parametrize(
    ("written", "point", "bounds"),
    [
        (3, 3.0, (3.0, 3.0)),
        ({"value": 2.5}, 2.5, (2.5, 2.5)),
        ({"amount": 9.0, "currency": "EUR"}, 9.0, (9.0, 9.0)),
        ({"p10": 1, "p50": 2, "p90": 5}, 2.0, (1.0, 5.0)),
        ({"low": 1, "p50": 3, "high": 9}, 3.0, (1.0, 9.0)),
        ({"low": 1, "mode": 3, "high": 9}, 3.0, (1.0, 9.0)),
        ({"low": 1, "high": 9}, 5.0, (1.0, 9.0)),
    ],
)
def test_point_and_bounds_of_what_people_write(written, point, bounds):
    spread = Holder(x=written).x
    assert spread.point == point
    assert spread.bounds == bounds
    assert spread.scaled(2.0).point == 2 * point


@pytest.mark.parametrize(
    "written",
    [True, None, {}, {"p10": 1}, {"p10": 1, "p50": 2}, {"low": 2, "high": 1}, {"value": 1, "low": 0}, {"defalt": "x"}],
)
def test_incomplete_and_contradictory_ranges_are_refused(written):
    with pytest.raises(ValidationError):
        Holder(x=written)


def test_a_named_default_has_no_point_of_its_own():
    assert Holder(x="wacc").x.default == "wacc"
    with pytest.raises(ValueError, match="not resolved"):
        _ = Holder(x="wacc").x.point


@given(st.floats(0.01, 10), st.floats(1.01, 4), st.floats(1.01, 4))
def test_quantiles_are_met_exactly(p50, below, above):
    spread = Spread(p10=p50 / below, p50=p50, p90=p50 * above)
    found = spread.quantile(np.array([0.1, 0.5, 0.9]))
    assert found == pytest.approx([p50 / below, p50, p50 * above])


def test_a_symmetric_range_of_quantiles_is_the_normal_or_log_normal_distribution():
    wide = Spread(p10=-1.0, p50=0.0, p90=1.0).quantile(U)
    assert wide == pytest.approx(stats.norm(0, 1 / 1.2815515655446004).ppf(U))
    positive = Spread(p10=0.5, p50=1.0, p90=2.0).quantile(U)
    assert positive == pytest.approx(stats.lognorm(np.log(2) / 1.2815515655446004).ppf(U))


def test_a_range_that_starts_at_nothing_never_turns_negative():
    assert Spread(p10=0.0, p50=1.0, p90=4.0).quantile(U).min() == 0.0
    assert Spread(p10=-0.4, p50=-0.1, p90=0.0).quantile(U).max() == 0.0


@pytest.mark.parametrize(("low", "mode", "high"), [(0, 1, 3), (2, 2, 5), (-1, 4, 4)])
def test_a_triangle_is_scipys_triangle(low, mode, high):
    oracle = stats.triang((mode - low) / (high - low), loc=low, scale=high - low).ppf(U)
    assert Spread(low=low, mode=mode, high=high).quantile(U) == pytest.approx(oracle)


def test_a_bare_interval_is_uniform():
    assert Spread(low=2, high=4).quantile(U) == pytest.approx(2 + 2 * U)


def test_halves_have_the_median_in_the_middle_and_end_at_the_bounds():
    spread = Spread(low=1, p50=2, high=10)
    assert spread.quantile(np.array([0.5])) == pytest.approx([2.0])
    assert spread.quantile(np.array([1e-12, 1 - 1e-12])) == pytest.approx([1.0, 10.0], abs=1e-4)
    # the lower half is a rising triangle: an eighth of the probability lies below the middle of 1 and 2
    assert spread.quantile(np.array([0.125])) == pytest.approx([1.5])


@given(st.floats(-5, 5), st.floats(0, 5), st.floats(0, 5), st.sampled_from(["p50", "mode"]))
def test_quantile_functions_rise_and_stay_in_bounds(low, up, more, name):
    spread = Spread.model_validate({"low": low, name: low + up, "high": low + up + more})
    values = spread.quantile(U)
    assert (np.diff(values) >= -1e-12).all()
    assert low - 1e-9 <= values.min()
    assert values.max() <= low + up + more + 1e-9

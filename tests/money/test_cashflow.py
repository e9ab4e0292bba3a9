"""Finance against hand computation, closed forms and scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from envelope.money.cashflow import (
    depreciation_shares,
    discount_factors,
    irr,
    monthly_payment,
    npv,
    payback_months,
)


def yearly(*flows: float) -> list[float]:
    """Return a monthly flow with these amounts at the ends of years 0, 1, 2 …"""
    months = [0.0] * (12 * (len(flows) - 1) + 1)
    for year, amount in enumerate(flows):
        months[12 * year] = amount
    return months


def test_npv_of_a_textbook_investment():
    # -10,000 now, 3,000 / 4,200 / 6,800 at the ends of years 1-3, 10 % a year:
    # -10000 + 3000/1.1 + 4200/1.21 + 6800/1.331 = 1307.29
    assert npv(0.10, yearly(-10_000, 3_000, 4_200, 6_800)) == pytest.approx(1307.29, abs=0.005)


def test_npv_of_level_months_is_the_annuity():
    # closed form: (1 - (1+i)^-n)/i with the monthly rate i = 1.09^(1/12) - 1
    i = 1.09 ** (1 / 12) - 1
    assert npv(0.09, [0.0, *[1000.0] * 36]) == pytest.approx(1000 * (1 - (1 + i) ** -36) / i)


def test_irr_of_a_textbook_investment():
    # -100, 60, 60: 60/x + 60/x^2 = 100 has x = (60 + sqrt(3600 + 24000)) / 200 = 1.13066
    assert irr(yearly(-100, 60, 60)) == pytest.approx((60 + 27_600**0.5) / 200 - 1, abs=1e-12)


def test_irr_is_none_without_a_change_of_sign_and_with_several_rates():
    assert irr([-1.0, -1.0, -1.0]) is None
    # -1 000, 2 500, -1 540 at years 0-2 has the two rates 10 % and 40 %
    assert irr(yearly(-1000, 2500, -1540)) is None


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=84), st.floats(-0.6, 5.0))
def test_irr_finds_the_rate_at_which_the_outlay_was_worth_the_inflows(inflows, rate):
    outlay = sum(x * (1 + rate) ** (-m / 12) for m, x in enumerate(inflows, start=1))
    flow = [-outlay, *inflows]
    found = irr(flow)
    assert found == pytest.approx(rate, rel=1e-7, abs=1e-9)
    assert abs(npv(found, flow)) < 1e-7 * outlay
    oracle = brentq(lambda x: npv(x, flow), -0.9, 50.0, xtol=1e-14)
    assert found == pytest.approx(oracle, rel=1e-7, abs=1e-9)


def test_payback_counts_the_part_of_the_month():
    assert payback_months([-100.0, 40.0, 40.0, 40.0]) == pytest.approx(2.5)
    assert payback_months([-100.0, 40.0]) is None
    assert payback_months([0.0, 5.0]) == 0.0


def test_payback_waits_for_the_last_time_the_sum_turns():
    # after month 1 the sum is 20, a second investment makes it -80, months 3-4 bring it to 20
    assert payback_months([-100.0, 120.0, -100.0, 50.0, 50.0]) == pytest.approx(3.6)


def test_discounted_payback_is_later():
    flow = [-100.0, *[10.0] * 24]
    plain, discounted = payback_months(flow), payback_months(flow, 0.2)
    assert plain is not None
    assert discounted is not None
    assert discounted > plain


@pytest.mark.parametrize("rate", [0.0, 0.03, 0.12])
@pytest.mark.parametrize("months", [12, 36, 60])
def test_payments_repay_the_loan(rate, months):
    payment = float(monthly_payment(rate, months))
    assert npv(rate, [0.0, *[payment] * months]) == pytest.approx(1.0)


def test_discount_factors_have_a_row_for_each_rate():
    factors = discount_factors(np.array([0.0, 0.21]), 24)
    assert factors.shape == (2, 25)
    assert factors[0].tolist() == [1.0] * 25
    assert factors[1, 24] == pytest.approx(1 / 1.21**2)


def test_depreciation_by_hand():
    assert depreciation_shares("straight_line", 4, 0.4).tolist() == [0.25] * 4
    # declining 40 %: 40, then 24 of 60; of the 36 left two years: max(14.4, 18) = 18, 18
    assert depreciation_shares("declining", 4, 0.4) == pytest.approx([0.40, 0.24, 0.18, 0.18])


@given(st.integers(1, 10), st.floats(0.01, 0.99), st.sampled_from(["straight_line", "declining"]))
def test_depreciation_writes_off_everything(years, rate, method):
    shares = depreciation_shares(method, years, rate)
    assert shares.sum() == pytest.approx(1.0)
    assert (shares > 0).all() or rate > 0.9

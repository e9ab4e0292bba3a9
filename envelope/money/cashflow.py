"""Finance: present values, internal rate of return, payback, loan payments, depreciation.

A cash flow is an array over months 0 … H; outflows are negative. Rates are effective yearly rates, so that
month ``m`` is discounted by ``(1 + r)^(−m/12)``. Reference for all: R. A. Brealey, S. C. Myers, F. Allen,
*Principles of Corporate Finance* (13th ed., 2020), chapters 2 and 5.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def discount_factors(rate_frac_per_year: ArrayLike, months: int) -> Floats:
    """Return ``(1 + r)^(−m/12)`` for months 0 … ``months``; shape (…, months + 1) for rates of shape (…)."""
    rate = np.asarray(rate_frac_per_year, dtype=np.float64)
    exponents = -np.arange(months + 1) / 12.0
    factors: Floats = (1.0 + rate[..., None]) ** exponents
    return factors


def npv(rate_frac_per_year: float, flow_usd: ArrayLike) -> float:
    """Return the net present value at month 0 of a monthly cash flow (outflows negative, nominal).

    >>> round(npv(0.10, [-1000.0] + [0.0] * 11 + [1210.0]), 6)
    100.0
    """
    flow = np.asarray(flow_usd, dtype=np.float64)
    return float(flow @ discount_factors(rate_frac_per_year, len(flow) - 1))


def irr(flow_usd: ArrayLike) -> float | None:
    """Return the yearly rate at which a monthly cash flow is worth nothing, or ``None`` if there is no single one.

    There is none when the flow never changes sign. With several changes of sign there may be several rates;
    then the result is ``None`` as well unless the cumulated flow changes sign only once (Norstrøm's criterion:
    C. J. Norstrøm, *A sufficient condition for a unique nonnegative internal rate of return*, 1972).

    >>> round(irr([-1000.0] + [0.0] * 11 + [1100.0]), 9)
    0.1
    """
    flow = np.asarray(flow_usd, dtype=np.float64)
    if _sign_changes(flow) == 0:
        return None
    if _sign_changes(flow) > 1 and (_sign_changes(np.cumsum(flow)) != 1 or abs(flow.sum()) < 1e-9):
        return None
    from scipy.optimize import brentq  # slow to import, and most runs need no rate

    def value(log_rate: float) -> float:
        # in units of the flow, with months as exponents; log(1 + r) keeps the search smooth towards r = −1
        return float(flow @ np.exp(-log_rate * np.arange(len(flow)) / 12.0))

    low, high = -0.5, 0.5
    while np.sign(value(low)) == np.sign(value(high)):
        low, high = low * 1.5, high * 1.5
        if high > 60.0:
            return None
    return math.expm1(brentq(value, low, high, xtol=1e-14, rtol=1e-14))


def payback_months(flow_usd: ArrayLike, rate_frac_per_year: float = 0.0) -> float | None:
    """Return the month after which the cumulated (discounted) flow stays non-negative, or ``None`` if never.

    Within the month the flow is taken as even, so the result may be fractional; 0.0 if nothing is ever invested.
    """
    flow = np.asarray(flow_usd, dtype=np.float64)
    total = np.cumsum(flow * discount_factors(rate_frac_per_year, len(flow) - 1))
    tolerance = 1e-9 * max(1.0, float(np.abs(flow).max(initial=0.0)))
    if total[-1] < -tolerance:
        return None
    below = np.nonzero(total < -tolerance)[0]
    if len(below) == 0:
        return 0.0
    last = int(below[-1])
    return last + float(-total[last] / (total[last + 1] - total[last]))


def monthly_payment(rate_frac_per_year: ArrayLike, months: int) -> Floats:
    """Return the level payment at the end of each of ``months`` months that repays a loan of 1.

    ``i / (1 − (1 + i)^−n)`` with the monthly rate ``i = (1 + r)^(1/12) − 1``; ``1/n`` at a rate of 0.
    """
    rate = np.asarray(rate_frac_per_year, dtype=np.float64)
    i = np.expm1(np.log1p(rate) / 12.0)
    safe = np.where(np.abs(i) < 1e-12, 1.0, i)
    payment: Floats = np.where(np.abs(i) < 1e-12, 1.0 / months, safe / -np.expm1(-months * np.log1p(safe)))
    return payment


def depreciation_shares(method: str, years: int, declining_rate_frac: float) -> Floats:
    """Return the share of a purchase written off in each of its ``years`` (they sum to 1).

    ``straight_line``: equal shares. ``declining``: ``declining_rate_frac`` of the book value each year, and the
    straight line over the remaining years once that is more.
    """
    if method == "straight_line":
        return np.full(years, 1.0 / years)
    shares, book = [], 1.0
    for year in range(years):
        share = max(book * declining_rate_frac, book / (years - year))
        shares.append(share)
        book -= share
    return np.array(shares)


def _sign_changes(flow: Floats) -> int:
    signs = np.sign(flow[np.abs(flow) > 1e-12 * max(1.0, float(np.abs(flow).max(initial=0.0)))])
    return int(np.count_nonzero(np.diff(signs)))

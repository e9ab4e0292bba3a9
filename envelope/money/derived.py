"""Derived inputs: factors of cost lines that follow from other inputs by a formula of their own."""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from envelope.money.acquire import LEASE_PAYMENT, residual_name
from envelope.money.cashflow import monthly_payment
from envelope.money.inputs import Values
from envelope.money.running import TARIFF_SHARE

Floats = NDArray[np.float64]

RESIDUAL_YEARS = 5
"""Last age for which the catalog has a residual value (``residual_after_5y``)."""


@lru_cache(maxsize=1024)
def parents(name: str) -> tuple[str, ...]:
    """Return the inputs behind a derived input, or the name itself.

    >>> parents("residual_after_30m")
    ('residual_after_2y', 'residual_after_3y')
    """
    if name == LEASE_PAYMENT:
        return ("lease_rate_frac_per_year",)
    if name == TARIFF_SHARE:
        return ("hosted_discount_frac",)
    if name.startswith("residual_after_") and name.endswith("m"):
        years, months = divmod(int(name.removeprefix("residual_after_")[:-1]), 12)
        ends = (years, years + 1) if months else (years,)
        return tuple(f"residual_after_{y}y" for y in ends if 1 <= y <= RESIDUAL_YEARS)
    return (name,)


def residual_share(age_months: int, values: Values) -> Floats:
    """Return the share of the original price that a machine fetches at some age.

    Straight lines between the inputs ``residual_after_1y`` … ``residual_after_5y`` (1 when new, 0 after that).
    """
    curve: list[Floats] = [np.ones(1), *(values[f"residual_after_{y}y"] for y in range(1, RESIDUAL_YEARS + 1))]
    years, months = divmod(age_months, 12)
    if years > RESIDUAL_YEARS or (years == RESIDUAL_YEARS and months):
        return np.zeros(1)
    if months == 0:
        return curve[years]
    share: Floats = curve[years] + (curve[years + 1] - curve[years]) * (months / 12.0)
    return share


def with_derived(values: Values, ages_months: Iterable[int], lease_months: int) -> dict[str, Floats]:
    """Return the values with the derived inputs: residual shares at these ages, lease payment, hosted discount."""
    derived = dict(values)
    for age in ages_months:
        derived[residual_name(age)] = residual_share(age, values)
    derived[LEASE_PAYMENT] = monthly_payment(values["lease_rate_frac_per_year"], lease_months)
    derived[TARIFF_SHARE] = 1.0 - values["hosted_discount_frac"]
    return derived

"""Committed spend on a hosted API: what falls short of the promise is paid at the end of each year."""

import numpy as np
from numpy.typing import NDArray

from envelope.money.inputs import Values
from envelope.money.model import Model
from envelope.money.result import by_year
from envelope.units import years_of

Floats = NDArray[np.float64]

COMMITMENT = "hosted_commitment"
"""Id of the line."""


def year_ends(horizon_months: int) -> NDArray[np.int64]:
    """Return the last month of each year; that of the last year may come early."""
    return np.minimum(np.arange(1, years_of(horizon_months) + 1) * 12, horizon_months)


def shortfall_by_month(model: Model, costs: dict[str, Floats], values: Values) -> Floats | None:
    """Return what is paid beyond the hosted bill to meet the promise, [draws, H + 1]; ``None`` without either.

    The promise of a last year that is not whole counts in proportion.
    """
    promised = values["hosted_commitment_usd_per_year"]
    hosted = [costs[line.id] for line in model.lines if line.group == "hosted"]
    if not hosted or not np.any(promised):
        return None
    horizon = model.horizon_months
    bills = by_year(np.sum(np.broadcast_arrays(*hosted), axis=0))[:, 1:]
    ends = year_ends(horizon)
    lengths = np.diff(ends, prepend=0) / 12.0
    missing = np.maximum(0.0, promised[:, None] * lengths - bills)
    paid = np.zeros((len(missing), horizon + 1))
    paid[:, ends] = missing
    return paid

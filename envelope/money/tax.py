"""Tax saved by costs and depreciation, for scenarios with a tax rate."""

import numpy as np
from numpy.typing import NDArray

from envelope.money.cashflow import depreciation_shares
from envelope.money.lines import Line
from envelope.money.model import Model
from envelope.spec.economics import Economics

Floats = NDArray[np.float64]

TAX = "tax"
"""Id of the line."""


def is_bought(line: Line) -> bool:
    """Return whether a line is written off over years, rather than booked when paid or received."""
    return line.capex and not line.id.startswith("residual.")


def tax_by_month(model: Model, costs: dict[str, Floats], rate: Floats) -> Floats | None:
    """Return the tax saved by deducting running costs and depreciation (a negative cost), or ``None`` at rate 0.

    Purchases are written off month by month from the purchase on, the rest at the end of the horizon; proceeds of
    sales are taxed when received. Losses are assumed to offset other income at once.
    """
    if not np.any(rate):
        return None
    horizon = model.horizon_months
    write_off = write_off_matrix(model.economics, horizon)
    deductions = np.zeros((1, horizon + 1))
    bought = {line.id for line in model.lines if is_bought(line)}
    for ident, cost in costs.items():
        deductions = deductions + (cost @ write_off if ident in bought else cost)
    tax: Floats = -rate[:, None] * deductions
    return tax


def write_off_matrix(economics: Economics, horizon_months: int) -> Floats:
    """Return [bought in month, deducted in month]: rows sum to 1."""
    shares = depreciation_shares(economics.depreciation, economics.depreciation_years, economics.declining_rate_frac)
    monthly = np.repeat(shares / 12.0, 12)
    matrix = np.zeros((horizon_months + 1, horizon_months + 1))
    for month in range(horizon_months):
        part = monthly[: horizon_months - month]
        matrix[month, month + 1 : month + 1 + len(part)] = part
        matrix[month, horizon_months] += 1.0 - part.sum()
    matrix[horizon_months, horizon_months] = 1.0
    return matrix

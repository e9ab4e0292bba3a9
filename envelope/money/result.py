"""Results: cost lines by month and year, present values, unit costs, and the comparison of two candidates."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envelope.money.cashflow import irr, payback_months
from envelope.provenance import Evidence, Frozen
from envelope.spec.economics import Group

Floats = NDArray[np.float64]


class LineResult(Frozen):
    """One cost line, computed."""

    id: str
    label: str
    group: Group
    formula: str
    quantity: float
    """Quantity over the whole horizon."""
    unit: str
    unit_price_usd: float
    """Mean price of one unit over the horizon: the total by the quantity; 0 without quantity."""
    by_month_usd: tuple[float, ...]
    """Months 0 … H; a cost is positive."""
    by_year_usd: tuple[float, ...]
    """Year 0 (purchase) and years 1, 2 …"""
    total_usd: float
    """Nominal sum."""
    present_value_usd: float
    capex: bool
    payer: str
    inputs: tuple[str, ...]
    """Names of the inputs that it depends on."""
    overridden: tuple[str, ...] = ()
    """Inputs among them for which the scenario or a price file gave its own number."""
    source: str
    date: str
    """Oldest date among its inputs."""
    evidence: Evidence
    """Weakest evidence among its inputs."""
    note: str = ""

    @property
    def when(self) -> str:
        """When it is paid: ``every month``, or the months in which it is."""
        paid = [month for month, usd in enumerate(self.by_month_usd) if usd]
        if len(paid) > 1 and len(paid) == paid[-1] - paid[0] + 1:
            return "every month" if paid[0] == 1 else f"every month from month {paid[0]}"
        return ", ".join(f"month {month}" for month in paid) or "never"


class UnitCosts(Frozen):
    """Levelised costs: present value of the costs over that of the quantity served; ``None`` where nothing is."""

    usd_per_mtok: float | None
    """Per million tokens, input and output together."""
    usd_per_output_mtok: float | None
    usd_per_request: float | None
    usd_per_seat_month: float | None
    usd_per_solved_task: float | None


class PresentValue(Frozen):
    """What a candidate costs over the horizon in all, a cost positive."""

    cost_npv_usd: float
    """Present value of all costs at month 0 (positive); of expected costs, their mean over the draws."""
    p10_npv_usd: float
    """One of ten draws of the uncertain inputs lies below; equal to the present value where nothing was drawn."""
    p50_npv_usd: float
    """Half of the draws lie below."""
    p90_npv_usd: float
    """Nine of ten draws lie below."""


class Totals(PresentValue):
    """The present value of a candidate's costs with its payments, in nominal dollars."""

    total_usd: float
    """Nominal sum of all payments, less what the machines fetch at the end."""
    signature_usd: float
    """Cash at signature: what is bought and paid at month 0."""
    cash_usd: float
    """The most money that has gone out at any time, nominal; a later resale helps nobody to pay."""
    paid_by_year_usd: tuple[float, ...]
    """Payments of years 1, 2 …, without what comes back; the first holds what is bought at signature."""


class TcoResult(Totals):
    """Costs of one candidate over the horizon, line by line."""

    horizon_months: int
    discount_rate_frac_per_year: float
    lines: tuple[LineResult, ...]
    by_year_usd: tuple[float, ...]
    plan_npv_usd: float
    """Present value at the middle of every range, as the workbook's formulas compute it."""
    capex_usd: float
    """Capital expenditure: what is bought and lasts."""
    opex_usd: float
    """Operating expenditure: what is paid to run it."""
    unit_costs: UnitCosts
    carbon_kg: float
    """Electricity of owned machines and laptops times the grid's factor, plus making the servers; hosted and rented
    devices are not counted, as their providers do not publish it."""
    carbon_kg_by_year: tuple[float, ...]
    assumed_frac: float
    """Share of the costs (in absolute present value) whose weakest input is assumed."""

    @property
    def npv_usd(self) -> float:
        """Net present value: the costs as outflows, hence negative."""
        return -self.cost_npv_usd

    @property
    def cost_by_line(self) -> dict[str, float]:
        """Present value of each line; sums to ``cost_npv_usd``."""
        return {line.id: line.present_value_usd for line in self.lines}

    @property
    def cost_by_group(self) -> dict[str, float]:
        """Present value of each group; sums to ``cost_npv_usd``."""
        groups: dict[str, float] = {}
        for line in self.lines:
            groups[line.group] = groups.get(line.group, 0.0) + line.present_value_usd
        return groups

    @property
    def flow_usd(self) -> Floats:
        """Monthly cash flow of months 0 … H; outflows are negative."""
        total = np.zeros(self.horizon_months + 1)
        for line in self.lines:
            total -= np.asarray(line.by_month_usd)
        return total


class Comparison(Frozen):
    """A candidate against a baseline that does the same work: what the extra investment brings back."""

    saving_npv_usd: float
    """Present value saved by the candidate (negative if it costs more)."""
    irr_frac_per_year: float | None
    """Internal rate of return of the extra investment: the discount rate at which the saving is worth nothing. ``None``
    if nothing extra is invested first, or there is no single rate."""
    payback_months: float | None
    """Months until the extra investment is earned back, undiscounted; ``None`` if never within the horizon."""
    discounted_payback_months: float | None


def compare(candidate: TcoResult, baseline: TcoResult) -> Comparison:
    """Return the saving, return and payback of ``candidate`` against ``baseline`` over the same horizon.

    The cash flow is the baseline's cost less the candidate's: first negative if the candidate needs an
    investment, later positive where it is cheaper to run.
    """
    if candidate.horizon_months != baseline.horizon_months:
        raise ValueError("the two results must cover the same horizon")
    rate = candidate.discount_rate_frac_per_year
    flow = candidate.flow_usd - baseline.flow_usd
    paid = np.nonzero(np.abs(flow) > 1e-9)[0]
    invests = len(paid) > 0 and flow[paid[0]] < 0
    return Comparison(
        # Of expected costs each is a mean over rates, which the mean rate would not give.
        saving_npv_usd=baseline.cost_npv_usd - candidate.cost_npv_usd,
        irr_frac_per_year=irr(flow) if invests else None,
        payback_months=payback_months(flow),
        discounted_payback_months=payback_months(flow, rate),
    )


def by_year(months: Floats) -> Floats:
    """Return the sums of year 0 (month 0) and of years 1, 2 …; the last may be partial. Works on the last axis."""
    starts: Sequence[int] = [0, *range(1, months.shape[-1], 12)]
    sums: Floats = np.add.reduceat(months, starts, axis=-1)
    return sums

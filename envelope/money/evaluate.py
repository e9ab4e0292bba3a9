"""From usage and economics to a result: price the lines and sum them up."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envelope.money.acquire import by_month
from envelope.money.carbon import carbon_kg_by_month
from envelope.money.cashflow import discount_factors
from envelope.money.commitment import COMMITMENT, shortfall_by_month
from envelope.money.derived import parents
from envelope.money.draws import DRAWS, follows_lines, present_draws, sample
from envelope.money.inputs import Values, point_values
from envelope.money.lines import Line, amounts, mean_amounts
from envelope.money.model import Model, build, complete
from envelope.money.result import LineResult, PresentValue, TcoResult, Totals, UnitCosts, by_year
from envelope.money.surface import Surface, surface_months
from envelope.money.tax import TAX, tax_by_month
from envelope.money.usage import AnnualUsage
from envelope.provenance import weakest
from envelope.spec.economics import Economics, Group
from envelope.units import MTOK

Floats = NDArray[np.float64]


COMPUTED: dict[str, tuple[str, Group, str, str]] = {
    COMMITMENT: (
        "Hosted API: spend promised but not used",
        "hosted",
        "max(0, hosted_commitment_usd_per_year - hosted bill of the year)",
        "hosted_commitment_usd_per_year",
    ),
    TAX: (
        "Tax saved by costs and depreciation",
        "tax",
        "-(running costs + depreciation) × tax_rate_frac",
        "tax_rate_frac",
    ),
}
"""Lines that are no product of inputs: label, group, formula and the input that switches them on."""


def monthly_costs(model: Model, values: Values) -> dict[str, Floats]:
    """Return the cost of each line by month, [draws, H + 1], with the computed lines (commitment, tax) if any."""
    full = complete(model, values)
    costs = {line.id: amounts(line, full, model.horizon_months) for line in model.lines}
    shortfall = shortfall_by_month(model, costs, full)
    if shortfall is not None:
        costs[COMMITMENT] = shortfall
    tax = tax_by_month(model, costs, full["tax_rate_frac"])
    if tax is not None:
        costs[TAX] = tax
    return costs


def evaluate(economics: Economics, usage: AnnualUsage | Sequence[AnnualUsage]) -> TcoResult:
    """Return the costs of a deployment that is used as ``usage`` says, at the point value of every input.

    Nominal dollars before value-added tax; purchases at month 0 and at the start of later years, running costs
    at the end of each month, present values at month 0 with the nominal ``discount_rate_frac_per_year``. Prices
    are today's in the first year and move at each anniversary.
    """
    return evaluate_model(build(economics, usage))


def evaluate_model(model: Model) -> TcoResult:
    """Return the costs of a model that is already built, at the point value of every input."""
    values = point_values(model.inputs)
    return _result(model, monthly_costs(model, values), values)


def expected_costs(candidate: Model | Surface, *, draws: int = DRAWS, seed: int = 1) -> TcoResult:
    """Return the expected costs over the ranges of all inputs, with the quantiles of their present value.

    Every figure is the mean over the draws, which is what finance discounts; ``plan_npv_usd`` is the present value at
    the middle of every range.  A candidate given as a surface follows an uncertain ``demand_factor`` with its machines.
    """
    if isinstance(candidate, Model):
        values = sample([candidate], draws, seed).values(candidate)
        if follows_lines(candidate):
            return _result(candidate, monthly_costs(candidate, values), values)
        months, present = _mean_months(candidate, values), present_draws(candidate, values)
        return _result(candidate, months, values, present)
    common = sample(candidate.models, draws, seed)
    planned = candidate.models[candidate.factors.index(1.0)]
    return _result(planned, surface_months(candidate, common, monthly_costs), common.values(planned))


def _mean_months(model: Model, values: Values) -> dict[str, Floats]:
    """Return the mean cost of each line by month, [1, H + 1]; prices hold for a year, so that few means are taken."""
    full = complete(model, values)
    return {line.id: mean_amounts(line, full, model.horizon_months)[None, :] for line in model.lines}


def expected_npv_usd(model: Model, *, draws: int = DRAWS, seed: int = 1) -> float:
    """Return the present value of ``expected_costs`` alone, which is quicker."""
    common = sample([model], draws, seed)
    return float(present_draws(model, common.values(model)).sum(axis=1).mean())


def expected_value(candidate: Model | Surface, *, draws: int = DRAWS, seed: int = 1) -> PresentValue:
    """Return the present value of ``expected_costs`` with its quantiles, without payments, which is quickest."""
    if isinstance(candidate, Surface) or follows_lines(candidate):
        return expected_costs(candidate, draws=draws, seed=seed)
    values = sample([candidate], draws, seed).values(candidate)
    return PresentValue(**_value(present_draws(candidate, values).sum(axis=1)))


def expected_totals(candidate: Model | Surface, *, draws: int = DRAWS, seed: int = 1) -> Totals:
    """Return the totals of ``expected_costs``, which is quicker than all lines."""
    if isinstance(candidate, Surface) or follows_lines(candidate):
        return expected_costs(candidate, draws=draws, seed=seed)
    values = sample([candidate], draws, seed).values(candidate)
    months = list(_mean_months(candidate, values).values())
    each = np.concatenate(months) if months else np.zeros((1, candidate.horizon_months + 1))
    return Totals(**_sums(each, present_draws(candidate, values).sum(axis=1)))


def _value(drawn: Floats) -> dict[str, Any]:
    """Return the fields of ``PresentValue`` from drawn present values, [draws]."""
    p10, p50, p90 = (float(q) for q in np.quantile(drawn, (0.1, 0.5, 0.9)))
    return {"cost_npv_usd": float(drawn.mean()), "p10_npv_usd": p10, "p50_npv_usd": p50, "p90_npv_usd": p90}


def _sums(months: Floats, drawn: Floats) -> dict[str, Any]:
    """Return the fields of ``Totals`` from mean monthly costs, [lines, H + 1], and drawn present values, [draws]."""
    total, paid = months.sum(axis=0), np.maximum(months, 0.0).sum(axis=0)
    return {
        **_value(drawn),
        "total_usd": float(total.sum()),
        "signature_usd": float(paid[0]),
        "cash_usd": float(np.cumsum(total).max(initial=0.0)),
        "paid_by_year_usd": _paid_by_year(paid),
    }


def _result(model: Model, costs: Mapping[str, Floats], values: Values, priced: Floats | None = None) -> TcoResult:
    """Return means over the draws of monthly costs, [draws or 1, H + 1] of each line.

    ``priced`` has their present values, [draws, lines], where the months hold means only.
    """
    rates = values["discount_rate_frac_per_year"]
    factors = discount_factors(rates, model.horizon_months)
    known = {line.id: line for line in model.lines}
    if priced is None:
        present = {ident: np.sum(cost * factors, axis=1) for ident, cost in costs.items()}
    else:
        present = {ident: priced[:, i] for i, ident in enumerate(costs)}
    lines = []
    for ident, cost in costs.items():
        months, usd = cost.mean(axis=0), float(present[ident].mean())
        lines.append(
            _line_result(known[ident], months, usd, model) if ident in known else _computed(ident, months, usd, model)
        )
    drawn = np.sum(np.broadcast_arrays(*present.values()), axis=0) if present else np.zeros(1)
    rows = [line.by_month_usd for line in lines] or [(0.0,) * (model.horizon_months + 1)]
    sums = _sums(np.array(rows), drawn)
    carbon = carbon_kg_by_month(model, values).mean(axis=0)
    npv_usd = sums["cost_npv_usd"]
    return TcoResult(
        **sums,
        horizon_months=model.horizon_months,
        discount_rate_frac_per_year=float(rates.mean()),
        lines=tuple(lines),
        by_year_usd=tuple(by_year(np.sum(rows, axis=0)).tolist()),
        plan_npv_usd=npv_usd if len(drawn) == 1 else _plan_npv_usd(model),
        capex_usd=sum(line.total_usd for line in lines if line.capex),
        opex_usd=sum(line.total_usd for line in lines if not line.capex),
        unit_costs=_unit_costs(model, npv_usd, factors.mean(axis=0)),
        carbon_kg=float(carbon.sum()),
        carbon_kg_by_year=tuple(by_year(carbon).tolist()),
        assumed_frac=_assumed_frac(lines),
    )


def _plan_npv_usd(model: Model) -> float:
    return float(present_draws(model, point_values(model.inputs)).sum())


def _paid_by_year(paid: Floats) -> tuple[float, ...]:
    """Return what is paid in each year; the first holds what is bought at its start."""
    first, second, *later = by_year(paid).tolist()
    return (first + second, *later)


def _line_result(line: Line, months: Floats, present_usd: float, model: Model) -> LineResult:
    names = tuple(dict.fromkeys(parent for name in line.input_names for parent in parents(name)))
    origins = [model.inputs[name] for name in names if not model.inputs[name].neutral]
    quantity, total = line.quantity_total(), float(months.sum())
    return LineResult(
        id=line.id,
        label=line.label,
        group=line.group,
        formula=line.formula,
        quantity=quantity,
        unit=line.unit,
        unit_price_usd=total / quantity if quantity else 0.0,
        by_month_usd=tuple(months.tolist()),
        by_year_usd=tuple(by_year(months).tolist()),
        total_usd=total,
        present_value_usd=present_usd,
        capex=line.capex,
        payer=line.payer,
        inputs=names,
        overridden=tuple(item.name for item in origins if item.overridden),
        source="; ".join(dict.fromkeys(f"{i.name}: {i.source}" for i in origins)),
        date=min((i.date for i in origins), default=""),
        evidence=weakest(i.evidence for i in origins),
        note=line.note,
    )


def _computed(ident: str, months: Floats, present_usd: float, model: Model) -> LineResult:
    label, group, formula, name = COMPUTED[ident]
    origin, total = model.inputs[name], float(months.sum())
    return LineResult(
        id=ident,
        label=label,
        group=group,
        formula=formula,
        quantity=total,
        unit="USD",
        unit_price_usd=1.0,
        by_month_usd=tuple(months.tolist()),
        by_year_usd=tuple(by_year(months).tolist()),
        total_usd=total,
        present_value_usd=present_usd,
        capex=False,
        payer="finance",
        inputs=(name,),
        source=origin.source,
        date=origin.date,
        evidence=origin.evidence,
    )


def _unit_costs(model: Model, present_usd: float, factors: Floats) -> UnitCosts:
    def levelised(yearly: list[float]) -> float | None:
        quantity = float(by_month(yearly, model.horizon_months) @ factors) / 12.0
        return present_usd / quantity if quantity > 1e-9 else None

    years = model.years
    return UnitCosts(
        usd_per_mtok=levelised([(u.served_input_tokens + u.served_output_tokens) / MTOK for u in years]),
        usd_per_output_mtok=levelised([u.served_output_tokens / MTOK for u in years]),
        usd_per_request=levelised([u.served_requests for u in years]),
        usd_per_seat_month=levelised([u.seats * 12.0 for u in years]),
        usd_per_solved_task=levelised([u.solved_tasks for u in years]),
    )


def _assumed_frac(lines: Sequence[LineResult]) -> float:
    whole = sum(abs(line.present_value_usd) for line in lines)
    assumed = sum(abs(line.present_value_usd) for line in lines if line.evidence == "assumed")
    return assumed / whole if whole else 0.0

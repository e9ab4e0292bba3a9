"""Uncertainty against point estimates, closed forms and the monthly cash flow."""

from dataclasses import replace

import numpy as np
import pytest

from envelope.money import AnnualUsage, HostedTokens, OwnedAsset, RentedDevices, evaluate
from envelope.money.cashflow import discount_factors
from envelope.money.draws import line_draws, sample, uncertain_names, uniform_draws
from envelope.money.evaluate import expected_costs, expected_totals, expected_value, monthly_costs
from envelope.money.model import Model, build
from envelope.money.result import PresentValue, Totals
from envelope.money.surface import Surface
from envelope.money.uncertainty import sobol_indices, tornado, uncertainty
from envelope.spec.economics import CostItem, Economics
from envelope.spec.ranges import Spread

USAGE = AnnualUsage(
    owned=(OwnedAsset(id="node", count=2, unit_price_usd={"low": 2e5, "mode": 3e5, "high": 4e5}, devices_per_unit=8, max_w=1e4, rack_units=8),),
    rented=(RentedDevices(id="gpu", device_hours=500.0, usd_per_device_hour={"low": 1, "high": 4}, mode="spot", devices=1),),
    hosted=(HostedTokens(api="api", kind="output", tokens=5e9, usd_per_mtok=10.0),),
    it_kwh=50_000,
    output_tokens=5e9,
)  # fmt: skip
DEMAND = {"p10": 0.6, "p50": 1.0, "p90": 1.8}


def fixed(model: Model) -> Model:
    """Return the model with every range collapsed to its point value."""
    inputs = {name: replace(item, spread=Spread(value=item.point)) for name, item in model.inputs.items()}
    return replace(model, inputs=inputs)


def fee(ident: str, *factors: object) -> CostItem:
    return CostItem(id=ident, label=ident, group="other", factors=factors, when="start")


def test_ranges_collapse_to_the_point_estimate():
    point = evaluate(Economics(), USAGE)
    result = uncertainty({"a": fixed(build(Economics(), USAGE))}, draws=16)
    assert result.uncertain_inputs == ()
    a = result.candidates[0]
    for quantile in (a.cost_npv_usd.p10, a.cost_npv_usd.p50, a.cost_npv_usd.p90, a.mean_cost_npv_usd):
        assert quantile == pytest.approx(point.cost_npv_usd)
    for line, drawn in zip(point.lines, a.lines, strict=True):
        assert drawn.id == line.id
        assert drawn.present_usd.p50 == pytest.approx(line.present_value_usd, abs=1e-6)
        assert [y.p90 for y in drawn.by_year_usd] == pytest.approx(line.by_year_usd, abs=1e-6)


@pytest.mark.parametrize("tax", [0.0, 0.3])
@pytest.mark.parametrize("months", [12, 30, 60])
def test_draws_agree_with_the_cash_flow_of_every_month(months, tax):
    promise = {"low": 0.0, "high": 1e5} if tax else 0.0
    economics = Economics(
        horizon_months=months, tax_rate_frac=tax, demand_factor=DEMAND, site="colocation",
        hosted_commitment_usd_per_year=promise,
    )  # fmt: skip
    model = build(economics, USAGE)
    values = sample([model], 8, 3).values(model)
    drawn = line_draws(model, values)
    flows = monthly_costs(model, values)
    factors = discount_factors(values["discount_rate_frac_per_year"], months)
    for i, ident in enumerate(drawn.line_ids):
        assert drawn.present_usd[:, i] == pytest.approx((flows[ident] * factors).sum(axis=1), rel=1e-9, abs=1e-6)
        nominal = np.broadcast_to(flows[ident].sum(axis=1), 8)
        assert drawn.by_year_usd[:, i].sum(axis=1) == pytest.approx(nominal, rel=1e-9, abs=1e-6)


def test_one_draw_is_the_evaluation_with_these_inputs():
    model = build(Economics(demand_factor=DEMAND), USAGE)
    values = sample([model], 4, 1).values(model)
    third = {name: Spread(value=float(v[2] if len(v) > 1 else v[0])) for name, v in values.items()}
    same = replace(model, inputs={n: replace(item, spread=third[n]) for n, item in model.inputs.items()})
    alone = uncertainty({"a": same}, draws=1).candidates[0].mean_cost_npv_usd
    assert line_draws(model, values).cost_npv_usd[2] == pytest.approx(alone)


def test_quantiles_of_one_uniform_price(bare):
    economics = bare(horizon_months=12, extra=(fee("fee", {"low": 100.0, "high": 200.0}),))
    cost = uncertainty({"a": build(economics, AnnualUsage())}).candidates[0].cost_npv_usd
    assert (cost.p10, cost.p50, cost.p90) == pytest.approx((110, 150, 190), abs=0.1)


@pytest.mark.parametrize("changes", [{}, {"tax_rate_frac": 0.3}, {"hosted_commitment_usd_per_year": 90_000.0}])
def test_what_is_priced_with_less_is_the_same(changes):
    model = build(Economics(**changes), USAGE)
    lines, totals, value = (price(model) for price in (expected_costs, expected_totals, expected_value))
    for field in Totals.model_fields:
        assert getattr(totals, field) == pytest.approx(getattr(lines, field), rel=1e-12), field
    for field in PresentValue.model_fields:
        assert getattr(value, field) == getattr(totals, field), field


def test_the_chance_to_be_cheaper(bare):
    def candidate(price: object) -> Model:
        return build(bare(extra=(fee("fee", price),)), AnnualUsage())

    uniform = candidate({"low": 0.0, "high": 4.0})
    result = uncertainty({"uniform": uniform, "one": candidate(1.0), "three": candidate(3.0)})
    assert result.cheaper_frac["uniform"]["one"] == pytest.approx(0.25, abs=0.001)
    assert result.cheaper_frac["one"]["uniform"] == pytest.approx(0.75, abs=0.001)
    assert result.cheaper_frac["uniform"]["three"] == pytest.approx(0.75, abs=0.001)
    assert [c.cheapest_frac for c in result.candidates] == pytest.approx([0.25, 0.75, 0.0], abs=0.001)


def test_the_same_luck_for_all_candidates(bare):
    # Both pay the same uncertain fee and differ by a dollar: the cheaper one is cheaper in every draw.
    same = {"low": 0.0, "high": 1e6}
    cheap = build(bare(extra=(fee("fee", same),)), AnnualUsage())
    dear = build(bare(extra=(fee("fee", same), fee("more", 1.0))), AnnualUsage())
    assert uncertainty({"cheap": cheap, "dear": dear}).cheaper_frac["cheap"]["dear"] == 1.0


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not():
    model = build(Economics(), USAGE)
    one, again, other = (uncertainty({"a": model}, draws=64, seed=s).model_dump_json() for s in (7, 7, 8))
    assert one == again
    assert one != other


def test_sobol_points_fill_every_dimension_evenly():
    points = uniform_draws(60, 1024, 5)
    assert points.min() > 0
    assert points.max() < 1
    counts = np.stack([np.histogram(points[:, d], bins=16, range=(0, 1))[0] for d in range(60)])
    assert (counts == 64).all()
    with pytest.raises(ValueError, match="power of two"):
        uniform_draws(2, 1000, 5)


def test_tornado_of_a_product_by_hand(bare):
    # 3 x y with x in 1…2 and y in 10…30, points 1.5 and 20: x at its P10/P90 1.1/1.9 gives 66/114, y (12/28) 54/126
    economics = bare(extra=(fee("fee", 3.0, {"low": 1.0, "high": 2.0}, {"low": 10.0, "high": 30.0}),))
    bars = tornado(build(economics, AnnualUsage()))
    assert [b.input for b in bars] == ["fee.factor3", "fee.factor2"]
    assert (bars[0].low_usd, bars[0].high_usd) == pytest.approx((54, 126))
    assert (bars[1].low_usd, bars[1].high_usd) == pytest.approx((66, 114))


def test_tornado_against_another_candidate_leaves_out_what_both_pay(bare):
    shared, own = fee("shared", {"low": 0.0, "high": 100.0}), fee("own", {"low": 5.0, "high": 9.0})
    a, b = build(bare(extra=(shared, own)), AnnualUsage()), build(bare(extra=(shared,)), AnnualUsage())
    swings = {bar.input: bar.swing_usd for bar in tornado(a, against=b)}
    assert swings == pytest.approx({"own.factor1": 3.2, "shared.factor1": 0.0})


def test_sobol_indices_of_a_product_have_a_closed_form(bare):
    # f = x y with x, y uniform on 0…1: V = 1/9 - 1/16 = 7/144, V_x = 1/48, so S = 3/7 and S_T = 4/7
    factors = ({"low": 0.0, "high": 1.0}, {"low": 0.0, "high": 1.0})
    indices = sobol_indices(build(bare(extra=(fee("fee", *factors),)), AnnualUsage()), draws=8192)
    assert len(indices) == 2
    for index in indices:
        assert index.first == pytest.approx(3 / 7, abs=0.02)
        assert index.total == pytest.approx(4 / 7, abs=0.02)


def test_sobol_indices_of_a_sum_are_the_shares_of_the_variance(bare):
    # variances of uniforms of width 3 and 4 are as 9 to 16, and there is no interaction
    economics = bare(extra=(fee("a", {"low": 0.0, "high": 3.0}), fee("b", {"low": 0.0, "high": 4.0})))
    b, a = sobol_indices(build(economics, AnnualUsage()), draws=8192)
    assert (b.first, b.total) == pytest.approx((0.64, 0.64), abs=0.02)
    assert (a.first, a.total) == pytest.approx((0.36, 0.36), abs=0.02)


def test_residual_values_of_all_ages_move_together():
    model = build(Economics(horizon_months=30), USAGE)
    assert {"residual_after_2y", "residual_after_3y"} <= set(uncertain_names([model]))
    values = sample([model], 64, 2).values(model)
    assert (np.argsort(values["residual_after_2y"]) == np.argsort(values["residual_after_3y"])).all()


# A surface: one node serves up to the planned demand, two nodes up to twice that.
def level(nodes: int, factor: float) -> AnnualUsage:
    node = OwnedAsset(id="node", count=nodes, unit_price_usd=1000.0)
    tokens = HostedTokens(api="api", kind="input", tokens=1e6 * factor, usd_per_mtok=12.0)
    return AnnualUsage(owned=(node,), hosted=(tokens,), requests=100 * factor)


LEVELS = ((0.5, level(1, 0.5)), (1.0, level(1, 1.0)), (2.0, level(2, 2.0)))


def test_uncertain_demand_goes_through_the_surface(bare):
    # demand 0.5…2 uniform: above 1 (two thirds of the draws) a second node; tokens in proportion: mean 1.25 x 12 $
    economics = bare(horizon_months=12, demand_factor={"low": 0.5, "high": 2.0}, inputs={"residual_after_1y": 0.0})
    surface = Surface(tuple(f for f, _ in LEVELS), tuple(build(economics, usage) for _, usage in LEVELS))
    result = uncertainty({"a": surface}).candidates[0]
    nodes, _, tokens = result.lines
    assert (nodes.present_usd.p10, nodes.present_usd.p50, nodes.present_usd.p90) == pytest.approx((1000, 2000, 2000))
    # quantiles of the demand: 0.65, 1.25, 1.85
    assert (tokens.present_usd.p10, tokens.present_usd.p50, tokens.present_usd.p90) == pytest.approx(
        (0.65 * 12, 1.25 * 12, 1.85 * 12), rel=1e-3
    )
    assert result.mean_cost_npv_usd == pytest.approx(1000 * (1 / 3) + 2000 * (2 / 3) + 1.25 * 12, rel=1e-3)

"""The waterfall between two runs."""

import pytest

from envelope.money import AnnualUsage, HostedTokens, OwnedAsset
from envelope.money.difference import QUANTITY, waterfall
from envelope.money.evaluate import expected_costs
from envelope.money.model import build
from envelope.spec.economics import Economics


def usage(nodes: int, tokens: float) -> AnnualUsage:
    return AnnualUsage(
        owned=(OwnedAsset(id="node", count=nodes, unit_price_usd=1e5, devices_per_unit=8),),
        hosted=(HostedTokens(api="api", kind="input", tokens=tokens, usd_per_mtok=5.0),),
        it_kwh=1e4 * nodes,
    )


def test_no_change_has_no_steps():
    model = build(Economics(), usage(1, 1e9))
    assert waterfall(model, build(Economics(), usage(1, 1e9))).steps == ()


def test_steps_lead_from_one_result_to_the_other():
    before, after = Economics(), Economics(horizon_months=48, pue=1.2, inputs={"fte_base_selfhost": 2.0, "wacc": 0.05})
    result = waterfall(build(before, usage(1, 1e9)), build(after, usage(2, 3e9)))
    assert result.before_usd == pytest.approx(expected_costs(build(before, usage(1, 1e9))).cost_npv_usd)
    assert result.after_usd == pytest.approx(expected_costs(build(after, usage(2, 3e9))).cost_npv_usd)
    assert result.before_usd + sum(s.change_usd for s in result.steps) == pytest.approx(result.after_usd)
    changed = {step.name for step in result.steps if not step.name.startswith(QUANTITY)}
    assert changed == {"pue", "fte_base_selfhost", "discount_rate_frac_per_year"}
    quantities = {step.name.removeprefix(QUANTITY) for step in result.steps} - changed
    assert {"purchase.node", "hosted.api.input", "energy"} <= quantities
    assert sum(s.change_usd for s in result.largest(3)) == pytest.approx(result.after_usd - result.before_usd)
    assert len(result.largest(3)) == 4


def test_a_line_that_one_run_lacks_counts_whole(bare):
    own = AnnualUsage(owned=(OwnedAsset(id="node", count=1, unit_price_usd=1e5),))
    economics = bare(horizon_months=12)
    result = waterfall(build(economics, AnnualUsage()), build(economics, own))
    assert {step.name for step in result.steps} == {QUANTITY + "purchase.node", QUANTITY + "residual.node"}
    assert result.steps[0].change_usd == pytest.approx(1e5)


def test_a_single_price_explains_all_by_hand(bare):
    # 2,000 M tokens a year for two years, from 5 to 4 $ per M: 4,000 $ less
    def model(usd: float):
        hosted = HostedTokens(api="api", kind="input", tokens=2e9, usd_per_mtok=usd)
        return build(bare(horizon_months=24), AnnualUsage(hosted=(hosted,)))

    (step,) = waterfall(model(5.0), model(4.0)).steps
    assert (step.name, step.before, step.after) == ("tariff.api.input", 5.0, 4.0)
    assert step.change_usd == pytest.approx(-4000)

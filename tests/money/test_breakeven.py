"""Break-even against closed forms, with ranges and with machines that are bought whole."""

import numpy as np
import pytest

from envelope.money import AnnualUsage, HostedTokens, OwnedAsset
from envelope.money.breakeven import break_even_factor, break_even_month
from envelope.money.draws import line_draws
from envelope.money.inputs import point_values
from envelope.money.model import build
from envelope.money.surface import Surface
from envelope.spec.economics import Economics

NO_RESIDUAL = {f"residual_after_{year}y": 0.0 for year in range(1, 6)}


def owning(price: object = 1200.0, count: int = 1) -> AnnualUsage:
    return AnnualUsage(owned=(OwnedAsset(id="node", count=count, unit_price_usd=price),))


def hosting(usd_per_mtok: object = 50.0, tokens: float = 12e6) -> AnnualUsage:
    return AnnualUsage(hosted=(HostedTokens(api="api", kind="input", tokens=tokens, usd_per_mtok=usd_per_mtok),))


@pytest.fixture
def economics(bare):
    return bare(horizon_months=36, inputs=NO_RESIDUAL)


def test_the_volume_at_which_owning_equals_renting(economics):
    # 1,200 once, or 600 a year for three years: at two thirds of the volume both cost the same
    result = break_even_factor(build(economics, owning()), build(economics, hosting()))
    assert result.point == pytest.approx(2 / 3, rel=1e-6)
    assert result.exists_frac == 1.0


def test_the_api_price_at_which_owning_equals_renting(economics):
    own, rent = build(economics, owning()), build(economics, hosting())
    assert break_even_factor(own, rent, "tariff.api.input").point == pytest.approx(2 / 3, rel=1e-6)
    assert break_even_factor(rent, own, "price.node").point == pytest.approx(1.5, rel=1e-6)


def test_no_break_even_in_the_range_is_none(economics):
    result = break_even_factor(build(economics, owning()), build(economics, hosting()), low=0.7, high=100.0)
    assert result.point is None
    assert result.quantiles is None
    assert result.exists_frac == 0.0


def test_the_range_of_the_break_even_follows_the_range_of_the_price(economics):
    # price uniform on 600…1,800: the volume is a third to one of the planned one, also uniform
    own = build(economics, owning({"low": 600.0, "high": 1800.0}))
    quantiles = break_even_factor(own, build(economics, hosting())).quantiles
    expected = [1 / 3 + u * 2 / 3 for u in (0.1, 0.5, 0.9)]
    assert [quantiles.p10, quantiles.p50, quantiles.p90] == pytest.approx(expected, abs=2e-3)


def test_the_month_by_hand(economics):
    # 1,200 against 50 a month: 24 months; with a price uniform on 600…1,800 12 to 36 months
    own, rent = build(economics, owning()), build(economics, hosting())
    assert break_even_month(own, rent).point == pytest.approx(24.0)
    ranged = break_even_month(build(economics, owning({"low": 600.0, "high": 2400.0})), rent)
    assert ranged.quantiles.p10 == pytest.approx(600 / 50 + 0.1 * (2 / 3) * 36, abs=0.1)
    # two thirds of the prices are earned back within 36 months
    assert ranged.exists_frac == pytest.approx(2 / 3, abs=0.005)


def test_the_month_is_nothing_for_what_is_never_dearer(economics):
    rent = build(economics, hosting())
    assert break_even_month(rent, build(economics, hosting(tokens=24e6))).point == 0.0


def test_whole_machines_move_the_break_even(bare):
    # One node (1,200) does the planned work, two do twice of it. Hosted work costs 1,000 at the planned volume:
    # the first node pays at 1.2 times the plan, where two are already needed; two nodes pay at 2.4 times.
    economics = bare(horizon_months=12, inputs=NO_RESIDUAL)
    machines = Surface((1.0, 2.0, 3.0), tuple(build(economics, owning(count=n)) for n in (1, 2, 3)))
    hosted = build(economics, hosting(usd_per_mtok=1000 / 12))
    assert break_even_factor(machines, hosted, low=0.5, high=3.0).point is None
    cheaper = Surface((1.0, 2.0, 3.0), tuple(build(economics, owning(800.0, n)) for n in (1, 2, 3)))
    assert break_even_factor(cheaper, hosted, low=0.5, high=3.0).point == pytest.approx(0.8, rel=1e-3)


def test_a_surface_is_searched_by_demand_only(economics):
    surface = Surface((1.0,), (build(economics, owning()),))
    with pytest.raises(ValueError, match="demand_factor only"):
        break_even_factor(surface, build(economics, hosting()), "price.node")


def test_at_the_break_even_both_cost_the_same(economics):
    # with everything that a real scenario has, the crossing is one: price both again at the factor found
    full = Economics(horizon_months=48, site="colocation")
    own = build(full, owning(300_000.0).model_copy(update={"it_kwh": 40_000.0}))
    rent = build(full, hosting(usd_per_mtok=10.0, tokens=20e9))
    factor = break_even_factor(own, rent).point
    assert factor is not None
    costs = [
        float(line_draws(m, point_values(m.inputs) | {"demand_factor": np.array([factor])}).cost_npv_usd[0])
        for m in (own, rent)
    ]
    assert costs[0] == pytest.approx(costs[1], rel=1e-7)

"""What leases, orders, outages and the end of the horizon cost, each by hand."""

import pytest

from envelope.money import AnnualUsage, OwnedAsset, billed_kinds, evaluate
from envelope.spec.hosted import HostedModel
from envelope.spec.load import load


def line(result, ident: str):
    return next((x for x in result.lines if x.id == ident), None)


def leased(count: float = 1) -> AnnualUsage:
    return AnnualUsage(owned=(OwnedAsset(id="node", count=count, unit_price_usd=36_000.0, leased=True),))


@pytest.mark.parametrize(("share", "owed"), [(1.0, 12_000.0), (0.5, 6_000.0)])
def test_a_lease_that_outlives_the_horizon_owes_the_rest_at_its_end(bare, share, owed):
    # 36 payments of 1,000 $ (no interest): 24 within the horizon, 12 owed after it, of which a share is paid
    economics = bare(
        horizon_months=24, lease_months=36, lease_rate_frac_per_year=0.0, inputs={"lease_exit_share": share}
    )
    result = evaluate(economics, leased())
    assert line(result, "lease.node").total_usd == pytest.approx(24_000)
    assert line(result, "lease_end.node").by_year_usd == pytest.approx((0, 0, owed))
    assert line(result, "lease_end.node").when == "month 24"


def test_a_lease_that_has_run_out_owes_nothing_and_a_later_one_owes_more(bare):
    economics = bare(horizon_months=24, lease_months=12, lease_rate_frac_per_year=0.0)
    assert line(evaluate(economics, leased()), "lease_end.node") is None
    # a second machine from month 12 on, over 18 months: 6 payments of 36,000 / 18 are left; the first began again
    # at month 18 and owes 12
    economics = bare(horizon_months=24, lease_months=18, lease_rate_frac_per_year=0.0)
    result = evaluate(economics, [leased(1), leased(2)])
    assert line(result, "lease_end.node").total_usd == pytest.approx((6 + 12) * 2_000)


def test_what_is_paid_with_the_order_ties_capital_up(bare):
    # half of 100,000 $ half a year early at 12 %: 3,000 $, with the purchase of month 0
    inputs = {"prepaid_share": 0.5, "procurement_lead_time": 6}
    usage = AnnualUsage(owned=(OwnedAsset(id="node", count=1, unit_price_usd=1e5),))
    economics = bare(
        "order_lead", horizon_months=12, include=("order_lead",), discount_rate_frac_per_year=0.12, inputs=inputs
    )
    assert line(evaluate(economics, usage), "order_lead").by_year_usd == pytest.approx((3_000, 0))
    assert line(evaluate(bare("order_lead", horizon_months=12, inputs=inputs), usage), "order_lead") is None


def test_an_outage_costs_users_times_working_hours_lost(bare):
    # 10 hours x 50 people x 20 $, of which 200 x 8 of 8,766 hours are worked; only if the scenario includes it
    usage = AnnualUsage(downtime_hours=10, seats=50)
    inputs = {"outage_loss": 20, "working_days_per_year": 200, "working_hours_per_day": 8}
    economics = bare("outage", horizon_months=24, include=("outage",), inputs=inputs)
    yearly = 10_000 * 1600 / 8766
    assert line(evaluate(economics, usage), "outage").by_year_usd == pytest.approx((0, yearly, yearly))
    assert line(evaluate(bare("outage", horizon_months=24), usage), "outage") is None


def test_a_lease_pays_for_the_network_but_not_for_an_order(bare):
    # the leasing company buys the machine; switches and cables (12 % of its price) are the company's own
    inputs = {"network_share": 0.12, "prepaid_share": 1.0, "procurement_lead_time": 12}
    economics = bare("network", "order_lead", horizon_months=36, include=("order_lead",), inputs=inputs)
    result = evaluate(economics, leased())
    assert line(result, "network").total_usd == pytest.approx(4_320)
    assert line(result, "order_lead") is None


def test_every_machine_is_removed_once_at_the_end_of_its_service(bare):
    # bought for 100,000 at month 0, replaced for 100,000 at month 36: 2 % each when it goes, at months 36 and 48
    economics = bare("decommissioning", horizon_months=48, hardware_life_months=36, inputs={"decommissioning": 0.02})
    result = evaluate(economics, AnnualUsage(owned=(OwnedAsset(id="node", count=1, unit_price_usd=1e5),)))
    assert line(result, "decommissioning").when == "month 36, month 48"
    assert line(result, "decommissioning").total_usd == pytest.approx(4_000)


def test_a_cache_that_costs_to_fill_is_used_where_it_pays():
    # Anthropic bills writes at 1.25 and reads at 0.1 of the input price: with few hits nobody would write
    model = load(HostedModel, "hosted", "anthropic-claude-opus-5-5", file="test", path="")
    many = billed_kinds(model, {"input": 1e6, "cached_input": 1e6, "output": 1e5}, start="2026-12")
    assert many == {"cache_write": 1e6, "cached_input": 1e6, "output": 1e5}
    few = billed_kinds(model, {"input": 1e6, "cached_input": 1e5, "output": 1e5}, start="2026-12")
    assert few == {"input": 1.1e6, "output": 1e5}
    # a provider whose cache costs nothing to fill bills what there is
    free = load(HostedModel, "hosted", "openai-gpt-5", file="test", path="")
    assert billed_kinds(free, {"input": 1e6, "cached_input": 1e5}, start="2026-12") == {
        "input": 1e6,
        "cached_input": 1e5,
    }

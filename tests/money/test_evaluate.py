"""Cost lines against sums written out by hand, and properties that every result must have."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envelope.money import (
    AnnualUsage,
    HostedTokens,
    OwnedAsset,
    RentedDevices,
    bill_usd,
    compare,
    evaluate,
    hosted_tokens,
    npv,
)
from envelope.spec.economics import CostItem, Economics
from envelope.spec.hosted import HostedModel
from envelope.spec.load import load


def server(count: float = 1, price: float = 100_000.0, **fields: object) -> OwnedAsset:
    return OwnedAsset(id="node", count=count, unit_price_usd=price, devices_per_unit=8, **fields)


def line(result, ident: str):
    return next(x for x in result.lines if x.id == ident)


def test_purchase_growth_and_residual_value_by_hand(bare):
    # Year 1: one server at 100,000. Year 2: a second one, 5 % cheaper: 95,000, paid at month 12.
    # Sold after 24 months: the first is 24 months old and fetches 60 %, the second 12 months and 78 %.
    economics = bare(
        horizon_months=24,
        hardware_price_trend_frac_per_year=-0.05,
        discount_rate_frac_per_year=0.10,
        inputs={"residual_after_1y": 0.78, "residual_after_2y": 0.60},
    )
    result = evaluate(economics, [AnnualUsage(owned=(server(1),)), AnnualUsage(owned=(server(2),))])
    assert line(result, "purchase.node").by_year_usd == pytest.approx((100_000, 95_000, 0))
    sold = -(100_000 * 0.60 + 95_000 * 0.78)
    assert line(result, "residual.node").by_year_usd == pytest.approx((0, 0, sold))
    assert result.cost_npv_usd == pytest.approx(100_000 + 95_000 / 1.1 + sold / 1.21)
    assert result.npv_usd == -result.cost_npv_usd


def test_shares_support_and_energy_by_hand(bare):
    # Network 12 % once; support 6 % a year of the purchase price; 10,000 kWh a year x PUE 1.5 x 0.20 $ = 3,000 $,
    # 4 % dearer in the second year: 3,120 $.
    economics = bare(
        "network",
        "support",
        "energy",
        horizon_months=24,
        pue=1.5,
        electricity_usd_per_kwh=0.20,
        electricity_growth_frac_per_year=0.04,
        inputs={"network_share": 0.12, "support_contract": 0.06},
    )
    result = evaluate(economics, AnnualUsage(owned=(server(),), it_kwh=10_000))
    assert line(result, "network").by_year_usd == pytest.approx((12_000, 0, 0))
    assert line(result, "support").by_year_usd == pytest.approx((0, 6_000, 6_000))
    assert line(result, "energy").by_year_usd == pytest.approx((0, 3_000, 3_120))


def test_a_machine_at_the_end_of_its_life_is_sold_and_replaced(bare):
    # 60 months, life 48: bought at 0, replaced at 48 (four price steps of -10 %), the second sold at the age of 12
    economics = bare(
        horizon_months=60,
        hardware_life_months=48,
        hardware_price_trend_frac_per_year=-0.10,
        inputs={"residual_after_4y": 0.35, "residual_after_1y": 0.78},
    )
    result = evaluate(economics, AnnualUsage(owned=(server(),)))
    again = 100_000 * 0.9**4
    assert line(result, "purchase.node").by_year_usd == pytest.approx((100_000, 0, 0, 0, again, 0))
    assert line(result, "residual.node").by_year_usd == pytest.approx((0, 0, 0, 0, -35_000, -0.78 * again))


def test_residual_value_between_two_birthdays_is_interpolated(bare):
    economics = bare(horizon_months=30, inputs={"residual_after_2y": 0.6, "residual_after_3y": 0.4})
    result = evaluate(economics, AnnualUsage(owned=(server(),)))
    assert line(result, "residual.node").total_usd == pytest.approx(-50_000)


def test_a_lease_pays_the_annuity_and_leaves_nothing(bare):
    economics = bare(horizon_months=36, lease_months=36, lease_rate_frac_per_year=0.09)
    leased = AnnualUsage(owned=(server(leased=True),))
    result = evaluate(economics, leased)
    i = 1.09 ** (1 / 12) - 1
    assert [x.id for x in result.lines] == ["lease.node"]
    assert result.total_usd == pytest.approx(36 * 100_000 * i / (1 - (1 + i) ** -36))
    discounted = evaluate(
        economics.model_copy(update={"discount_rate_frac_per_year": economics.lease_rate_frac_per_year}), leased
    )
    assert discounted.cost_npv_usd == pytest.approx(100_000)


def test_a_rent_follows_the_market_unless_it_is_reserved(bare):
    rent = {"id": "gpu", "device_hours": 8766.0, "usd_per_device_hour": 2.0}
    economics = bare(horizon_months=36, rental_price_trend_frac_per_year=-0.10)
    market = evaluate(economics, AnnualUsage(rented=(RentedDevices(**rent),)))
    fixed = evaluate(economics, AnnualUsage(rented=(RentedDevices(**rent, mode="reserved_3y"),)))
    assert market.by_year_usd == pytest.approx((0, 17_532, 17_532 * 0.9, 17_532 * 0.81))
    assert fixed.by_year_usd == pytest.approx((0, 17_532, 17_532, 17_532))


def test_spot_pays_for_the_hours_lost_to_interruptions(bare):
    # 0.15 interruptions a month, 0.5 h each: 0.075 h in 730.5 h
    economics = bare(horizon_months=12, inputs={"spot_interruption_month": 0.15, "recovery_restart": 0.5})
    rent = RentedDevices(id="gpu", device_hours=8766.0, usd_per_device_hour=1.0, mode="spot")
    assert evaluate(economics, AnnualUsage(rented=(rent,))).total_usd == pytest.approx(8766 * (1 + 0.075 / 730.5))


def test_a_hosted_bill_by_hand(bare):
    # GPT-6.1 Sol: 2 / 0.10 / 10 $ per M tokens; 1,000 M fresh, 4,000 M cached, 500 M output a year:
    # 2,000 + 400 + 5,000 = 7,400 $; the tier gets 20 % cheaper: 5,920 $ in the second year.
    model = load(HostedModel, "hosted", "openai-gpt-6.1-sol", file="t", path="p")
    tokens = {"input": 1e9, "cached_input": 4e9, "output": 0.5e9}
    hosted = hosted_tokens(model, tokens, start="2026-12")
    assert bill_usd(hosted) == pytest.approx(7_400)
    economics = bare(horizon_months=24, hosted_price_trend_frac_per_year=-0.2)
    result = evaluate(economics, AnnualUsage(hosted=hosted))
    assert result.by_year_usd == pytest.approx((0, 7_400, 5_920))
    assert line(result, "hosted.openai-gpt-6.1-sol.output").quantity == pytest.approx(1000)


def test_batch_and_long_requests_have_lines_of_their_own():
    model = load(HostedModel, "hosted", "openai-gpt-6.1-sol", file="t", path="p")
    batch = hosted_tokens(model, {"output": 1e6}, start="2026-12", processing="batch")
    long = hosted_tokens(model, {"output": 1e6}, start="2026-12", request_input_tokens=300_000)
    assert [h.line_id for h in (*batch, *long)] == [
        "hosted.openai-gpt-6.1-sol.output.batch",
        "hosted.openai-gpt-6.1-sol.output.above-272000",
    ]
    assert bill_usd(batch) == pytest.approx(5.0)
    assert bill_usd(long) == pytest.approx(15.0)


def test_an_announced_price_counts_from_its_month():
    # Gemini 3.8 Flash: 3.75 $ per M output tokens until the end of 2026, then 7.50 $; one of twelve months is cheap
    model = load(HostedModel, "hosted", "google-gemini-3.8-flash", file="t", path="p")
    first = hosted_tokens(model, {"output": 12e6}, start="2026-12")
    second = hosted_tokens(model, {"output": 12e6}, start="2026-12", year=1)
    assert bill_usd(first) == pytest.approx(3.75 + 11 * 7.5)
    assert bill_usd(second) == pytest.approx(12 * 7.5)


def test_a_price_that_changes_in_a_later_year_is_used_in_that_year(bare):
    def year(usd: float) -> AnnualUsage:
        return AnnualUsage(hosted=(HostedTokens(api="a", kind="input", tokens=1e6, usd_per_mtok=usd),))

    result = evaluate(bare(horizon_months=36), [year(1.0), year(3.0), year(3.0)])
    assert result.by_year_usd == pytest.approx((0, 1, 3, 3))


def test_a_pinned_region_costs_the_uplift():
    model = load(HostedModel, "hosted", "openai-gpt-6.1-sol", file="t", path="p")
    assert model.data.regional_uplift_frac == pytest.approx(0.1)
    assert bill_usd(hosted_tokens(model, {"output": 1e6}, start="2026-12", pinned_region=True)) == pytest.approx(11)


def test_committed_spend_by_hand(bare):
    # List price 10 $ per M, 20 % discount for promising 9,000 $ a year. 1,000 M tokens cost 8,000 $, so that 1,000 $
    # are missing at the end of the year; the second year is half a year and promises 4,500 $ against 4,000 $.
    economics = bare(horizon_months=18, hosted_commitment_usd_per_year=9_000, hosted_discount_frac=0.2)
    usage = AnnualUsage(hosted=(HostedTokens(api="a", kind="input", tokens=1e9, usd_per_mtok=10.0),))
    result = evaluate(economics, usage)
    assert line(result, "hosted.a.input").by_year_usd == pytest.approx((0, 8_000, 4_000))
    assert line(result, "hosted_commitment").by_year_usd == pytest.approx((0, 1_000, 500))
    assert result.cost_by_group["hosted"] == pytest.approx(13_500)


def test_staff_by_hand_in_another_currency(bare):
    # 0.5 FTE at 130,000 EUR, 1.10 $ per EUR, wages 4 % a year: 71,500 $, then 74,360 $
    economics = bare(
        "staff_api",
        horizon_months=24,
        wage_growth_frac_per_year=0.04,
        usd_per_currency={"EUR": {"value": 1.10, "source": "European Central Bank", "date": "2026-11-20"}},
        inputs={"fte_base_api": 0.5, "staff_mlops": {"amount": 130_000, "currency": "EUR"}},
    )
    hosted = HostedTokens(api="a", kind="input", tokens=0, usd_per_mtok=1.0)
    assert evaluate(economics, AnnualUsage(hosted=(hosted,))).by_year_usd == pytest.approx((0, 71_500, 74_360))


def test_an_item_of_the_scenario_is_added(bare):
    item = CostItem(id="insurance", label="Insurance", group="other", factors=(1200.0,), when="per_year")
    result = evaluate(bare(horizon_months=12, extra=(item,)), AnnualUsage())
    assert line(result, "insurance").by_month_usd == pytest.approx((0, *[100.0] * 12))


def test_tax_returns_its_share_of_everything_that_was_spent(bare):
    # 30 % of the price less what the sale brought, over the whole time; straight line over 2 years
    economics = bare(horizon_months=24, depreciation_years=2, tax_rate_frac=0.3, inputs={"residual_after_2y": 0.5})
    result = evaluate(economics, AnnualUsage(owned=(server(),)))
    assert line(result, "tax").by_year_usd == pytest.approx((0, -15_000, -15_000 + 0.3 * 50_000), abs=1e-6)
    assert result.total_usd == pytest.approx(0.7 * 50_000)


def test_unit_costs_are_levelised_by_hand(bare):
    # 12 months at 100 $ a month and 1,000 requests a month: 0.10 $ per request at any discount rate
    item = CostItem(id="fee", label="Fee", group="other", factors=(100.0,), when="per_month")
    usage = AnnualUsage(requests=12_000, input_tokens=9e6, output_tokens=3e6, seats=10, solved_tasks=6_000)
    for rate in (0.0, 0.2):
        costs = evaluate(bare(horizon_months=12, extra=(item,), discount_rate_frac_per_year=rate), usage).unit_costs
        assert costs.usd_per_request == pytest.approx(0.10)
        assert costs.usd_per_mtok == pytest.approx(100.0)
        assert costs.usd_per_output_mtok == pytest.approx(400.0)
        assert costs.usd_per_seat_month == pytest.approx(10.0)
        assert costs.usd_per_solved_task == pytest.approx(0.20)


def test_carbon_by_hand(bare):
    # 10,000 kWh x 1.5 x 0.4 kg + 3,500 kg for the one node
    economics = bare(horizon_months=12, pue=1.5, inputs={"grid": 400, "embodied_gpu_node": 3500})
    result = evaluate(economics, AnnualUsage(owned=(server(),), it_kwh=10_000))
    assert result.carbon_kg_by_year == pytest.approx((3_500, 6_000))


def test_a_return_on_buying_instead_of_renting_by_hand(bare):
    # Buying: 12,000 at once, nothing after (no residual). Renting: 1,000 $ at the end of each of 24 months.
    # The extra investment returns 1,000 a month: monthly rate i with 12 = (1 - (1+i)^-24)/i, i = 6.49 %.
    economics = bare(horizon_months=24, inputs={"residual_after_2y": 0.0})
    buy = evaluate(economics, AnnualUsage(owned=(server(price=12_000.0),)))
    rent = evaluate(
        economics, AnnualUsage(rented=(RentedDevices(id="g", device_hours=12_000.0, usd_per_device_hour=1.0),))
    )
    result = compare(buy, rent)
    assert result.saving_npv_usd == pytest.approx(12_000)
    assert result.payback_months == pytest.approx(12.0)
    i = (1 + result.irr_frac_per_year) ** (1 / 12) - 1
    assert (1 - (1 + i) ** -24) / i == pytest.approx(12.0)
    assert i == pytest.approx(0.0649, abs=5e-5)


def test_a_candidate_that_costs_less_first_and_more_later_has_no_return(bare):
    # the other way round: renting saves the price and pays for it later, which is a loan and no investment
    economics = bare(horizon_months=24, inputs={"residual_after_2y": 0.0})
    buy = evaluate(economics, AnnualUsage(owned=(server(price=12_000.0),)))
    rent = evaluate(
        economics, AnnualUsage(rented=(RentedDevices(id="g", device_hours=12_000.0, usd_per_device_hour=1.0),))
    )
    assert compare(rent, buy).irr_frac_per_year is None
    assert compare(rent, buy).saving_npv_usd == pytest.approx(-12_000)
    assert compare(buy, buy).irr_frac_per_year is None


usages = st.builds(
    lambda count, price, kwh, hours, tokens, seats: AnnualUsage(
        owned=(
            server(count, price, max_w=10_000, rack_units=8),
            OwnedAsset(id="pc", kind="seat", count=seats, unit_price_usd=300.0),
        ),
        rented=(RentedDevices(id="gpu", device_hours=hours, usd_per_device_hour=2.5, mode="spot", devices=1),),
        hosted=(HostedTokens(api="api", kind="output", tokens=tokens, usd_per_mtok=10.0),),
        it_kwh=kwh,
        seats=seats,
        output_tokens=tokens,
    ),
    count=st.integers(0, 20),
    price=st.floats(1e3, 5e5),
    kwh=st.floats(0, 1e6),
    hours=st.floats(0, 1e5),
    tokens=st.floats(0, 1e12),
    seats=st.integers(0, 1000),
)


@settings(max_examples=40, deadline=None)
@given(
    usages,
    st.integers(12, 84),
    st.sampled_from(["us", "de", "fr"]),
    st.sampled_from(["own_room", "colocation", "own_build"]),
    st.sampled_from([0.0, 0.25]),
)
def test_lines_sum_to_totals(usage, months, region, site, tax):
    economics = Economics(
        horizon_months=months, region=region, site=site, tax_rate_frac=tax, include=("oncall", "fine_tuning_lora_8b")
    )
    result = evaluate(economics, usage)
    approx = {"rel": 1e-9, "abs": 1e-6}
    assert sum(result.cost_by_line.values()) == pytest.approx(result.cost_npv_usd, **approx)
    assert sum(result.cost_by_group.values()) == pytest.approx(result.cost_npv_usd, **approx)
    assert sum(x.total_usd for x in result.lines) == pytest.approx(result.total_usd, **approx)
    assert result.capex_usd + result.opex_usd == pytest.approx(result.total_usd, **approx)
    assert sum(result.by_year_usd) == pytest.approx(result.total_usd, **approx)
    assert np.sum([x.by_year_usd for x in result.lines], axis=0) == pytest.approx(result.by_year_usd, **approx)
    assert npv(result.discount_rate_frac_per_year, result.flow_usd) == pytest.approx(result.npv_usd, **approx)


@pytest.mark.parametrize("name", ["node", "gpu", "api"])
def test_a_doubled_price_doubles_its_line_and_no_other(name):
    def run(factor: float):
        prices = {n: (factor if n == name else 1.0) for n in ("node", "gpu", "api")}
        return evaluate(
            Economics(),
            AnnualUsage(
                owned=(server(price=1e5 * prices["node"], max_w=1e4, rack_units=8),),
                rented=(RentedDevices(id="gpu", device_hours=100.0, usd_per_device_hour=2 * prices["gpu"]),),
                hosted=(HostedTokens(api="api", kind="input", tokens=1e9, usd_per_mtok=3 * prices["api"]),),
            ),
        ).cost_by_line

    once, twice = run(1.0), run(2.0)
    doubled = {ident for ident in once if twice[ident] == pytest.approx(2 * once[ident]) and once[ident]}
    same = {ident for ident in once if twice[ident] == pytest.approx(once[ident])}
    expected = {
        "node": {
            "purchase.node",
            "residual.node",
            "network",
            "storage",
            "management_nodes",
            "installation",
            "spares",
            "support",
            "decommissioning",
        },
        "gpu": {"rent.gpu.on_demand"},
        "api": {"hosted.api.input"},
    }
    assert doubled == expected[name]
    assert doubled | same == set(once)


def test_zero_demand_costs_only_fixed_lines():
    usage = AnnualUsage(
        owned=(server(max_w=1e4),),
        hosted=(HostedTokens(api="api", kind="input", tokens=1e9, usd_per_mtok=3.0),),
        it_kwh=50_000,
        output_tokens=1e9,
    )
    busy, idle = evaluate(Economics(), usage).cost_by_line, evaluate(Economics(), usage.grown(0.0)).cost_by_line
    assert busy.keys() == idle.keys()
    assert {ident for ident in idle if idle[ident] == 0} == {"hosted.api.input", "energy"}
    assert {ident for ident in idle if idle[ident] != 0} == {ident for ident in busy if busy[ident] == idle[ident]}


def test_growth_of_demand_scales_volume_but_not_machines(bare):
    economics = bare("energy", horizon_months=24, demand_growth_frac_per_year=0.5)
    hosted = HostedTokens(api="a", kind="input", tokens=1e6, usd_per_mtok=8.0)
    result = evaluate(economics, AnnualUsage(owned=(server(),), hosted=(hosted,), it_kwh=100))
    assert line(result, "hosted.a.input").by_year_usd == pytest.approx((0, 8, 12))
    assert line(result, "energy").by_year_usd[2] == pytest.approx(1.5 * line(result, "energy").by_year_usd[1])
    assert line(result, "purchase.node").by_year_usd == pytest.approx((100_000, 0, 0))


def test_every_line_tells_where_its_price_comes_from():
    result = evaluate(Economics(), AnnualUsage(owned=(server(max_w=1e4),), it_kwh=1000))
    for x in result.lines:
        assert x.source, x.id
        assert x.date, x.id
        assert x.formula.startswith(("-1 × ", x.unit)), x.id
    assert 0 < result.assumed_frac <= 1

"""Defaults, cost items, regions and rental prices: all load, all are sourced, all names resolve."""

import pytest

from envelope.errors import InputError
from envelope.money.inputs import resolve
from envelope.provenance import Evidence
from envelope.spec.cloud import CloudPrices, rental_price
from envelope.spec.economic_facts import economics_problems, facts
from envelope.spec.economics import Economics
from envelope.spec.load import ids, load_all, validate


@pytest.mark.parametrize("name", facts().defaults)
def test_a_default_is_sourced_and_flagged_when_nobody_read_it(name):
    default = facts().defaults[name]
    assert default.date
    if "recalled" in default.source or "judgement" in default.source:
        assert default.evidence is Evidence.ASSUMED or ":" in default.source


def test_as_many_defaults_are_assumed_as_nobody_has_checked():
    evidence = [d.evidence for d in facts().defaults.values()]
    assert len(evidence) >= 113
    assert evidence.count(Evidence.DATASHEET) <= 45


@pytest.mark.parametrize("region", facts().regions)
def test_every_item_and_region_finds_its_defaults(region):
    inputs = resolve(Economics(region=region))
    for item in facts().items:
        for spread in (*item.factors, *item.divided_by):
            assert spread.default is None or spread.default in inputs, item.id
        assert item.growth is None or item.growth in inputs, item.id
    assert all(i.spread.default is None for i in inputs.values())


def test_every_item_names_its_units_so_that_they_give_dollars():
    inputs = resolve(Economics())
    for item in facts().items:
        units = [inputs[s.default].unit for s in item.factors if s.default]
        priced = any(unit.startswith("USD") for unit in units) or item.per in ("purchase", "installed")
        assert priced, item.id


def test_a_european_region_is_converted_to_dollars_once():
    inputs = resolve(Economics(region="de", usd_per_currency={"EUR": 1.2}))
    # 0.22 EUR/kWh and 135,000 EUR a year
    assert inputs["electricity_usd_per_kwh"].point == pytest.approx(0.264)
    assert inputs["staff_mlops"].point == pytest.approx(162_000)
    assert inputs["staff_mlops"].unit == "USD/year"


def test_an_input_of_the_scenario_replaces_the_default_and_says_so():
    inputs = resolve(Economics(inputs={"electricity": {"value": 0.1, "source": "contract 17", "date": "2026-01"}}))
    assert inputs["electricity_usd_per_kwh"].point == 0.1
    assert inputs["electricity_usd_per_kwh"].source == "contract 17"
    assert inputs["electricity_usd_per_kwh"].overridden
    by_default_name = resolve(Economics(inputs={"electricity_us_commercial": 0.1}))
    assert by_default_name["electricity_usd_per_kwh"].point == 0.1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"horizon_months": 100}, ["horizon_months", "84"]),
        ({"inputs": {"staff_sre_uss": 1}}, ["staff_sre_uss", "nearest 'staff_sre_us'"]),
        ({"region": "usa"}, ["region", "'us'"]),
        ({"include": ["on-call"]}, ["'on-call'", "'oncall'"]),
        ({"pue": "pue_averag"}, ["pue_averag", "'pue_average'"]),
        ({"pue": {"p10": 1.2}}, ["pue", "p10 is no complete range"]),
        ({"pue": {"low": 1.5, "mode": 1.2, "high": 1.8}}, ["must not decrease"]),
        ({"pue": {"p10": 1, "p50": 2, "p90": 3, "value": 2}}, ["no complete range: give a number"]),
        ({"pue": float("nan")}, ["finite"]),
        ({"pue": True}, ["must be a number"]),
        ({"discount": 0.1}, ["unknown field", "discount_rate_frac_per_year"]),
    ],
)
def test_a_bad_scenario_says_what_is_wrong(data, words):
    try:
        found = list(economics_problems(validate(Economics, data, "scenario.yaml"), "scenario.yaml", ""))
    except InputError as error:
        found = list(error.problems)
    assert found
    for word in words:
        assert word in "\n".join(map(str, found))


def test_a_currency_without_a_rate_is_an_error():
    economics = Economics(inputs={"staff_sre": {"amount": 90_000, "currency": "CHF"}})
    with pytest.raises(InputError, match=r"'CHF' has no exchange rate; known: USD, EUR; add economics"):
        resolve(economics)


@pytest.mark.parametrize("device", ids("cloud"))
def test_rental_prices_fall_with_commitment(device):
    def price(mode):
        return rental_price(device, mode, file="t", path="p").point

    assert 0.05 < price("on_demand") < 25
    assert price("reserved_1y") <= price("on_demand")
    assert price("reserved_3y") <= price("on_demand")


def test_there_are_enough_quotes():
    quotes = [q for p in load_all(CloudPrices, "cloud") for q in p.quotes]
    assert len(quotes) >= 140


def test_a_price_without_quotes_is_assumed_from_the_discount():
    # 1.37 on demand (median of 1.35 and 1.39), less 45 % for three years
    price = rental_price("nvidia-a100-pcie-80gb", "reserved_3y", file="t", path="p")
    assert price.point == pytest.approx(1.37 * 0.55)
    assert price.evidence is Evidence.ASSUMED


def test_a_device_that_nobody_rents_out_is_an_error():
    with pytest.raises(InputError, match="nearest"):
        rental_price("nvidia-h100-sxm", "on_demand", file="scenario.yaml", path="candidates[0].acquisition")

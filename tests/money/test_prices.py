"""Ages of prices, and negotiated prices from a file."""

from datetime import date

import pytest

from envelope.errors import InputError
from envelope.money import AnnualUsage, HostedTokens, OwnedAsset, evaluate
from envelope.money.prices import price_ages, stale_prices, with_price_file
from envelope.spec.economics import Economics

TODAY = date(2026, 11, 23)


def test_every_kind_of_price_has_an_age():
    ages = price_ages(TODAY)
    assert {age.kind for age in ages} == {"hosted", "cloud", "hardware", "servers", "economics"}
    assert [a.age_days for a in ages] == sorted((a.age_days for a in ages), reverse=True)


def test_a_date_without_a_day_is_as_young_as_it_can_be():
    ages = {(a.kind, a.id): a for a in price_ages(TODAY)}
    # read on the day itself; May 2026 ends on the 31st; 2025 ends on 31 December
    assert ages["hosted", "openai-gpt-6-astra"].age_days == 0
    assert ages["cloud", "amd-mi300x-192gb: Vultr, on_demand"].age_days == (TODAY - date(2026, 5, 31)).days
    assert ages["economics", "pue_average"].age_days == (TODAY - date(2025, 12, 31)).days


def test_stale_prices_grow_in_number_with_time():
    now, later = stale_prices(TODAY, days=180), stale_prices(date(2027, 11, 23), days=180)
    assert all(age.age_days > 180 for age in now)
    assert 0 < len(now) < len(later) == len(price_ages(TODAY))


def price_file(tmp_path, text: str):
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    return path


GOOD = """
supplier: ACME
prices:
  tariff.openai-gpt-6.1-sol.output: {value: 8.0, source: contract 17, date: 2026-10}
  price.nvidia-dgx-h100: {p10: 240000, p50: 250000, p90: 260000, source: quote 4711, date: 2026-11-01}
  electricity_us_commercial: {value: 0.11, source: utility contract, date: 2026-01}
"""
USAGE = AnnualUsage(
    owned=(OwnedAsset(id="nvidia-dgx-h100", count=1, unit_price_usd=300_000.0),),
    hosted=(
        HostedTokens(api="openai-gpt-6.1-sol", kind="output", tokens=1e9, usd_per_mtok=10.0),
        HostedTokens(api="openai-gpt-6.1-sol", kind="input", tokens=1e9, usd_per_mtok=2.0),
    ),
    it_kwh=1000,
)


def test_negotiated_prices_take_the_place_of_the_catalog_and_are_marked(tmp_path):
    economics = with_price_file(Economics(), price_file(tmp_path, GOOD))
    before = {line.id: line for line in evaluate(Economics(), USAGE).lines}
    after = {line.id: line for line in evaluate(economics, USAGE).lines}
    assert after["purchase.nvidia-dgx-h100"].total_usd == 250_000
    assert after["purchase.nvidia-dgx-h100"].overridden == ("price.nvidia-dgx-h100",)
    assert "quote 4711" in after["purchase.nvidia-dgx-h100"].source
    output, plain = "hosted.openai-gpt-6.1-sol.output", "hosted.openai-gpt-6.1-sol.input"
    assert after[output].total_usd == pytest.approx(0.8 * before[output].total_usd)
    assert after[plain] == before[plain]
    assert after["energy"].total_usd == pytest.approx(before["energy"].total_usd * 0.11 / 0.146)
    assert after["energy"].overridden == ("electricity_usd_per_kwh",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prices: {tariff.openai-gpt-6.1-soll.output: {value: 1, source: abc, date: 2026}}", ["'openai-gpt-6.1-sol'"]),
        ("prices: {price.nvidia-dgx-h10: {value: 1, source: abc, date: 2026}}", ["'nvidia-dgx-h100'"]),
        ("prices: {electricity_uss: {value: 1, source: abc, date: 2026}}", ["electricity_uss", "unknown"]),
        ("prices: {wacc: 0.08}", ["needs source and date"]),
        ("prices: {wacc: 0.08, waccc: 0.1}", ["prices.wacc", "'waccc' unknown"]),
        ("price: {wacc: 0.08}", ["unknown field", "nearest 'prices'"]),
    ],
)
def test_a_bad_price_file_says_all_that_is_wrong(tmp_path, text, words):
    with pytest.raises(InputError) as caught:
        with_price_file(Economics(), price_file(tmp_path, text))
    for word in words:
        assert word in str(caught.value)

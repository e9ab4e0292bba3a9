"""Every hosted model: it loads, its numbers have sources, and its tariff picks the right line."""

from datetime import date, time

import pytest

from envelope.provenance import Evidence
from envelope.spec.hosted import HostedModel
from envelope.spec.load import ids, load, load_all

DAY = date(2026, 11, 23)


def hosted(name: str) -> HostedModel:
    return load(HostedModel, "hosted", name, file="test", path="api")


def usd_per_mtok(name: str, kind: str, **conditions: object) -> float:
    model = hosted(name)
    return model.line(kind, **({"day": DAY} | conditions)).usd_per_mtok


def test_there_are_enough_hosted_models():
    assert len(ids("hosted")) >= 60
    assert len({m.provider for m in load_all(HostedModel, "hosted")}) >= 10


@pytest.mark.parametrize("name", ids("hosted"))
def test_numbers_are_sourced_and_plausible(name):
    model = hosted(name)
    assert model.sources["default"].date >= "2025"
    for part in ("tariff", "latency", "limits", "availability", "data", "lifecycle"):
        assert model.source_of(part).source
    day = {"day": DAY}
    assert model.line("cached_input", **day).usd_per_mtok <= model.line("input", **day).usd_per_mtok
    assert model.line("input", **day).usd_per_mtok <= model.line("output", **day).usd_per_mtok
    batch = model.line("output", processing="batch", **day).usd_per_mtok
    assert batch <= model.line("output", **day).usd_per_mtok


def test_a_measured_latency_says_so_and_a_planning_default_is_assumed():
    assert hosted("anthropic-claude-haiku-4-5").source_of("latency.ttft_p50_s").evidence is Evidence.MEASURED
    assert hosted("mistral-mistral-large-4").source_of("latency.ttft_p50_s").evidence is Evidence.ASSUMED


# OpenAI's price list as read on 2026-11-23: 10/1/12.50/50 $/M tokens, above 272,000 input tokens twice the
# input and 1.5 times the output price; batch is half of each.
@pytest.mark.parametrize(
    ("kind", "input_tokens", "processing", "usd"),
    [
        ("input", 1_000, "standard", 10.0),
        ("input", 272_000, "standard", 10.0),
        ("input", 272_001, "standard", 20.0),
        ("output", 300_000, "standard", 75.0),
        ("cached_input", 1_000, "standard", 1.0),
        ("cache_write", 1_000, "standard", 12.5),
        ("output", 1_000, "batch", 25.0),
        ("output", 300_000, "batch", 37.5),
    ],
)
def test_a_line_depends_on_length_and_processing(kind, input_tokens, processing, usd):
    assert usd_per_mtok("gpt-6-astra", kind, input_tokens=input_tokens, processing=processing) == usd


def test_a_price_announced_for_a_date_holds_from_that_day():
    assert usd_per_mtok("google-gemini-3.8-flash", "output", day=date(2026, 12, 31)) == 3.75
    assert usd_per_mtok("google-gemini-3.8-flash", "output", day=date(2027, 1, 1)) == 7.5


def test_peak_hours_double_the_price_on_weekdays():
    monday, sunday = date(2026, 11, 23), date(2026, 11, 22)
    assert usd_per_mtok("deepseek-api-flash", "input", day=monday, at=time(2, 30)) == 0.3
    assert usd_per_mtok("deepseek-api-flash", "input", day=monday, at=time(5, 0)) == 0.15
    assert usd_per_mtok("deepseek-api-flash", "input", day=sunday, at=time(2, 30)) == 0.15


def test_the_mean_price_weighs_peak_hours_by_their_share_of_the_week():
    # 7 of 24 hours on 5 of 7 days cost 0.30 instead of 0.15
    expected = 0.15 + 0.15 * (7 / 24) * (5 / 7)
    assert hosted("deepseek-api-flash").usd_per_token("input", day=DAY) * 1e6 == pytest.approx(expected)


def test_a_kind_without_a_line_is_priced_as_what_it_stands_in_for():
    assert usd_per_mtok("groq-llama-3.1-8b", "cached_input") == usd_per_mtok("groq-llama-3.1-8b", "input")
    assert usd_per_mtok("gpt-6-astra", "cache_write_1h") == 12.5


def test_a_provider_without_batch_prices_batch_as_standard():
    assert usd_per_mtok("cerebras-gpt-oss-120b", "output", processing="batch") == 0.75

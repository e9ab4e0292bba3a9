"""Costs that others have published, recomputed from their inputs through the whole model."""

import pytest

from envelope.money import (
    AnnualUsage,
    HostedTokens,
    OwnedAsset,
    RentedDevices,
    bill_usd,
    compare,
    evaluate,
)
from envelope.spec.economic_facts import facts

DAYS = 365.25


def test_deepseek_daily_cost_and_theoretical_margin(bare):
    # DeepSeek, "One More Thing: DeepSeek-V3/R1 Inference System Overview" (2025-02-28): 226.75 nodes of 8 H800 on
    # average at 2 $ per GPU-hour cost $87,072 a day; 608 B input tokens of which 342 B hit the cache, and 168 B
    # output tokens at the R1 prices 0.14 / 0.55 / 2.19 $ per M would earn $562,027, a margin of 545 % on the cost.
    gpus = 226.75 * 8
    rent = RentedDevices(id="nvidia-h800-sxm-80gb", device_hours=gpus * 24 * DAYS, usd_per_device_hour=2.0)
    result = evaluate(bare(horizon_months=12), AnnualUsage(rented=(rent,)))
    cost_usd = result.total_usd / DAYS
    assert cost_usd == pytest.approx(87_072)

    counts = {"input": (608e9 - 342e9, 0.55), "cached_input": (342e9, 0.14), "output": (168e9, 2.19)}
    sold = [HostedTokens(api="r1", kind=k, tokens=n, usd_per_mtok=usd) for k, (n, usd) in counts.items()]
    revenue_usd = bill_usd(sold)
    # the published token counts are rounded to billions, which moves the revenue by 73 $
    assert revenue_usd == pytest.approx(562_027, rel=3e-4)
    assert revenue_usd / cost_usd - 1 == pytest.approx(5.45, abs=0.01)


# Lenovo Press LP2225 (2025-05-23), ThinkSystem SR675 V3 with 8 H100 NVL against AWS p5.48xlarge; list price of the
# server, 0.87 $/h for power and space, no staff, no discounting. Inputs from two independent summaries.
@pytest.mark.parametrize(("cloud_usd_per_hour", "published_hours"), [(98.32, 8_556), (77.43, 10_890), (53.95, 15_710)])
def test_lenovo_hours_to_break_even(bare, cloud_usd_per_hour, published_hours):
    economics = bare("energy", horizon_months=36, pue=1.0, electricity_usd_per_kwh=0.87)
    hours = 8766.0
    server = OwnedAsset(id="sr675-v3", count=1, unit_price_usd=833_806.0)
    own = evaluate(economics, AnnualUsage(owned=(server,), it_kwh=hours))
    instance = RentedDevices(id="p5", device_hours=hours, usd_per_device_hour=cloud_usd_per_hour)
    cloud = evaluate(economics, AnnualUsage(rented=(instance,)))
    months = compare(own, cloud).payback_months
    assert months is not None
    assert months * hours / 12 == pytest.approx(published_hours, rel=1e-3)


# Pan et al., "A Cost-Benefit Analysis of On-Premise Large Language Model Deployment" (arXiv:2509.18101v3), tables
# I-IV: months after which buying GPUs is cheaper than the API for the same tokens. A third of the tokens is input;
# 176 h a month (the text says 160, the capacities in table III need 176). The Gemini column is left out: it does
# not follow from the prices in table I.
GPU = {"a100": (15_000.0, 0.400), "5090": (2_000.0, 0.575)}
API = {"GPT-5": (1.25, 10.0), "Claude-4-Opus": (15.0, 75.0), "Claude-4-Sonnet": (3.0, 15.0), "Grok-4": (3.0, 15.0)}
PAN = {
    "Kimi-K2": ("a100", 16, 800, (69.3, 8.7, 44.0, 44.0)),
    "GLM-4.5": ("a100", 6, 400, (51.5, 6.5, 32.8, 32.8)),
    "Qwen3-235B": ("a100", 4, 400, (34.0, 4.3, 21.8, 21.8)),
    "gpt-oss-120B": ("a100", 2, 220, (30.9, 3.9, 19.8, 19.8)),
    "GLM-4.5-Air": ("a100", 2, 200, (34.0, 4.3, 21.8, 21.8)),
    "Llama-3.3-70B": ("a100", 1, 190, (17.8, 2.3, 11.4, 11.4)),
    "EXAONE-4.0-32B": ("5090", 1, 200, (2.26, 0.3, 1.4, 1.4)),
    "Qwen3-30B": ("5090", 1, 180, (2.5, 0.3, 1.6, 1.6)),
    "Magistral-Small": ("5090", 1, 150, (3.0, 0.4, 1.9, 1.9)),
}


@pytest.mark.parametrize("model", PAN)
@pytest.mark.parametrize("api", API)
def test_pan_months_to_break_even(bare, model, api):
    gpu, count, tokens_per_s, months = PAN[model]
    price, kw = GPU[gpu]
    hours_per_year = 176 * 12
    tokens = tokens_per_s * 3600 * hours_per_year
    economics = bare(
        "energy", horizon_months=84, hardware_life_months=84, pue=1.0, electricity_usd_per_kwh=0.15,
        inputs=dict.fromkeys([f"residual_after_{y}y" for y in range(1, 6)], 0.0),
    )  # fmt: skip
    machine = OwnedAsset(id=gpu, kind="device", count=count, unit_price_usd=price)
    own = evaluate(economics, AnnualUsage(owned=(machine,), it_kwh=count * kw * hours_per_year))
    usd_in, usd_out = API[api]
    bill = (
        HostedTokens(api=api, kind="input", tokens=tokens / 3, usd_per_mtok=usd_in),
        HostedTokens(api=api, kind="output", tokens=tokens * 2 / 3, usd_per_mtok=usd_out),
    )
    hosted = evaluate(economics, AnnualUsage(hosted=bill))
    published = months[list(API).index(api)]
    # the printed months have one digit after the point, so short ones are known to half of that only
    tolerance = max(0.10 * published, 0.05)
    assert compare(own, hosted).payback_months == pytest.approx(published, abs=tolerance)


# https://gpuadvisor.com/cost-to-serve-1m-tokens (2026-05): dollars per million output tokens from the hourly
# price and the throughput; https://dreaming.press (2026): the same at a tenth of the load.
@pytest.mark.parametrize(
    ("usd_per_hour", "tokens_per_s", "busy_frac", "published"),
    [
        pytest.param(2.49, 5500, 1.0, 0.13, id="llama-3.1-8b-h100"),
        pytest.param(1.40, 4200, 1.0, 0.09, id="llama-3.1-8b-l40s"),
        pytest.param(4.98, 2200, 1.0, 0.63, id="llama-3.1-70b-2xh100"),
        pytest.param(2.49, 1800, 1.0, 0.38, id="llama-3.1-70b-fp8-h100"),
        pytest.param(3.49, 3000, 1.0, 0.32, id="llama-3.1-70b-mi300x"),
        pytest.param(19.92, 1000, 1.0, 5.53, id="llama-3.1-405b-8xh100"),
        pytest.param(33.86, 1000, 1.0, 9.41, id="llama-3.1-405b-aws"),
        pytest.param(19.92, 700, 1.0, 7.90, id="deepseek-r1-8xh100"),
        pytest.param(2.50, 700, 1.0, 0.99, id="dreaming-full"),
        pytest.param(2.50, 700, 0.1, 9.92, id="dreaming-a-tenth"),
    ],
)
def test_dollars_per_million_output_tokens(bare, usd_per_hour, tokens_per_s, busy_frac, published):
    rent = RentedDevices(id="gpu", device_hours=8766.0, usd_per_device_hour=usd_per_hour)
    usage = AnnualUsage(rented=(rent,), output_tokens=tokens_per_s * 3600 * 8766 * busy_frac)
    found = evaluate(bare(horizon_months=12, discount_rate_frac_per_year=0.1), usage).unit_costs.usd_per_output_mtok
    assert found == pytest.approx(published, abs=0.0055)


def test_llama_3_interruptions_give_the_default_of_the_catalog():
    # Llama 3 Herd of Models (arXiv:2407.21783), table 5: 419 unexpected interruptions in 54 days on 16,384 GPUs
    assert facts().defaults["mtbf_gpu_all_causes"].value == pytest.approx(16_384 * 54 * 24 / 419, rel=1e-4)


def test_mlperf_lora_hours_give_the_default_of_the_catalog():
    # MLPerf Training 4.0, Llama-2-70B-LoRA on 8 H100: 29.10069 minutes
    assert facts().defaults["ft_mlperf_70b_lora_h100"].value == pytest.approx(8 * 29.10069 / 60, abs=0.005)

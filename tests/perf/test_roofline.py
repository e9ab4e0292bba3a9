"""Operators against their roofline, hand-computed examples, and the limits of each formula."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope.perf.costs import bench, sampled_costs, token_costs
from envelope.perf.efficiency import Chosen
from envelope.perf.gemm import achievable_bytes_per_s, gemm_cost
from envelope.perf.moe import ExpertShare, distinct_experts, experts_cost, routing_chances
from envelope.perf.replica import resolve
from envelope.perf.roofline import smooth_max
from envelope.perf.work import Experts
from envelope.provenance import Evidence
from envelope.spec.deployment import Parallelism


def curve(**constants: float) -> Chosen:
    return Chosen("test", constants, None, Evidence.MEASURED, "test")


IDEAL = curve(t0_s=0.0, eff_c=1.0, eff_b=1.0, p=40.0)
PEAK, WIDTH = 1e15, 3e12


def ideal_gemm(m: float, n: float, k: float) -> float:
    cost = gemm_cost(
        "test", np.array([m]), n, k, weight_bytes=2.0, curve=IDEAL, peak_flop_per_s=PEAK,
        bandwidth_bytes_per_s=WIDTH, units=100.0,
    )  # fmt: skip
    return float(cost.time_s[0])


def test_product_of_one_token_takes_the_time_of_reading_the_weights():
    # 8192 · 8192 weights of 2 bytes and two vectors of 8192 · 2 bytes over 3 TB/s
    assert ideal_gemm(1, 8192, 8192) == pytest.approx((2 * 8192**2 + 4 * 8192) / 3e12, rel=1e-6)


def test_product_of_many_tokens_takes_the_time_of_its_flop():
    # 2 · 8192³ FLOP at 1 PFLOP/s = 1.0995 ms
    assert ideal_gemm(8192, 8192, 8192) == pytest.approx(1.0995e-3, rel=1e-3)


def test_fitted_product_on_h100_matches_a_hand_computation():
    # fit of h100_sxm/trtllm/bf16 at m = 1, n = k = 8192: tiles = 64, units 132
    h = curve(t0_s=2.718e-6, eff_c=0.8222, eff_b=0.8705, p=3.219, occ_b=0.03067, occ_c=0.1298, k_half=118.5)
    cost = gemm_cost(
        "test", np.array([1.0]), 8192, 8192, weight_bytes=2.0, curve=h, peak_flop_per_s=989.4e12,
        bandwidth_bytes_per_s=3.35e12, units=132.0,
    )  # fmt: skip
    memory = (2 * 8192**2 + 4 * 8192) / (3.35e12 * 0.8705) * (1 + 0.03067 * 132 / 64)
    assert float(cost.time_s[0]) == pytest.approx(2.718e-6 + memory, rel=1e-3)
    assert float(cost.time_s[0]) == pytest.approx(51.7e-6, rel=0.01)


@given(a=st.floats(0, 1e3), b=st.floats(0, 1e3), p=st.floats(0.8, 30))
def test_smooth_maximum_lies_between_maximum_and_sum(a, b, p):
    got = float(smooth_max(np.array([a]), np.array([b]), p)[0])
    assert got >= max(a, b) * (1 - 1e-12)
    if p >= 1:
        assert got <= (a + b) * (1 + 1e-12)


def test_cores_limit_the_bandwidth_until_the_memory_does():
    limits = curve(eff_b=1.0, core_bytes_per_s=20e9)
    assert achievable_bytes_per_s(limits, 100e9, 1) == pytest.approx(20e9, rel=1e-3)
    assert achievable_bytes_per_s(limits, 100e9, 1000) == pytest.approx(100e9, rel=1e-3)
    assert achievable_bytes_per_s(limits, 100e9, 5) == pytest.approx(100e9 * 2 ** (-1 / 6))


@pytest.mark.parametrize(
    ("experts", "k", "tokens", "expected"), [(8, 2, 1, 2.0), (8, 8, 5, 8.0), (256, 8, 10_000, 256)]
)
def test_distinct_experts_at_the_limits(experts, k, tokens, expected):
    assert float(distinct_experts(experts, k, np.array([float(tokens)]))[0]) == pytest.approx(expected)


def test_distinct_experts_match_a_simulated_routing():
    rng = np.random.default_rng(7)
    seen = [len({e for _ in range(16) for e in rng.choice(64, 6, replace=False)}) for _ in range(400)]
    assert float(distinct_experts(64, 6, np.array([16.0]))[0]) == pytest.approx(np.mean(seen), rel=0.01)


@given(k=st.integers(1, 16), skew=st.floats(0.05, 1.5))
def test_skewed_routing_touches_fewer_experts_and_still_k_per_token(k, skew):
    chances = routing_chances(64, k, skew)
    assert chances.sum() == pytest.approx(k, rel=0.02)
    assert chances.max() <= 1.0
    tokens = np.array([32.0])
    assert distinct_experts(64, k, tokens, skew) <= distinct_experts(64, k, tokens) * (1 + 1e-9)


@pytest.mark.parametrize("tokens", [1.0, 64.0, 8192.0])
def test_mixture_that_uses_every_expert_equals_a_dense_network(tokens):
    """An MoE with k = E is a dense network E times as wide, once activations are small beside weights and FLOPs."""
    experts = Experts(n_routed=8, top_k=8, hidden=8192, ffn=4096, matrices=2, layers=1)
    mixture = experts_cost(
        experts, np.array([tokens]), ExpertShare(1, 1), weight_bytes=2.0, curve=IDEAL, peak_flop_per_s=PEAK,
        bandwidth_bytes_per_s=WIDTH, units=100.0,
    )  # fmt: skip
    dense = ideal_gemm(tokens, 8 * 4096, 8192) + ideal_gemm(tokens, 8192, 8 * 4096)
    assert float(mixture.time_s[0]) == pytest.approx(dense, rel=0.03)
    assert float(mixture.flop[0]) == pytest.approx(2 * 2 * tokens * 8 * 4096 * 8192)


REPLICAS = [
    ("llama-3.1-8b", "nvidia-h100-sxm-80gb", "vllm", "bf16", Parallelism()),
    ("llama-3.3-70b", "nvidia-b200-sxm-180gb", "tensorrt-llm", "nvfp4", Parallelism(tp=4)),
    ("deepseek-v3", "nvidia-h200-sxm-141gb", "sglang", "native", Parallelism(tp=8, ep=8)),
    ("gpt-oss-120b", "nvidia-a100-sxm-80gb", "vllm", "native", Parallelism()),
    ("deepseek-v4-flash", "nvidia-gb200-186gb", "vllm", "native", Parallelism(dp=4, ep=4)),
    ("qwen3-next-80b-a3b", "amd-mi300x-192gb", "vllm", "bf16", Parallelism()),
    ("llama-3.2-3b", "amd-ryzen-7950x-64gb", "llama.cpp", "q4_k_m", Parallelism()),
    ("gemma-3-12b", "apple-m3-max-128gb", "llama.cpp", "q8_0", Parallelism()),
]


@pytest.mark.parametrize("args", REPLICAS, ids=lambda a: f"{a[0]} on {a[1]}")
def test_no_operator_is_faster_than_its_roofline(args):
    model, hardware, engine, weights, parallelism = args
    replica = resolve(model=model, hardware=hardware, engine=engine, weights=weights, parallelism=parallelism)
    grid = np.array([1.0, 7.0, 64.0, 500.0, 4096.0])
    for cost in [*token_costs(bench(replica), grid), *sampled_costs(bench(replica), grid)]:
        assert np.all(cost.time_s >= np.maximum(cost.peak_s, cost.bus_s) * (1 - 1e-9)), cost.name
        parts = cost.compute_s + cost.memory_s + cost.communication_s + cost.overhead_s
        np.testing.assert_allclose(parts, cost.time_s, rtol=1e-9)
        assert np.all(np.diff(cost.time_s) >= -1e-15), f"{cost.name} falls with more tokens"


def test_weights_read_by_one_token_are_those_of_the_model():
    """Bytes of all operators at one token equal the active weights: an outside check of shapes, splits and formats."""
    replica = resolve(model="llama-3.1-8b", hardware="nvidia-h100-sxm-80gb")
    one = np.array([1.0])
    costs = [*token_costs(bench(replica), one), *sampled_costs(bench(replica), one)]
    moved = sum(float(c.bytes[0]) for c in costs if c.name not in ("elementwise", "sampling"))
    assert moved == pytest.approx((8.03e9 - 128256 * 4096) * 2, rel=0.003)
    assert math.isclose(sum(float(c.flop[0]) for c in costs), (8.03e9 - 128256 * 4096) * 2, rel_tol=0.003)

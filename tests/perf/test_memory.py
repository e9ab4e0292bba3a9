"""Memory fit against hand counts, and how it moves with its inputs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envelope.perf.memory import device_weight_bytes, fit
from envelope.perf.replica import resolve
from envelope.spec.deployment import EngineSettings, Parallelism
from envelope.units import GB


def replica(model="llama-3.1-8b", hardware="nvidia-h100-sxm-80gb", **more):
    return resolve(model=model, hardware=hardware, **more)


def test_llama_8b_on_an_h100_by_hand():
    found = fit(replica())
    device = found.domains[0]
    assert device.capacity_bytes == pytest.approx(79.19 * 2**30, rel=1e-4)  # as vLLM logs it
    rotary = 131_072 * 128 * 2  # the table of its angles
    assert device.weights_bytes == pytest.approx(8.03e9 * 2 + rotary, rel=0.001)
    assert found.kv_bytes_per_token == pytest.approx(131_072)
    left = 0.92 * device.capacity_bytes - device.weights_bytes - device.activations_bytes - device.overhead_bytes
    assert device.kv_bytes == pytest.approx(left)
    assert found.kv_blocks == int(left / 131_072 / 16)
    assert found.max_concurrency(2048) == int(left / (2048 * 131_072))


def test_the_equation_shows_its_terms():
    text = fit(replica()).equation
    assert "85.03 GB × 0.92 − weights 16.09" in text
    assert "131,072 bytes per token" in text


@pytest.mark.parametrize(
    ("model", "hardware", "tp", "blocks", "tolerance"),
    [
        # gpu_kv_blocks that vLLM 0.15 logged, inference-sim/training (2026-02), max_num_seqs 128, 2048 batched tokens
        ("llama-2-7b", "nvidia-h100-sxm-80gb", 1, 7462, 0.015),
        ("mixtral-8x7b", "nvidia-h100-sxm-80gb", 2, 27510, 0.015),
        ("codellama-34b", "nvidia-h100-sxm-80gb", 2, 26602, 0.015),
        ("llama-3.1-8b", "nvidia-rtx-4090-24gb", 1, 2588, 0.10),
    ],
)
def test_block_count_that_vllm_logged(model, hardware, tp, blocks, tolerance):
    limits = EngineSettings(max_num_seqs=128, max_num_batched_tokens=2048, engine_version="0.15")
    found = fit(replica(model, hardware, parallelism=Parallelism(tp=tp), settings=limits))
    assert found.kv_blocks == pytest.approx(blocks, rel=tolerance)


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_tensor_parallelism_splits_weights_and_heads(tp):
    found = fit(replica("llama-3.3-70b", "nvidia-b200-sxm-180gb", parallelism=Parallelism(tp=tp)))
    assert found.domains[0].weights_bytes == pytest.approx(70.55e9 * 2 / tp, rel=0.01)
    assert found.kv_bytes_per_token == pytest.approx(327_680 / tp)


def test_heads_are_split_down_to_one_and_latents_not_at_all():
    heads = fit(replica("llama-3.3-70b", "nvidia-b200-sxm-180gb", parallelism=Parallelism(tp=16)))
    assert heads.kv_bytes_per_token == pytest.approx(327_680 / 8)
    latent = fit(replica("deepseek-v3", "nvidia-h200-sxm-141gb", parallelism=Parallelism(tp=8)))
    assert latent.kv_bytes_per_token == pytest.approx(70_272)


def test_all_experts_are_resident():
    one = fit(replica("mixtral-8x7b", "nvidia-h200-sxm-141gb"))
    assert one.domains[0].weights_bytes == pytest.approx(46.7e9 * 2, rel=0.01)
    spread = fit(replica("mixtral-8x7b", "nvidia-h200-sxm-141gb", parallelism=Parallelism(dp=8, ep=8)))
    assert spread.domains[0].weights_bytes < 0.2 * one.domains[0].weights_bytes


def test_offloaded_layers_move_to_the_host():
    small = "nvidia-rtx-4090-24gb"
    whole = replica("llama-3.3-70b", small, engine="llama.cpp", weights="q4_k_m")
    half = replica(
        "llama-3.3-70b", small, engine="llama.cpp", weights="q4_k_m", settings=EngineSettings(offload_layers=45)
    )
    assert not fit(whole).fits
    assert fit(half).fits
    assert sum(device_weight_bytes(half)) == pytest.approx(sum(device_weight_bytes(whole)))


def test_offloaded_experts_leave_attention_on_the_device():
    settings_ = EngineSettings(offload_expert_layers=30)
    moved = replica("gpt-oss-120b", "nvidia-rtx-3090-24gb", engine="llama.cpp", settings=settings_)
    device, host = device_weight_bytes(moved)
    assert host > 45 * GB
    assert device < 16 * GB
    assert fit(moved).fits


@settings(max_examples=30, deadline=None)
@given(context=st.integers(100, 100_000), more=st.integers(1, 100_000))
def test_longer_contexts_never_hold_more_sequences(context, more):
    found = fit(replica())
    assert found.max_concurrency(context + more) <= found.max_concurrency(context)


@settings(max_examples=20, deadline=None)
@given(low=st.floats(0.3, 0.9), more=st.floats(0.0, 0.1))
def test_a_larger_share_of_memory_never_leaves_less_cache(low, more):
    small = fit(replica(settings=EngineSettings(memory_frac=low)))
    large = fit(replica(settings=EngineSettings(memory_frac=low + more)))
    assert large.domains[0].kv_bytes >= small.domains[0].kv_bytes


def test_fixed_block_count_is_respected():
    found = fit(replica(settings=EngineSettings(kv_blocks=1000)))
    assert found.max_concurrency(160) == 100

"""The public answer: shape, limits with their numbers and fixes, and every format on every kind of device."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envelope.errors import InputError
from envelope.perf.estimate import estimate
from envelope.perf.replica import resolve
from envelope.provenance import Evidence
from envelope.spec.deployment import EngineSettings, Parallelism
from envelope.spec.editions import quantises
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import load, load_all
from envelope.spec.model import Model
from envelope.spec.number_format import NumberFormat

KEYS = [
    "feasible", "reasons", "ttft_s", "itl_s", "e2e_s", "output_tokens_per_s", "prefill_tokens_per_s", "memory",
    "power_w", "energy_per_output_token_j", "bottleneck", "provenance",
]  # fmt: skip


def h100(model="llama-3.1-8b", **more):
    return resolve(model=model, hardware="nvidia-h100-sxm-80gb", **more)


def test_answer_has_the_promised_keys_and_is_json():
    found = estimate(h100(), 1024, 1024, 32).model_dump(mode="json")
    assert set(KEYS) <= found.keys()
    assert json.loads(json.dumps(found)) == found
    domain = found["memory"]["domains"][0]
    assert {
        "capacity_bytes",
        "weights_bytes",
        "kv_bytes",
        "activations_bytes",
        "overhead_bytes",
        "max_concurrency",
    } <= domain.keys()


def test_times_and_rates_agree_with_each_other():
    found = estimate(h100(), 1024, 1024, 32)
    assert found.e2e_s == pytest.approx(found.ttft_s + 1023 * found.itl_s)
    assert found.output_tokens_per_s == pytest.approx(32 * 1024 / found.e2e_s)


def test_llama_8b_in_bf16_on_an_h100_runs_at_its_known_speed():
    # vLLM on H100 SXM: 6–8 ms per token alone, 9–11 ms at 32 streams (ML.ENERGY v3, InferenceMAX)
    assert 0.005 < estimate(h100(), 128, 512, 1).itl_s < 0.008
    assert 0.008 < estimate(h100(), 1024, 1024, 32).itl_s < 0.012


def test_weights_that_do_not_fit_name_the_gap_and_a_fix():
    found = estimate(h100("llama-3.3-70b"), 1000, 1000, 1)
    assert not found.feasible
    assert found.itl_s is None
    reason = next(r for r in found.reasons if r.rule == "weights_fit")
    assert "141.1" in reason.text
    assert "short by" in reason.text
    assert "2 devices" in reason.fix
    assert estimate(h100("llama-3.3-70b", parallelism=Parallelism(tp=2)), 1000, 1000, 1).feasible


def test_cache_that_is_too_small_queues_and_says_so():
    found = estimate(h100("llama-2-13b"), 3000, 1000, 64)
    assert found.feasible
    assert found.effective_concurrency < 64
    assert found.reasons[0].rule == "kv_holds_concurrency"
    assert f"holds {found.effective_concurrency:.0f} sequences" in found.reasons[0].text


@pytest.mark.parametrize(
    ("replica", "shape", "rule"),
    [
        (lambda: h100("llama-2-7b"), (4000, 200, 1), "context_limit"),
        (lambda: h100("llama-3.1-8b", parallelism=Parallelism(tp=3)), (10, 10, 1), "tp_divides_heads"),
        (lambda: h100("mixtral-8x7b", parallelism=Parallelism(dp=3, ep=3)), (10, 10, 1), "ep_divides_experts"),
        (lambda: resolve(model="llama-3.1-8b", hardware="apple-m3-max-128gb", engine="tensorrt-llm"), (10, 10, 1), "engine_supports_device"),
        (lambda: resolve(model="llama-3.1-8b", hardware="nvidia-rtx-4090-24gb"), (100_000, 100, 1), "one_sequence_fits"),
        (
            lambda: resolve(
                model="llama-3.1-405b", hardware="nvidia-rtx-4090-24gb", engine="llama.cpp", weights="q4_k_m",
                settings=EngineSettings(offload_layers=120),
            ),
            (100, 100, 1),
            "offload_fits",
        ),
    ],
)  # fmt: skip
def test_what_cannot_run_says_why(replica, shape, rule):
    found = estimate(replica(), *shape)
    assert not found.feasible
    reason = next(r for r in found.reasons if r.rule == rule)
    assert reason.blocks
    assert reason.fix


@pytest.mark.parametrize("shape", [(0, 10, 1), (10, 0, 1), (10, 10, 0), (-5, 10, 1)])
def test_counts_below_one_are_refused(shape):
    with pytest.raises(InputError, match="whole number of at least 1"):
        estimate(h100(), *shape)


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"llama-3\.1-8b"):
        resolve(model="llama-3.1-8bb", hardware="nvidia-h100-sxm-80gb")


def test_provenance_names_the_weakest_link():
    found = estimate(h100(), 100, 100, 1).provenance
    assert found.evidence is Evidence.ASSUMED
    by_input = {i.input: i for i in found.inputs}
    assert by_input["constants.gemm"].evidence is Evidence.FITTED
    inherited = estimate(resolve(model="llama-3.1-8b", hardware="nvidia-h800-sxm-80gb"), 100, 100, 1).provenance
    assert {i.input: i for i in inherited.inputs}["constants.gemm"].evidence is Evidence.INTERPOLATED


FORMATS = [f for f in load_all(NumberFormat, "formats") if f.weights]
DEVICES = load_all(HardwareProfile, "hardware_profiles")
ENGINE = {"datacenter_gpu": "vllm", "workstation_gpu": "vllm", "consumer_gpu": "llama.cpp", "unified": "llama.cpp"}
KINDS = list({(d.architecture, d.device_class): d for d in DEVICES}.values())


def answers(device: HardwareProfile, weights: str) -> None:
    engine = ENGINE.get(device.device_class, "llama.cpp")
    found = estimate(resolve(model="llama-3.2-1b", hardware=device, engine=engine, weights=weights), 200, 50, 1)
    if not found.feasible:
        assert all(str(r) for r in found.reasons)
        assert found.reasons
    else:
        assert found.itl_s > 0
        assert found.ttft_s > 0


@pytest.mark.parametrize("device", KINDS, ids=lambda d: d.id)
def test_every_format_on_every_architecture_predicts_or_says_why_not(device):
    dense = load(Model, "models", "llama-3.2-1b", file="a test", path="model")
    for number_format in FORMATS:
        if quantises(dense, number_format) and not number_format.families:
            answers(device, number_format.id)
        else:
            with pytest.raises(InputError, match=r"nearest '"):
                answers(device, number_format.id)


def test_every_device_predicts_or_says_why_not():
    for device in DEVICES:
        for weights in ("bf16", "fp8", "q4_k_m", "nvfp4"):
            answers(device, weights)


@settings(max_examples=30, deadline=None)
@given(inp=st.integers(1, 20_000), out=st.integers(1, 4000), load=st.integers(1, 400))
def test_any_shape_gives_finite_positive_numbers(inp, out, load):
    found = estimate(h100(), inp, out, load)
    assert found.feasible
    assert 0 < found.ttft_s < found.e2e_s * (1 + 1e-9)
    assert 0 < found.output_tokens_per_s < 1e6
    assert found.effective_concurrency <= load
    assert found.power_w <= 700


def test_offload_to_host_memory_is_slower_than_the_card_and_runs_what_does_not_fit():
    card = {"hardware": "nvidia-rtx-4090-24gb", "engine": "llama.cpp", "weights": "q4_k_m"}
    whole = estimate(resolve(model="qwen3-30b-a3b", **card), 500, 200, 1)
    moved = estimate(
        resolve(model="qwen3-30b-a3b", **card, settings=EngineSettings(offload_expert_layers=24)), 500, 200, 1
    )
    layers = estimate(resolve(model="qwen3-30b-a3b", **card, settings=EngineSettings(offload_layers=24)), 500, 200, 1)
    assert whole.itl_s < moved.itl_s
    assert moved.itl_s < layers.itl_s * 1.05


def test_a_device_of_unknown_architecture_runs_on_the_last_resort():
    h100_profile = next(d for d in DEVICES if d.id == "nvidia-h100-sxm-80gb")
    stranger = h100_profile.model_copy(update={"architecture": "unheard-of", "efficiency": ()})
    found = estimate(resolve(model="llama-3.1-8b", hardware=stranger), 500, 200, 8)
    known = estimate(h100(), 500, 200, 8)
    assert found.itl_s == pytest.approx(known.itl_s, rel=0.5)
    assert {i.input: i for i in found.provenance.inputs}["constants.gemm"].evidence is Evidence.ASSUMED

"""How engines hand out memory, against figures that their start-up logs print and counts made by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envelope.errors import InputError
from envelope.perf.checks import blocking_reasons, start_warnings
from envelope.perf.memory import MemoryFit, device_weight_bytes, fit
from envelope.perf.replica import ReplicaSpec, resolve
from envelope.spec.deployment import EngineSettings, Parallelism
from envelope.spec.engine import Engine
from envelope.spec.load import load, load_all
from envelope.units import GIB

H100 = "nvidia-h100-sxm-80gb"


def replica(model: str = "llama-3.1-8b", hardware: str = H100, *, version: str | None = None, **more) -> ReplicaSpec:
    layout = Parallelism(**{k: more.pop(k) for k in ("tp", "pp", "dp", "dcp") if k in more})
    names = {k: more.pop(k) for k in ("engine", "weights", "kv") if k in more}
    limits = EngineSettings(engine_version=version, **more)
    return resolve(model=model, hardware=hardware, parallelism=layout, settings=limits, **names)


def with_cache(gib: float, model: str, **more) -> MemoryFit:
    """Return the fit where exactly this much is left for the cache of each device."""
    hardware = more.pop("hardware", H100)
    return fit(replica(model, hardware, kv_cache_bytes=gib * GIB, **more))


@pytest.mark.parametrize(
    ("model", "version", "gib", "context", "more", "sequences"),
    [
        # cache in GiB and maximum concurrency as printed by vLLM 0.19 on H100, llm-d-planner pull request 205
        ("gemma-3-27b", "0.19", 19.53, 8192, {}, 4.46),
        ("gemma-2-2b", "0.19", 66.47, 8192, {}, 81.73),
        ("gpt-oss-20b", "0.19", 58.47, 8192, {}, 155.75),
        ("llama-3.1-8b", "0.19", 58.11, 8192, {}, 58.11),
        ("deepseek-v2-lite", "0.19", 43.61, 8192, {}, 183.78),
        # hybrids on DGX Spark: blocks of 1056, 8432 (with three draft tokens) and 4192 tokens
        ("qwen3.6-35b-a3b", "0.19", 47.55, 131_072, {}, 18.44),
        (
            "nemotron-3-super-120b-a12b",
            "0.19",
            36.25,
            131_072,
            {"kv": "fp8", "draft_tokens": 3, "weights": "nvfp4"},
            27.81,
        ),
        ("qwen3.5-122b-a10b", "0.24", 21.43, 131_072, {"kv": "fp8", "weights": "nvfp4"}, 11.79),
    ],
)
def test_concurrency_that_vllm_prints(model: str, version: str, gib: float, context: int, more, sequences: float):
    hardware = "nvidia-dgx-spark-128gb" if context > 100_000 else H100
    found = with_cache(gib, model, hardware=hardware, version=version, max_context_tokens=context, **more)
    assert found.admitted_concurrency(context) == pytest.approx(sequences, rel=0.005)


def test_windows_hold_more_once_they_are_past_the_prompt():
    found = with_cache(19.53, "gemma-3-27b", version="0.19", max_context_tokens=8192)
    # a full group of 512 blocks, and six of windows: 65 blocks each for 1,023 tokens, not 512
    assert found.sequence_bytes(8192) == (512 + 6 * 65) * 10 * 16 * 8192
    assert found.max_concurrency(8192) > 2 * found.admitted_concurrency(8192)


def test_deepseek_v4_flash_as_vllm_refuses_it():
    # vllm-project/vllm issue 44376: 30,000 tokens need 6.66 GiB, 5.44 GiB hold 13,528; offline class, 16,384 a step
    found = with_cache(
        5.44, "deepseek-v4-flash", hardware="nvidia-gh200-96gb", version="0.22", kv="fp8", tp=2,
        max_num_batched_tokens=16_384, max_context_tokens=30_000,
    )  # fmt: skip
    assert found.plan.admitted_bytes(30_000) / GIB == pytest.approx(6.66, abs=0.005)
    assert found.longest_context(30_000) == pytest.approx(13_528, rel=0.01)
    # by hand: 118 blocks of entries, 2 · 259 of windows, 4,099 and 2,065 of rows that wait to be pooled
    assert found.plan.admitted_bytes(30_000) == (118 + 2 * 259 + 4099 + 2065) * 22 * (37_440 + 8_640 + 1_728)


def test_deepseek_v4_flash_at_a_million_tokens():
    # 2 × DGX Spark with 18.08 GiB of cache: 2.38 sequences of 1,048,576 tokens
    found = with_cache(
        18.08, "deepseek-v4-flash", hardware="nvidia-dgx-spark-128gb", version="0.22", kv="fp8", tp=2,
        max_num_batched_tokens=8192,
    )  # fmt: skip
    assert found.admitted_concurrency(1_048_576) == pytest.approx(2.38, rel=0.1)


def test_the_samplers_peak_is_not_divided_by_tensor_parallelism():
    # 1.89 GiB on one and on four H100 (llm-d-planner pull request 205); 38.1 bytes a logit before 0.17
    one, four = (fit(replica(version="0.19", tp=tp)).domains[0] for tp in (1, 4))
    assert one.activations_bytes / GIB == pytest.approx(1.89, rel=0.01)
    assert four.activations_bytes == pytest.approx(one.activations_bytes)
    old = fit(replica("qwen3-14b", version="0.16")).domains[0]
    assert old.activations_bytes / GIB == pytest.approx(5.64, rel=0.01)


def test_expert_workspace_stays_while_a_batch_is_sampled():
    # 2.68 GiB logged: logits of 1,024 sequences, and two workspaces of 8 · 8,192 rows of 2,048 elements
    found = fit(replica("qwen3-30b-a3b", version="0.19")).domains[0]
    assert found.activations_bytes / GIB == pytest.approx(2.68, rel=0.02)


def test_small_devices_take_smaller_steps():
    small, large = replica(hardware="nvidia-l4-24gb"), replica()
    assert (small.max_num_seqs, small.max_num_batched_tokens) == (256, 2048)
    assert (large.max_num_seqs, large.max_num_batched_tokens) == (1024, 8192)
    assert replica(hardware="nvidia-b200-sxm-180gb").max_num_batched_tokens == 16_384
    assert replica(hardware="nvidia-a100-sxm-80gb").max_num_seqs == 256


def test_sglang_leaves_its_working_set_in_what_the_fraction_leaves():
    # SGLang log of 2025-01-23: 78.81 GiB free, 63.72 after loading, 54.26 for the cache at 0.88
    found = fit(replica(engine="sglang", version="0.4", memory_frac=0.88)).domains[0]
    before = 79.19 * GIB - found.overhead_bytes - 0.42 * GIB
    after = before - found.weights_bytes
    assert found.kv_bytes == pytest.approx(after - 0.12 * before, rel=0.005)
    assert found.kv_bytes / GIB == pytest.approx(54.26, rel=0.01)


def test_tensorrt_llm_takes_a_fraction_of_what_loading_leaves():
    half, whole = (fit(replica(engine="tensorrt-llm", memory_frac=f)).domains[0].kv_bytes for f in (0.45, 0.9))
    assert whole == pytest.approx(2 * half)
    found = fit(replica(engine="tensorrt-llm", memory_frac=0.9)).domains[0]
    free = found.capacity_bytes - found.weights_bytes - found.activations_bytes - found.overhead_bytes
    assert found.kv_bytes == pytest.approx(0.9 * free)


def test_llama_cpp_keeps_the_embedding_on_the_host_and_windows_in_cells():
    untied = replica("qwen3-coder-30b-a3b", "nvidia-rtx-a6000-48gb", engine="llama.cpp", weights="q8_0")
    device, host = device_weight_bytes(untied)
    assert host / 2**20 == pytest.approx(315.3, rel=0.01)  # llama-server log
    assert device / GIB == pytest.approx(29.94, rel=0.01)
    found = fit(replica("gpt-oss-20b", "apple-m5-32gb", engine="llama.cpp", max_context_tokens=131_072,
                        max_num_seqs=1, max_num_batched_tokens=2048, kv="f16"))  # fmt: skip
    # 128 + 2,048 cells round up to 2,304 of 12 layers · 2 · 8 · 64 · 2 bytes: 54 MiB beside 3,072 (logged)
    assert found.plan.context_bytes(131_072) / 2**20 == pytest.approx(3072 + 54)


def test_sglang_pools_windows_and_states_by_ratio():
    windows = with_cache(10.0, "gemma-3-27b", engine="sglang")
    per_layer = 2 * 16 * 128 * 2
    assert windows.printed_tokens == pytest.approx(10 * GIB / (per_layer * (10 + 0.8 * 52)))
    hybrid = with_cache(10.0, "qwen3.6-35b-a3b", engine="sglang")
    growth, state = 10 * 2 * 2 * 256 * 2, 30 * (32 * 128 * 128 * 4 + 8192 * 3 * 2)
    assert hybrid.printed_tokens == pytest.approx(10 * GIB / growth / 1.9)
    assert hybrid.state_slots == int(10 * GIB * 0.9 / 1.9 / state)


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({"hardware": "nvidia-rtx-3090-24gb", "engine": "vllm-0.6", "max_context_tokens": 29_000,
          "max_num_batched_tokens": 29_000}, "longest_context_fits"),  # vllm-project/vllm issue 10517
        ({"model": "qwen3-14b", "tp": 5}, "tp_divides_kv_heads"),  # "151936 is not divisible by 5", and 8 heads neither
        ({"model": "llama-3.3-70b", "weights": "fp8", "version": "0.11", "max_context_tokens": 16_000}, "weights_fit"),
        ({"model": "gpt-oss-120b", "version": "0.11", "max_context_tokens": 131_072, "memory_frac": 0.95},
         "longest_context_fits"),  # issue 27508
    ],
)  # fmt: skip
def test_starts_that_engines_refuse(more, rule: str):
    refused = replica(more.pop("model", "llama-3.1-8b"), more.pop("hardware", H100), **more)
    reasons = blocking_reasons(refused, fit(refused), 1)
    assert [r.rule for r in reasons] == [rule]
    assert reasons[0].fix


def test_the_longest_context_that_is_suggested_starts():
    tight = replica(hardware="nvidia-rtx-3090-24gb", max_context_tokens=131_072)
    fix = next(r.fix for r in blocking_reasons(tight, fit(tight), 1))
    tokens = int(fix.split("max_context_tokens=")[1].split()[0])
    started = replica(hardware="nvidia-rtx-3090-24gb", max_context_tokens=tokens)
    assert not blocking_reasons(started, fit(started), tokens)
    one_more = replica(hardware="nvidia-rtx-3090-24gb", max_context_tokens=tokens + 16)
    assert blocking_reasons(one_more, fit(one_more), 1)


def test_a_limit_that_nobody_set_is_only_told():
    default = replica(hardware="nvidia-rtx-3090-24gb")
    assert not blocking_reasons(default, fit(default), 4096)
    assert [r.rule for r in start_warnings(default, fit(default))] == ["longest_context_fits"]


def test_pipeline_stages_hold_one_end_each():
    # llm-d-planner pull request 205: 4.26 GiB on the first of four stages, 7.51 on each of two
    for pp, gib in ((2, 7.51), (4, 4.26)):
        assert device_weight_bytes(replica(pp=pp))[0] / GIB == pytest.approx(gib, rel=0.01)


def test_decode_context_parallelism_spreads_a_latent_cache():
    alone, spread = (
        fit(replica("deepseek-v3", "nvidia-h200-sxm-141gb", tp=8, dcp=dcp)).kv_bytes_per_token for dcp in (1, 8)
    )
    assert alone == pytest.approx(8 * spread)


def test_versions_inherit_what_they_do_not_state():
    engine = load(Engine, "engines", "vllm", file="a test", path="engine")
    assert engine.rules("0.19.2").sampler_bytes_per_logit == engine.rules("0.32").sampler_bytes_per_logit == 14.6
    assert (engine.rules("0.19").frac, engine.rules("0.20").frac, engine.rules(None).frac) == (0.9, 0.92, 0.92)
    assert engine.rules("0.1") == engine.rules("0.12")


ENGINES = [e.id for e in load_all(Engine, "engines") if e.batching == "continuous" and not e.supported_classes]
MODELS = ["llama-3.1-8b", "gemma-3-27b", "gpt-oss-20b", "qwen3.6-35b-a3b", "deepseek-v2-lite", "mistral-7b-v0.1"]


@settings(max_examples=60, deadline=None)
@given(engine=st.sampled_from(ENGINES), model=st.sampled_from(MODELS), context=st.integers(1, 200_000),
       more=st.integers(1, 100_000))  # fmt: skip
def test_longer_contexts_never_take_less_nor_admit_more(engine: str, model: str, context: int, more: int):
    found = fit(replica(model, "nvidia-h200-sxm-141gb", engine=engine))
    assert found.sequence_bytes(context) <= found.sequence_bytes(context + more)
    assert found.plan.admitted_bytes(context) <= found.plan.admitted_bytes(context + more)
    assert found.plan.held_bytes(context) <= found.plan.admitted_bytes(context) * (1 + 1e-9)
    assert found.max_concurrency(context) >= found.max_concurrency(context + more)


@settings(max_examples=40, deadline=None)
@given(engine=st.sampled_from(ENGINES), model=st.sampled_from(MODELS), low=st.floats(0.2, 0.9), more=st.floats(0, 0.1))
def test_parts_never_exceed_the_budget(engine: str, model: str, low: float, more: float):
    small, large = (
        fit(replica(model, "nvidia-h200-sxm-141gb", engine=engine, memory_frac=f)) for f in (low, low + more)
    )
    for found in (small, large):
        device = found.domains[0]
        if device.shortfall_bytes == 0:
            assert device.needed_bytes + device.kv_bytes <= device.budget_bytes * (1 + 1e-9)
            assert device.budget_bytes <= device.capacity_bytes * (1 + 1e-9)
    assert large.domains[0].kv_bytes >= small.domains[0].kv_bytes - 1


def test_unequal_devices_in_one_pipeline():
    # vllm-project/vllm issue 34076: 16 and 32 GB, 16 and 32 layers
    devices = {"stage_hardware": ("nvidia-rtx-5080-16gb", "nvidia-rtx-5090-32gb")}
    uneven = fit(replica("qwen2.5-14b", "nvidia-rtx-5080-16gb", pp=2, weights="fp8", stage_layers=(16, 32), **devices))
    even = fit(replica("qwen2.5-14b", "nvidia-rtx-5080-16gb", pp=2, weights="fp8", **devices))
    assert uneven.domains[0].capacity_bytes / GIB == pytest.approx(15.47, rel=1e-3)  # the small card limits
    assert uneven.printed_tokens > 1.5 * even.printed_tokens
    same = fit(replica("qwen2.5-14b", "nvidia-rtx-5090-32gb", pp=2, weights="fp8", stage_layers=(24, 24)))
    plain = fit(replica("qwen2.5-14b", "nvidia-rtx-5090-32gb", pp=2, weights="fp8"))
    assert same.printed_tokens == pytest.approx(plain.printed_tokens)


def test_stages_that_do_not_add_up_are_refused():
    with pytest.raises(InputError, match="must add up to the model's 48 layers, not 40"):
        replica("qwen2.5-14b", pp=2, stage_layers=(16, 24))
    with pytest.raises(InputError, match="names 1 stages, pp is 2"):
        replica("qwen2.5-14b", pp=2, stage_hardware=(H100,))

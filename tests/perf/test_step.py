"""Step tables: their operators sum to the step, they obey the contract, and more hardware is never slower."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envelope.perf.attention import Device, layer_shape, prefill_slopes
from envelope.perf.breakdown import bottleneck_shares, breakdown
from envelope.perf.efficiency import Chosen
from envelope.perf.replica import ReplicaSpec, resolve
from envelope.perf.steady import Loop, context_s, prefill_attention_s, steady_state, step_s
from envelope.perf.step import compile_step, grid
from envelope.perf.work import Attention
from envelope.provenance import Evidence
from envelope.spec.deployment import EngineSettings, Parallelism
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import load
from envelope.spec.number_format import NumberFormat
from envelope.spec.step import BOUNDS, constant_step

CASES = {
    "dense": resolve(model="llama-3.1-8b", hardware="nvidia-h100-sxm-80gb"),
    "moe over eight": resolve(
        model="deepseek-v3", hardware="nvidia-h200-sxm-141gb", engine="sglang", parallelism=Parallelism(tp=8, ep=8)
    ),
    "attention ranks": resolve(
        model="deepseek-v3.2", hardware="nvidia-b200-sxm-180gb", parallelism=Parallelism(dp=8, ep=8)
    ),
    "windows": resolve(model="gemma-3-27b", hardware="nvidia-h200-sxm-141gb"),
    "recurrent": resolve(model="qwen3-next-80b-a3b", hardware="nvidia-h100-sxm-80gb", parallelism=Parallelism(tp=4)),
    "pipeline": resolve(
        model="llama-3.3-70b", hardware="nvidia-l40s-48gb", weights="fp8", parallelism=Parallelism(tp=2, pp=2)
    ),
    "cpu": resolve(model="llama-3.2-3b", hardware="amd-ryzen-7950x-64gb", engine="llama.cpp", weights="q4_k_m"),
    "offload": resolve(
        model="llama-3.3-70b", hardware="nvidia-rtx-4090-24gb", engine="llama.cpp", weights="q4_k_m",
        settings=EngineSettings(offload_layers=45),
    ),
    "drafts": resolve(
        model="deepseek-r1", hardware="nvidia-b200-sxm-180gb", engine="sglang", parallelism=Parallelism(tp=8),
        settings=EngineSettings(draft_tokens=3, draft_acceptance_frac=0.7),
    ),
}  # fmt: skip


@pytest.fixture(params=list(CASES))
def replica(request) -> ReplicaSpec:
    return CASES[request.param]


def step_by_formula(t, n, context, chunk, cached, r, q):
    """The formula of StepTables, written out independently of the code that evaluates it elsewhere."""
    knots = t.context_knots_tokens
    ends = [*knots[1:], np.inf]
    g = sum(s * max(min(context, e) - k, 0) for s, k, e in zip(t.decode_slope_s_per_token[n], knots, ends, strict=True))

    def rate(x):
        parts = zip(t.prefill_slope_s_per_token, knots, ends, strict=True)
        return t.prefill_token_s + sum(s * max(min(x, e) - k, 0) for s, k, e in parts)

    positions = np.linspace(cached, cached + chunk, 4001)
    area = np.trapezoid([rate(x) for x in positions], positions) if chunk else 0.0
    time = t.step_overhead_s + t.token_s[n * q + chunk] + t.sampled_s[r] + area
    time += t.decode_base_s[n] + n * g if n else 0.0
    return time + (t.prefill_base_s if chunk else 0.0)


@pytest.mark.parametrize(
    ("n", "context", "chunk", "cached"), [(1, 100, 0, 0), (8, 5000, 0, 0), (8, 700, 300, 1500), (0, 0, 512, 0)]
)
def test_operators_sum_to_the_step_of_the_contract(replica, n, context, chunk, cached):
    tables = compile_step(replica)
    n = min(n, tables.max_num_seqs)
    found = breakdown(replica, decodes=n, context_tokens=context, prefill_tokens=chunk, cached_tokens=cached)
    assert sum(found.operators_s.values()) == pytest.approx(found.step_s, rel=1e-9)
    expected = step_by_formula(tables, n, context, chunk, cached, n + (chunk > 0), replica.query_tokens)
    assert found.step_s == pytest.approx(expected, rel=1e-4)


def test_tables_cover_what_the_engine_admits(replica):
    t = compile_step(replica)
    assert t.max_num_seqs == replica.max_num_seqs
    assert t.max_batched_tokens == replica.max_num_batched_tokens
    assert t.token_s[0] == t.sampled_s[0] == t.decode_base_s[0] == 0
    assert np.all(np.diff(t.token_s[1:]) >= -1e-12)
    assert t.context_knots_tokens[0] == 0
    assert np.all(t.decode_slope_s_per_token >= 0)
    assert np.all(t.step_w >= t.idle_w * (1 - 1e-9))
    assert set(t.bound) <= set(range(len(BOUNDS)))


def test_windows_stop_costing_beyond_themselves():
    full, windowed = CASES["dense"], CASES["windows"]
    far = context_s(compile_step(windowed), 8, 64_000) / context_s(compile_step(windowed), 8, 32_000)
    assert far < context_s(compile_step(full), 8, 64_000) / context_s(compile_step(full), 8, 32_000)
    assert 1024.0 in compile_step(windowed).context_knots_tokens


def test_prefill_in_chunks_costs_the_attention_of_the_whole():
    t = compile_step(CASES["dense"])
    whole = prefill_attention_s(t, 0, 8000)
    assert prefill_attention_s(t, 0, 3000) + prefill_attention_s(t, 3000, 8000) == pytest.approx(whole)
    assert prefill_attention_s(t, 0, 16000) > 2 * whole


def test_shares_of_the_bottleneck_sum_to_one(replica):
    for decodes, chunk in ((4.0, 0.0), (0.0, 512.0)):
        shares = bottleneck_shares(replica, decodes, 1000.0, chunk, 512)
        assert sum(shares.values()) == pytest.approx(1.0)
        assert min(shares.values()) >= 0


def test_one_stream_on_fast_memory_is_bound_by_memory():
    assert max(bottleneck_shares(CASES["dense"], 1, 100, 0, 1).items(), key=lambda kv: kv[1])[0] == "memory"
    assert max(bottleneck_shares(CASES["dense"], 0, 0, 8192, 8192).items(), key=lambda kv: kv[1])[0] == "compute"


def test_same_records_are_compiled_once():
    one, again = (resolve(model="llama-3.1-8b", hardware="nvidia-h100-sxm-80gb") for _ in range(2))
    assert compile_step(again) is compile_step(one)


def test_grid_reaches_its_end_and_rises():
    for largest in (1, 3, 9, 255, 2048, 16384):
        points = grid(largest)
        assert points[0] == 1
        assert points[-1] == largest
        assert np.all(np.diff(points) > 0)


def faster(device: HardwareProfile, width: float, peak: float, links: float) -> HardwareProfile:
    memory = tuple(
        m.model_copy(update={"bandwidth_bytes_per_s": m.bandwidth_bytes_per_s * width}) for m in device.memory
    )
    wires = tuple(x.model_copy(update={"bandwidth_bytes_per_s": x.bandwidth_bytes_per_s * links}) for x in device.links)
    peaks = {key: value * peak for key, value in device.peak_flop_per_s.items()}
    return device.model_copy(update={"memory": memory, "links": wires, "peak_flop_per_s": peaks})


MACHINES = {
    "nvidia-h100-sxm-80gb": ("mixtral-8x7b", "vllm", "fp8", Parallelism(tp=2)),
    "nvidia-rtx-4090-24gb": ("llama-3.1-8b", "llama.cpp", "q4_k_m", Parallelism()),
    "amd-epyc-9654-768gb": ("llama-3.1-8b", "llama.cpp", "q8_0", Parallelism()),
    "apple-m3-max-128gb": ("gpt-oss-20b", "llama.cpp", "native", Parallelism()),
}


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(list(MACHINES)),
    width=st.floats(1.0, 8.0),
    peak=st.floats(1.0, 8.0),
    links=st.floats(1.0, 8.0),
    n=st.integers(1, 16),
    chunk=st.integers(0, 400),
)
def test_more_bandwidth_flop_or_links_are_never_slower(name, width, peak, links, n, chunk):
    model, engine, weights, parallelism = MACHINES[name]
    device = load(HardwareProfile, "hardware_profiles", name, file="test", path="hardware")

    def step(hardware: HardwareProfile) -> float:
        replica = resolve(model=model, hardware=hardware, engine=engine, weights=weights, parallelism=parallelism)
        return breakdown(replica, decodes=n, context_tokens=2000, prefill_tokens=chunk).step_s

    assert step(faster(device, width, peak, links)) <= step(device) * (1 + 1e-9)


def test_tables_of_a_textbook_server_give_its_times():
    """A constant step of 10 ms: a token every 10 ms, half a step of waiting and one of prefill before the first."""
    steady = steady_state(constant_step(0.01), Loop(100, 50, 4.0))
    assert steady.itl_s == pytest.approx(0.01)
    assert steady.ttft_s == pytest.approx(0.015)
    assert steady.e2e_s == pytest.approx(0.015 + 49 * 0.01)


def test_interference_of_prefills_is_their_share_of_the_steps():
    """Steps of 10 ms plus 0.1 ms per prefill token: each token out of 50 brings 100 in, 2 per sequence and step."""
    tables = constant_step(0.01, per_prefill_token_s=1e-4)
    steady = steady_state(tables, Loop(100, 51, 4.0))
    due = steady.decoding * 100 / 50
    assert steady.itl_s == pytest.approx(0.01 + due * 1e-4, rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(concurrency=st.integers(1, 200), more=st.integers(0, 55))
def test_more_concurrency_never_lowers_throughput_nor_latency(concurrency, more):
    tables = compile_step(CASES["dense"])
    low = steady_state(tables, Loop(500, 200, float(concurrency)))
    high = steady_state(tables, Loop(500, 200, float(concurrency + more)))
    assert high.itl_s >= low.itl_s * 0.995
    assert (concurrency + more) / high.e2e_s >= concurrency / low.e2e_s * 0.98


def test_drafts_progress_by_the_geometric_sum():
    assert CASES["drafts"].tokens_per_step == pytest.approx(1 + 0.7 + 0.49 + 0.343)
    plain = resolve(
        model="deepseek-r1", hardware="nvidia-b200-sxm-180gb", engine="sglang", parallelism=Parallelism(tp=8)
    )
    drafted = steady_state(compile_step(CASES["drafts"]), Loop(1000, 1000, 4.0, 4, CASES["drafts"].tokens_per_step))
    assert drafted.itl_s < steady_state(compile_step(plain), Loop(1000, 1000, 4.0)).itl_s


def test_static_batches_prefill_together_and_do_not_interfere():
    tables = constant_step(0.01, per_prefill_token_s=1e-4)
    static = steady_state(tables, Loop(100, 51, 4.0, static=True))
    assert static.itl_s == pytest.approx(0.01)
    assert static.prefill_s == pytest.approx(0.01 + 400e-4)
    assert step_s(tables, Loop(100, 51, 4.0), 4, 125.0) == pytest.approx(0.01)


def test_prompts_that_a_step_cannot_hold_wait_for_their_prefill():
    tables = constant_step(0.02, max_num_seqs=2048, max_batched_tokens=1024)
    loop = Loop(input_tokens=2000, output_tokens=101, concurrency=1000)
    state = steady_state(tables, loop)
    # 1,024 tokens a step feed 1,024/(2,000/100 + 1) sequences, one token each, whatever the concurrency.
    assert loop.concurrency * 100 / state.e2e_s == pytest.approx(1024 / 21 / 0.02, rel=0.02)
    assert state.ttft_s > 0.9 * state.e2e_s
    few = steady_state(tables, replace(loop, concurrency=20))
    assert few.ttft_s < 0.1 * few.e2e_s


def test_scores_written_to_memory_cost_their_bytes():
    attention = Attention(kind="gqa", layers=1, heads=32, kv_heads=8, qk_dim=128, v_dim=128, kv_elems_per_token=2048)
    shape = layer_shape(attention, load(NumberFormat, "formats", "bf16", file="test", path="kv"), 1)
    device = Device(1e12, 1e14, 100.0)
    curves = [
        Chosen("attention_prefill", {"eff_c": 0.5, "eff_b": 0.5, "score_bytes": b}, "bf16", Evidence.ASSUMED, "test")
        for b in (0.0, 12.0)
    ]
    flash, written = (prefill_slopes(shape, np.zeros(1), curve, device)[0] for curve in curves)
    assert written - flash == pytest.approx(32 * 12.0 / (1e12 * 0.5))

"""Loads are simulated as their sources ran them; limits and references are right whatever the constants."""

from pathlib import Path

import numpy as np
import pytest

from envelope.spec.engine import Engine
from envelope.spec.load import load
from envelope.spec.step import constant_step, rank_tables
from envelope.validation.predict import predict
from envelope.validation.row_files import load_rows
from envelope.validation.rows import MeasuredRow
from envelope.validation.rows_published import published_row
from envelope.validation.saturated import best_saturated
from envelope.validation.shapes import prompt_s
from envelope.validation.single import pipeline_share
from envelope.validation.target import target_of
from envelope.validation.validate import score_row

SHARED = Path(__file__).resolve().parents[3] / "shared" / "validation"


def row(**changes):
    base = {
        "id": "t", "collection": "published/test", "quantity": "tpot", "value": 1.0, "device": "H100", "model": "Llama-3.1-8B",
        "engine": "vllm", "weights": "bf16", "input_tokens": 1024, "output_tokens": 256, "batch": 8, "load": "closed_loop",
    }  # fmt: skip
    return MeasuredRow.model_validate(base | changes)


def test_more_requests_in_flight_are_served_slower_each_but_faster_together():
    slow, fast = (predict(row(quantity="tpot", batch=b)).value for b in (64, 4))
    assert slow > fast
    many, few = (predict(row(quantity="serving_throughput", batch=b)).value for b in (64, 4))
    assert many > few


def test_the_initial_burst_is_part_of_the_mean_first_token():
    burst = predict(row(quantity="ttft", batch=64, prompts_per_slot=10)).value
    warmed = predict(row(quantity="ttft", batch=64, prompts_per_slot=1000)).value
    assert burst > warmed


def test_repeated_prompts_are_answered_from_the_prefix_cache():
    stage = {"rate_per_s": 4.0, "duration_s": 60.0}
    run = {
        "load": "replay",
        "quantity": "ttft",
        "stages": (stage,),
        "input_tokens": 4000,
        "output_tokens": 64,
        "batch": None,
    }
    cold = predict(row(**run, prefix_cache=False, distinct_prompts=5)).value
    warm = predict(row(**run, prefix_cache=True, distinct_prompts=5)).value
    assert warm < cold


def test_total_throughput_counts_prompts_too():
    output = predict(row(quantity="serving_throughput", load="batch")).value
    total = predict(row(quantity="serving_throughput", load="batch", counts_input=True)).value
    assert total == pytest.approx(output * (1024 + 256) / 256)


def test_rates_per_gpu_and_per_node_follow_from_the_system():
    common = {"quantity": "saturated_throughput", "load": "saturated", "device_count": 8, "tp": 8, "batch": None}
    system = predict(row(**common)).value
    assert predict(row(**common, per="gpu")).value == pytest.approx(system / 8)
    assert predict(row(**common, per="node")).value == pytest.approx(system)


def test_equal_layouts_on_more_devices_are_replicas():
    common = {"quantity": "saturated_throughput", "load": "saturated", "tp": 1, "batch": None}
    one = predict(row(**common)).value
    assert predict(row(**common, device_count=4)).value == pytest.approx(4 * one)


def test_latency_limits_cost_throughput():
    free = predict(
        row(quantity="saturated_throughput", load="saturated", dataset="mlperf-llama3.1-8b", input_tokens=None)
    )
    tight = predict(
        row(quantity="saturated_throughput", load="slo", dataset="mlperf-llama3.1-8b-interactive", input_tokens=None)
    )
    assert tight.value < free.value


def test_fewer_threads_are_not_faster():
    cpu = {"device": "AMD Ryzen 9 7950X (CPU, 16 cores)", "engine": "llama.cpp", "weights": "q4_0", "load": "single",
           "quantity": "prefill_rate", "batch": 1}  # fmt: skip
    assert predict(row(**cpu, threads=4)).value < predict(row(**cpu, threads=16)).value


def test_itl_is_per_token_that_the_client_counted():
    run = {"load": "replay", "stages": ({"rate_per_s": 2.0, "duration_s": 60.0},), "batch": None}
    e2e, ttft = (predict(row(**run, quantity=q)).value for q in ("e2e", "ttft"))
    itl = predict(row(**run, quantity="itl", output_counted_tokens=101.0)).value
    assert itl == pytest.approx((e2e - ttft) / 100)


def test_a_model_too_large_for_a_card_leaves_layers_in_host_memory():
    found = target_of(
        row(device="RTX 3060", engine="llama.cpp", model="Llama 3 70B", weights="q4_k_m", load="single", batch=1)
    )
    if found.replica.host_memory is None:
        pytest.skip("the profile of this card knows no host memory")
    assert found.replica.settings.offload_layers > 0


def test_formats_named_loosely_mean_the_checkpoint_as_it_ships():
    assert target_of(row(model="openai/gpt-oss-120b", weights="fp4")).replica.weights is None
    assert target_of(row(model="deepseek-ai/DeepSeek-R1", weights="fp8", device_count=8, tp=8)).replica.weights is None
    assert target_of(row(weights="fp8")).replica.weights.id == "fp8"


def test_one_rank_of_equal_ranks_steps_like_the_whole():
    whole = constant_step(0.01, max_num_seqs=64, max_batched_tokens=4096, per_prefill_token_s=1e-5)
    rank = rank_tables(whole, 4)
    assert rank.max_num_seqs == 16
    assert rank.max_batched_tokens == 1024
    assert rank.prefill_token_s == pytest.approx(4e-5)
    assert np.array_equal(rank.token_s, whole.token_s[::4])
    assert 4 * rank.idle_w == whole.idle_w


def test_prompts_beyond_the_budget_take_several_steps():
    tables = constant_step(0.01, max_batched_tokens=1000, per_prefill_token_s=1e-5)
    assert prompt_s(tables, 2500) == pytest.approx(3 * 0.01 + 2500e-5)
    assert prompt_s(tables, 500, sequences=4) == pytest.approx(2 * 0.01 + 2000e-5)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the measured rows do not lie beside the repository")
@pytest.mark.parametrize("name", ["published.jsonl", "datacenter_serving.jsonl", "vllm_experiments.json"])
def test_every_row_of_the_full_files_is_understood(name):
    found = load_rows(SHARED / name)
    assert found.rejected == ()
    assert len(found.rows) > 100


@pytest.mark.skipif(not SHARED.is_dir(), reason="the measured rows do not lie beside the repository")
def test_a_sample_of_the_full_files_is_covered():
    rows = [r for name in ("published.jsonl", "datacenter_serving.jsonl") for r in load_rows(SHARED / name).rows][::97]
    found = [score_row(r) for r in rows]
    assert sum(r.ape_frac is not None for r in found) >= 0.95 * len(found)


@pytest.mark.parametrize(
    ("steps", "stages", "share"), [(1, 4, 1.0), (4, 4, 7 / 16), (8, 4, 7 / 16), (5, 4, 11 / 20), (9, 1, 1.0)]
)
def test_a_prompt_fills_and_drains_the_pipeline_of_layer_split_devices(steps, stages, share):
    assert pipeline_share(steps, stages) == pytest.approx(share)


def offline(**changes):
    return row(
        quantity="saturated_throughput", load="saturated", engine="tensorrt-llm", input_tokens=500, output_tokens=2000,
        batch=None, **changes,
    )  # fmt: skip


def test_an_engine_that_reserves_answers_runs_equal_requests_in_waves():
    slots = best_saturated(offline()).sequences
    rates = [predict(offline(requests=round(slots * share))).value for share in (1.0, 1.1, 2.0)]
    assert rates[1] < 0.85 * rates[0]  # a second wave for a tenth of the requests
    assert rates[2] == pytest.approx(rates[0], rel=0.05)


def test_answers_that_are_not_sent_token_by_token_come_faster():
    held = best_saturated(offline()).target.replica.engine
    served = load(Engine, "engines", "tensorrt-llm", file="test", path="engine")
    assert held.sequence_overhead_s == pytest.approx(served.sequence_overhead_s - served.stream_overhead_s)


def test_requests_per_second_are_tokens_per_second_over_their_lengths():
    for load_kind in ("saturated", "steady", "batch", "closed_loop"):
        quantity = "saturated_throughput" if load_kind == "saturated" else "serving_throughput"
        tokens = predict(row(quantity=quantity, load=load_kind)).value
        requests = predict(row(quantity="request_throughput", load=load_kind)).value
        assert requests * 256 == pytest.approx(tokens, rel=1e-6)


def test_limits_admit_fewer_users_who_are_served_faster():
    common = {"load": "saturated", "batch": None}
    free = predict(row(quantity="concurrency_capacity", **common)).value
    held = predict(row(quantity="concurrency_capacity", tpot_limit_s=0.02, **common)).value
    assert 1 <= held < free
    assert predict(row(quantity="per_user_rate", tpot_limit_s=0.02, **common)).value >= 50.0


def test_energy_within_limits_is_higher_than_without():
    common = {"quantity": "energy_per_token", "unit": "J/token (GPU energy)", "batch": None}
    limited = predict(row(load="slo", tpot_limit_s=0.012, **common)).value
    assert limited > predict(row(load="saturated", **common)).value


def test_tokens_per_provisioned_watt_count_every_device_and_its_host():
    tokens = predict(row(quantity="saturated_throughput", load="saturated", batch=None)).value
    per_watt = predict(row(quantity="power_efficiency", load="saturated", batch=None)).value
    assert 700 < tokens / per_watt < 2 * 700  # an H100 of 700 W and its share of a server


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("TTFT < 2 s, TPOT <= 50 ms", (2.0, 0.05)),
        ("p99 ITL under 40 ms", (None, 0.04)),
        ("at 20 tok/s/user", (None, 0.05)),
        ("TTFT 120 ms measured", (None, None)),
    ],
)
def test_limits_are_read_from_what_a_source_says(text, expected):
    record = {
        "id": "x", "kind": "concurrency_capacity", "unit": "users", "load": "server_slo", "value": 8, "device": "H100",
        "model": "Llama-3.1-8B", "notes": text,
    }  # fmt: skip
    found = published_row(record)
    assert (found.ttft_limit_s, found.tpot_limit_s) == expected

"""Rows of each format become measured rows in SI, with the traps of their sources handled."""

import json

import pytest

from envelope.errors import InputError
from envelope.validation.row_files import load_rows

PUBLISHED = {
    "id": "x-1", "group": "trtllm", "kind": "serving_throughput", "load": "offline_saturated", "unit": "output tok/s/GPU",
    "per": "gpu", "value": 6939.0, "device": "GB200", "device_count": 4, "model": "DeepSeek-R1-0528", "engine": "TensorRT-LLM",
    "weights_dtype": "nvfp4", "kv_dtype": "fp8", "dp": 4, "ep": 4, "tp": None, "pp": None, "input_len": 1000,
    "output_len": 1000, "concurrency_or_batch": None, "notes": "", "source_title": "t", "source_ref": "r", "date": "2026",
}  # fmt: skip

SERVING = {
    "id": "k-c4", "collection": "inferencex", "system": "b200_sxm", "backend": "vllm", "backend_version": "0.17.0",
    "model_path": "moonshotai/Kimi-K2.5", "isl": 8192.0, "osl": 1024.0, "silicon_concurrency": 4, "batch_size": 4.0,
    "tp_size": 8.0, "pp_size": 1.0, "attention_dp_size": 1.0, "moe_tp_size": 8.0, "moe_ep_size": 1.0,
    "gemm_quant_mode": "nvfp4", "moe_quant_mode": "nvfp4", "precision": "fp4", "silicon_ttft_ms": 229.15,
    "silicon_tpot_ms": 8.675, "aic_ttft_ms": 289.4, "aic_tpot_ms": 8.37,
    "silicon_data_source": "db-dump/2026-04-27; silicon_concurrency=4; measured=2026-04-20T00:00:00.000Z",
}  # fmt: skip

EXPERIMENT = {
    "id": "T:run-1", "model": "meta-llama/Llama-2-7b-hf", "gpu": "H100 (SXM 80GB)", "tp": 1, "dp": 1,
    "dtype": "fp16/bf16 (model default; no quantization)", "engine": "vLLM 0.15.1",
    "scheduler": {"max_num_seqs": 128, "max_num_batched_tokens": 2048, "gpu_kv_blocks": 7462, "prefix_cache": "default on"},
    "workload": {
        "tool": "inference-perf", "kind": "shared_prefix", "profile": "codegen",
        "spec": {"output_len": 247, "question_len": 466, "system_prompt_len": 100},
        "stages": [{"duration": 600, "rate": 5}, {"duration": 600, "rate": 10}],
    },
    "measured": {"summary": {
        "sent": 9000, "failed": 0, "e2e_ms": {"mean": 2080.74}, "ttft_ms": {"mean": 27.98},
        "prompt_len": {"mean": 591.63}, "output_len": {"mean": 195.09},
        "itl_ms_RAW_inference_perf_HALVED": {"mean": 4.1433}, "itl_mean_ms_corrected": 10.5763,
    }},
}  # fmt: skip


def rows_of(tmp_path, records, name="rows.jsonl"):
    path = tmp_path / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(r) + "\n" for r in records))
    else:
        path.write_text(json.dumps(records))
    return load_rows(path)


def published(tmp_path, **changes):
    return rows_of(tmp_path, [PUBLISHED | changes]).rows[0]


def serving(tmp_path, **changes):
    return rows_of(tmp_path, [SERVING | changes]).rows


def test_published_row_keeps_value_reference_and_layout(tmp_path):
    row = published(tmp_path)
    assert (row.quantity, row.load, row.per) == ("saturated_throughput", "saturated", "gpu")
    assert (row.value, row.device_count, row.dp, row.ep, row.tp) == (6939.0, 4, 4, 4, None)
    assert (row.weights, row.kv, row.input_tokens, row.output_tokens) == ("nvfp4", "fp8", 1000, 1000)


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"kind": "tpot", "unit": "ms", "value": 12.5, "load": "closed_loop"}, "value", 0.0125),
        ({"kind": "ttft", "unit": "ms", "load": "single_stream"}, "quantity", "ttft_unloaded"),
        ({"kind": "ttft", "unit": "ms", "load": "closed_loop"}, "quantity", "ttft"),
        ({"kind": "power", "unit": "W (peak, whole system at the wall)", "load": "single_stream"}, "quantity", "power_wall"),
        ({"kind": "power", "unit": "W (GPUs only, all GPUs of the instance)"}, "quantity", "power_gpu"),
        ({"kind": "itl", "unit": "ms (median)", "load": "closed_loop_steady"}, "statistic", "median"),
        ({"unit": "total (in+out) tok/s", "per": "system", "load": "static_batch"}, "counts_input", True),
        ({"unit": "input tok/s per node (8 GPUs)", "kind": "prefill_rate"}, "per", "node"),
        ({"load": "open_loop_qps_16"}, "rate_per_s", 16.0),
        ({"load": "open_loop_0.2_req_s"}, "rate_per_s", 0.2),
        ({"load": "single_stream", "kind": "decode_rate", "notes": "4 threads; weights 5.22 GiB"}, "threads", 4),
        ({"context_depth": 65536, "kind": "decode_rate"}, "depth_tokens", 65536),
        ({"notes": "max_num_seqs 96; total/active params 9.0/9.0 B"}, "max_num_seqs", 96),
        ({"notes": "simulated MTP (60% acceptance assumed), batch 128 per GPU"}, "draft_acceptance_frac", 0.6),
        ({"group": "mlperf", "model": "llama3.1-405b", "load": "interactive_slo"}, "dataset", "mlperf-llama3.1-405b-interactive"),
    ],
)  # fmt: skip
def test_published_traps(tmp_path, changes, field, expected):
    assert getattr(published(tmp_path, **changes), field) == pytest.approx(expected)


def test_a_row_that_cannot_be_understood_is_rejected_with_its_reason_not_dropped(tmp_path):
    found = rows_of(
        tmp_path, [PUBLISHED, PUBLISHED | {"id": "bad", "kind": "colour"}, PUBLISHED | {"id": "zero", "value": 0}]
    )
    assert len(found.rows) == 1
    assert [ident for ident, _ in found.rejected] == ["bad", "zero"]
    assert "colour" in found.rejected[0][1]


def test_serving_record_gives_ttft_and_tpot_with_the_peer_beside_them(tmp_path):
    ttft, tpot = serving(tmp_path)
    assert (ttft.quantity, tpot.quantity) == ("ttft", "tpot")
    assert ttft.value == pytest.approx(0.22915)
    assert tpot.value * tpot.scale == pytest.approx(8.675)
    assert ttft.peers["aiconfigurator"] == pytest.approx(0.2894)
    assert (ttft.batch, ttft.max_num_seqs, ttft.length_spread_frac, ttft.load) == (4, 4, 0.2, "closed_loop")
    assert ttft.date == "2026-04-20"


@pytest.mark.parametrize(
    ("sizes", "layout"),
    [
        ((8, 1, 8, 1), (8, 1, 1, 8)),
        ((4, 1, 1, 4), (4, 1, 4, 4)),
        ((64, 1, 8, 8), (8, 1, 8, 8)),
        ((4, 4, 1, 16), (1, 4, 4, 4)),
        ((1, 64, 8, 8), (1, 8, 8, 8)),
        ((1, 8, 1, 8), (1, 8, 8, 8)),
        ((72, 1, 72, 1), (1, 72, 72, 72)),
    ],
    ids=lambda v: "-".join(map(str, v)),
)
def test_inferencex_layouts_count_each_gpu_once(tmp_path, sizes, layout):
    names = ("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
    row = serving(tmp_path, **dict(zip(names, map(float, sizes), strict=True)))[0]
    assert (row.tp, row.dp, row.ep, row.device_count) == layout


def test_replicas_behind_one_front_end_share_the_load(tmp_path):
    row = serving(tmp_path, collection="nvidia_gap_analysis", silicon_concurrency=224, batch_size=56.0)[0]
    assert row.batch == 56
    assert row.max_num_seqs is None


def test_experiment_gives_means_with_the_corrected_itl_and_the_length_that_the_engine_was_told(tmp_path):
    found = rows_of(tmp_path, {"notes": [], "experiments": [EXPERIMENT]}, "vllm_experiments.json")
    by = {r.quantity: r for r in found.rows}
    assert by["itl"].value == pytest.approx(0.0105763)
    assert by["e2e"].value == pytest.approx(2.08074)
    assert by["ttft"].output_tokens == 247
    assert by["itl"].output_counted_tokens == pytest.approx(195.09)
    assert (by["ttft"].distinct_prompts, by["ttft"].kv_blocks, by["ttft"].trace) == (100, 7462, "T:run-1")
    assert [s.rate_per_s for s in by["ttft"].stages] == [5, 10]


def test_experiment_without_stages_takes_those_of_its_profile(tmp_path):
    short = EXPERIMENT | {"id": "S:1", "workload": {"tool": "inference-perf shared_prefix", "profile": "general"}}
    short["measured"] = {"summary": {"e2e_mean_ms": 2000.0, "ttft_mean_ms": 30.0, "itl_mean_ms": 8.0}}
    row = rows_of(tmp_path, {"experiments": [short]}, "e.json").rows[0]
    assert [(s.rate_per_s, s.duration_s) for s in row.stages] == [(8, 600), (20, 600)]
    assert row.output_counted_tokens == pytest.approx(1 + 1970 / 8)


def test_a_run_with_failures_is_marked_overloaded(tmp_path):
    failing = json.loads(json.dumps(EXPERIMENT))
    failing["measured"]["summary"]["failed"] = 4000
    assert all(r.overloaded for r in rows_of(tmp_path, {"experiments": [failing]}, "e.json").rows)


@pytest.mark.parametrize("text", ["", "not json\n", '{"a": 1}\n', "[1, 2]"])
def test_other_files_are_refused_with_a_clear_error(tmp_path, text):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=r"rows\.jsonl"):
        load_rows(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_rows(tmp_path / "none.jsonl")


def test_a_rate_named_in_words_becomes_a_stage(tmp_path):
    words = EXPERIMENT | {"id": "L:x", "num_requests": 300, "workload": {"kind": "ShareGPT-derived, ~10 req/s Poisson"}}
    row = rows_of(tmp_path, {"experiments": [words]}, "e.json").rows[0]
    assert [(s.rate_per_s, s.duration_s) for s in row.stages] == [(10, 30)]

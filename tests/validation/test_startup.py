"""Scores of start-up logs: hand-made logs, refused files, and the shipped facts."""

import json

import pytest

from envelope.perf.memory import fit
from envelope.units import GIB
from envelope.validation.names import version_number, version_of_thread
from envelope.validation.startup.log import StartupLog
from envelope.validation.startup.scoring import replica_of, score_log
from envelope.validation.validate import shipped_facts, validate

LOG = {
    "url": "https://example.org/log", "model": "llama-3.1-8b", "hardware": "nvidia-h100-sxm-80gb", "weights": "bf16",
    "engine": "vllm", "engine_version": "0.19.0", "memory_frac": 0.95, "max_context_tokens": 8192,
}  # fmt: skip


def log(**more: object) -> StartupLog:
    return StartupLog.model_validate({**LOG, **more})


def test_every_figure_that_a_log_gives_is_scored():
    # llm-d-planner pull request 205
    rows = score_log(log(weights_gib=14.99, kv_gib=58.11, kv_tokens=476_000, max_concurrency=58.11, fits=True), 1)
    found = {r.quantity: r for r in rows}
    assert set(found) == {"weights", "kv_memory", "kv_tokens", "max_concurrency", "fits"}
    assert all(r.ape_frac is not None and r.ape_frac < 0.01 for r in rows)
    assert found["kv_memory"].predicted == pytest.approx(fit(replica_of(log())).domains[0].kv_bytes / GIB)
    assert {r.architecture for r in rows} == {"dense"}
    assert {r.collection for r in rows} == {"startup/vllm"}


def test_a_wrong_verdict_counts_one_and_a_right_one_nothing():
    assert score_log(log(fits=False), 1)[0].ape_frac == 1.0
    assert score_log(log(fits=True), 1)[0].ape_frac == 0.0


def test_only_what_the_text_supports_is_scored():
    rows = score_log(log(weights_gib=14.99, kv_gib=1.0, score_only="weights_gib"), 1)
    assert [r.quantity for r in rows] == ["weights"]
    assert score_log(log(weights_gib=14.99, skip=True), 1) == []


def test_a_name_that_the_catalog_lacks_is_a_row_without_prediction():
    (row,) = score_log(log(model="llama-9"), 1)
    assert row.ape_frac is None
    assert row.reason is not None
    assert "llama-9" in row.reason


def test_versions_come_from_the_log_or_from_the_thread():
    assert version_number("v0.8 (V0)") == "0.8"
    assert version_number("NIM 2.0") is None
    assert version_of_thread("https://github.com/vllm-project/vllm/issues/27508") == "0.11"
    assert version_of_thread("https://example.org/vllm/issues/27508") is None
    old = replica_of(log(url="https://github.com/vllm-project/vllm/issues/13074", engine_version=None))
    assert (old.engine.id, old.settings.engine_version) == ("vllm-0.11", "0.7")


def test_a_file_of_logs_is_validated(tmp_path):
    path = tmp_path / "logs.jsonl"
    bad = {**LOG, "weights_gib": "much"}
    path.write_text("\n".join(json.dumps(r) for r in ({**LOG, "kv_gib": 58.11}, bad)), encoding="utf-8")
    report = validate(path)
    assert [r.quantity for r in report.rows] == ["kv_memory", "unknown"]
    assert "not understood" in (report.rows[1].reason or "")


def test_the_shipped_logs_name_their_source_and_are_many():
    logs = shipped_facts().logs
    assert len(logs) >= 144
    assert all(entry.url.startswith(("https://", "http://", "github file id")) for entry in logs)
    assert len({entry.hardware for entry in logs}) >= 25


def test_memory_is_as_true_as_the_card_says():
    rows = [row for number, entry in enumerate(shipped_facts().logs) for row in score_log(entry, number)]
    by: dict[str, list[float]] = {}
    for row in rows:
        if row.ape_frac is not None:
            by.setdefault(row.quantity, []).append(row.ape_frac)
    medians = {quantity: sorted(errors)[len(errors) // 2] for quantity, errors in by.items()}
    assert medians["weights"] < 0.01
    assert medians["kv_memory"] < 0.03
    assert medians["max_concurrency"] < 0.03
    assert sum(by["fits"]) / len(by["fits"]) < 0.08

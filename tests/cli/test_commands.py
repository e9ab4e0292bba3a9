"""What the commands print: JSON for scripts on stdout, tables for people, nothing else in between."""

import json
from pathlib import Path

import pytest
import yaml

from envelope.cli import main

ESTIMATE_KEYS = {
    "feasible", "reasons", "ttft_s", "itl_s", "e2e_s", "output_tokens_per_s", "prefill_tokens_per_s", "memory", "power_w",
    "energy_per_output_token_j", "bottleneck", "provenance",
}  # fmt: skip
CANDIDATE_KEYS = {
    "id", "feasible", "constraints", "slo_attainment_frac", "cost_npv", "cost_by_line", "private_requests_left",
}  # fmt: skip


def output(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> str:
    assert main(list(args)) == code
    return capsys.readouterr().out


def test_estimate_prints_the_promised_keys(capsys: pytest.CaptureFixture[str]) -> None:
    args = (
        "estimate --model llama-3.1-8b --hardware nvidia-h100-sxm-80gb --count 1 --weights bf16 --kv bf16 --tp 1 --ep 1 --pp 1 "
        "--engine vllm --input 1024 --output 1024 --concurrency 32 --json"
    )
    result = json.loads(output(capsys, *args.split()))
    assert set(result) >= ESTIMATE_KEYS
    assert result["feasible"] is True
    # Figures of different fields must tell one story.
    assert result["e2e_s"] == pytest.approx(result["ttft_s"] + 1023 * result["itl_s"], rel=1e-6)
    assert result["output_tokens_per_s"] == pytest.approx(32 * 1024 / result["e2e_s"], rel=1e-6)
    assert result["energy_per_output_token_j"] == pytest.approx(
        result["power_w"] / result["output_tokens_per_s"], rel=1e-6
    )
    device = result["memory"]["domains"][0]
    spent = device["weights_bytes"] + device["activations_bytes"] + device["overhead_bytes"] + device["kv_bytes"]
    assert spent == pytest.approx(device["budget_bytes"], rel=1e-6)
    # 8.03 billion parameters of two bytes each.
    assert device["weights_bytes"] == pytest.approx(16.06e9 + 131_072 * 128 * 2, rel=0.001)


def test_two_replicas_serve_twice_as_much_as_one_at_half_the_load(capsys: pytest.CaptureFixture[str]) -> None:
    base = ("estimate", "--model", "llama-3.1-8b", "--hardware", "nvidia-l40s-48gb", "--tp", "1", "--json")
    one = json.loads(output(capsys, *base, "--count", "1", "--concurrency", "8"))
    two = json.loads(output(capsys, *base, "--count", "2", "--concurrency", "16"))
    assert two["output_tokens_per_s"] == pytest.approx(2 * one["output_tokens_per_s"])
    assert two["power_w"] == pytest.approx(2 * one["power_w"])
    assert two["ttft_s"] == one["ttft_s"]


def test_estimate_for_people_spells_out_the_memory_equation(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "estimate", "--model", "llama-3.1-8b", "--hardware", "nvidia-h100-sxm-80gb")
    assert "KV = " in text
    assert "131,072 bytes per token" in text
    assert "TTFT" in text


@pytest.mark.parametrize(
    "command", ["models", "hardware", "servers", "hosted", "licences", "formats", "engines", "scenarios"]
)
def test_listings_are_tables_and_json(capsys: pytest.CaptureFixture[str], command: str) -> None:
    table = output(capsys, command)
    records = json.loads(output(capsys, command, "--json"))
    assert len(records) >= {"models": 40, "hardware": 45, "hosted": 20, "scenarios": 6}.get(command, 5)
    assert all(record["id"] in table for record in records)


@pytest.mark.parametrize(
    ("command", "name"), [("models", "llama-2-7b"), ("hardware", "H100"), ("hosted", "gpt-5"), ("formats", "FP8")]
)
def test_one_record_shows_its_sources(capsys: pytest.CaptureFixture[str], command: str, name: str) -> None:
    text = output(capsys, command, name)
    assert "sources:" in text
    assert "date:" in text


@pytest.mark.parametrize("kind", ["scenario", "workload", "model", "hardware", "hosted", "economics"])
def test_schemas_are_valid_and_describe_their_fields(capsys: pytest.CaptureFixture[str], kind: str) -> None:
    schema = json.loads(output(capsys, "schema", kind))
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert schema["properties"]


def test_compare_writes_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a folder with spaces"
    text = output(capsys, "compare", "field-devices", "--seeds", "1", "--out", str(out), "--json")
    result = json.loads(text)
    assert {"candidates", "recommended", "runner_up", "reasons"} <= set(result)
    for candidate in result["candidates"]:
        assert set(candidate) >= CANDIDATE_KEYS
        assert candidate["private_requests_left"] == 0
        if candidate["cost_npv"] is not None:
            assert sum(candidate["cost_by_line"].values()) == pytest.approx(candidate["cost_npv"])
    assert json.loads((out / "comparison.json").read_text(encoding="utf-8")) == result
    lines = (out / "candidates.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(result["candidates"])
    assert "Recommended" in (out / "report.txt").read_text(encoding="utf-8")
    assert {p.name for p in out.iterdir()} == {"comparison.json", "candidates.csv", "cost_lines.csv", "report.txt"}


def test_an_unwritable_folder_is_found_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    assert main(["compare", "field-devices", "--out", str(blocker / "sub")]) == 2
    assert "--out" in capsys.readouterr().err


def test_a_data_dir_adds_a_device_that_scenarios_can_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from envelope.spec import folders, load, yaml_text

    data = yaml_text.read_yaml(load.path_of("hardware_profiles", "nvidia-l4-24gb"))
    data |= {"id": "my-card", "name": "My card", "aliases": []}
    folder = tmp_path / "hardware_profiles"
    folder.mkdir()
    (folder / "my-card.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    try:
        listed = output(capsys, "--data-dir", str(tmp_path), "hardware")
        assert "my-card" in listed
        assert "nvidia-l4-24gb" in listed
    finally:
        folders.set_data_dirs(())

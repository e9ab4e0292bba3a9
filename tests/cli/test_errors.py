"""Bad input gives one clear error each and exit code 2; an infeasible scenario exits 3 with reasons."""

import json
from pathlib import Path

import pytest

from envelope.cli import main
from envelope.plan.case.scenarios import find_scenario

GOOD = find_scenario("field-devices").read_text(encoding="utf-8")


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    try:
        code = main(list(args))
    except SystemExit as left:
        code = int(left.code or 0)
    out = capsys.readouterr()
    return code, out.out, out.err


def scenario(tmp_path: Path, old: str, new: str) -> str:
    assert old in GOOD, old
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace(old, new), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "hardware: raspberry-pi-5-16gb",
            "hardware: raspbery-pi-5",
            "mine.yaml: candidates[4].pools[0].hardware: 'raspbery-pi-5' unknown; nearest 'raspberry-pi-5",
        ),
        ("model: llama-3.2-1b", "model: lama-3.2-1b", "'lama-3.2-1b' unknown; nearest 'llama-3.2-1b'"),
        ("weights: q4_0", "weights: q4-0-0", "weights: 'q4-0-0' unknown; nearest"),
        ("api: anthropic-claude-haiku-5-5", "api: claude-hiku-5", "hosted.api: 'claude-hiku-5' unknown; nearest"),
        ("seats: 120", "seats: -120", "-120"),
        ("requests_per_seat_day: 25", "requests_per_seat_day: 0", "workload.requests_per_seat_day: 0"),
        ("requests_per_seat_day: 25", "requests_per_seat_day: .nan", "must be a finite number"),
        ("budget_usd: 900000", "budget_eur: 900000", "constraints.budget_eur: unknown field; nearest 'budget_usd'"),
        ("budget_usd: 900000", "budget_usd: 900 k", "constraints.budget_usd: '900 k'"),
        ("horizon_months: 36", "horizon_months: 3", "economics.horizon_months: 3"),
        ("id: pi-1b", "id: laptop-3b", "two candidates are called 'laptop-3b'"),
        ("preset: field-notes", "preset: field-note", "'field-note' unknown; nearest 'field-notes'"),
        ("failure_not_affordable: downtime", "failure_not_affordable: fire", "failure_not_affordable: 'fire'"),
    ],
)
def test_a_wrong_scenario_is_named_with_file_field_value_and_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, expected: str
) -> None:
    code, out, err = run(capsys, "compare", scenario(tmp_path, old, new))
    assert code == 2
    assert expected in err
    assert out == ""
    assert "Traceback" not in err


def test_all_problems_of_a_file_are_reported_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        GOOD.replace("seats: 120,", "seats: 0,").replace("budget_usd: 900000", "budget_usd: -1"), encoding="utf-8"
    )
    code, _, err = run(capsys, "compare", str(path))
    assert code == 2
    assert "company.seats: 0" in err
    assert "constraints.budget_usd: -1" in err


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("compare", "no-such-scenario"), "unknown"),
        (("compare", "codingassistant"), "nearest 'coding-assistant'"),
        (("compare", "missing/file.yaml"), "no such file"),
        (("compare", "field-devices", "--only", "pi"), "nearest 'pi-1b'"),
        (("comparr",), "nearest 'compare'"),
        (("estimate", "--hardware", "nvidia-l4-24gb"), "--model: is required"),
        (("estimate", "--model", "llama-3.1-8b", "--hardware", "h100-sxmm"), "nearest"),
        (("estimate", "--model", "llama-3.1-8b", "--hardware", "nvidia-l4-24gb", "--input", "0"), "input: 0"),
        (
            ("estimate", "--model", "llama-3.1-8b", "--hardware", "nvidia-l4-24gb", "--input", "many"),
            "invalid int value: 'many'",
        ),
        (
            ("estimate", "--model", "llama-3.1-8b", "--hardware", "nvidia-l4-24gb", "--count", "3", "--tp", "2"),
            "not a multiple of",
        ),
        (
            ("estimate", "--model", "llama-3.1-8b", "--hardware", "nvidia-l4-24gb", "--tp", "4", "--ep", "3"),
            "must divide",
        ),
        (("estimate", "--batch", "missing.jsonl"), "missing.jsonl"),
        (("schema", "scenari"), "nearest 'scenario'"),
        (("models", "lama-3.1-8b"), "nearest"),
        (("--data-dir", "nowhere", "models"), "is not a folder"),
    ],
)
def test_wrong_arguments_exit_2_with_the_nearest_name(
    capsys: pytest.CaptureFixture[str], args: tuple[str, ...], expected: str
) -> None:
    code, out, err = run(capsys, *args)
    assert code == 2
    assert expected in err
    assert out == ""


def test_broken_yaml_names_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "compare", scenario(tmp_path, "company: {", "company: {{"))
    assert code == 2
    assert "mine.yaml: line " in err


def test_an_infeasible_scenario_exits_3_with_reasons_and_fixes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scenario(tmp_path, "budget_usd: 900000", "budget_usd: 1000")
    code, out, _ = run(capsys, "compare", path, "--seeds", "1", "--only", "pi-1b", "--only", "hosted-small", "--json")
    assert code == 3
    result = json.loads(out)
    assert result["recommended"] is None
    for candidate in result["candidates"]:
        broken = {c["id"]: c for c in candidate["constraints"] if not c["satisfied"]}
        assert "budget" in broken
        assert broken["budget"]["fix"].startswith("raise the budget by $")
        assert not candidate["feasible"]


def test_an_infeasible_estimate_exits_3_and_names_the_shortfall(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(
        capsys, "estimate", "--model", "deepseek-v3", "--hardware", "nvidia-h100-sxm-80gb", "--count", "8", "--json"
    )
    result = json.loads(out)
    assert code == 3
    assert result["feasible"] is False
    assert any("short by" in reason for reason in result["reasons"])


def test_one_bad_row_of_a_batch_costs_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    good = {"model": "llama-3.1-8b", "hardware": "nvidia-l40s-48gb"}
    lines = [json.dumps(good), "{broken", json.dumps({**good, "model": "nope-7b"}), json.dumps({**good, "input": 512})]
    rows.write_text("\n".join(lines), encoding="utf-8")
    code, out, err = run(capsys, "estimate", "--batch", str(rows))
    got = [json.loads(line) for line in out.splitlines()]
    assert code == 4
    assert [("error" in g) for g in got] == [False, True, True, False]
    assert "rows.jsonl:2" in got[1]["error"][0]
    assert "2 of 4 rows" in err
    assert got[3]["ttft_s"] < got[0]["ttft_s"]

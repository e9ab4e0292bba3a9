"""``envelope sweep`` from outside: options, files, exit codes, interruption, two processes, the report."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from envelope.cli import main

RATE = "workload.requests_per_day"
SHORT = ("--set", "simulation.max_requests=150", "--only", "own-llama-8b", "--executor", "here")


def rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_sweep_prints_a_ranking_and_writes_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "résultats du jour"
    asked = ["--set", f"{RATE}=20000,30_000", "--seeds", "2", "--format", "csv,jsonl", "--out", str(out)]
    assert main(["sweep", "math-tutor", *SHORT, *asked]) == 0
    said = capsys.readouterr()
    assert "Best by cost" in said.out
    assert "4 of 4 runs are done" in said.out
    assert {row[RATE] for row in rows(out)} == {20_000, 30_000}
    assert (out / "rows.csv").read_text(encoding="utf-8").count("\n") == 5


def test_ranges_are_sampled_and_lists_crossed(tmp_path: Path) -> None:
    asked = [
        "--set", "constraints.budget_usd=1e5:1e7:log", "--sample", "lhs:4", "--set", f"{RATE}=20000,30000",
        "--zip", "company.seats=100,200", "workload.seats=100,200", "--format", "jsonl", "--seeds", "1",
    ]  # fmt: skip
    assert main(["sweep", "math-tutor", *SHORT, *asked, "--out", str(tmp_path)]) == 0
    found = rows(tmp_path)
    assert len(found) == 2 * 2 * 4
    assert {(row["company.seats"], row["workload.seats"]) for row in found} == {(100, 100), (200, 200)}
    assert len({row["constraints.budget_usd"] for row in found}) == 4


def test_a_sweep_file_says_all_and_options_say_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"scenarios: [math-tutor]\nonly: [own-llama-8b]\nset:\n  {RATE}: [20_000, 30_000]\n  simulation.max_requests: [150]\n",
        encoding="utf-8",
    )
    assert main(["sweep", str(file), "--seeds", "1", "--executor", "here", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["runs"] == 2
    assert [item["changes"][RATE] for item in found["ranking"]["best"]] == [20_000, 30_000]


def test_a_combination_that_fails_is_a_row_and_exit_code_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool = "candidates.own-llama-70b.pools.0.parallelism"
    asked = [
        "--set", f"{pool}.tp=2,4", "--set", f"{pool}.ep=1,4", "--set", "simulation.max_requests=100", "--seeds", "1",
        "--only", "own-llama-70b", "--executor", "here", "--format", "jsonl", "--out", str(tmp_path),
    ]  # fmt: skip
    assert main(["sweep", "coding-assistant", *asked]) == 4
    failed = [row for row in rows(tmp_path) if row["status"] == "failed"]
    assert [(row[f"{pool}.tp"], row[f"{pool}.ep"]) for row in failed] == [(2, 4)]
    assert "ep=4 must divide tp·dp=2" in str(failed[0]["error"])
    assert "ep=4 must divide" in capsys.readouterr().out
    assert main(["sweep", "report", str(tmp_path)]) == 4


BAD = {
    "a path": (["--set", "workload.request_per_day=1"], "nearest 'workload.requests_per_day'"),
    "no values": (["--set", RATE], "is no PATH=VALUES"),
    "a path twice": (["--set", f"{RATE}=1", "--set", f"{RATE}=2"], "is given twice"),
    "a range without a sample": (["--set", f"{RATE}=1:9"], "ranges and sample go together"),
    "a sample of nothing": (["--sample", "lhs:5"], "ranges and sample go together"),
    "a sample without a count": (["--set", f"{RATE}=1:9", "--sample", "lhs"], "sample.count"),
    "a method": (["--set", f"{RATE}=1:9", "--sample", "halton:9"], "sample.method"),
    "a range in step": (["--zip", f"{RATE}=1:9"], "takes a list"),
    "a figure": (["--set", f"{RATE}=1", "--by", "price"], "is no figure"),
    "values that are no YAML": (["--set", f"{RATE}=[1,"], "is not valid YAML"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_options_are_one_clear_line_and_exit_code_2(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    options, words = BAD[name]
    assert main(["sweep", "math-tutor", *options]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err


def test_the_report_is_a_page_that_stands_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [
        "--set",
        f"{RATE}=20000,30000",
        "--set",
        "economics.discount_rate_frac_per_year=0.01:0.2",
        "--sample",
        "lhs:5",
    ]
    assert main(["sweep", "math-tutor", *SHORT, *asked, "--seeds", "2", "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["sweep", "report", str(tmp_path), "--by", "e2e_p95_s"]) == 0
    assert "What each change does" in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "src=" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert page.count("<svg") == 3
    assert (tmp_path / "ranking.svg").read_text(encoding="utf-8").startswith("<svg")


def test_a_folder_without_results_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "report", str(tmp_path)]) == 2
    assert "no folder of sweep results" in capsys.readouterr().err


def test_another_study_does_not_mix_with_the_rows_that_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for rate, code in (("20000", 0), ("30000", 2)):
        asked = ["--set", f"{RATE}={rate}", "--seeds", "1", "--out", str(tmp_path)]
        assert main(["sweep", "math-tutor", *SHORT, *asked]) == code
    assert "another study" in capsys.readouterr().err


LONG = [
    sys.executable, "-m", "envelope", "sweep", "math-tutor", "--only", "own-llama-8b", "--seeds", "5",
    "--set", "simulation.max_requests=100", "--set", f"{RATE}={','.join(map(str, range(20_000, 28_000, 1000)))}",
]  # fmt: skip
"""40 runs."""


def started(out: Path, *options: str) -> "subprocess.Popen[str]":
    """Start a sweep and return it once its first rows are on disk."""
    # A test run that was itself started in the background ignores Ctrl-C, and what it starts would too.
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL) if os.name == "posix" else None
    command = [*LONG, "--out", str(out), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heeds)
    journal = out / "journal.jsonl"
    while process.poll() is None and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.02)
    assert process.poll() is None, "ended before it could be stopped"
    return process


def test_killed_at_once_and_run_again_is_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    with started(broken, "--workers", "2") as process:
        process.kill()
    torn = (broken / "journal.jsonl").read_bytes()
    (broken / "journal.jsonl").write_bytes(torn[:-7])
    # What goes on after it, and what was never interrupted, runs here in one process: the figures must be the same.
    for out in (broken, whole):
        assert main([*LONG[3:], "--out", str(out), "--executor", "here"]) == 0
    assert (broken / "rows.csv").read_bytes() == (whole / "rows.csv").read_bytes()
    assert (broken / "journal.jsonl").read_bytes().count(b"\n") == 40


@pytest.mark.skipif(os.name != "posix", reason="signals of a terminal")
def test_ctrl_c_says_how_to_go_on_and_a_second_process_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with started(tmp_path, "--executor", "here", "--seeds", "500") as process:
        assert main([*LONG[3:], "--seeds", "500", "--out", str(tmp_path)]) == 2
        assert f"is being written by process {process.pid}" in capsys.readouterr().err
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert process.returncode == 130
    assert "the same command goes on" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("where", ["run.write_tables", "study.Study.model_dump", "drive._hand_out"])
def test_ctrl_c_at_any_moment_says_how_to_go_on(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"envelope.plan.sweep.{where}", interrupted)
    asked = ["sweep", "math-tutor", *SHORT, "--set", f"{RATE}=20000", "--seeds", "1"]
    assert main([*asked, "--out", str(tmp_path)]) == 130
    assert "the same command goes on" in capsys.readouterr().err

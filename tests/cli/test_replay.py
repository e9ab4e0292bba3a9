"""Replaying traces and load tests from the command line."""

import csv
import json
from pathlib import Path

import pytest

from envelope.cli import main

BASE = ("replay", "--model", "llama-3.1-8b", "--hardware", "nvidia-h100-sxm-80gb", "--json")


def result(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, object]:
    assert main([*BASE, *args]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_trace_gives_the_promised_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "my trace.csv"
    trace.write_text("arrival_s,input_tokens,output_tokens\n0,512,64\n0.5,1024,32\n9,256,16\n", encoding="utf-8")
    got = result(capsys, "--trace", str(trace))
    assert got["requests"] == got["completed"] == 3
    assert float(got["duration_s"]) > 9  # type: ignore[arg-type]
    for key in ("ttft_s", "itl_s", "tpot_s", "e2e_s"):
        assert set(got[key]) >= {"mean", "p50", "p90", "p95", "p99"}  # type: ignore[arg-type]


def test_equal_prompts_hit_the_prefix_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{10 * i},4096,8,7\n" for i in range(20))
    trace = tmp_path / "same.csv"
    trace.write_text("arrival_s,input_tokens,output_tokens,prompt_id\n" + rows, encoding="utf-8")
    cached = result(capsys, "--trace", str(trace), "--prefix-cache")
    fresh = result(capsys, "--trace", str(trace), "--no-prefix-cache")
    # 19 of 20 prompts are whole hits, of which vLLM still computes the last block.
    assert cached["prefix_hit_frac"] == pytest.approx(19 / 20, abs=0.01)
    assert fresh["prefix_hit_frac"] == 0
    assert cached["ttft_s"]["p50"] < 0.5 * fresh["ttft_s"]["p50"]  # type: ignore[index]


def test_a_load_test_keeps_its_concurrency(capsys: pytest.CaptureFixture[str]) -> None:
    args = ("--concurrency", "8", "--requests", "64", "--input", "512", "--output", "128", "--range-ratio", "0.8")
    got = result(capsys, *args)
    assert got["completed"] == 64
    # Little's law over the whole run: requests in flight = rate × time in the system, at most 8.
    in_flight = got["completed"] / got["duration_s"] * got["e2e_s"]["mean"]  # type: ignore[operator,index]
    assert 7 < in_flight <= 8.0001


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("arrival_s,input_tokens\n0,5\n", "the column 'output_tokens' is missing"),
        ("arrival_s,input_tokens,output_tokens\n0,5,-1\n", "line 2, column output_tokens: '-1' must be a whole number"),
        ("arrival_s,input_tokens,output_tokens\n0,nan,1\n", "line 2, column input_tokens: 'nan'"),
        (
            "arrival_s,input_tokens,output_tokens\n0,5,1\nzero,5,1\n",
            "line 3, column arrival_s: 'zero' must be a number",
        ),
        ("arrival_s,input_tokens,output_tokens\n0,5e30,1\n", "line 2, column input_tokens"),
        ("arrival_s,input_tokens,output_tokens,prompt_id\n0,5,1,x\n", "line 2, column prompt_id: 'x'"),
        ("arrival_s,input_tokens,output_tokens,hash_ids\n0,5,1,[1\n", "line 2, column hash_ids: '[1'"),
        ("arrival_s,input_tokens,output_tokens\n1,2\n", "has 2 fields"),
        ("arrival_s,input_tokens,output_tokens\n", "holds no requests"),
        ("", "is missing"),
    ],
)
def test_a_broken_trace_names_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, expected: str
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(text, encoding="utf-8")
    assert main([*BASE, "--trace", str(trace)]) == 2
    out = capsys.readouterr()
    assert expected in out.err
    assert out.out == ""


def test_a_load_without_its_numbers_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*BASE, "--concurrency", "4"]) == 2
    assert "also needs --requests, --input, --output" in capsys.readouterr().err
    assert main([*BASE]) == 2


def test_a_table_holds_each_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "rows.csv"
    load = ("--concurrency", "4", "--requests", "32", "--input", "256", "--output", "16", "--warmup", "8")
    got = result(capsys, *load, "--table", str(table))
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == got["requests"] == 32
    ttft = sum(float(row["ttft_s"]) for row in rows) / 32
    assert ttft == pytest.approx(got["ttft_s"]["mean"], rel=1e-4)  # type: ignore[index]
    assert main([*BASE, *load, "--table", str(tmp_path / "rows.xls")]) == 2
    assert ".parquet" in capsys.readouterr().err

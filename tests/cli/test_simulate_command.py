"""``envelope simulate``: what it prints for people and for scripts, and what it refuses."""

import json
from pathlib import Path

import pytest
import yaml

from envelope.cli import main
from envelope.plan.case.scenarios import find_scenario


def result(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> dict:
    assert main(["simulate", *args, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_the_json_is_complete_and_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    got = result(capsys, "math-tutor", "own-qwen3-32b", "--seeds", "2")
    run = got["candidates"][0]
    assert got["scenario"] == "math-tutor"
    assert run["reasons"] == []
    assert sum(c["offered"] for c in run["classes"]) == run["overall"]["offered"]
    for figure in ("ttft_s", "itl_s", "tpot_s", "e2e_s"):
        spread, curve = run["overall"][figure], run["overall"]["curves"][figure]
        assert spread["p50"] <= spread["p90"] <= spread["p95"] <= spread["p99"]
        assert curve == sorted(curve)
        at = dict(zip(run["curve_fracs"], curve, strict=True))
        assert at[0.95] == pytest.approx(spread["p95"], rel=1e-6)
        assert at[0.5] == pytest.approx(spread["p50"], rel=1e-6)
    assert run["slo_attainment"]["low"] <= run["slo_attainment"]["mean"] <= run["slo_attainment"]["high"]
    lengths = {len(values) for values in run["timeline"].values()}
    assert len(lengths) == 1
    assert run["energy"]["kwh_per_hour"] == pytest.approx(run["energy"]["mean_w"] / 1000)


def test_a_dead_node_shows_in_service_and_log(capsys: pytest.CaptureFixture[str]) -> None:
    calm = result(capsys, "coding-assistant", "own-v4-flash", "--seeds", "1")["candidates"][0]
    struck = result(capsys, "coding-assistant", "own-v4-flash", "--seeds", "1", "--fail-node-at", "600")["candidates"][
        0
    ]
    assert calm["faults"] == []
    # Both replicas stand in the one server that dies.
    assert [(e["time_s"], e["kind"], e["running"]) for e in struck["faults"][:2]] == [
        (600.0, "failure", 1),
        (600.0, "failure", 0),
    ]
    assert struck["slo_attainment"]["mean"] < calm["slo_attainment"]["mean"] - 0.3
    assert struck["left"]["private"] == 0


def test_a_person_reads_latency_timelines_limits_and_faults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "coding-assistant", "own-v4-flash", "--seeds", "1", "--fail-node-at", "peak"]) == 0
    out = capsys.readouterr().out
    for words in (
        "Latency by class",
        "TTFT",
        "p99",
        "requests running",
        "bound by",
        "failure of replica 1",
        "SLO kept by",
    ):
        assert words in out
    assert any(bar in out for bar in "▁▂▃▄▅▆▇█")


def test_the_sweep_says_where_the_service_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    sweep = result(capsys, "coding-assistant", "own-v4-flash", "--sweep")["candidates"][0]
    factors = [p["factor"] for p in sweep["points"]]
    assert factors == sorted(factors)
    kept = {p["factor"]: p["keeps"] for p in sweep["points"]}
    assert kept[sweep["keeps_up_to"]]
    assert not kept[sweep["breaks_at"]]
    assert sweep["keeps_up_to"] < sweep["breaks_at"] < 1.2 * sweep["keeps_up_to"]


def test_a_table_has_one_row_per_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "requests.csv"
    run = result(capsys, "math-tutor", "hosted-mistral", "--seeds", "1", "--table", str(table))["candidates"][0]
    assert len(table.read_text(encoding="utf-8").splitlines()) == run["overall"]["offered"] + 1


def test_a_model_that_does_not_fit_is_a_result_with_exit_code_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = yaml.safe_load(find_scenario("coding-assistant").read_text(encoding="utf-8"))
    big = next(c for c in scenario["candidates"] if c["id"] == "own-deepseek-v3")
    big["pools"][0]["hardware"] = "nvidia-l40s-48gb"
    del big["acquisition"]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(scenario), encoding="utf-8")
    run = result(capsys, str(path), "own-deepseek-v3", code=3)["candidates"][0]
    assert any("memory" in reason or "weights" in reason for reason in run["reasons"])
    assert run["overall"]["offered"] == 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("coding-assistant", "own-v4"), "nearest"),
        (("coding-assistant", "own-v4-flash", "--load", "0"), "must be above 0"),
        (("coding-assistant", "own-v4-flash", "--hours", "-1"), "must be above 0"),
        (("coding-assistant", "own-v4-flash", "--year", "9"), "years of the horizon"),
        (("coding-assistant", "own-v4-flash", "--seeds", "0"), "at least 1"),
        (("coding-assistant", "own-v4-flash", "--fail-node-at", "noon"), "peak, or seconds"),
        (("coding-assistant", "own-v4-flash", "--fail-node-at", "1e9"), "must lie within"),
        (("coding-assistant", "own-v4-flash", "--sweep", "--hours", "3"), "--sweep"),
        (("coding-assistant", "--table", "x.csv"), "one candidate"),
        (("coding-assistant", "own-v4-flash", "--table", "x.xls"), ".csv"),
    ],
)
def test_wrong_arguments_are_refused_with_the_reason(
    args: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *args]) == 2
    out = capsys.readouterr()
    assert says in out.err
    assert out.out == ""

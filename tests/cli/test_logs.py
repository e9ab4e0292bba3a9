"""A company's own logs become a workload that a scenario takes."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from envelope.cli import main
from envelope.plan.case.scenarios import find_scenario, load_scenario


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Write 2,000 requests that arrive as a Poisson process, with names of columns as a gateway writes them."""
    rng = np.random.default_rng(1)
    at = np.cumsum(rng.exponential(2.0, 2000))
    lines = [
        f"{t:.3f},{i},{o}" for t, i, o in zip(at, rng.integers(100, 900, 2000), rng.integers(10, 50, 2000), strict=True)
    ]
    path = tmp_path / "gateway log.csv"
    path.write_text("time,prompt_tokens,completion_tokens\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_log_is_described(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["workload", str(log), "--json"]) == 0
    got = json.loads(capsys.readouterr().out)
    assert got["requests"] == 2000
    assert got["input_tokens"]["mean"] == pytest.approx(500, rel=0.05)
    assert got["burstiness"]["gap_cv"] == pytest.approx(1.0, abs=0.1)
    assert got["requests_per_day"] == pytest.approx(43_200, rel=0.1)


def test_an_imported_log_runs_in_a_scenario(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "twin.yaml"
    assert main(["import", str(log), "--out", str(out)]) == 0
    twin = yaml.safe_load(out.read_text(encoding="utf-8"))["workload"]
    scenario = yaml.safe_load(find_scenario("field-devices").read_text(encoding="utf-8"))
    scenario["workload"] = twin
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(scenario), encoding="utf-8")
    assert load_scenario(mine).workload.daily_requests == pytest.approx(43_200, rel=0.1)
    assert main(["compare", str(mine), "--seeds", "1", "--only", "laptop-8b", "--json"]) in {0, 3}
    assert json.loads(capsys.readouterr().out)["candidates"][0]["service"]["requests_simulated"] > 100


def test_a_log_in_no_known_form_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "strange.csv"
    path.write_text("when,how_much\n1,2\n", encoding="utf-8")
    assert main(["workload", str(path)]) == 2
    err = capsys.readouterr().err
    assert "how_much" in err
    assert "--map" in err

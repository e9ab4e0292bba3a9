"""Two cost runs set against each other, by the functions and by the command."""

import json
from pathlib import Path

import pytest

from envelope import cli
from envelope.errors import InputError
from envelope.plan.case.scenarios import load_scenario
from envelope.plan.cost.difference import difference, load_run, models_of
from envelope.plan.cost.study import CostModels, cost_models, cost_study
from envelope.report.cost_difference import difference_page
from envelope.report.cost_files import write_cost_study
from envelope.spec.ranges import Spread

ONLY = ("hosted-mistral", "own-llama-8b")


def models(**economics: object) -> CostModels:
    scenario = load_scenario("math-tutor")
    changed = scenario.economics.model_copy(update=economics)
    return cost_models(scenario.model_copy(update={"economics": changed}), only=ONLY, seeds=1, volumes=False)


@pytest.fixture(scope="module")
def found() -> CostModels:
    return models()


@pytest.fixture(scope="module")
def saved(found, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_cost_study(cost_study(found, draws=16), found, folder, date="2026-11-23")
    return folder / "tco.json"


def test_a_saved_run_is_the_run(found, saved):
    result = difference(models_of(load_run(saved)), found, label="before")
    assert set(result.waterfalls) == set(ONLY)
    for way in result.waterfalls.values():
        assert way.steps == ()
        assert way.before_usd == pytest.approx(way.after_usd, rel=1e-12)


def test_what_changed_since_is_named_and_adds_up(saved):
    now = models(horizon_months=48, inputs={"security_audit": Spread(value=50_000.0)})
    way = difference(models_of(load_run(saved)), now, label="before").waterfalls["own-llama-8b"]
    assert sum(s.change_usd for s in way.steps) == pytest.approx(way.after_usd - way.before_usd)
    names = {step.name for step in way.steps}
    assert "security_audit" in names
    assert "quantity of staff_platform" in names
    assert "wacc" not in names


def test_a_default_that_has_changed_in_the_catalog_since_is_a_change(found, saved):
    run = load_run(saved)
    old = run.candidates["own-llama-8b"]
    then = old.model_copy(update={"inputs": {**old.inputs, "fte_base_selfhost": Spread(value=0.5)}})
    earlier = run.model_copy(update={"candidates": {**run.candidates, "own-llama-8b": then}})
    (step,) = difference(models_of(earlier), found, label="x").waterfalls["own-llama-8b"].steps
    assert (step.name, step.before, step.after) == ("fte_base_selfhost", 0.5, 1.0)


def test_runs_without_a_common_candidate_cannot_be_compared(found, saved):
    before = {"other": models_of(load_run(saved))["own-llama-8b"]}
    with pytest.raises(InputError, match="no candidate in common"):
        difference(before, found, label="x")


def test_the_page_stands_alone(found, saved):
    result = difference(models_of(load_run(saved)), found, label="<b>")
    page = difference_page(result, date="2026-11-23")
    assert "&lt;b&gt;" in page
    assert page.count("<svg") == len(ONLY)


def command(*args: str) -> int:
    only = [x for ident in ONLY for x in ("--only", ident)]
    return cli.main(["tco", "math-tutor", "--seeds", "1", "--draws", "16", *only, *args])


def test_the_command_sets_a_run_against_a_saved_one(capsys, saved, tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text("prices: {security_audit: {value: 50000, source: quote 1, date: 2026-11}}\n")
    assert command("--against", str(saved), "--prices", str(prices), "--out", str(tmp_path)) == 0
    assert "security audit" in capsys.readouterr().out
    data = json.loads((tmp_path / "tco_difference.json").read_text())
    (step,) = data["waterfalls"]["own-llama-8b"]["steps"]
    assert step["name"] == "security_audit"
    assert (tmp_path / "tco_difference.html").stat().st_size > 0


def test_the_command_sets_a_scenario_against_another(capsys, tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text("prices: {security_audit: {value: 50000, source: quote 1, date: 2026-11}}\n")
    assert command("--against", "math-tutor", "--prices", str(prices), "--json") == 0
    ways = json.loads(capsys.readouterr().out)["difference"]["waterfalls"]
    assert [step["name"] for step in ways["hosted-mistral"]["steps"]] == ["security_audit"]


def test_a_file_without_a_run_is_refused(capsys, tmp_path):
    path = tmp_path / "tco.json"
    path.write_text("{}")
    assert command("--against", str(path)) == 2
    assert "holds no saved run" in capsys.readouterr().err

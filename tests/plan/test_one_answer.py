"""The same question has the same answer on every face: figures that two commands show are equal."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays

from envelope.cli import main
from envelope.plan.case.scenarios import load_scenario
from envelope.plan.chain import judged
from envelope.plan.compare import compare
from envelope.plan.cost.models import cost_models
from envelope.plan.cost.study import CostStudy, cost_study
from envelope.plan.fixes.trials import Trials
from envelope.plan.frontier.map import frontier
from envelope.plan.frontier.surface import node
from envelope.plan.service.simulate import simulate
from envelope.plan.size.grid import Grid
from envelope.plan.size.search import size
from envelope.plan.sweep.run import sweep
from envelope.plan.verdict.choice import best_of, ranked
from envelope.plan.verdict.results import CandidateResult, Comparison
from envelope.report.cost_files import write_cost_study
from envelope.report.files import write_comparison
from envelope.report.terminal import print_comparison
from envelope.report.text import money
from envelope.spec.scenario import Scenario
from tests.plan.drawn import SCENARIOS

checked = settings(
    max_examples=4, deadline=None, derandomize=True, phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip


def study_of(scenario: Scenario) -> CostStudy:
    return cost_study(cost_models(scenario, volumes=False), draws=1024)


@checked
@given(SCENARIOS)
def test_compare_and_tco_say_the_same(scenario: Scenario) -> None:
    said, study = compare(scenario), study_of(scenario)
    assert (study.recommended, study.runner_up, study.reasons) == (said.recommended, said.runner_up, said.reasons)
    for costs in study.candidates:
        one = said.candidate(costs.id)
        assert costs.cost == one.cost
        assert costs.years == one.years
        assert (costs.feasible, costs.keeps_service) == (one.feasible, one.keeps_service)
        assert costs.broken == tuple(rule.id for rule in one.constraints if not rule.satisfied)
        assert {x.id: x.present_value_usd for x in costs.result.lines} == one.cost_by_line
        assert sum(one.cost_by_line.values()) == pytest.approx(one.cost_npv, rel=1e-9)
        drawn = next(u for u in study.uncertainty.candidates if u.id == costs.id)
        assert drawn.mean_cost_npv_usd == pytest.approx(one.cost_npv, rel=1e-9)
        assert drawn.cost_npv_usd.p10 == pytest.approx(one.cost.p10_npv_usd, rel=1e-9)
        assert drawn.cost_npv_usd.p90 == pytest.approx(one.cost.p90_npv_usd, rel=1e-9)


@checked
@given(SCENARIOS)
def test_simulate_says_what_the_verdict_says(scenario: Scenario) -> None:
    demand = scenario.economics.demand_factor
    for one in compare(scenario).candidates:
        assert one.service is not None
        run = simulate(scenario, one.id)
        assert run.slo_attainment.mean == one.slo_attainment_frac
        assert run.overall.served_frac == one.service.served_frac
        assert run.overall.solved_frac == pytest.approx(one.solved_frac, abs=1e-12)
        assert run.period == one.service.period
        assert run.keeps_service == one.years[0].keeps_service
    assert demand.bounds[0] > 0


@checked
@given(SCENARIOS)
def test_a_row_of_a_sweep_is_a_verdict(scenario: Scenario) -> None:
    alone = scenario.replace("simulation.seeds", 1)
    seats = {"company.seats": [alone.company.seats]}
    rows = {row.candidate: row for row in sweep(alone, set=seats, executor="here").rows()}
    for one in compare(alone).candidates:
        row = rows[one.id]
        assert (row.status, row.feasible, row.binding) == ("done", one.feasible, one.binding)
        assert row.cost_npv_usd == one.cost_npv
        assert one.cost is not None
        assert (row.cost_p10_usd, row.signature_usd) == (one.cost.p10_npv_usd, one.cost.signature_usd)
        assert (row.slo_attainment_frac, row.solved_frac) == (one.slo_attainment_frac, one.solved_frac)
        assert (row.private_requests_left, row.requests_left_per_year) == (
            one.private_requests_left, one.requests_left_per_year,
        )  # fmt: skip


@checked
@given(SCENARIOS)
def test_the_map_stands_where_the_verdict_stands(scenario: Scenario) -> None:
    said = compare(scenario)
    found = frontier(scenario, "discount_rate", "api_price", cells=4, draws=16)
    assert found.path[0].candidate == said.recommended
    for candidate in scenario.candidates:
        quick = judged(scenario, candidate, seeds=1, quick=True)
        at = node(scenario, candidate)
        if at.model is None:
            assert not quick.feasible
            continue
        assert quick.money is not None
        assert at.cost_usd == quick.money.value.cost_npv_usd
        slow = judged(scenario, candidate, seeds=1)
        assert slow.money is not None
        # A quick case differs by the length of its simulation alone; here both are as long.
        assert at.cost_usd == pytest.approx(slow.money.cost.cost_npv_usd, rel=1e-9)


@checked
@given(SCENARIOS)
def test_a_fix_is_searched_from_the_verdict(scenario: Scenario) -> None:
    for one in compare(scenario).candidates:
        start = Trials(scenario, one.id, scenario.simulation.seeds, lambda _what: None, 1).trial(())
        assert start is not None
        assert start.result.feasible == one.feasible
        broken = {rule.id for rule in one.constraints if not rule.satisfied}
        assert set(start.broken) <= broken
        assert bool(start.broken) == bool(broken)
        if one.feasible:
            assert start.result.cost_npv == one.cost_npv


def sized(scenario: Scenario, spare: int) -> tuple[Any, CandidateResult]:
    grid = Grid(
        models=("llama-3.1-8b",), hardware=("nvidia-l40s-48gb",), tp=(1,), replicas=(2,), weights=("fp8",), kv=("fp8",),
        spare=spare,
    )  # fmt: skip
    found = size(scenario, grid, explore=0)
    (one,) = found.simulated
    alone = scenario.model_copy(update={"candidates": (one.candidate,)})
    return one, compare(alone, seeds=one.seeds).candidates[0]


@checked
@given(SCENARIOS, some.integers(0, 2))
def test_a_size_is_a_verdict(scenario: Scenario, spare: int) -> None:
    free = scenario.replace({"constraints.budget": None, "constraints.solved_min_frac": 0.0})
    one, said = sized(free, spare)
    assert one.candidate.operations is None or one.candidate.operations.spares >= spare
    assert (one.cost_npv, one.slo_attainment_frac, one.feasible) == (
        said.cost_npv, said.slo_attainment_frac, said.feasible,
    )  # fmt: skip
    assert one.power_max_w == said.power_max_w


@pytest.fixture(scope="module")
def tutor(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, CostStudy, Path]:
    """Return a scenario's verdict, costs and files; the hosted candidates break the rule on regions."""
    scenario = load_scenario("math-tutor").replace(
        {"constraints.hosted_regions": ["mars"], "constraints.pinned_model": True, "simulation.max_requests": 1000}
    )
    folder = tmp_path_factory.mktemp("faces")
    models = cost_models(scenario, volumes=False)
    study = cost_study(models)
    write_cost_study(study, models, folder, date="2026-11-23")
    said = compare(scenario)
    write_comparison(said, folder)
    return said, study, folder


def table(path: Path, key: str) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row[key]: row for row in csv.DictReader(file)}


def test_no_face_recommends_what_a_rule_keeps_out(tutor: tuple[Comparison, CostStudy, Path]) -> None:
    said, study, folder = tutor
    assert said.recommended is not None
    assert said.recommended.startswith("own-")
    name, cost = said.candidate(said.recommended).name, said.candidate(said.recommended).cost
    assert cost is not None
    assert study.recommended == said.recommended
    page = (folder / "tco.html").read_text(encoding="utf-8")
    assert re.search(r"<tr class=\"best\"><td>★ ([^<]*)<", page).group(1) == name  # type: ignore[union-attr]
    assert page.count(money(cost.expected_npv_usd)) >= 1
    assert json.loads((folder / "tco.json").read_text())["recommended"] == said.recommended
    rows = table(folder / "candidates.csv", "id")
    assert [i for i, row in rows.items() if row["recommended"] == "True"] == [said.recommended]
    assert float(rows[said.recommended]["expected_npv_usd"]) == cost.expected_npv_usd
    assert float(rows[said.recommended]["signature_usd"]) == cost.signature_usd
    flows = table(folder / "tco_cash_flow.csv", "candidate")
    assert {i: row["fits"] == "yes" for i, row in flows.items()} == {c.id: c.feasible for c in said.candidates}
    text = io.StringIO()
    print_comparison(said, file=text)
    assert f"Recommended: {name}" in text.getvalue()
    assert money(cost.expected_npv_usd) in text.getvalue()


def test_the_workbook_leads_with_the_verdict(tutor: tuple[Comparison, CostStudy, Path]) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="reads the workbook")
    said, _, folder = tutor
    sheet = openpyxl.load_workbook(folder / "tco.xlsx")["Summary"]
    rows = {row[0].value: [cell.value for cell in row[1:]] for row in sheet.iter_rows()}
    ids = next(values for label, values in rows.items() if str(label).startswith("Expected, over"))
    assert said.recommended is not None
    assert sheet["A4"].value == f"Recommended: {said.candidate(said.recommended).name}"
    for column, ident in enumerate(i for i in ids if i):
        one = said.candidate(ident)
        assert one.cost is not None
        assert rows["Expected present value"][column] == pytest.approx(one.cost.expected_npv_usd, rel=1e-12)
        assert (rows["Keeps every rule"][column] == "yes") == one.feasible


def test_the_commands_name_the_same_candidate(capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for command in (["compare"], ["tco", "--draws", "256"]):
        main([command[0], "math-tutor", *command[1:], "--json"])
        found.append(json.loads(capsys.readouterr().out))
    said, costs = found
    assert costs["recommended"] == said["recommended"]
    assert costs["reasons"] == said["reasons"]
    by_id = {c["id"]: c["cost"] for c in said["candidates"]}
    assert {c["id"]: c["cost"] for c in costs["candidates"]} == by_id


VALUES = arrays.arrays(np.float64, 5, elements=some.floats(0, 1e6, allow_subnormal=False))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    VALUES, VALUES, some.lists(some.booleans(), min_size=5, max_size=5),
    some.sampled_from(["leak", "wrong_answer", "downtime", "silent_model_change"]),
)  # fmt: skip
def test_the_map_ranks_as_the_verdict_does(
    costs: np.ndarray, exposures: np.ndarray, feasible: list[bool], failure: Any
) -> None:
    from envelope.plan.rules.exposure import Exposure

    found = [
        CandidateResult(
            id=str(i), name=str(i), feasible=ok, constraints=(), cost_npv=usd,
            exposures=(Exposure(failure=failure, value=value, unit="", text="", basis=""),),
        )
        for i, (usd, value, ok) in enumerate(zip(costs.tolist(), exposures.tolist(), feasible, strict=True))
    ]  # fmt: skip
    first = next(iter(ranked(found, failure)), None)
    best = int(best_of(costs, exposures, np.array(feasible), failure))
    if first is None:
        assert best == -1
    else:
        assert costs[best] == first.cost_npv
        assert feasible[best]

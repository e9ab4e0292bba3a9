"""Sizing equals brute force on small grids, its bounds hold, and its answer keeps every constraint."""

import itertools
import json

import pytest

from envelope.cli import main
from envelope.errors import InputError
from envelope.perf.replica import from_pool
from envelope.plan.case.case import case_of
from envelope.plan.case.scenarios import load_scenario
from envelope.plan.compare import compare
from envelope.plan.service.busiest import simulate_peak
from envelope.plan.size.bounds import requests_per_s_bound
from envelope.plan.size.grid import Grid, configurations, grid_for, kinds_of
from envelope.plan.size.search import Sized, pareto, size
from envelope.spec.replace import with_value
from envelope.spec.scenario import Scenario

TUTOR = load_scenario("math-tutor")
TUTOR = TUTOR.model_copy(update={"simulation": TUTOR.simulation.model_copy(update={"max_requests": 1200, "seeds": 1})})


def busy(requests_per_seat_day: float) -> Scenario:
    work = with_value(TUTOR.workload, "requests_per_seat_day", requests_per_seat_day)
    return TUTOR.model_copy(update={"workload": work})


SMALL = Grid(
    models=("gpt-oss-120b", "qwen3-32b"), hardware=("nvidia-l40s-48gb", "nvidia-h100-sxm-80gb"), tp=(1, 2),
    replicas=(1, 2, 4), kv=("bf16",), weights=("native",),
)  # fmt: skip


def brute_force(scenario: Scenario, grid: Grid) -> tuple[str, float] | None:
    """Return the cheapest feasible configuration by evaluating every one with ``compare``."""
    best: tuple[str, float] | None = None
    for kind, count in itertools.product(kinds_of(grid), grid.replicas):
        candidate = case_of(scenario, kind).with_replicas(count).candidate
        alone = scenario.model_copy(update={"candidates": (candidate,)})
        result = compare(alone, seeds=1).candidates[0]
        if result.feasible and result.cost_npv is not None and (best is None or result.cost_npv < best[1]):
            best = (f"{count} × {kind.name}", result.cost_npv)
    return best


@pytest.mark.parametrize("load", [6.0, 120.0])
def test_the_answer_equals_brute_force(load: float) -> None:
    found = size(busy(load), SMALL, explore=0)
    expected = brute_force(busy(load), SMALL)
    assert found.best is not None
    assert expected is not None
    assert (found.best.text, found.best.cost_npv) == (expected[0], pytest.approx(expected[1]))
    assert found.optimality_gap_frac == 0
    assert len(found.simulated) < configurations(SMALL)


@pytest.mark.parametrize(
    ("model", "hardware"), [("gpt-oss-120b", "nvidia-h100-sxm-80gb"), ("qwen3-32b", "nvidia-l40s-48gb")]
)
def test_no_replica_serves_more_than_the_bound(model: str, hardware: str) -> None:
    kind = next(kinds_of(Grid(models=(model,), hardware=(hardware,), tp=(4,))))
    scenario = busy(600.0).model_copy(update={"candidates": (kind,)})
    bound = requests_per_s_bound(scenario, from_pool(kind.pools[0]))
    result = simulate_peak(case_of(scenario, kind), seeds=1).result
    assert result.utilisation_frac > 0.9
    assert result.output_tokens_per_s / result.overall.mean_output_tokens < bound


def test_renting_is_weighed_against_buying_and_equals_brute_force() -> None:
    grid = SMALL.model_copy(update={"models": ("qwen3-32b",), "acquire": ("purchase", "reserved_1y", "on_demand")})
    free = with_value(TUTOR, "constraints.private_stays", False)
    found, expected = size(free, grid, explore=0), brute_force(free, grid)
    assert found.best is not None
    assert expected is not None
    assert (found.best.text, found.best.cost_npv) == (expected[0], pytest.approx(expected[1]))
    assert configurations(grid) == 3 * configurations(grid.model_copy(update={"acquire": ("purchase",)}))


def test_rented_devices_are_ruled_out_where_private_requests_must_stay() -> None:
    private = with_value(TUTOR, "workload.tasks[0].sensitivity", "private")
    grid = SMALL.model_copy(update={"models": ("qwen3-32b",), "acquire": ("reserved_1y",)})
    found = size(private, grid)
    assert found.best is None
    assert found.simulated == ()
    assert found.pruned.get("privacy")


def test_devices_that_nobody_rents_out_are_left_out() -> None:
    grid = Grid(models=("llama-3.1-8b",), hardware=("apple-m4-pro-64gb",), tp=(1,), replicas=(1, 2), acquire=("spot",))
    assert size(TUTOR, grid).pruned == {"not for rent": 2}


def test_a_spare_replica_is_bought_and_not_counted_on() -> None:
    plain = size(TUTOR, SMALL, explore=0).best
    spare = size(TUTOR, SMALL.model_copy(update={"spare": 1}), explore=0).best
    assert plain is not None
    assert spare is not None
    assert spare.candidate.pools == plain.candidate.pools
    assert spare.candidate.operations.spares == 1
    # It is what the same candidate costs in a scenario, over a week in which machines fail.
    alone = TUTOR.model_copy(update={"candidates": (spare.candidate,)})
    said = compare(alone, seeds=1).candidates[0]
    assert (said.cost_npv, said.slo_attainment_frac) == (spare.cost_npv, spare.slo_attainment_frac)
    bought = {line.id: line.npv_usd for line in said.lines if line.group == "hardware"}
    assert sum(bought.values()) > 0
    assert "spares" not in {line.id for line in said.lines}


def test_the_answer_keeps_every_constraint_and_the_pareto_set_none_beats() -> None:
    found = size(TUTOR, SMALL, explore=6)
    assert found.best is not None
    alone = TUTOR.model_copy(update={"candidates": (found.best.candidate,)})
    assert compare(alone, seeds=1).candidates[0].feasible
    assert found.best in found.pareto
    for a, b in itertools.permutations(found.pareto, 2):
        better = (a.cost_npv <= b.cost_npv, (a.latency_p95_s or 0) <= (b.latency_p95_s or 0),
                  a.goodput_per_s >= b.goodput_per_s, a.power_max_w <= b.power_max_w)  # fmt: skip
        assert not all(better) or (a.cost_npv, a.latency_p95_s) == (b.cost_npv, b.latency_p95_s)


def test_a_stopped_search_states_its_gap() -> None:
    found = size(busy(120.0), SMALL, max_simulations=1, explore=0)
    assert len(found.simulated) == 1
    if found.best is None:
        assert found.lower_bound_usd is not None
        assert "none was feasible yet" in found.explanation


def test_what_cannot_run_is_ruled_out_without_simulation() -> None:
    grid = Grid(models=("deepseek-v3",), hardware=("nvidia-l40s-48gb",), tp=(1, 2), replicas=(1, 2))
    found = size(TUTOR, grid)
    assert found.best is None
    assert found.simulated == ()
    assert found.pruned == {"weights_fit": 4}


def test_the_pareto_set_of_nothing_is_empty() -> None:
    none: list[Sized] = []
    assert pareto(none) == []


def test_a_grid_starts_from_a_candidate() -> None:
    assert grid_for(TUTOR, "own-qwen3-32b").models == ("qwen3-32b",)
    with pytest.raises(InputError, match="nearest 'own-qwen3-32b'"):
        grid_for(TUTOR, "own-qwen3-32")
    with pytest.raises(InputError, match="no devices to size"):
        grid_for(TUTOR, "hosted-mistral")


def test_the_command_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["size", "math-tutor", "--candidate", "own-qwen3-32b", "--tp", "2", "--replicas", "1,2", "--kv", "fp8"]
    assert main([*args, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["best"]["feasible"]
    assert main(args) == 0
    assert "Pareto" in capsys.readouterr().out

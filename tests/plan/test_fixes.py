"""Fixes are found by search: applied, they make the candidate feasible, and a little less does not."""

from typing import Any

import pytest

from envelope.errors import InputError
from envelope.plan.compare import compare
from envelope.plan.fixes_path import applied, value_at, with_value
from envelope.plan.results import CandidateResult
from envelope.plan.scenarios import load_scenario
from envelope.spec.scenario import Scenario

FIELD = load_scenario("field-devices")
FIELD = FIELD.model_copy(update={"simulation": FIELD.simulation.model_copy(update={"max_requests": 300})})


def fixed(scenario: Scenario, ident: str) -> CandidateResult:
    return compare(scenario, seeds=1, only=[ident], fixes=True).candidates[0]


def feasible(scenario: Scenario, ident: str) -> bool:
    return compare(scenario, seeds=1, only=[ident]).candidates[0].feasible


def with_(scenario: Scenario, **changes: Any) -> Scenario:
    for path, value in changes.items():
        scenario = with_value(scenario, path.replace("__", "."), value)
    return scenario


CASES = {
    "an API in an offline, private scenario": (FIELD, "hosted-small"),
    "a device that is too slow": (FIELD, "pi-1b"),
    "a budget that is too small": (with_(FIELD, constraints__budget_usd=1e5), "laptop-8b"),
    "a site with too little power": (with_(FIELD, constraints__max_power_w=1000.0), "laptop-8b"),
    "too few tasks solved": (load_scenario("math-tutor"), "own-llama-8b"),
    "rented devices for private work": (load_scenario("coding-assistant"), "rented-v4-flash"),
    "a model that may change": (load_scenario("file-editing-agent"), "hosted-frontier"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_fix_applied_makes_the_candidate_feasible(name: str) -> None:
    scenario, ident = CASES[name]
    result = fixed(scenario, ident)
    assert not result.feasible
    assert result.fixes
    for fix in result.fixes:
        assert feasible(applied(scenario, fix.changes), ident)
        assert all(c.text in fix.text for c in fix.changes)
    assert any(c.fix for c in result.constraints if not c.satisfied)


def test_too_small_a_fleet_is_mended_by_the_deployment_alone() -> None:
    tutor = load_scenario("math-tutor")
    work = with_value(tutor.workload, "requests_per_seat_day", 250.0)
    busy = with_(tutor.model_copy(update={"workload": work}), constraints__budget_usd=9e6)
    fix = fixed(busy, "own-gpt-oss-120b").fixes[0]
    assert not fix.concession
    assert feasible(applied(busy, fix.changes), "own-gpt-oss-120b")
    for change in fix.changes:
        if change.path.endswith("pools[0].replicas"):
            fewer = [c.model_copy(update={"value": c.value - 1}) if c == change else c for c in fix.changes]
            assert not feasible(applied(busy, fewer), "own-gpt-oss-120b")


def test_weights_that_do_not_fit_are_mended_by_a_lighter_format_or_more_devices() -> None:
    path = "candidates[own-llama-70b].pools[0]"
    coding = load_scenario("coding-assistant")
    for name, value in (("weights", "bf16"), ("parallelism", {"tp": 1})):
        coding = with_value(coding, f"{path}.{name}", value)
    result = fixed(coding, "own-llama-70b")
    assert "memory" in {c.id for c in result.constraints if not c.satisfied}
    assert result.fixes
    assert feasible(applied(coding, result.fixes[0].changes), "own-llama-70b")


def test_feasible_candidates_have_no_fixes() -> None:
    assert fixed(FIELD, "laptop-8b").fixes == ()


def test_values_are_read_and_changed_by_path() -> None:
    path = "candidates[laptop-8b].pools[0].settings.max_context_tokens"
    assert value_at(with_value(FIELD, path, 4096), path) == 4096
    assert value_at(FIELD, "workload.tasks[notes].slo.ttft_s") == FIELD.workload.tasks[0].slo.ttft_s


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("constraints.budget", "nearest 'budget_usd'"),
        ("candidates[laptop-8].name", "nearest 'laptop-8b'"),
        ("candidates[99].name", "has no entry"),
        ("", "is empty"),
        ("a b", "is no path"),
    ],
)
def test_a_path_that_does_not_exist_is_refused_with_the_nearest(path: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        value_at(FIELD, path)


def test_a_value_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(InputError, match=r"constraints.budget_usd: -1"):
        with_value(FIELD, "constraints.budget_usd", -1)

"""Fixes are found by search: applied, they make the candidate feasible, and a little less does not."""

from typing import Any

import pytest

from envelope.plan.case.scenarios import load_scenario
from envelope.plan.compare import compare
from envelope.plan.fixes.fixes import applied
from envelope.plan.verdict.results import CandidateResult
from envelope.spec.replace import with_value
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
    work = with_value(tutor.workload, "requests_per_seat_day", 400.0)
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


SERVICE = {"served_min_frac": "served", "solved_min_frac": "solved", "slo_attainment_min_frac": "slo_attainment"}


@pytest.mark.parametrize("limit", SERVICE)
def test_a_service_limit_flips_exactly_at_what_the_candidate_reaches(limit: str) -> None:
    found = compare(FIELD, seeds=1, only=["pi-1b"]).candidates[0]
    value = next(c.value for c in found.constraints if c.id == SERVICE[limit])
    assert value is not None
    for asked, kept in ((value, True), (min(value + 1e-9, 1.0), value == 1.0)):
        result = compare(with_(FIELD, **{f"constraints__{limit}": asked}), seeds=1, only=["pi-1b"]).candidates[0]
        assert {c.id: c.satisfied for c in result.constraints}[SERVICE[limit]] is kept


def test_rack_space_flips_at_the_units_of_the_servers() -> None:
    tutor = load_scenario("math-tutor")
    for units, kept in ((2.0, None), (1e-6, False), (1e6, True)):
        scenario = with_value(tutor, "constraints.max_rack_units", units)
        result = compare(scenario, seeds=1, only=["own-qwen3-32b"]).candidates[0]
        rule = next(c for c in result.constraints if c.id == "rack_space")
        assert rule.value is not None
        assert rule.satisfied == (rule.value <= units)
        assert kept is None or rule.satisfied is kept
    exact = with_value(tutor, "constraints.max_rack_units", rule.value)
    result = compare(exact, seeds=1, only=["own-qwen3-32b"]).candidates[0]
    assert next(c for c in result.constraints if c.id == "rack_space").satisfied


def test_growth_flips_at_what_the_last_year_reaches() -> None:
    tutor = with_(
        load_scenario("math-tutor"), constraints__slo_attainment_min_frac=0.5, constraints__served_min_frac=0.0,
        capacity__growth="keep",
    )  # fmt: skip
    result = compare(tutor, seeds=1, only=["own-qwen3-32b"]).candidates[0]
    value = next(c.value for c in result.constraints if c.id == "growth")
    assert value is not None
    exact = compare(with_(tutor, constraints__slo_attainment_min_frac=value), seeds=1, only=["own-qwen3-32b"])
    assert next(c for c in exact.candidates[0].constraints if c.id == "growth").satisfied
    if value < 1.0:
        above = compare(
            with_(tutor, constraints__slo_attainment_min_frac=value + 1e-9), seeds=1, only=["own-qwen3-32b"]
        )
        assert not all(c.satisfied for c in above.candidates[0].constraints if c.id in {"growth", "slo_attainment"})


def test_the_staff_limit_flips_at_the_people_that_the_costs_count() -> None:
    from envelope.spec.economic_facts import facts

    known = facts().defaults
    tutor = load_scenario("math-tutor")
    # Four pairs of devices are one node of eight.
    need = known["fte_base_selfhost"].value + known["fte_per_node"].value
    for limit, kept in ((need, True), (need - 1e-9, False)):
        result = compare(with_value(tutor, "constraints.max_staff_fte", limit), seeds=1, only=["own-qwen3-32b"])
        assert {c.id: c.satisfied for c in result.candidates[0].constraints}["staff"] is kept
    short = with_value(tutor, "constraints.max_staff_fte", 0.3)
    assert feasible(short, "hosted-mistral")
    fix = fixed(short, "own-qwen3-32b").fixes[0]
    assert feasible(applied(short, fix.changes), "own-qwen3-32b")


@pytest.mark.parametrize(
    "name", ["archive-reader", "coding-assistant", "field-devices", "file-editing-agent", "math-tutor"]
)
def test_every_fix_of_every_shipped_scenario_works(name: str) -> None:
    scenario = load_scenario(name)
    for result in compare(scenario, seeds=1, fixes=True).candidates:
        if result.feasible:
            assert result.fixes == ()
            continue
        assert result.fixes, result.id
        for fix in result.fixes:
            assert feasible(applied(scenario, fix.changes), result.id), fix.text
            assert fix.concession == any(c.concession for c in fix.changes)


def test_a_single_change_is_preferred_to_a_pair_and_the_cheaper_to_the_dearer() -> None:
    # Too little memory: a lighter cache, lighter weights or more devices each do alone.
    # Few agents: that a quarter of their calls does not fit the model's 128 k is another question.
    few = with_value(load_scenario("coding-assistant"), "workload.tasks[agent].share", 0.01)
    coding = with_value(few, "candidates[own-llama-70b].pools[0].parallelism", {"tp": 1})
    fix = fixed(coding, "own-llama-70b").fixes[0]
    assert not fix.concession
    options = {change.path.rsplit(".", 1)[1] for change in fix.changes}
    single = applied(coding, fix.changes[:1])
    assert len(options) == 1 or not feasible(single, "own-llama-70b")


def test_an_slo_is_moved_no_further_than_needed() -> None:
    short = with_value(FIELD, "workload.tasks[notes].slo.ttft_s", 0.5)
    result = fixed(short, "laptop-8b")
    assert not result.feasible
    for fix in result.fixes:
        moved = [c for c in fix.changes if ".slo." in c.path]
        assert feasible(applied(short, fix.changes), "laptop-8b")
        if moved and len(fix.changes) == 1:
            less = [moved[0].model_copy(update={"value": 0.9 * moved[0].value})]
            assert not feasible(applied(short, less), "laptop-8b")


def test_a_context_too_long_for_the_memory_is_shortened_to_what_fits() -> None:
    coding = load_scenario("coding-assistant")
    path = "candidates[own-llama-70b].pools[0]"
    tight = with_value(with_value(coding, f"{path}.parallelism", {"tp": 1}), f"{path}.hardware", "nvidia-h100-sxm-80gb")
    result = fixed(tight, "own-llama-70b")
    contexts = [c for fix in result.fixes for c in fix.changes if c.path.endswith("max_context_tokens")]
    for change in contexts:
        assert change.value < 131_072
    assert result.fixes


def test_limits_of_site_money_and_people_are_conceded_just_as_far_as_needed() -> None:
    tutor = load_scenario("math-tutor")
    limits = {
        "budget_usd": 1e5,
        "max_power_w": 100.0,
        "max_cooling_w": 100.0,
        "max_staff_fte": 0.1,
        "max_rack_units": 1.0,
    }
    for name, low in limits.items():
        result = fixed(with_value(tutor, f"constraints.{name}", low), "own-qwen3-32b")
        conceded = next(f for f in result.fixes if f.concession)
        assert [c.path for c in conceded.changes] == [f"constraints.{name}"]
        new = float(conceded.changes[0].value)
        assert feasible(with_value(tutor, f"constraints.{name}", new), "own-qwen3-32b")
        assert not feasible(with_value(tutor, f"constraints.{name}", 0.98 * new), "own-qwen3-32b")


def test_an_api_that_may_not_see_private_requests_gets_local_pools_for_them() -> None:
    result = fixed(load_scenario("coding-assistant"), "hosted-frontier")
    assert any("private requests go to" in f.text for f in result.fixes if not f.concession)

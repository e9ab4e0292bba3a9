"""Limits that need no simulation: each flips exactly at its threshold and states its margin."""

from typing import Any

import pytest

from envelope.plan.case.case import case_of
from envelope.plan.case.scenarios import load_scenario
from envelope.plan.rules.licence_terms import changes_weights, licence_constraint
from envelope.plan.rules.rule import ConstraintResult
from envelope.plan.rules.static import static_rules
from envelope.spec.hardware import ServerProfile
from envelope.spec.hosted import HostedModel
from envelope.spec.licence import Licence, Territory
from envelope.spec.load import load
from envelope.spec.model import Model
from envelope.spec.replace import with_value
from envelope.spec.scenario import Scenario

CODING = load_scenario("coding-assistant")
OWN = "own-llama-70b"
SERVER = load(ServerProfile, "servers", "nvidia-hgx-h100-oem", file="test", path="")


def rule(scenario: Scenario, ident: str, candidate: str = OWN) -> ConstraintResult | None:
    """Return one constraint of a candidate, without simulating it."""
    chosen = next(c for c in scenario.candidates if c.id == candidate)
    found = static_rules(case_of(scenario, chosen))
    return next((c for c in found if c.id == ident), None)


def with_(**changes: Any) -> Scenario:
    scenario = CODING
    for path, value in changes.items():
        scenario = with_value(scenario, path.replace("__", "."), value)
    return scenario


@pytest.mark.parametrize(
    ("ident", "limit", "threshold"),
    [
        # One server of eight devices holds both replicas of four.
        ("power", "constraints__max_power_w", SERVER.power_max_w),
        ("cooling", "constraints__max_cooling_w", SERVER.power_max_w),
        ("rack_space", "constraints__max_rack_units", SERVER.rack_units),
    ],
)
def test_a_limit_of_the_site_flips_at_what_the_servers_need(ident: str, limit: str, threshold: float) -> None:
    for factor, kept in ((1.0, True), (1 - 1e-9, False), (2.0, True)):
        found = rule(with_(**{limit: threshold * factor}), ident)
        assert found is not None
        assert found.satisfied is kept
        assert found.value == threshold
        assert found.margin_frac == pytest.approx(1 - 1 / factor, abs=1e-12)
    assert rule(with_(**{limit: threshold}), ident, "rented-v4-flash") is None


def test_cooling_is_a_limit_of_its_own() -> None:
    scenario = with_(constraints__max_power_w=2 * SERVER.power_max_w, constraints__max_cooling_w=SERVER.power_max_w / 2)
    power, cooling = rule(scenario, "power"), rule(scenario, "cooling")
    assert power is not None
    assert cooling is not None
    assert (power.satisfied, cooling.satisfied) == (True, False)


def test_a_server_cooled_by_liquid_needs_a_loop() -> None:
    path = "candidates[own-llama-70b]"
    racks = with_value(CODING, f"{path}.acquisition.server", "nvidia-gb300-nvl72")
    racks = with_value(racks, f"{path}.pools[0].hardware", "nvidia-gb300-288gb")
    assert rule(racks, "liquid_cooling") is None
    dry = rule(with_value(racks, "constraints.liquid_cooling", False), "liquid_cooling")
    assert dry is not None
    assert not dry.satisfied
    air = rule(with_(constraints__liquid_cooling=False), "liquid_cooling")
    assert air is not None
    assert air.satisfied


def test_devices_without_a_named_server_cannot_be_placed_in_a_rack() -> None:
    bare = with_(**{f"candidates[{OWN}].acquisition.server": None, "constraints.max_rack_units": 100.0})
    found = rule(bare, "rack_space")
    assert found is not None
    assert not found.satisfied
    assert "not known" in found.explanation


def test_a_snapshot_must_live_for_the_whole_horizon() -> None:
    pinned = next(h for h in _hosted() if h.lifecycle.pinned and h.lifecycle.life_months >= 12)
    months = int(pinned.lifecycle.life_months)
    scenario = with_(**{"candidates[hosted-frontier].hosted.api": pinned.id, "constraints.pinned_model": True})
    for horizon, kept in ((months, True), (months + 1, False)):
        found = rule(with_value(scenario, "economics.horizon_months", horizon), "pinned_model", "hosted-frontier")
        assert found is not None
        assert found.satisfied is kept


def test_requests_may_be_held_in_regions_that_the_provider_offers() -> None:
    scenario = with_(constraints__hosted_regions=("eu",))
    api = next(h for h in _hosted() if h.data.regions)
    path = "candidates[hosted-frontier].hosted.api"
    for region, kept in ((api.data.regions[0], True), ("atlantis", False)):
        changed = with_value(with_value(scenario, path, api.id), "constraints.hosted_regions", (region,))
        found = rule(changed, "region", "hosted-frontier")
        assert found is not None
        assert found.satisfied is kept


@pytest.mark.parametrize("allowed", [True, False])
def test_training_on_requests_is_a_matter_of_the_providers_terms(allowed: bool) -> None:
    api = next(h for h in _hosted() if h.data.trains_by_default)
    changed = with_value(CODING, "candidates[hosted-frontier].hosted.api", api.id)
    found = rule(with_value(changed, "constraints.hosted_may_train", allowed), "data_terms", "hosted-frontier")
    assert (found is None) is allowed
    if found is not None:
        assert not found.satisfied


def _hosted() -> list[HostedModel]:
    from envelope.spec.load import load_all

    return load_all(HostedModel, "hosted")


def terms(**facts: Any) -> Licence:
    """Return a licence of one's own making that grants commercial use."""
    origin = {"default": {"source": "test", "date": "2026", "evidence": "assumed"}}
    return Licence.model_validate({"id": "own", "name": "Own", "commercial_use": True, "sources": origin, **facts})


def licensed(licence: Licence, scenario: Scenario = CODING) -> ConstraintResult:
    model = load(Model, "models", "llama-3.3-70b", file="test", path="")
    return licence_constraint(scenario, next(c for c in scenario.candidates if c.id == OWN), model, licence)


def test_a_cap_on_users_flips_one_user_above_it() -> None:
    licence = terms(user_cap=1000, user_cap_effect="licence_needed")
    for users, kept in ((1000, True), (1001, False)):
        found = licensed(licence, with_(company__monthly_active_users=users))
        assert found.satisfied is kept
        assert found.margin_frac == pytest.approx(1 - users / 1000)


def test_a_cap_on_revenue_counts_the_month() -> None:
    licence = terms(revenue_cap_usd_per_month=1e6, revenue_cap_effect="licence_needed")
    assert licensed(licence, with_(company__annual_revenue_usd=12e6)).satisfied
    assert not licensed(licence, with_(company__annual_revenue_usd=12e6 + 1)).satisfied


def test_a_cap_that_only_asks_for_a_name_is_a_duty() -> None:
    licence = terms(user_cap=100, user_cap_effect="display_name", display_name="Own AI")
    small, large = (licensed(licence, with_(company__monthly_active_users=n)) for n in (100, 101))
    assert small.satisfied
    assert large.satisfied
    assert "Own AI" not in small.explanation
    assert 'show "Own AI"' in large.explanation


def test_adapted_weights_need_a_licence_that_allows_them() -> None:
    licence = terms(derivatives_allowed=False)
    for adaptation, kept in (("none", True), ("retrieval", True), ("lora", False), ("full", False)):
        scenario = with_value(CODING, f"candidates[{OWN}].adaptation", adaptation)
        assert changes_weights(next(c for c in scenario.candidates if c.id == OWN)) is not kept
        assert licensed(licence, scenario).satisfied is kept
    duty = licensed(terms(derivative_name_prefix="Own"), with_value(CODING, f"candidates[{OWN}].adaptation", "lora"))
    assert duty.satisfied
    assert 'start with "Own"' in duty.explanation


def test_weights_that_leave_the_company_need_the_right_to_pass_them_on() -> None:
    licence = terms(redistribution_allowed=False, attribution="keep the notice")
    assert licensed(licence).satisfied
    assert not licensed(licence, with_(company__redistributes_weights=True)).satisfied
    free = licensed(terms(attribution="keep the notice"), with_(company__redistributes_weights=True))
    assert free.satisfied
    assert "keep the notice" in free.explanation
    assert "keep the notice" not in licensed(terms(attribution="keep the notice")).explanation


def test_selling_the_model_as_a_service_needs_the_right_to_host() -> None:
    licence = terms(hosting_allowed=False)
    assert licensed(licence).satisfied
    assert not licensed(licence, with_(company__serves_third_parties=True)).satisfied


@pytest.mark.parametrize(
    ("home", "excluded", "kept"), [("DE", "EU", False), ("EU", "EU", False), ("US", "EU", True), ("DE", "FR", True)]
)
def test_a_territory_without_rights_excludes_its_members(home: str, excluded: str, kept: bool) -> None:
    licence = terms(excluded_territories=(Territory(territory=excluded),))
    assert licensed(licence, with_(company__territory=home)).satisfied is kept


@pytest.mark.parametrize(
    ("teacher", "kept"),
    [
        ("qwen3-32b", True),  # Apache-2.0
        ("llama-2-70b", False),  # forbids to improve other models
        ("llama-3.1-405b", True),  # allows it
        ("openai-gpt-5", False),  # nobody has read the terms
    ],
)
def test_a_teachers_licence_says_whether_its_outputs_may_train_another_model(teacher: str, kept: bool) -> None:
    assert licensed(terms(), with_value(CODING, f"candidates[{OWN}].trained_on", (teacher,))).satisfied is kept

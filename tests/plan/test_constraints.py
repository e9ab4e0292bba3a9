"""Each hard constraint flips a verdict exactly at its threshold, and says why."""

from typing import Any

import pytest

from envelope.plan.case.scenarios import load_scenario
from envelope.plan.compare import compare
from envelope.plan.verdict.results import CandidateResult
from envelope.spec import load
from envelope.spec.scenario import Scenario

FIELD = load_scenario("field-devices")


def with_(scenario: Scenario, **changes: Any) -> Scenario:
    """Return a scenario with nested fields replaced: ``constraints__offline=False``."""
    data = scenario.model_dump(mode="python")
    for path, value in changes.items():
        at = data
        *parents, last = path.split("__")
        for name in parents:
            at = at[name]
        at[last] = value
    return load.validate(Scenario, data, "test")


def only(scenario: Scenario, ident: str) -> CandidateResult:
    return compare(scenario, seeds=1, only=[ident]).candidate(ident)


def broken(result: CandidateResult) -> set[str]:
    return {c.id for c in result.constraints if not c.satisfied}


def test_offline_rules_out_what_needs_a_network() -> None:
    relaxed = with_(FIELD, constraints__private_stays=False, constraints__offline=False)
    assert "offline" in broken(only(FIELD, "hosted-small"))
    assert broken(only(relaxed, "hosted-small")) == set()


def test_privacy_rules_out_what_stands_outside_the_building() -> None:
    assert "privacy" in broken(only(FIELD, "hosted-small"))
    assert "privacy" not in broken(only(with_(FIELD, constraints__private_stays=False), "hosted-small"))


@pytest.mark.parametrize("ident", ["laptop-8b", "jetson-8b"])
def test_the_budget_flips_at_the_cost(ident: str) -> None:
    cost = only(FIELD, ident).cost_npv
    assert cost is not None
    assert "budget" in broken(only(with_(FIELD, constraints__budget_usd=cost - 1), ident))
    assert "budget" not in broken(only(with_(FIELD, constraints__budget_usd=cost + 1), ident))


def test_the_service_level_flips_at_the_attainment() -> None:
    found = only(FIELD, "pi-1b").slo_attainment_frac
    assert found is not None
    assert 0 < found < 1
    assert "slo_attainment" not in broken(only(with_(FIELD, constraints__slo_attainment_min_frac=found), "pi-1b"))
    assert "slo_attainment" in broken(only(with_(FIELD, constraints__slo_attainment_min_frac=found + 1e-6), "pi-1b"))


def test_the_power_limit_flips_at_the_limit_of_the_devices() -> None:
    need = only(FIELD, "laptop-8b").power_max_w
    assert need == 120 * load_power("intel-core-ultra-258v-32gb")
    assert "power" in broken(only(with_(FIELD, constraints__max_power_w=need - 1), "laptop-8b"))
    assert "power" not in broken(only(with_(FIELD, constraints__max_power_w=need), "laptop-8b"))


def load_power(ident: str) -> float:
    from envelope.spec.hardware import HardwareProfile

    return load.load(HardwareProfile, "hardware_profiles", ident, file="test", path="").power.max_w


def test_a_monthly_user_cap_flips_one_user_above_it() -> None:
    # Llama 3.1 Community License: 700 million monthly active users.
    cap = 700_000_000
    assert "licence.llama-3.1-8b" not in broken(only(with_(FIELD, company__monthly_active_users=cap), "laptop-8b"))
    over = only(with_(FIELD, company__monthly_active_users=cap + 1), "laptop-8b")
    assert "licence.llama-3.1-8b" in broken(over)
    assert any("700,000,000" in c.explanation for c in over.constraints)


def test_weights_that_do_not_fit_are_named_with_the_shortfall() -> None:
    data = FIELD.model_dump(mode="json", exclude_unset=True)
    data["candidates"][1]["pools"][0] |= {"model": "llama-3.3-70b", "hardware": "raspberry-pi-5-16gb"}
    result = only(load.validate(Scenario, data, "test"), "jetson-8b")
    assert "memory" in broken(result)
    assert result.service is None
    assert result.cost_npv is None
    assert any("short by" in c.explanation for c in result.constraints)


def test_every_constraint_has_an_explanation_with_numbers_or_a_reason() -> None:
    for candidate in compare(FIELD, seeds=1).candidates:
        for rule in candidate.constraints:
            assert len(rule.explanation) > 15
            if rule.margin_frac is not None:
                assert (rule.margin_frac >= 0) == rule.satisfied

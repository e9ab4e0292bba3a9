"""Exposure to failures in natural units, and a ranking that respects it before cost."""

from typing import Any

import pytest

from envelope.plan.case.scenarios import load_scenario
from envelope.plan.compare import compare
from envelope.plan.rules.exposure import Exposure
from envelope.plan.verdict.choice import ranked
from envelope.plan.verdict.results import CandidateResult, Comparison
from envelope.spec.evidence import EvidenceRecord, EvidenceSet
from envelope.spec.scenario import Failure, Scenario


@pytest.fixture(scope="module")
def tutor() -> Comparison:
    return compare(load_scenario("math-tutor"), seeds=1)


def candidate(ident: str, value: float, cost: float, failure: Failure = "wrong_answer", **more: Any) -> CandidateResult:
    exposure = Exposure(failure=failure, value=value, unit="", text="", basis="")
    return CandidateResult(
        id=ident, name=ident, feasible=True, constraints=(), cost_npv=cost, exposures=(exposure,), **more
    )


def order(*results: CandidateResult, failure: Failure = "wrong_answer") -> list[str]:
    return [r.id for r in ranked(results, failure)]


def test_a_safer_candidate_ranks_before_a_cheaper_one() -> None:
    assert order(candidate("cheap", 200, 1), candidate("safe", 100, 9)) == ["safe", "cheap"]


def test_noise_does_not_decide() -> None:
    assert order(candidate("cheap", 109, 1), candidate("safe", 100, 9)) == ["cheap", "safe"]
    assert order(candidate("cheap", 111, 1), candidate("safe", 100, 9)) == ["safe", "cheap"]


@pytest.mark.parametrize(
    ("failure", "small", "large"), [("downtime", 0.9, 1.1), ("leak", 0.4, 1.0), ("silent_model_change", 0.4, 1.0)]
)
def test_each_failure_has_a_difference_that_does_not_count(failure: Failure, small: float, large: float) -> None:
    for value, expected in ((small, ["cheap", "safe"]), (large, ["safe", "cheap"])):
        found = order(candidate("cheap", value, 1, failure), candidate("safe", 0, 9, failure), failure=failure)
        assert found == expected


def test_infeasible_candidates_are_not_ranked() -> None:
    bad = candidate("bad", 0, 0).model_copy(update={"feasible": False})
    assert order(bad, candidate("good", 5, 5)) == ["good"]


def test_wrong_answers_are_what_is_served_and_not_solved(tutor: Comparison) -> None:
    for result in tutor.candidates:
        assert result.service is not None
        assert result.solved_frac is not None
        wrong = (result.service.served_frac - result.solved_frac) * tutor.requests_per_year
        exposure = result.exposure("wrong_answer")
        assert exposure is not None
        assert exposure.value == pytest.approx(wrong, rel=1e-6)


def test_a_hosted_api_is_down_for_the_rest_of_its_availability(tutor: Comparison) -> None:
    from envelope.spec.hosted import HostedModel
    from envelope.spec.load import load

    api = load(HostedModel, "hosted", "mistral-mistral-large-4", file="test", path="")
    exposure = tutor.candidate("hosted-mistral").exposure("downtime")
    assert exposure is not None
    assert exposure.value == pytest.approx((1 - api.availability.frac) * 8766)


def test_only_an_unpinned_api_may_change_in_silence() -> None:
    result = compare(load_scenario("deepseek-production"), seeds=1)
    hosted, own = result.candidate("hosted-deepseek"), result.candidate("h800-nodes")
    assert hosted.exposure("silent_model_change").value == pytest.approx(365.25)  # type: ignore[union-attr]
    assert own.exposure("silent_model_change").value == 0  # type: ignore[union-attr]


def test_overrun_is_the_p90_beyond_the_budget() -> None:
    from envelope.money.uncertainty import uncertainty
    from envelope.plan.cost.study import cost_models

    scenario = load_scenario("math-tutor")
    p90 = (
        uncertainty(cost_models(scenario, only=["own-llama-8b"], seeds=1).models, draws=256)
        .candidates[0]
        .cost_npv_usd.p90
    )
    for budget, beyond in ((None, p90), (p90 - 1e5, 1e5), (p90 * 1.1, 0.0)):
        limits = scenario.constraints.model_copy(update={"budget_usd": budget})
        changed = scenario.model_copy(update={"constraints": limits})
        exposure = compare(changed, seeds=1, only=["own-llama-8b"]).candidate("own-llama-8b").exposure("cost_overrun")
        assert exposure is not None
        assert exposure.value == pytest.approx(beyond, abs=0.02 * p90)


def test_probes_of_tools_count_as_unsafe_actions() -> None:
    scenario = load_scenario("file-editing-agent")
    probes = EvidenceRecord(
        model="deepseek-v4-flash", task="unsafe-tool-use", trials=999, passes=997, date="2026", harness="ours"
    )

    def unsafe(work: Scenario) -> Exposure:
        found = compare(work, seeds=1, only=["own-v4-flash"]).candidates[0].exposure("unsafe_tool_use")
        assert found is not None
        return found

    tested = unsafe(scenario.model_copy(update={"evidence": EvidenceSet(records=(probes,))}))
    assert tested.evidence == "measured"
    assert tested.value == pytest.approx(2.5 / 1000 * 16000 * 365.25, rel=0.01)
    assert unsafe(scenario).value > 20 * tested.value

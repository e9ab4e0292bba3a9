"""The mean request of a workload is the same wherever it is asked for: beside models, on the map of fits, in the bill."""

import pytest

from envelope.plan.case.scenarios import load_scenario
from envelope.plan.chain import judged
from envelope.plan.deployment.sparse import mean_request
from envelope.spec.load import ids


@pytest.mark.parametrize("ident", ids("scenarios"))
def test_models_are_compared_at_the_request_that_candidates_serve(ident: str) -> None:
    scenario = load_scenario(ident).replace("simulation", {"seeds": 1, "max_requests": 300})
    found = judged(scenario, scenario.candidates[0], seeds=1, quick=True)
    use = found.years[0].use
    prompt, answer = mean_request(scenario)
    assert prompt == pytest.approx(use.input_tokens, rel=1e-3)
    assert answer == pytest.approx(use.output_tokens, rel=2e-2)

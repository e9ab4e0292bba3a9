"""What fits agrees with the estimate of the same deployment, context by context and format by format."""

import pytest

from envelope.perf.memory import fit
from envelope.plan.case.scenarios import load_scenario
from envelope.plan.deployment.estimate import EstimateQuery, estimate_query, resolve_query
from envelope.plan.deployment.fit_map import candidate_memory, fit_map, format_choices, pool_query
from envelope.plan.deployment.operator_roofline import operator_roofline
from envelope.plan.deployment.sparse import mean_request

QUERY = EstimateQuery(model="llama-3.3-70b", hardware="nvidia-h100-sxm-80gb", count=4, weights="fp8", concurrency=64)


def test_sequences_held_times_their_cache_fill_the_memory_left() -> None:
    found = fit_map(QUERY)
    device = found.memory.domains[0]
    for context, held in zip(found.contexts_tokens, found.held, strict=True):
        one = context * found.memory.kv_bytes_per_token
        assert held * one <= device.kv_bytes < (held + 1) * one


def test_two_replicas_hold_twice_as_much() -> None:
    two = fit_map(QUERY.model_copy(update={"count": 8, "tp": 4}))
    assert two.held == tuple(2 * held for held in fit_map(QUERY).held)


def test_contexts_end_where_the_model_does() -> None:
    found = fit_map(EstimateQuery(model="llama-2-13b", hardware="nvidia-l40s-48gb"))
    assert found.contexts_tokens[-1] == 4096


def test_what_is_too_large_holds_nothing_and_says_why() -> None:
    found = fit_map(EstimateQuery(model="llama-3.3-70b", hardware="nvidia-h100-sxm-80gb"))
    assert set(found.held) == {0}
    assert "short by" in found.reasons[0]
    assert found.used_frac(1024, 1) is None


def test_a_format_choice_is_the_estimate_in_that_format() -> None:
    choices = format_choices(QUERY)
    for choice in choices:
        named = QUERY.model_copy(update={"weights": choice.weights, "kv": choice.kv})
        expected = estimate_query(named)
        assert choice.fits == expected.feasible
        assert choice.itl_s == expected.itl_s
        assert choice.output_tokens_per_s == expected.output_tokens_per_s
    assert [c.fits for c in choices] == sorted((c.fits for c in choices), reverse=True)


def test_the_checkpoints_own_format_is_listed_once() -> None:
    assert "bf16" not in {c.weights for c in format_choices(QUERY)}


def test_every_local_pool_is_shown_with_its_memory() -> None:
    scenario = load_scenario("coding-assistant")
    found = candidate_memory(scenario)
    assert [(m.candidate, m.pool) for m in found] == [
        (c.id, i) for c in scenario.candidates for i in range(len(c.pools))
    ]
    candidate = next(c for c in scenario.candidates if c.id == found[0].candidate)
    query = pool_query(scenario, candidate.pools[0])
    assert (query.input, query.output) == mean_request(scenario)
    assert found[0].memory.equation == fit(resolve_query(query, "test")[0]).equation


def test_operators_keep_below_the_roof_and_take_part_of_the_step() -> None:
    found = operator_roofline(QUERY)
    peak = found.roofs[-1].flop_per_s
    for point in found.points:
        assert point.flop_per_s <= min(peak, point.intensity_flop_per_byte * found.bandwidth_bytes_per_s) * (1 + 1e-9)
    for phase, step_s in found.step_s.items():
        shown = sum(p.time_s for p in found.points if p.phase == phase)
        assert found.shown_frac[phase] == pytest.approx(shown / step_s)
        assert 0 < found.shown_frac[phase] < 1


def test_decoding_one_sequence_is_bound_by_memory_and_a_long_prefill_by_compute() -> None:
    found = operator_roofline(QUERY.model_copy(update={"concurrency": 1, "input": 4096}))
    bounds = {(p.phase, p.name): p.bound for p in found.points}
    assert bounds["decode", "ffn_in"] == "memory"
    assert bounds["prefill", "ffn_in"] == "compute"

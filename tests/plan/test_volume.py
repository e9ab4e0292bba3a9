"""Costs by volume of work: what the planned replicas carry, and the machines beyond it."""

import pytest

from envelope.plan.case.case import case_of
from envelope.plan.case.scenarios import load_scenario
from envelope.plan.chain import judged
from envelope.plan.cost.volume import HIGHEST, Volume, headroom, volume_costs
from envelope.plan.service.busiest import simulate_peak
from envelope.plan.service.level import service_level
from envelope.spec.scenario import Candidate

SCENARIO = load_scenario("math-tutor")


def quiet(*_: object) -> None:
    return None


def candidate(ident: str) -> Candidate:
    return next(c for c in SCENARIO.candidates if c.id == ident)


def costs(ident: str) -> Volume:
    return volume_costs(judged(SCENARIO, candidate(ident), seeds=1), tick=quiet)


@pytest.fixture(scope="module")
def own() -> Volume:
    return costs("own-qwen3-32b")


def test_the_planned_replicas_carry_what_is_said_and_not_much_more(own):
    planned = case_of(SCENARIO, candidate("own-qwen3-32b"))
    limit = SCENARIO.constraints.slo_attainment_min_frac

    def kept(factor: float) -> float:
        other = planned.at_demand(factor)
        return service_level(other.scenario, simulate_peak(other, seeds=1)).slo_attainment_frac

    assert 1 < own.carried < HIGHEST
    assert kept(own.carried) >= limit
    assert kept(1.2 * own.carried) < limit


def test_machines_step_up_beyond_what_the_planned_ones_carry(own):
    counts = [sum(a.count for a in m.years[0].owned) for m in own.surface.models]
    assert counts == sorted(counts)
    planned = counts[own.surface.factors.index(1.0)]
    for factor, count in zip(own.surface.factors, counts, strict=True):
        assert (count > planned) == (factor > own.carried)


def test_work_follows_the_volume_and_idle_power_the_machines(own):
    planned = own.surface.models[own.surface.factors.index(1.0)].years[0]
    years = dict(zip(own.surface.factors, (m.years[0] for m in own.surface.models), strict=True))
    slopes = []
    for factor, year in years.items():
        assert year.requests == pytest.approx(factor * planned.requests)
        if factor != 1.0 and year.owned == planned.owned:
            slopes.append((year.it_kwh - planned.it_kwh) / (factor - 1))
    # energy above idle per unit of work is the same wherever the machines are; idle energy does not grow with work
    assert slopes == pytest.approx([slopes[0]] * len(slopes))
    assert 0 < slopes[0] < planned.it_kwh


def test_the_load_of_the_machines_never_exceeds_what_they_carry(own):
    assert own.load_frac(1.0) == pytest.approx(1 / own.carried)
    last = max(f for f in own.surface.factors if f <= own.carried)
    assert own.load_frac(last) == pytest.approx(last / own.carried)
    assert all(0 < own.load_frac(f) <= 1 for f in own.surface.factors)


def test_a_hosted_api_has_no_machines_and_no_limit():
    hosted = costs("hosted-mistral")
    assert (hosted.surface.factors[0], hosted.surface.factors[-1]) == (0.02, HIGHEST)
    assert hosted.load_frac(2.0) is None


def test_replicas_that_share_work_with_an_api_grow_with_it():
    assert headroom(case_of(SCENARIO, candidate("hybrid-8b-escalate")), tick=quiet) == 1.0

"""Laws that hold whatever the scenario: what a change of one thing may do to the verdict, and what it may not."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as some

from envelope.money.evaluate import expected_costs
from envelope.money.model import build
from envelope.plan.case.scenarios import load_scenario
from envelope.plan.case.usage import year_usage
from envelope.plan.chain import judged
from envelope.plan.compare import compare
from envelope.plan.cost.models import cost_models
from envelope.plan.cost.study import cost_study
from envelope.plan.service.simulate import simulate
from envelope.spec.ranges import Spread
from envelope.spec.scenario import Scenario
from tests.plan.drawn import HOSTED, SCENARIOS, TUTOR

checked = settings(
    max_examples=4, deadline=None, derandomize=True, phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip

few = settings(checked, max_examples=2)

NOISE = 0.03
"""Difference in attainment that short simulations may show by chance."""


@checked
@given(SCENARIOS)
def test_shares_lie_between_0_and_1_and_nothing_is_negative(scenario: Scenario) -> None:
    for one in compare(scenario).candidates:
        assert one.service is not None
        assert one.cost is not None
        shares = [one.slo_attainment_frac, one.solved_frac, one.service.served_frac, one.service.hosted_frac]
        assert all(share is not None and 0 <= share <= 1 + 1e-12 for share in shares)
        assert one.solved_frac <= one.service.served_frac + 1e-9
        assert one.slo_attainment_frac <= one.service.served_frac + 1e-12
        assert 0 <= one.private_requests_left <= one.requests_left_per_year + 0.5
        assert one.requests_left_per_year <= compare_requests(scenario) * (1 + 1e-9)
        assert all(line.npv_usd >= -1e-6 for line in one.lines if not line.id.startswith(("residual", "tax")))
        assert 0 <= one.cost.p10_npv_usd <= one.cost.p90_npv_usd
        assert 0 <= one.cost.signature_usd <= one.cost.peak_cash_usd + 1e-6
        assert [year.year for year in one.years] == list(range(1, scenario.economics.years + 1))
        if scenario.constraints.private_stays:
            assert one.private_requests_left == 0


def compare_requests(scenario: Scenario) -> float:
    return judged(scenario, scenario.candidates[-1], seeds=1).case.scenario.workload.daily_requests * 365.25


@checked
@given(SCENARIOS)
def test_every_candidate_is_offered_the_same_work_in_every_year(scenario: Scenario) -> None:
    found = [judged(scenario, c, seeds=1) for c in scenario.candidates]
    work = [
        [(u.requests, u.input_tokens, u.output_tokens) for u in one.money.model.years] for one in found if one.money
    ]
    assert len(work) == len(scenario.candidates)
    for other in work[1:]:
        for a, b in zip(work[0], other, strict=True):
            assert b == pytest.approx(a, rel=1e-9)
    for one in found:
        assert one.money is not None
        for year in one.money.model.years:
            assert year.served_requests <= year.requests * (1 + 1e-12)
            assert year.served_input_tokens <= year.input_tokens * (1 + 1e-9)


@few
@given(SCENARIOS)
def test_a_candidate_that_fits_nowhere_changes_nothing(scenario: Scenario) -> None:
    stranger = {"id": "stranger", "name": "Too small", "pools": [
        {"model": "deepseek-v3", "hardware": "nvidia-l40s-48gb", "engine": "vllm"}]}  # fmt: skip
    more = scenario.replace("candidates", [*(c.model_dump(exclude_unset=True) for c in scenario.candidates), stranger])
    before, after = compare(scenario), compare(more)
    assert after.candidate("stranger").feasible is False
    assert (after.recommended, after.runner_up) == (before.recommended, before.runner_up)
    assert after.candidates[:-1] == before.candidates
    a, b = (cost_study(cost_models(s, volumes=False), draws=64) for s in (scenario, more))
    assert b.uncertainty.candidates == a.uncertainty.candidates
    assert "stranger" in b.left_out


@checked
@given(SCENARIOS)
def test_a_stricter_slo_never_attains_more(scenario: Scenario) -> None:
    tasks = scenario.workload.tasks
    strict = scenario.replace(
        {f"workload.tasks.{t.id}.slo.ttft_s": 0.5 * t.slo.ttft_s for t in tasks if t.slo.ttft_s is not None}
    )
    assert strict != scenario
    for loose, tight in zip(compare(scenario).candidates, compare(strict).candidates, strict=True):
        assert tight.slo_attainment_frac <= loose.slo_attainment_frac
        # What is served does not depend on what is asked for, as long as nobody gives up.
        assert tight.solved_frac == pytest.approx(loose.solved_frac, abs=1e-12)


@few
@given(SCENARIOS)
def test_a_discount_rate_of_nothing_makes_the_present_value_the_nominal_sum(scenario: Scenario) -> None:
    free = scenario.replace("economics.discount_rate_frac_per_year", 0.0)
    for one in compare(free).candidates:
        assert one.cost is not None
        assert one.cost.expected_npv_usd == pytest.approx(one.cost.total_usd, rel=1e-9)
        assert sum(one.cost_by_year) == pytest.approx(one.cost.total_usd, rel=1e-9)


@checked
@given(SCENARIOS, some.sampled_from(["price.nvidia-l40s-4gpu-server", "staff_mlops", "electricity_industrial_eu"]))
def test_twice_a_price_is_twice_its_line(scenario: Scenario, name: str) -> None:
    plain = scenario.replace({"economics.tax_rate_frac": 0.0, "candidates.hosted.hosted.commitment_usd_per_year": 0})
    own = judged(plain, plain.candidates[0], seeds=1)
    assert own.money is not None
    item = own.money.model.inputs.get(name)
    if item is None or not any(name in line.input_names for line in own.money.model.lines):
        return
    costs = []
    for factor in (1.0, 2.0):
        inputs = {**own.case.economics.inputs, name: Spread(value=factor * item.point)}
        money = own.case.economics.model_copy(update={"inputs": inputs})
        model = build(money, [year_usage(y.case, y.use, y.year) for y in own.years])
        costs.append({line.id: line.present_value_usd for line in expected_costs(model).lines})
    touched = {line.id for line in own.money.model.lines if name in line.input_names}
    for ident, usd in costs[1].items():
        if ident in touched and all(name in _factors(t) for t in _line(own, ident).terms):
            assert usd == pytest.approx(2 * costs[0][ident], rel=1e-9)
        elif ident not in touched:
            assert usd == pytest.approx(costs[0][ident], rel=1e-12)


def _line(own, ident):
    return next(line for line in own.money.model.lines if line.id == ident)


def _factors(term):
    return {p.name for p in term.factors if p.exponent == 1}


@pytest.mark.parametrize("candidate", ["own-qwen3-32b", "own-llama-8b"])
def test_more_replicas_never_serve_less(candidate: str) -> None:
    busy = TUTOR.replace({"workload.requests_per_seat_day": 60, "simulation": {"seeds": 2, "max_requests": 1500}})
    found = []
    for replicas in (1, 2, 4, 8):
        one = busy.replace(f"candidates.{candidate}.pools.0.replicas", replicas)
        level = compare(one, only=[candidate]).candidates[0]
        found.append((level.slo_attainment_frac, level.service.served_frac))
    for less, more in zip(found, found[1:], strict=False):
        assert more[0] >= less[0] - NOISE
        assert more[1] >= less[1] - NOISE


def test_seats_and_replicas_that_grow_together_keep_the_service() -> None:
    settings_ = {"seeds": 3, "max_requests": 6000}
    found = []
    for times in (1, 4):
        scaled = TUTOR.replace(
            {"workload.seats": 4000 * times, "workload.requests_per_seat_day": 45, "simulation": settings_,
             "candidates.own-qwen3-32b.pools.0.replicas": 4 * times}
        )  # fmt: skip
        found.append(compare(scaled, only=["own-qwen3-32b"]).candidates[0].slo_attainment_frac)
    assert found[1] == pytest.approx(found[0], abs=2 * NOISE)


def test_a_currency_only_rescales() -> None:
    def own(currency: dict, amount: float) -> dict[str, float]:
        changed = TUTOR.replace(
            {"economics.usd_per_currency": currency,
             "economics.inputs": {"staff_mlops": {"amount": amount, "currency": "EUR"}}}
        )  # fmt: skip
        return compare(changed, seeds=1, only=["own-qwen3-32b"]).candidates[0].cost_by_line

    one, other = own({"EUR": 1.0}, 120_000), own({"EUR": 2.0}, 60_000)
    # Staff at the same dollars cost the same; what the catalog has in euros costs twice the dollars, all of it or none.
    ratios = {ident: other[ident] / usd for ident, usd in one.items() if usd}
    assert ratios["staff_platform"] == pytest.approx(1.0)
    assert ratios["energy"] == pytest.approx(2.0)
    assert all(ratio == pytest.approx(1.0) or ratio == pytest.approx(2.0) for ratio in ratios.values())


def test_where_nothing_is_served_nothing_has_a_unit_cost() -> None:
    field = load_scenario("field-devices")
    result = compare(field, seeds=1, only=["hosted-small"]).candidates[0]
    assert result.service is not None
    assert result.service.served_frac == 0
    assert result.cost_npv > 0
    assert (result.usd_per_request, result.usd_per_solved_task, result.usd_per_mtok) == (None, None, None)


def test_unit_costs_are_those_of_the_work_that_is_served() -> None:
    coding = load_scenario("coding-assistant")
    one = judged(coding, coding.candidates[0], seeds=2)
    assert one.money is not None
    served = sum(u.served_requests for u in one.money.model.years)
    offered = sum(u.requests for u in one.money.model.years)
    assert served / offered == pytest.approx(one.years[0].level.served_frac)
    free = coding.replace("economics.discount_rate_frac_per_year", 0.0)
    cost = compare(free, seeds=2, only=[coding.candidates[0].id]).candidates[0]
    assert cost.usd_per_request == pytest.approx(cost.cost.total_usd / served, rel=1e-9)


@pytest.mark.parametrize("ident", ["own-llama-70b", "own-v4-flash", "old-llama-2-13b"])
def test_a_failure_is_no_improvement(ident: str) -> None:
    coding = load_scenario("coding-assistant").replace("simulation.seeds", 1)
    run = simulate(coding, ident, fail_node_at="peak")
    calm = run.without_failure
    assert calm is not None
    # Calls of sessions that would follow after the end, since the one before came late, are in neither.
    assert 0.85 * calm.overall.offered <= run.overall.offered <= calm.overall.offered
    assert run.slo_attainment.mean <= calm.slo_attainment.mean
    assert run.overall.served_frac <= calm.overall.served_frac


def test_what_is_answered_hours_late_is_not_served() -> None:
    # One node of eight devices holds both replicas: until its repair nobody is answered.
    coding = load_scenario("coding-assistant").replace("simulation.seeds", 1)
    run = simulate(coding, "own-v4-flash", fail_node_at="peak")
    late = next(c for c in run.overall.counts if c.id == "late")
    assert run.overall.completed == run.overall.offered
    assert run.overall.served_frac == pytest.approx(1 - late.frac)
    assert late.frac > 0.2
    said = compare(coding, only=["own-v4-flash"]).candidates[0].failure
    assert said is not None
    assert said.replicas_lost >= said.replicas
    assert said.late_requests > 1000
    assert "all replicas" in said.text


def test_the_share_that_is_solved_is_that_of_the_mix() -> None:
    # Difficulty is known from the mix: the seed of the simulation does not move it (20 seeds gave 0.827 to 0.856).
    coding = load_scenario("coding-assistant")
    found = {
        compare(coding.replace("simulation.seed", seed), seeds=1, only=["own-v4-flash"]).candidates[0].solved_frac
        for seed in (1, 2, 3)
    }
    assert max(found) - min(found) < 1e-6
    tasks = coding.workload.tasks
    mean = sum(s * (1 - t.difficulty.mid) for s, t in zip(coding.workload.shares(), tasks, strict=True))
    assert next(iter(found)) == pytest.approx(mean, abs=1e-6)


def test_private_requests_that_leave_are_counted_as_all_that_leave_are() -> None:
    coding = load_scenario("coding-assistant").replace("constraints.private_stays", False)
    one = judged(coding, next(c for c in coding.candidates if c.id == "rented-v4-flash"), seeds=2)
    private = one.case.private_frac
    use = one.years[0].use
    assert use.left_frac == pytest.approx(1.0, abs=0.01)
    assert use.private_left_frac == pytest.approx(private * use.left_frac, rel=0.01)


@pytest.mark.parametrize("ident", ["hosted-frontier", "own-v4-flash", "hybrid-8b-escalate"])
def test_the_bill_of_a_year_does_not_hang_on_the_hour_that_was_drawn(ident: str) -> None:
    coding = load_scenario("coding-assistant")
    candidate = next(c for c in coding.candidates if c.id == ident)
    lines: dict[str, list[float]] = {}
    for seed in (1, 101, 201, 301):
        found = judged(coding.replace("simulation.seed", seed), candidate, seeds=coding.simulation.seeds)
        assert found.money is not None
        for line in found.money.cost.lines:
            lines.setdefault(line.id, []).append(line.present_value_usd)
    whole = sum(sum(usd) for usd in lines.values()) / 4
    for name, usd in lines.items():
        mean = sum(usd) / len(usd)
        deviation = (sum((x - mean) ** 2 for x in usd) / (len(usd) - 1)) ** 0.5
        # A line of less than a hundredth of the cost may be as noisy as its energy is.
        assert deviation <= (0.05 if abs(mean) > 0.01 * whole else 0.1) * abs(mean), name


def test_growth_that_breaks_the_service_buys_or_is_broken() -> None:
    busy = TUTOR.replace({"workload.growth_frac_per_year": 5.0, "simulation": {"seeds": 1, "max_requests": 1500}})
    own = next(c for c in busy.candidates if c.id == "own-qwen3-32b")
    bought = judged(busy, own, seeds=1)
    kept = judged(busy.replace("capacity.growth", "keep"), own, seeds=1)
    assert [y.replicas for y in kept.years] == [4, 4, 4]
    assert bought.years[-1].replicas > 4
    assert bought.keeps_service
    assert not kept.keeps_service
    assert "growth" in kept.broken
    assert "growth" not in bought.broken
    assert bought.money.cost.cost_npv_usd > kept.money.cost.cost_npv_usd


def test_a_budget_limits_what_it_says() -> None:
    own = next(c for c in TUTOR.candidates if c.id == "own-qwen3-32b")
    free = judged(TUTOR.replace("constraints.budget_usd", None), own, seeds=1)
    cost = free.money.cost
    limits = {"present_value": cost.cost_npv_usd, "cash": cost.cash_usd}
    assert limits["cash"] > limits["present_value"]
    for of, usd in limits.items():
        for factor, kept in ((1.001, True), (0.999, False)):
            rule = {"constraints.budget_usd": None, "constraints.budget": {"limit_usd": factor * usd, "of": of}}
            found = judged(TUTOR.replace(rule), own, seeds=1)
            assert ("budget" not in found.broken) is kept
    years = [usd * 1.001 for usd in cost.paid_by_year_usd]
    for change, broken in ((1.0, set()), (0.9, {"budget.year-2"})):
        by_year = [years[0], years[1] * change, *years[2:]]
        rule = {"constraints.budget_usd": None, "constraints.budget": {"by_year": by_year}}
        assert {r for r in judged(TUTOR.replace(rule), own, seeds=1).broken if r.startswith("budget")} == broken


def test_a_plain_demand_factor_multiplies_the_work() -> None:
    """Twice the demand is twice the requests, as simulated and as served, so that unit costs fall."""
    hosted = next(c for c in TUTOR.candidates if c.id == "hosted-mistral")
    one, two = (judged(TUTOR.replace("economics.demand_factor", f), hosted, seeds=1) for f in (1.0, 2.0))
    twice = judged(TUTOR.replace("workload.requests_per_seat_day", 12), hosted, seeds=1)
    assert two.case.scenario.workload.daily_requests == 2 * one.case.scenario.workload.daily_requests
    assert two.money.cost.cost_npv_usd == pytest.approx(twice.money.cost.cost_npv_usd, rel=1e-9)
    costs = [j.money.cost.unit_costs.usd_per_solved_task for j in (one, two)]
    assert costs[1] < costs[0]


def test_the_same_machines_are_paid_for_as_are_simulated() -> None:
    rule = {"autoscale": {"min_replicas": 1, "max_replicas": 6, "up_at_requests": 6, "down_at_requests": 1}}
    scaled = TUTOR.replace({"candidates.own-qwen3-32b.operations": rule, "simulation.max_requests": 500})
    found = judged(scaled, next(c for c in scaled.candidates if c.id == "own-qwen3-32b"), seeds=1)
    fleet = found.years[0].peak.fleet
    assert fleet.pools[0].replicas == 6
    owned = found.money.model.years[0].owned
    assert sum(a.count * a.devices_per_unit for a in owned) == 12
    assert replace(found.case, quick=True).candidate.pools[0].replicas == 6


def test_the_hosted_candidate_shares_no_machines() -> None:
    one = judged(TUTOR, next(c for c in TUTOR.candidates if c.id == "hosted-mistral"), seeds=1)
    assert one.failure is None
    assert one.money.cost.signature_usd == 0.0
    assert HOSTED not in {c.id for c in TUTOR.candidates}


def test_own_machines_never_serve_more_than_is_meant_however_few_were_drawn() -> None:
    # Short simulations leave strata, and lengths that laptops refuse, without a single request.
    coding = load_scenario("coding-assistant")
    laptop = next(c for c in coding.candidates if c.id == "laptop-8b")
    for requests_per_seat in (6, 20, 90):
        changed = coding.replace({"workload.requests_per_seat_day": requests_per_seat})
        use = judged(changed, laptop, seeds=1, quick=True).years[0].use
        assert use.dynamic_j > 0
        assert 0 < use.served_tokens[0] <= use.input_tokens
        assert 0 < use.served_tokens[1] <= use.output_tokens

"""Operations of a scenario in service and cost: spares, schedules, scaling, faults, retirement."""

import math

import pytest

from envelope.money import AnnualUsage
from envelope.money.evaluate import evaluate_model
from envelope.money.model import build
from envelope.plan.case.case import Case, case_of
from envelope.plan.case.fleet import build_fleet
from envelope.plan.case.operations import Clock, startup_s
from envelope.plan.case.scenarios import load_scenario
from envelope.plan.case.usage import Traffic, year_usage
from envelope.plan.rules.service_rules import service_constraints
from envelope.plan.service.busiest import simulate_peak
from envelope.plan.service.downtime import downtime
from envelope.plan.service.level import service_level
from envelope.plan.service.simulate import simulate
from envelope.plan.service.traffic import traffic
from envelope.spec.scenario import Scenario
from envelope.units import HOURS_PER_YEAR

SCENARIO = load_scenario("coding-assistant").replace("simulation.seeds", 1)
OFFICE = {"schedule": {"weekdays": [8, 18], "weekends": None}}
OPEN_FRAC = 5 * 10 / 168
WEEK = Clock(0.0, 7 * 86_400.0)


def operated(ident: str, operations: dict, **more: object) -> Scenario:
    changes = {f"candidates.{ident}.{path}": value for path, value in more.items()}
    return SCENARIO.replace({f"candidates.{ident}.operations": operations, **changes})


def the_case(scenario: Scenario, ident: str) -> Case:
    return case_of(scenario, next(c for c in scenario.candidates if c.id == ident))


def used(case: Case) -> Traffic:
    peak = simulate_peak(case, seeds=1)
    return traffic(case, peak, downtime(case, peak))


def first_year(scenario: Scenario, ident: str) -> AnnualUsage:
    case = the_case(scenario, ident)
    return year_usage(case, used(case), 0)


def test_without_operations_nothing_fails_and_the_fleet_is_as_it_was() -> None:
    fleet = build_fleet(the_case(SCENARIO, "own-v4-flash"))
    assert fleet.faults is fleet.schedule is fleet.autoscale is None


def test_device_failures_default_to_the_published_rate() -> None:
    scenario = operated("own-v4-flash", {"faults": {}})
    faults = build_fleet(the_case(scenario, "own-v4-flash")).faults
    # Llama 3 (arXiv:2407.21783): 419 unexpected interruptions in 54 days of 16,384 devices.
    assert faults.device_mtbf_s / 3600 == pytest.approx(16_384 * 54 * 24 / 419, rel=1e-4)
    assert faults.node_mtbf_s == math.inf
    laptops = operated("laptop-8b", {"faults": {}})
    seat = build_fleet(the_case(laptops, "laptop-8b")).faults
    assert seat.device_mtbf_s / 3600 == pytest.approx(HOURS_PER_YEAR / 0.05)


def test_a_replica_starts_as_fast_as_its_weights_are_read() -> None:
    case = the_case(SCENARIO, "own-llama-70b")
    operations = SCENARIO.operations_of(case.candidate)
    # 70.6 billion parameters of one byte (embeddings and head of two) at 1.2 GB/s.
    assert startup_s(operations, case.replicas[0]) == pytest.approx(70.6 / 1.2, rel=0.05)
    assert startup_s(operations.model_copy(update={"startup_s": 42.0}), case.replicas[0]) == 42.0


def test_spares_are_bought_and_replace_the_share_for_spares() -> None:
    plain, spared = first_year(SCENARIO, "own-v4-flash"), operated("own-v4-flash", {"spares": 1})
    # Two replicas of four devices fill one server of eight; a third needs a second server.
    assert [a.count for a in plain.owned] == [1]
    assert [a.count for a in first_year(spared, "own-v4-flash").owned] == [2]
    money = the_case(spared, "own-v4-flash").economics
    lines = evaluate_model(build(money, [first_year(spared, "own-v4-flash")])).lines
    assert "spares" not in {line.id for line in lines}


def test_spares_of_a_reservation_are_paid_for_and_those_on_demand_are_not() -> None:
    def hours(kind: str, spares: int) -> float:
        scenario = operated("rented-v4-flash", {"spares": spares}, **{"acquisition.kind": kind})
        return sum(r.device_hours for r in first_year(scenario, "rented-v4-flash").rented)

    assert hours("reserved_1y", 1) == pytest.approx(12 * HOURS_PER_YEAR)
    assert hours("on_demand", 1) == pytest.approx(8 * HOURS_PER_YEAR)


def test_a_schedule_lowers_energy_and_the_hours_on_demand() -> None:
    scenario = operated("own-v4-flash", OFFICE)
    case = the_case(scenario, "own-v4-flash")
    use = used(case)
    assert use.running_fracs == (pytest.approx(OPEN_FRAC),)
    assert use.own_idle_w == pytest.approx(case.own_idle_w * OPEN_FRAC)
    rented = operated("rented-v4-flash", OFFICE, **{"acquisition.kind": "on_demand"})
    paid = first_year(rented, "rented-v4-flash").rented[0]
    assert paid.device_hours == pytest.approx(8 * HOURS_PER_YEAR * OPEN_FRAC)


def test_what_comes_at_night_waits_for_the_morning() -> None:
    run = simulate(operated("own-v4-flash", OFFICE), "own-v4-flash")
    assert run.period == "the week"
    closings = [e for e in run.faults if e.kind == "closed by the schedule"]
    assert [e.running for e in closings] == [0] * len(closings)
    waited = next(c for c in run.overall.counts if c.id == "waited_for_repair")
    work = SCENARIO.workload.hour_weights
    closed = sum(w for h, w in enumerate(work) if h >= 120 or not 8 <= h % 24 < 18) / 168
    # The share of the work that comes in closed hours, but for the follow-up calls that never come about.
    assert waited.frac == pytest.approx(closed, abs=0.08)
    # All are answered, and nobody waits until the morning for those that came at night.
    assert run.overall.completed == run.overall.offered
    assert run.overall.served_frac == pytest.approx(1 - closed, abs=0.1)
    assert run.running_frac == pytest.approx(OPEN_FRAC, abs=0.02)


def test_an_autoscaled_rented_fleet_pays_the_hours_that_run() -> None:
    rule = {"autoscale": {"min_replicas": 1, "max_replicas": 4, "up_at_requests": 6, "down_at_requests": 1}}
    scenario = operated("rented-v4-flash", rule, **{"acquisition.kind": "on_demand"})
    case = the_case(scenario, "rented-v4-flash")
    assert case.candidate.pools[0].replicas == 4
    peak = simulate_peak(case, seeds=1)
    assert 0.25 <= peak.result.running_frac < 0.6
    paid = first_year(scenario, "rented-v4-flash").rented[0]
    assert paid.device_hours == pytest.approx(16 * HOURS_PER_YEAR * peak.result.running_frac)
    assert paid.devices == 16


def test_a_spare_brings_a_dead_node_back_within_minutes() -> None:
    alone, spared = (
        simulate(operated("own-v4-flash", operations), "own-v4-flash", horizon="hour", fail_node_at="peak")
        for operations in ({"faults": {"repair_hours": 8}}, {"faults": {"repair_hours": 8}, "spares": 2})
    )
    assert "move to a spare" in {e.kind for e in spared.faults}
    assert spared.overall.ttft_s.p99 < 300 < alone.overall.ttft_s.p99
    assert spared.slo_attainment.mean > alone.slo_attainment.mean


def test_maintenance_takes_one_replica_after_the_other_and_costs_no_request() -> None:
    run = simulate(operated("own-v4-flash", {"maintenance": {"weekday": "sun", "start_hour": 3}}), "own-v4-flash")
    rounds = [(e.time_s / 3600 - 6 * 24, e.replica) for e in run.faults if e.kind == "maintenance"]
    assert rounds == [(3.0, 0), (3.5, 1)]
    assert run.overall.served_frac == 1.0
    assert "restarted" not in {c.id for c in run.overall.counts}


def test_a_retired_snapshot_refuses_everything_from_its_day_on() -> None:
    rule = {"hosted": {"retired_on": "2027-06-01"}}
    scenario = SCENARIO.replace(
        {
            "candidates.hosted-frontier.operations": rule,
            "constraints.private_stays": False,
            "economics.start": "2026-12",
        }
    )
    before, after = (simulate(scenario, "hosted-frontier", year=year) for year in (0, 1))
    assert before.overall.served_frac > 0.98
    assert after.overall.served_frac == 0.0
    assert {c.id for c in after.overall.counts} == {"refused_hosted"}


def test_compare_sees_the_operations() -> None:
    closed = operated("own-v4-flash", OFFICE)
    case = the_case(closed, "own-v4-flash")
    peak = simulate_peak(case, seeds=1)
    office = peak.result
    said = service_constraints(closed, service_level(closed, peak), 1.0)[0].explanation
    assert "of the requests of the week keep their SLO" in said
    always = simulate_peak(the_case(SCENARIO, "own-v4-flash"), seeds=1).result
    assert office.slo_attainment.mean < 0.75 < always.slo_attainment.mean

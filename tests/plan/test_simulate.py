"""One candidate under load: what the records say, day and week, traces, and that nothing private ever leaves."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from envelope.errors import InputError
from envelope.plan.case.case import case_of
from envelope.plan.case.scenarios import find_scenario, load_scenario
from envelope.plan.service.busiest import simulate_peak
from envelope.plan.service.level import service_level
from envelope.plan.service.load_sweep import load_sweep
from envelope.plan.service.simulate import simulate
from envelope.spec.scenario import Scenario

CODING = load_scenario("coding-assistant")
OWN = "own-v4-flash"

SMALL = CODING.replace(
    {
        "simulation": {"seeds": 1, "max_requests": 100},
        "candidates": [
            {
                "id": "mixed",
                "name": "two small replicas and an API",
                "pools": [
                    {"model": "llama-3.1-8b", "hardware": "nvidia-l40s-48gb", "replicas": 2},
                    {"model": "llama-3.1-8b", "hardware": "nvidia-l40s-48gb", "replicas": 1},
                ],
                "hosted": {"api": "anthropic-claude-opus-5-5"},
                "acquisition": {"kind": "on_demand"},
            }
        ],
    }
)
"""The coding assistant's work on a small fleet beside an API."""

OPERATIONS = some.fixed_dictionaries(
    {},
    optional={
        "faults": some.fixed_dictionaries(
            {
                "device_mtbf_hours": some.sampled_from([0.05, 0.5, 50.0]),
                "repair_hours": some.sampled_from([0.01, 0.5]),
                "power_cuts_per_year": some.sampled_from([0.0, 20_000.0]),
            }
        ),
        "spares": some.integers(0, 2),
        "maintenance": some.just({"weekday": "mon", "start_hour": 19.2, "minutes_per_replica": 5}),
        "schedule": some.sampled_from([{"weekdays": [8, 19.5], "weekends": None}, {"weekdays": [19.3, 20]}]),
        "hosted": some.fixed_dictionaries({"concurrent": some.sampled_from([1, 50])}),
        "startup_s": some.just(20.0),
    },
)

CASES = some.fixed_dictionaries(
    {
        "policy": some.sampled_from(
            ["local_only", "hosted_only", "overflow", "escalate", "by_sensitivity", "long_context"]
        ),
        "inside": some.booleans(),
        "private": some.sampled_from([0.0, 0.3, 1.0]),
        "load": some.sampled_from([0.3, 3.0, 40.0]),
        "operations": OPERATIONS,
        "strike": some.booleans(),
    }
)


def case(d: dict) -> Scenario:
    mix = {"private": d["private"], "public": 1 - d["private"]}
    tasks = {f"workload.tasks.{task.id}.sensitivity": mix for task in SMALL.workload.tasks}
    return SMALL.replace(
        {
            **tasks,
            "candidates.mixed.routing": {"policy": d["policy"], "overflow_wait_s": 0.5, "long_context_tokens": 3000},
            "candidates.mixed.on_premises": d["inside"],
            "candidates.mixed.operations": d["operations"],
        }
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CASES)
def test_no_private_request_leaves_and_none_is_lost(d: dict) -> None:
    """Whatever the policy, the faults, the schedule and the overload, all the way from the scenario."""
    strike = "peak" if d["strike"] else None
    run = simulate(case(d), "mixed", load=d["load"], horizon="hour", fail_node_at=strike)
    assert run.left.private == 0
    refused = sum(c.requests for c in run.overall.counts if c.id.startswith("refused") or c.id == "unfinished")
    assert run.overall.completed + refused == run.overall.offered
    assert sum(c.offered for c in run.classes) == run.overall.offered
    if d["private"] == 1.0:
        assert run.left.requests == 0
        assert run.hosted.attempts == 0


def test_privacy_can_be_given_up_by_the_scenario_alone() -> None:
    d = {"policy": "hosted_only", "inside": True, "private": 1.0, "operations": {}}
    run = simulate(case(d).replace("constraints.private_stays", False), "mixed")
    assert run.left.private > 0


def test_the_busiest_hour_is_the_one_that_the_verdict_uses() -> None:
    found = case_of(CODING, next(c for c in CODING.candidates if c.id == OWN))
    verdict = service_level(CODING, simulate_peak(found, seeds=2))
    run = simulate(CODING, OWN, seeds=2)
    assert run.slo_attainment.mean == verdict.slo_attainment_frac
    assert run.overall.ttft_s.p95 == verdict.ttft.p95_s
    assert run.requests_per_s == pytest.approx(CODING.workload.peak_rate_per_s, rel=0.25)


def test_a_day_follows_the_curve(tmp_path: Path) -> None:
    table = tmp_path / "requests.csv"
    calm = CODING.replace("workload.arrivals.rate_noise_cv", 0)
    run = simulate(calm, "hosted-frontier", horizon="day", seeds=1, table=table)
    with table.open(encoding="utf-8") as file:
        at = np.array([float(row["arrival_s"]) for row in csv.DictReader(file)])
    hours = np.array(CODING.workload.hour_weights)[int(run.clock_start_s // 3600) :][:24]
    # Half an hour at the start warms up and is not counted.
    found = np.bincount((at // 3600).astype(int), minlength=24)[1:24]
    assert np.corrcoef(found, hours[1:])[0, 1] > 0.97
    # Sessions that began more than six hours before, and calls that would come after the end, are left out.
    assert found.sum() == pytest.approx(CODING.workload.daily_requests * hours[1:].sum() / 24, rel=0.2)


def test_cost_drivers_of_an_hour_follow_the_tariff() -> None:
    run = simulate(CODING, "hosted-frontier", seeds=2)
    hours = run.window_s / 3600 * len(run.seeds)
    priced = {d.id.rsplit(".", 1)[1]: d for d in run.cost_drivers}
    assert priced["output"].quantity == pytest.approx(run.hosted.output_tokens / hours, rel=1e-6)
    # Claude Opus 5.5: dollars per million output tokens by the catalog.
    from envelope.spec.hosted import HostedModel
    from envelope.spec.load import load

    api = load(HostedModel, "hosted", "anthropic-claude-opus-5-5", file="t", path="t")
    usd = next(line.usd_per_mtok for line in api.tariff if line.kind == "output")
    assert priced["output"].usd_per_hour == pytest.approx(priced["output"].quantity * usd / 1e6)


def test_given_factors_end_where_the_service_breaks() -> None:
    sweep = load_sweep(CODING, OWN, [0.5, 1, 32, 64])
    assert [p.factor for p in sweep.points] == [0.5, 1, 32]
    assert (sweep.keeps_up_to, sweep.breaks_at) == (1, 32)
    p95 = [p.ttft_s.p95 for p in sweep.points]
    assert p95[0] <= p95[1] < p95[2]


def test_a_recorded_trace_is_the_work_of_a_scenario(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    rows = "\n".join(f"{2 * i},{300 + i % 50},{20 + i % 7}" for i in range(900))
    log.write_text("arrival_s,input_tokens,output_tokens\n" + rows + "\n", encoding="utf-8")
    scenario = CODING.replace({"workload.trace": str(log), "simulation.seeds": 1})
    run = simulate(scenario, OWN)
    assert run.requests_per_s == pytest.approx(0.5, rel=0.1)
    assert 300 <= run.overall.mean_input_tokens <= 350
    assert run.overall.offered == pytest.approx(900 * 0.9, abs=20)
    assert run.left.private == 0


def test_too_much_time_is_refused_with_the_number_of_requests() -> None:
    big = CODING.replace("workload.requests_per_seat_day", 1_000_000)
    with pytest.raises(InputError, match="requests a seed"):
        simulate(big, "own-deepseek-v3", horizon="week")


def test_a_trace_is_found_beside_the_file_of_its_scenario(tmp_path: Path) -> None:
    text = yaml.safe_load(find_scenario("math-tutor").read_text(encoding="utf-8"))
    text["workload"]["trace"] = "log.csv"
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(text), encoding="utf-8")
    with pytest.raises(InputError, match="workload.trace"):
        load_scenario(path)
    (tmp_path / "log.csv").write_text("arrival_s,input_tokens,output_tokens\n0,9,9\n", encoding="utf-8")
    assert load_scenario(path).workload.trace == str(tmp_path / "log.csv")

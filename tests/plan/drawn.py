"""Random scenarios with everything on: discounts, sites, spares, scaling, growth, faults, evidence, hybrids, budgets.

On a plain scenario every forgotten step of the chain is the identity; here none is.
"""

from typing import Any

from hypothesis import strategies as some

from envelope.plan.case.scenarios import load_scenario
from envelope.spec.scenario import Scenario

TUTOR = load_scenario("math-tutor")
OWN, HYBRID, HOSTED = "own", "hybrid", "hosted"

_SERVER = {"model": "llama-3.1-8b", "hardware": "nvidia-l40s-48gb", "weights": "fp8", "kv": "fp8"}
_API = "openai-gpt-5"

_SERVED = {"kind": "purchase", "server": "nvidia-l40s-4gpu-server"}
ACQUISITIONS = some.sampled_from(
    [
        _SERVED | {"site": "colocation"}, _SERVED | {"site": "own_room"}, {"kind": "lease", "site": "colocation"},
        {"kind": "on_demand", "hours_per_day": 20.0}, {"kind": "reserved_1y"},
    ]
)  # fmt: skip

OPERATIONS = some.fixed_dictionaries(
    {},
    optional={
        "spares": some.integers(1, 2),
        "schedule": some.just({"weekdays": [7, 19], "weekends": None}),
        "autoscale": some.just({"min_replicas": 1, "max_replicas": 3, "up_at_requests": 6, "down_at_requests": 1}),
        "faults": some.just({"device_mtbf_hours": 300.0, "repair_hours": 6.0}),
    },
)

BUDGETS = some.sampled_from(
    [
        None, {"limit_usd": 9e5, "of": "cash"}, {"limit_usd": 2e6, "of": "present_value"}, {"by_year": [4e5, 4e5]},
        {"limit_usd": 1e9, "by_year": [1e9, 1e3]},
    ]
)  # fmt: skip

RECORDS = some.lists(
    some.fixed_dictionaries(
        {
            "model": some.sampled_from(["llama-3.1-8b", _API]),
            "weights": some.sampled_from(["native", "fp8"]),
            "task": some.sampled_from(["dialogue", "worked-solution"]),
            "trials": some.just(400),
            "passes": some.integers(150, 400),
            "date": some.just("2026-05"),
        }
    ),
    max_size=3,
)

FIELDS = some.fixed_dictionaries(
    {
        "seats": some.sampled_from([60, 300, 1200]),
        "growth": some.sampled_from([0.0, 0.6, -0.3]),
        "capacity": some.sampled_from(["buy", "keep"]),
        "private": some.sampled_from([0.0, 0.4, 1.0]),
        "stays": some.booleans(),
        "acquisition": ACQUISITIONS,
        "operations": OPERATIONS,
        "second_pool": some.booleans(),
        "policy": some.sampled_from(["overflow", "escalate", "by_sensitivity"]),
        "discount": some.sampled_from([0.0, 0.4]),
        "commitment": some.sampled_from([0, 60_000]),
        "tax": some.sampled_from([0.0, 0.25]),
        "demand": some.sampled_from([1.0, 1.3, {"low": 0.8, "high": 1.4}]),
        "budget": BUDGETS,
        "records": RECORDS,
        "failure": some.sampled_from(
            ["leak", "wrong_answer", "unsafe_tool_use", "downtime", "silent_model_change", "cost_overrun"]
        ),
        "slo_min": some.sampled_from([0.3, 0.9]),
        "solved_min": some.sampled_from([0.0, 0.75]),
        "horizon": some.sampled_from([12, 30]),
        "seeds": some.sampled_from([1, 2]),
    }
)


def scenario_of(d: dict[str, Any]) -> Scenario:
    """Return the scenario that drawn fields describe."""
    mix = {"private": d["private"], "internal": 1.0 - d["private"]}
    operations = {k: v for k, v in d["operations"].items() if k != "autoscale" or "schedule" not in d["operations"]}
    paid = {"discount_frac": d["discount"], "commitment_usd_per_year": d["commitment"]}
    inside = d["acquisition"]["kind"] in {"purchase", "lease"}
    pools = [_SERVER | {"replicas": 2}, *([_SERVER | {"replicas": 2}] if d["second_pool"] else [])]
    local = {"pools": pools, "acquisition": d["acquisition"], "on_premises": inside, "operations": operations}
    return TUTOR.replace(
        {
            "workload.seats": d["seats"],
            "workload.growth_frac_per_year": d["growth"],
            **{f"workload.tasks.{task.id}.sensitivity": mix for task in TUTOR.workload.tasks},
            "constraints": {
                "private_stays": d["stays"], "slo_attainment_min_frac": d["slo_min"], "served_min_frac": 0.9,
                "solved_min_frac": d["solved_min"], "budget": d["budget"],
            },
            "capacity": {"growth": d["capacity"]},
            "economics.horizon_months": d["horizon"],
            "economics.tax_rate_frac": d["tax"],
            "economics.demand_factor": d["demand"],
            "evidence": {"records": d["records"]},
            "failure_not_affordable": d["failure"],
            "simulation": {"seeds": d["seeds"], "max_requests": 300},
            "candidates": [
                {"id": OWN, "name": "Own machines", **local},
                {"id": HYBRID, "name": "Both", **local, "hosted": {"api": _API, **paid},
                 "routing": {"policy": d["policy"], "overflow_wait_s": 0.2}},
                {"id": HOSTED, "name": "API", "hosted": {"api": _API, **paid}},
            ],
        }
    )  # fmt: skip


SCENARIOS = FIELDS.map(scenario_of)

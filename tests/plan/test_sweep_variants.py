"""Which variants a study has: combinations, samples, numbering, and what is refused before anything runs."""

import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest

from envelope.errors import InputError
from envelope.plan.case.scenarios import load_scenario
from envelope.plan.sweep.study import Study
from envelope.plan.sweep.variants import Variants, variants_of
from envelope.spec.load import validate

FIELD = load_scenario("field-devices")
RATE, DISCOUNT = "workload.requests_per_day", "economics.discount_rate_frac_per_year"
SHARE = "constraints.slo_attainment_min_frac"


def variants(**asked: Any) -> Variants:
    study = validate(Study, {"scenarios": ["field-devices"], **asked}, "sweep")
    return variants_of(study, [FIELD])


def test_a_grid_has_every_combination_once_in_order() -> None:
    found = variants(set={RATE: [1, 2, 3], "company.seats": [10, 20]}, seeds=1, only=["laptop-8b"])
    expected = [{RATE: a, "company.seats": b} for a, b in itertools.product([1, 2, 3], [10, 20])]
    assert [found.changes(v) for v in range(found.count)] == expected


def test_zipped_values_go_together_and_cross_with_the_grid() -> None:
    found = variants(set={RATE: [1, 2]}, zip=[{"company.seats": [10, 20], "workload.seats": [10, 20]}])
    seen = [tuple(found.changes(v).values()) for v in range(found.count)]
    assert seen == [(1, 10, 10), (1, 20, 20), (2, 10, 10), (2, 20, 20)]


def test_every_run_is_one_variant_candidate_and_seed() -> None:
    found = variants(set={RATE: [1, 2, 3]}, seeds=4)
    seen = {(r.variant, r.candidate, r.seed) for r in map(found.run, range(found.runs))}
    ids = [c.id for c in FIELD.candidates]
    seeds = [FIELD.simulation.seed + i for i in range(4)]
    assert seen == set(itertools.product(range(3), ids, seeds))
    assert found.runs == len(seen)


def test_a_latin_hypercube_meets_every_slice_of_every_range_once() -> None:
    ranges = {DISCOUNT: {"low": 0.0, "high": 0.2}, "constraints.budget_usd": {"low": 1e5, "high": 1e9, "log": True}}
    found = variants(ranges=ranges, sample={"method": "lhs", "count": 50})
    drawn = [found.changes(v) for v in range(found.count)]
    discount = np.array([changes[DISCOUNT] for changes in drawn]) / 0.2
    budget = np.log(np.array([changes["constraints.budget_usd"] for changes in drawn]) / 1e5) / np.log(1e4)
    for share in (discount, budget):
        assert sorted(np.floor(share * 50)) == list(range(50))


def test_a_sobol_sequence_is_balanced_in_every_dyadic_box() -> None:
    ranges = {DISCOUNT: {"low": 0.0, "high": 1.0}, SHARE: {"low": 0.0, "high": 1.0}}
    found = variants(ranges=ranges, sample={"method": "sobol", "count": 64})
    points = np.array([list(found.changes(v).values()) for v in range(found.count)])
    boxes = np.floor(points * 4).astype(int) @ np.array([4, 1])
    assert np.bincount(boxes).tolist() == [4] * 16


def test_whole_numbers_stay_whole() -> None:
    path = "candidates.laptop-8b.pools.0.replicas"
    found = variants(ranges={path: {"low": 1, "high": 9}}, sample={"count": 20})
    assert {type(found.changes(v)[path]) for v in range(found.count)} == {int}


def test_the_same_seed_draws_the_same_sample_and_another_does_not() -> None:
    def drawn(seed: int) -> list[Any]:
        found = variants(ranges={DISCOUNT: {"low": 0.0, "high": 0.2}}, sample={"count": 8, "seed": seed})
        return [found.changes(v) for v in range(found.count)]

    assert drawn(3) == drawn(3) != drawn(4)


def test_a_million_variants_take_no_memory() -> None:
    tracemalloc.start()
    found = variants(set={RATE: list(range(1, 1001)), "company.seats": list(range(1, 1001))}, seeds=1, only=["pi-1b"])
    assert found.run(999_999).changes == {RATE: 1000, "company.seats": 1000}
    assert found.runs == 1_000_000
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 20e6


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a path": ({"set": {"workload.request_per_day": [1]}}, "nearest 'workload.requests_per_day'"),
    "a value": ({"set": {RATE: [100, -5]}}, "workload.requests_per_day: -5"),
    "an end of a range": ({"ranges": {SHARE: {"low": 0.1, "high": 1.5}}, "sample": {"count": 4}}, f"{SHARE}: 1.5"),
    "a range upside down": ({"ranges": {RATE: {"low": 2, "high": 1}}, "sample": {"count": 4}}, "low must be below"),
    "a logarithm of zero": ({"ranges": {RATE: {"low": 0, "high": 1, "log": True}}, "sample": {"count": 4}}, "positive"),
    "a range without a sample": ({"ranges": {RATE: {"low": 1, "high": 2}}}, "ranges and sample go together"),
    "unequal zip": ({"zip": [{RATE: [1, 2], "company.seats": [1]}]}, "equally many values"),
    "a path twice": ({"set": {RATE: [1]}, "zip": [{RATE: [2]}]}, "more than once"),
    "no values": ({"set": {RATE: []}}, "set.workload.requests_per_day"),
    "a field": ({"sets": {RATE: [1]}}, "unknown field; nearest 'set'"),
    "a candidate": ({"only": ["laptop-8"]}, "'laptop-8b'"),
    "too many": ({"set": {RATE: list(range(1, 9000)), "company.seats": list(range(1, 9000))}}, "are more than"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_run_is_refused_before_anything_runs(name: str) -> None:
    asked, words = BAD[name]
    with pytest.raises(InputError) as error:
        variants(**asked)
    assert words in str(error.value)

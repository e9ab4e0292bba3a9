"""A value replaced by its path gives the same scenario, or the same error, as a file with that value in it."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from envelope.errors import InputError
from envelope.plan.case.scenarios import find_scenario, load_scenario
from envelope.spec.load import validate
from envelope.spec.replace import paths, replaced, value_at
from envelope.spec.scenario import Scenario
from envelope.spec.yaml_text import read_yaml

NAME = "coding-assistant"
CODING = load_scenario(NAME)
PATHS = sorted(paths(CODING))


def from_file(edit: Callable[[Any], None]) -> Scenario:
    data = read_yaml(find_scenario(NAME))
    edit(data)
    return validate(Scenario, yaml.safe_load(yaml.safe_dump(data)), NAME)


EDITS: dict[str, tuple[dict[str, Any], Callable[[Any], None]]] = {
    "a number": ({"economics.horizon_months": 24}, lambda d: d["economics"].update(horizon_months=24)),
    "an entry by id": (
        {"candidates.own-llama-70b.pools.0.replicas": 5},
        lambda d: d["candidates"][2]["pools"][0].update(replicas=5),
    ),
    "an entry by id in brackets": (
        {"candidates[own-llama-70b].pools[0].parallelism.tp": 8},
        lambda d: d["candidates"][2]["pools"][0].update(parallelism={"tp": 8}),
    ),
    "a whole record": (
        {"workload.tasks.chat.slo": {"ttft_s": 9.0, "tpot_s": 0.1}},
        lambda d: d["workload"]["tasks"][1].update(slo={"ttft_s": 9.0}),
    ),
    "another preset": (
        {"workload.tasks.chat.preset": "coding-agent"},
        lambda d: d["workload"]["tasks"][1].update(preset="coding-agent"),
    ),
    "a part of a record that is not there yet": (
        {"candidates.own-llama-70b.pools.0.acquisition.kind": "lease"},
        lambda d: d["candidates"][2]["pools"][0].update(acquisition={"kind": "lease"}),
    ),
    "a new entry of a mapping": (
        {"economics.inputs.electricity": 0.3},
        lambda d: d["economics"].setdefault("inputs", {}).update(electricity=0.3),
    ),
    "a rate a day instead of a rate a seat": (
        {"workload.requests_per_day": 50_000},
        lambda d: d["workload"].update(requests_per_day=50_000, requests_per_seat_day=None),
    ),
    "several at once": (
        {"workload.seats": 20, "company.seats": 20, "constraints.budget_usd": None},
        lambda d: (d["workload"].update(seats=20), d["company"].update(seats=20), d["constraints"].pop("budget_usd")),
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_replaced_value_is_that_of_a_file_with_it(name: str) -> None:
    changes, edit = EDITS[name]
    assert CODING.replace(changes) == from_file(edit)


def test_the_scenario_that_is_changed_stays_as_it_was() -> None:
    before = CODING.model_dump_json()
    CODING.replace("workload.seats", 7)
    assert CODING.model_dump_json() == before


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PATHS))
def test_every_value_replaced_by_itself_changes_nothing(path: str) -> None:
    assert CODING.replace(path, value_at(CODING, path)) == CODING


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a field": ({"constraints.budgets": 1}, "'constraints.budgets' has no 'budgets'; nearest 'constraints.budget'"),
    "a field without its record": ({"requests_per_day": 1}, "nearest 'workload.requests_per_day'"),
    "an id": ({"candidates.own-lama-70b.name": "x"}, "nearest 'candidates.own-llama-70b'"),
    "an index": ({"workload.tasks.9.share": 1}, "has no entry '9'"),
    "below a number": ({"company.seats.x": 1}, "has no 'x'"),
    "an empty path": ({"": 1}, "is empty"),
    "no path": ({"workload..seats": 1}, "is no path"),
    "a limit": ({"company.seats": 0}, f"{NAME}: company.seats: 0 input should be greater than or equal to 1"),
    "a type": ({"company.seats": "many"}, f"{NAME}: company.seats: 'many' input should be a valid integer"),
    "a rule of a record": ({"workload.requests_per_seat_day": None}, "workload: needs either requests_per_day"),
    "a key inside a new record": ({"workload.tasks.chat.slo": {"ttft": 1}}, "unknown field; nearest 'ttft_s'"),
    "a name of the catalog": ({"candidates.own-llama-70b.pools.0.model": "lama-3"}, "'lama-3' unknown; nearest"),
    "a whole and a part": ({"workload.tasks.chat": {}, "workload.tasks.1.share": 2}, "as a whole and in part"),
    "a part and its whole": ({"workload.tasks.1.share": 2, "workload.tasks.chat": {}}, "as a whole and in part"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_a_file_may_not_say_is_refused(name: str) -> None:
    changes, words = BAD[name]
    with pytest.raises(InputError) as error:
        CODING.replace(changes)
    assert words in str(error.value)


def test_every_problem_is_named_at_once() -> None:
    changes = {"company.seats": 0, "workload.tasks.chat.share": -1, "candidates.own-llama-70b.pools.0.replicas": 0}
    with pytest.raises(InputError) as error:
        CODING.replace(changes)
    assert [problem.path for problem in error.value.problems] == list(changes)


def test_the_longest_id_that_fits_is_meant() -> None:
    short, long = (CODING.candidates[2].model_copy(update={"id": i}) for i in ("own", "own.8b"))
    both = CODING.model_copy(update={"candidates": (short, long)})
    changed = replaced(both, {"candidates.own.8b.name": "long", "candidates.own.name": "short"})
    assert [c.name for c in changed.candidates] == ["short", "long"]


def test_a_value_in_a_record_that_is_not_given_cannot_be_read() -> None:
    with pytest.raises(InputError, match="not given"):
        value_at(CODING, "constraints.ledger.engines_min")

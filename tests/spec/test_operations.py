"""Operations of a scenario: opening hours, defaults, what excludes what."""

import re
from pathlib import Path

import pytest

from envelope.errors import InputError
from envelope.plan.case.scenarios import load_scenario
from envelope.spec.load import validate
from envelope.spec.operations import Operations
from envelope.spec.yaml_text import parse_yaml

SCENARIO = load_scenario("coding-assistant")


def operations(**given: object) -> Operations:
    return validate(Operations, given, "o")


def test_opening_hours_are_closed_the_rest_of_the_week() -> None:
    rule = operations(schedule={"weekdays": [8, 18], "weekends": None}).schedule
    closed = rule.closed_s()
    # Five nights before the work and four between, and from Friday evening to Sunday midnight.
    assert closed[0] == (0.0, 8 * 3600.0)
    assert closed[-1] == ((4 * 24 + 18) * 3600.0, 7 * 86_400.0)
    assert len(closed) == 6
    assert rule.open_frac == pytest.approx(50 / 168)
    assert operations(schedule={}).schedule.closed_s() == ()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"schedule": {"weekdays": [18, 8]}}, "end must be after the start"),
        ({"schedule": {"weekdays": None, "weekends": None}}, "never run"),
        ({"autoscale": {"up_at_requests": 2, "down_at_requests": 3}}, "below up_at_requests"),
        ({"autoscale": {"min_replicas": 3, "max_replicas": 2}}, "must not be below"),
        ({"autoscale": {}, "schedule": {"keep_replicas": 1}}, "exclude each other"),
        ({"faults": {"mtbf": 3}}, "unknown field"),
        ({"hosted": {"retired_on": "2027-02-30"}}, "day"),
    ],
)
def test_what_cannot_be_is_refused(given: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        operations(**given)


def test_a_candidate_replaces_only_what_it_gives() -> None:
    both = SCENARIO.replace(
        {
            "operations": {"spares": 2, "maintenance": {"weekday": "sat"}},
            "candidates.own-v4-flash.operations": {"spares": 0},
        }
    )
    own = both.operations_of(next(c for c in both.candidates if c.id == "own-v4-flash"))
    other = both.operations_of(next(c for c in both.candidates if c.id == "own-llama-70b"))
    assert (own.spares, own.maintenance.weekday) == (0, "sat")
    assert other.spares == 2


def test_seats_do_not_scale() -> None:
    with pytest.raises(InputError, match="devices of seats"):
        SCENARIO.replace("candidates.laptop-8b.operations", {"autoscale": {}})


def test_the_operations_in_the_readme_are_valid() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    block = re.search(r"```yaml\n(operations:.*?)```", text, flags=re.DOTALL)
    assert block is not None
    given = parse_yaml(block[1], "README.md")["operations"]
    assert operations(**given).spares == 1
    scaled = SCENARIO.replace(
        "candidates.own-v4-flash.operations", {"autoscale": {"min_replicas": 1, "max_replicas": 4}}
    )
    assert scaled.operations_of(next(c for c in scaled.candidates if c.id == "own-v4-flash")).autoscale is not None

"""A value changed in a YAML text: the new text holds it, and everything else is as it was."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from envelope.errors import InputError
from envelope.spec.edit import edited

TEXT = """# a comment
id: x   # its id
story: >
  two
  lines

work:
  - {id: a, share: 0.5}  # first
  - id: b
    share: 0.5
    slo:
      ttft_s: 1.0
    # what follows is the last line of b

money:
  region: us
  inputs:
"""


def put(data: Any, path: tuple[str | int, ...], value: Any) -> None:
    for step in path[:-1]:
        if isinstance(data, dict) and data.get(step) is None:
            data[step] = {}
        data = data[step]
    data[path[-1]] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("id",), "ä: y"),
        (("story",), "one line"),
        (("work", 0, "share"), 0.25),
        (("work", 0, "slo", "e2e_s"), 3),
        (("work", 1, "share"), None),
        (("work", 1, "slo", "e2e_s"), 3.5),
        (("work", 1, "slo"), {"ttft_s": 2}),
        (("money", "region"), "de"),
        (("money", "horizon"), 36),
        (("money", "inputs", "wacc"), {"low": 0.05, "high": 0.1}),
        (("limits", "budget"), 1e6),
        (("money",), "none"),
    ],
    ids=str,
)
def test_only_the_value_changes(path: tuple[str | int, ...], value: Any) -> None:
    expected = yaml.safe_load(TEXT)
    put(expected, path, value)
    changed = edited(TEXT, path, value)
    assert yaml.safe_load(changed) == expected
    comments = [line for line in TEXT.splitlines() if "#" in line]
    assert sum(line.partition("#")[2] in changed for line in comments) == len(comments)


@pytest.mark.parametrize("path", [("work", 5, "share"), ("id", "deeper")], ids=str)
def test_a_path_through_nothing_is_refused(path: tuple[str | int, ...]) -> None:
    with pytest.raises(InputError):
        edited(TEXT, path, 1)


def test_every_value_of_a_shipped_scenario_can_be_replaced_by_itself() -> None:
    text = (Path(__file__).parents[2] / "scenarios" / "coding-assistant.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(text)
    for path, value in leaves(data, ()):
        assert yaml.safe_load(edited(text, path, value)) == data, path


def leaves(data: Any, path: tuple[str | int, ...]) -> list[tuple[tuple[str | int, ...], Any]]:
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else None
    return [(path, data)] if inner is None else [leaf for k, v in inner for leaf in leaves(v, (*path, k))]

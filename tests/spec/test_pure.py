"""Records are validated without reading files: what they take from the catalog is filled in, and checked, by its reader."""

from pathlib import Path
from typing import NoReturn

import pytest

from envelope.errors import InputError
from envelope.plan.case.scenarios import load_scenario, read_scenario
from envelope.spec.folders import forget
from envelope.spec.load import ids
from envelope.spec.scenario import Scenario


def _no_files(*_: object, **__: object) -> NoReturn:
    raise AssertionError("a file was read")


@pytest.mark.parametrize("ident", ids("scenarios"))
def test_a_scenario_is_validated_without_reading_a_file(ident: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_scenario(ident)
    data = whole.model_dump(mode="python", exclude_unset=True)
    forget()
    for name in ("open", "read_text", "read_bytes", "glob", "iterdir"):
        monkeypatch.setattr(Path, name, _no_files)
    monkeypatch.setattr("builtins.open", _no_files)
    assert Scenario.model_validate(data) == whole


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("preset: chat", "preset: chatt", "mine.yaml: workload.tasks[1].preset: 'chatt' unknown; nearest 'chat'"),
        ("{id: tutor, preset: tutoring", "{id: tutor, preset: tutorin", "mine.yaml: workload.tasks[0].preset: 'tutorin'"),
        ("  arrivals:\n", "  arrivals:\n    preset: tutoring\n",
         "mine.yaml: workload.arrivals.preset: 'tutoring' says nothing about arrivals"),
    ],
)  # fmt: skip
def test_a_misspelt_preset_is_named_with_its_file_and_path(old: str, new: str, said: str) -> None:
    text = """
id: mine
name: Mine
question: What fits?
failure_not_affordable: leak
company: {seats: 10}
economics: {}
workload:
  requests_per_day: 1000
  tasks:
    - {id: tutor, preset: tutoring, slo: {ttft_s: 5}}
    - {id: chat, preset: chat, slo: {ttft_s: 5}}
  arrivals:
    kind: poisson
candidates:
  - {id: api, name: API, hosted: {api: anthropic-claude-haiku-5-5}}
"""
    assert read_scenario(text, Path("mine.yaml")).workload.tasks[1].preset == "chat"
    with pytest.raises(InputError) as caught:
        read_scenario(text.replace(old, new), Path("mine.yaml"))
    assert str(caught.value).startswith(said)
    assert "list: envelope workloads" not in str(caught.value)

"""``envelope doctor``: packages, kernel, folders, evidence, probed profiles, broken records and old facts."""

import json
import os
from datetime import date
from importlib import metadata
from pathlib import Path

import pytest

from envelope.cli import main
from envelope.plan.doctor import examine
from envelope.processor import processor_name
from envelope.spec.folders import forget
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import load_all
from envelope.spec.yaml_text import to_yaml


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    forget()
    yield tmp_path / "envelope"
    forget()


def test_versions_are_those_of_the_installed_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = {p["name"]: p for p in json.loads(capsys.readouterr().out)["packages"]}
    assert found["numpy"]["installed"] == metadata.version("numpy")
    assert found["streamlit"]["extra"] == "ui"


def test_what_is_old_depends_on_the_day_and_the_age_asked_for() -> None:
    now, later = examine(date(2026, 11, 23)), examine(date(2036, 1, 1))
    models = {s.kind: s for s in now.stale}["facts: models"]
    assert (models.old, models.oldest) == (0, "2026-11-23")
    assert all(s.old == s.count for s in later.stale)
    strict = {s.kind: s for s in examine(date(2026, 11, 25), stale_days=1).stale}
    assert strict["prices: hosted"].old == strict["prices: hosted"].count


@pytest.mark.parametrize(
    ("name", "cores", "here"),
    [
        # A virtual machine may call its processor "AMD EPYC", as many other machines' names begin.
        ("PROCESSOR 7763, CORES cores (probed)", 0, False),
        ("PROCESSOR, CORES cores (probed)", 1, False),
        ("PROCESSOR, CORES cores (probed)", 0, True),
    ],
)
def test_a_probed_profile_says_whether_it_is_of_this_machine(home: Path, name: str, cores: int, here: bool) -> None:
    base = load_all(HardwareProfile, "hardware_profiles")[0].model_dump(mode="json", exclude_defaults=True)
    count = os.cpu_count() or 1
    conditions = {
        "date": "2026-11-01", "mode": "quick", "complete": True, "cores_allowed": 2, "cores_limited_by": "machine",
        "cores_online": count + cores, "memory_limit_bytes": 4e9,
    }  # fmt: skip
    name = name.replace("PROCESSOR", processor_name()).replace("CORES", str(count))
    facts = {"id": "mine", "name": name, "aliases": [], "device_class": "cpu", "conditions": conditions}
    record = HardwareProfile.model_validate(base | facts)
    (home / "hardware_profiles").mkdir(parents=True)
    (home / "hardware_profiles" / "mine.yaml").write_text(to_yaml(record))
    forget()
    (found,) = examine(date(2026, 11, 23)).probed
    assert (found.id, found.this_machine, found.complete) == ("mine", here, True)


def test_a_broken_record_is_named_and_gives_exit_code_2(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "models").mkdir(parents=True)
    (home / "models" / "mine.yaml").write_text("id: mine\nhiden: 4\n")
    forget()
    assert main(["doctor"]) == 2
    assert "mine.yaml: hiden: unknown field; nearest 'hidden'" in capsys.readouterr().out


def test_folders_that_cannot_be_written_are_marked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENVELOPE_DATA", str(Path(__file__) / "below"))
    forget()
    assert main(["doctor"]) == 0
    assert "below (not writable)" in capsys.readouterr().out
    forget()

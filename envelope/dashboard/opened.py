"""The scenario that is open: its text, what is wrong with it, and whether it differs from the saved one."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from envelope.dashboard import store
from envelope.errors import InputError, Problem
from envelope.plan.case.scenarios import read_scenario
from envelope.spec.data_version import data_version
from envelope.spec.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Opened:
    """A scenario as the user sees it now."""

    name: str
    """Name of the saved scenario that it started from."""
    text: str
    """YAML text, with changes that are not saved."""
    draft: str
    """Hash of the text if it differs from the saved one, else empty."""
    scenario: Scenario | None
    """``None`` while the text is wrong."""
    problems: tuple[Problem, ...]
    path: Path
    """File of the saved scenario."""
    own: bool
    """Whether it is one of the user's, which can be saved and deleted."""

    @property
    def changed(self) -> bool:
        """Whether there are changes that are not saved."""
        return bool(self.draft)


def open_scenario(name: str, draft: str = "") -> Opened:
    """Return a scenario by name, or a draft that started from it.

    What is wrong with its text is part of the result. Raises ``InputError`` for an unknown name or draft.
    """
    path = store.scenario_path(name)
    saved = path.read_text(encoding="utf-8")
    text = store.get_draft(draft) if draft else saved
    scenario, problems = checked(text, path)
    own = name in store.saved_names()
    return Opened(name, text, draft if text != saved else "", scenario, problems, path, own)


def checked(text: str, path: Path) -> tuple[Scenario | None, tuple[Problem, ...]]:
    """Return the scenario in a text, or what is wrong with it, as the command line would say it of ``path``."""
    beside = path.parent / "evidence" / path.name
    stamp = beside.stat().st_mtime_ns if beside.is_file() else 0
    return _checked(text, path, stamp, data_version())


@lru_cache(maxsize=64)
def _checked(text: str, path: Path, _evidence: int, _data: str) -> tuple[Scenario | None, tuple[Problem, ...]]:
    try:
        return read_scenario(text, path), ()
    except InputError as error:
        return None, error.problems

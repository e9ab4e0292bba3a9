"""Scenarios on disk: drafts by the hash of their text, saved ones by name, deleted ones until they are restored.

Everything lies under the user's data folder. A draft never changes, so that a link to it shows the same view for ever
and two tabs cannot disturb each other; a saved scenario lies in ``scenarios/`` where the command line finds it too.
"""

import hashlib
import re
from pathlib import Path

from envelope.errors import InputError, Problem
from envelope.spec.folders import forget, writable_data_dir
from envelope.spec.load import ids, path_of

MAX_TEXT_BYTES = 512 * 1024
"""Largest text of a scenario that is kept; keeps an upload from filling the disk."""
MAX_DRAFTS = 5000
"""Drafts kept; the oldest give way."""
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,79}")
_HASH = re.compile(r"[0-9a-f]{32}")


def text_hash(text: str) -> str:
    """Return the hash that names a draft."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def put_draft(text: str) -> str:
    """Keep a text, valid or not, and return its hash. Raises ``InputError`` if it is too long."""
    _check_length(text, "draft")
    ident = text_hash(text)
    path = _draft_path(ident)
    if not path.is_file():
        _write(path, text)
        _drop_oldest(path.parent)
    return ident


def get_draft(ident: str) -> str:
    """Return a draft's text. Raises ``InputError`` if there is none of that hash."""
    path = _draft_path(ident)
    if not path.is_file():
        raise InputError(Problem("address", "draft", ident, "is no draft kept here", "open a scenario by name"))
    return path.read_text(encoding="utf-8")


def saved_names() -> list[str]:
    """Return the names of the user's own scenarios, which can be written."""
    folder = _scenarios()
    return sorted(p.stem for p in folder.glob("*.yaml") if _NAME.fullmatch(p.stem)) if folder.is_dir() else []


def read(name: str) -> str:
    """Return the text of a scenario, the user's own or one that ships. Raises ``InputError`` for an unknown name."""
    return scenario_path(name).read_text(encoding="utf-8")


def scenario_path(name: str) -> Path:
    """Return the file of a scenario by name. Raises ``InputError`` for a name that is unknown or no name."""
    own = _own_path(name)
    if own.is_file():
        return own
    if name not in ids("scenarios"):
        raise InputError(Problem("address", "scenario", name, "is no scenario here", "choose one of the list"))
    return path_of("scenarios", name)


def save(name: str, text: str, *, expected: str | None) -> None:
    """Write a scenario under the user's data folder.

    ``expected`` is the hash of the text that the change started from, ``None`` for a new scenario. Raises
    ``InputError`` if somebody else has changed the file since, or if the new name is taken.
    """
    _check_length(text, name)
    path = _own_path(name)
    if expected is None and (path.is_file() or name in ids("scenarios")):
        raise InputError(Problem("scenarios", "name", name, "is taken", "choose another name"))
    if expected is not None and path.is_file() and text_hash(path.read_text(encoding="utf-8")) != expected:
        rule = "was changed by somebody else since you opened it"
        raise InputError(Problem("scenarios", "name", name, rule, "duplicate yours under another name"))
    _write(path, text)
    forget()


def delete(name: str) -> None:
    """Take one of the user's scenarios away; ``restore`` brings it back."""
    path, away = _own_path(name), _deleted_path(name)
    if not path.is_file():
        raise InputError(Problem("scenarios", "name", name, "is not one of yours", "those that ship stay"))
    away.parent.mkdir(parents=True, exist_ok=True)
    path.replace(away)
    forget()


def deleted_names() -> list[str]:
    """Return the names that ``restore`` knows."""
    folder = _root() / "deleted"
    return sorted(p.stem for p in folder.glob("*.yaml")) if folder.is_dir() else []


def restore(name: str) -> None:
    """Undo ``delete``. Raises ``InputError`` if nothing of that name was deleted, or if the name is taken again."""
    path, away = _own_path(name), _deleted_path(name)
    if not away.is_file():
        raise InputError(Problem("scenarios", "name", name, "was not deleted"))
    if path.is_file():
        raise InputError(Problem("scenarios", "name", name, "is taken again", "rename the other one first"))
    away.replace(path)
    forget()


def refused(what: str, rule: str) -> InputError:
    """Return the error for something that cannot be kept."""
    return InputError(Problem("scenarios", what, None, rule))


def _root() -> Path:
    return writable_data_dir() / "dashboard"


def _scenarios() -> Path:
    return writable_data_dir() / "scenarios"


def _own_path(name: str) -> Path:
    return _scenarios() / f"{_checked(_NAME, name, 'name')}.yaml"


def _deleted_path(name: str) -> Path:
    return _root() / "deleted" / f"{_checked(_NAME, name, 'name')}.yaml"


def _draft_path(ident: str) -> Path:
    return _root() / "drafts" / f"{_checked(_HASH, ident, 'draft')}.yaml"


def _checked(pattern: re.Pattern[str], text: str, path: str) -> str:
    """Return a text that is fit to be a file name: it cannot leave its folder."""
    if not pattern.fullmatch(text):
        rule = "must be lower-case letters, digits, dots and hyphens, at most 80"
        raise InputError(Problem("scenarios", path, text, rule))
    return text


def _check_length(text: str, name: str) -> None:
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise InputError(Problem(name, "", None, f"is larger than {MAX_TEXT_BYTES // 1024} KiB"))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _drop_oldest(folder: Path) -> None:
    files = list(folder.glob("*.yaml"))
    if len(files) > MAX_DRAFTS:
        for old in sorted(files, key=lambda p: p.stat().st_mtime)[: len(files) - MAX_DRAFTS]:
            old.unlink(missing_ok=True)

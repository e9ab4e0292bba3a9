"""Folders in which data files are looked for: the user's first, the packaged ones last.

Every kind of record lives in one folder as one file per record, named after its id. A user's folders
(``--data-dir``, ``ENVELOPE_DATA``) have the same layout as the packaged ones.
"""

import os
from pathlib import Path

from envelope.errors import InputError, Problem

_PACKAGE = Path(__file__).resolve().parent.parent

_search_path: tuple[Path, ...] | None = None
_generation = 0


def set_data_dirs(dirs: tuple[Path, ...]) -> None:
    """Put the user's data folders before the packaged ones, for this process."""
    global _search_path
    for folder in dirs:
        if not folder.is_dir():
            raise InputError(Problem("--data-dir", "", str(folder), "is not a folder"))
    _search_path = dirs
    forget()


def use_data_dirs(dirs: tuple[Path, ...]) -> None:
    """Search the same folders as the process that ``data_dirs`` was asked in, if this one does not yet."""
    mine = tuple(folder for folder in data_dirs() if folder not in _packaged())
    theirs = tuple(folder for folder in dirs if folder not in _packaged())
    if mine != theirs:
        set_data_dirs(theirs)


def data_dirs() -> tuple[Path, ...]:
    """Return the folders searched for data, the user's first, the packaged one last."""
    if _search_path is not None:
        user = _search_path
    else:
        user = tuple(Path(p) for p in os.environ.get("ENVELOPE_DATA", "").split(os.pathsep) if p)
    own = home_data_dir()
    return (*user, *((own,) if own.is_dir() else ()), *_packaged())


def home_data_dir() -> Path:
    """Return the folder for the user's own records where none is given: ``$XDG_DATA_HOME/envelope``."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "envelope"


def writable_data_dir() -> Path:
    """Return the folder that new records go to: the user's first folder, or that in the home folder."""
    if _search_path:
        return _search_path[0]
    named = [Path(p) for p in os.environ.get("ENVELOPE_DATA", "").split(os.pathsep) if p]
    return named[0] if named else home_data_dir()


def forget() -> None:
    """Have everything read anew, after a record was written."""
    global _generation
    _generation += 1


def generation() -> int:
    """Return a number that changes whenever what was read from the folders may be out of date."""
    return _generation


def _packaged() -> tuple[Path, ...]:
    """Return the packaged folders; a source checkout keeps profiles and scenarios beside the package."""
    installed = _PACKAGE / "_data"
    return (installed, _PACKAGE / "catalog") if installed.is_dir() else (_PACKAGE.parent, _PACKAGE / "catalog")


def is_packaged(path: Path) -> bool:
    """Return whether a file lies in a folder of the packaged data, which is read only."""
    return any(path.resolve().is_relative_to(folder.resolve()) for folder in _packaged()[-1:])


def folders(kind: str) -> list[Path]:
    """Return the existing folders that hold records of ``kind`` (``models``, ``hardware_profiles`` …)."""
    return [d / kind for d in data_dirs() if (d / kind).is_dir()]

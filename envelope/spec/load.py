"""Records from data files, by id or alias, with errors that name the file, the field and the nearest allowed name."""

import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from envelope.errors import InputError, Problem, nearest, unknown_name
from envelope.spec.folders import folders, generation
from envelope.spec.yaml_text import read_yaml

T = TypeVar("T", bound=BaseModel)


def validate(cls: type[T], data: Any, name: str, *, at: str = "") -> T:
    """Return ``data`` as a ``cls``, or raise ``InputError`` with every problem and the nearest allowed key.

    What it takes from presets of the catalog is filled in first, so that the classes themselves read no files.
    ``at`` is the path of the record inside the file, if it is not the whole of it.
    """
    if not isinstance(data, Mapping):
        raise InputError(Problem(name, at, data, "must be a mapping of fields"))
    fill = getattr(cls, "with_presets", None)
    if fill is not None:
        data = fill(data, Lookup(name, at))
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        raise InputError([_problem(cls, data, name, at, dict(e)) for e in error.errors()]) from None


@dataclass(frozen=True, slots=True)
class Lookup:
    """How one file finds records of the catalog (``presets.Look``): its name and the part of it, for the errors."""

    file: str
    at: str = ""

    def __call__(self, cls: type[T], kind: str, name: str, path: str) -> T:
        """Return the record of ``kind`` called ``name``, which is written at ``path``."""
        return load(cls, kind, name, file=self.file, path=self._path(path))

    def inside(self, path: str) -> "Lookup":
        """Return the same for a part of the record."""
        return Lookup(self.file, self._path(path))

    def problem(self, path: str, value: object, rule: str) -> InputError:
        """Return the error for a value that the rule forbids."""
        return InputError(Problem(self.file, self._path(path), value, rule))

    def _path(self, path: str) -> str:
        return f"{self.at}.{path}" if self.at else path


def load_file(cls: type[T], path: Path) -> T:
    """Return the record in one file; a record with an ``id`` must carry the file's name as its id."""
    record = validate(cls, read_yaml(path), str(path))
    ident = getattr(record, "id", None)
    if ident is not None and ident != path.stem:
        raise InputError(Problem(str(path), "id", ident, f"must equal the file name {path.stem!r}"))
    return record


def load(cls: type[T], kind: str, name: str, *, file: str, path: str) -> T:
    """Return the record of ``kind`` called ``name`` (id or alias).

    ``file`` and ``path`` say where the name was written, for the error.
    """
    ids = _index(kind)
    target = name if name in ids else _aliases(cls, kind).get(_key(name))
    if target is not None:
        record: T = _load_by_id(cls, kind, target)
        return record
    names = {**_aliases(cls, kind), **{ident: ident for ident in ids}}
    close = dict.fromkeys(names[near] for near in nearest(name, names, limit=6))
    raise unknown_name(file, path, name, list(close)[:3], LISTING.get(kind, ""))


def load_all(cls: type[T], kind: str) -> list[T]:
    """Return every record of ``kind``, sorted by id."""
    return list(_load_all_at(cls, kind, generation()))


def ids(kind: str) -> list[str]:
    """Return the ids of the records of ``kind``, sorted."""
    return list(_index(kind))


def path_of(kind: str, ident: str) -> Path:
    """Return the file of a record by its id."""
    return _index(kind)[ident]


LISTING = {
    "hardware_profiles": "hardware", "workloads": "presets",
    **{kind: kind for kind in (
        "models", "servers", "hosted", "cloud", "economics", "licences", "formats", "engines", "scenarios", "ledger",
    )},
}  # fmt: skip
"""Command that lists the records of a folder."""


def _key(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(" ", "-")


def _index(kind: str) -> dict[str, Path]:
    """Return id → file in the order of the ids; the first folder of the search path wins."""
    return _index_at(kind, generation())


@cache
def _index_at(kind: str, _generation: int) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in folders(kind):
        for file in sorted(folder.glob("*.yaml")):
            found.setdefault(file.stem, file)
    return dict(sorted(found.items()))


def _load_by_id(cls: type[T], kind: str, ident: str) -> T:
    record: T = _load_at(cls, kind, ident, generation())
    return record


@cache
def _load_at(cls: type[T], kind: str, ident: str, _generation: int) -> T:
    return load_file(cls, _index(kind)[ident])


@cache
def _load_all_at(cls: type[T], kind: str, _generation: int) -> tuple[T, ...]:
    return tuple(_load_by_id(cls, kind, ident) for ident in _index(kind))


@cache
def _aliases_cached(cls: type[T], kind: str, _stamp: tuple[str, ...]) -> dict[str, str]:
    table: dict[str, str] = {}
    for record in load_all(cls, kind):
        ident = str(getattr(record, "id", ""))
        for alias in (ident, getattr(record, "name", ident), *getattr(record, "aliases", ())):
            table.setdefault(_key(str(alias)), ident)
            table.setdefault(_key(str(alias)).rsplit("/", 1)[-1], ident)
    return table


def _aliases(cls: type[T], kind: str) -> dict[str, str]:
    return _aliases_cached(cls, kind, tuple(str(p) for p in _index(kind).values()))


def _problem(cls: type[BaseModel], data: Any, name: str, at: str, error: dict[str, Any]) -> Problem:
    """Turn one pydantic error into one of ours, with the nearest field for an unknown key."""
    loc = tuple(part for part in error["loc"] if not _is_union_tag(part))
    value = _dig(data, error["loc"])
    shown = _path_text((at, *loc) if at else loc)
    if error["type"] == "extra_forbidden":
        known = _fields_at(cls, error["loc"][:-1])
        close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        remedy = f"nearest {close[0]!r}" if close else f"allowed: {', '.join(known)}" if known else ""
        return Problem(name, shown, None, "unknown field", remedy)
    if error["type"] == "missing":
        return Problem(name, shown, None, "is required")
    message = str(error["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:] if message else message
    if isinstance(value, float) and not math.isfinite(value):
        message = "must be a finite number"
    return Problem(name, shown, None if isinstance(value, Mapping) else value, message)


def _is_union_tag(part: object) -> bool:
    """Pydantic puts tags such as ``function-after[…]`` into locations; a user never wrote them."""
    return isinstance(part, str) and ("[" in part or "(" in part)


def _path_text(loc: tuple[Any, ...]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _dig(data: Any, loc: tuple[Any, ...]) -> Any:
    for part in loc:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            if not _is_union_tag(part):
                return None
    return data


def _fields_at(cls: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    """Return the field names allowed at ``loc``, walking through lists, dicts and unions."""
    options: list[type[BaseModel]] = [cls]
    for part in loc:
        if not isinstance(part, str):
            continue
        following = [o.model_fields[part] for o in options if part in o.model_fields]
        if following:
            options = [m for field in following for m in _models_in(field)]
    return sorted({name for option in options for name in option.model_fields})


def _models_in(field: FieldInfo) -> Iterator[type[BaseModel]]:
    stack: list[Any] = [field.annotation]
    while stack:
        item = stack.pop()
        if isinstance(item, type) and issubclass(item, BaseModel):
            yield item
        stack.extend(get_args(item))


Reporter = Callable[[float, str], object]
"""Progress callback: share done (0–1) and what is being done."""

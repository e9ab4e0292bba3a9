"""Reading and replacing values of a record by their paths, under the rules that a file must keep.

A path names fields, entries of lists by index or id, and keys of mappings: ``workload.requests_per_day``,
``candidates.own-70b.pools.0.replicas`` or, the same, ``candidates[own-70b].pools[0].replicas``. Ids may hold dots.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from envelope.errors import InputError, Problem, nearest
from envelope.spec.load import Lookup, validate
from envelope.spec.workload import Arrivals, TaskClass, Workload

T = TypeVar("T", bound=BaseModel)
Step = str | int

_BRACKET = re.compile(r"\[([^\]]+)\]")
_WORD = re.compile(r"[^.\[\]]+")
_FIELD = re.compile(r"[a-z_][a-z0-9_]*")


def value_at(record: BaseModel, path: str) -> Any:
    """Return the value at a path.

    Raises ``InputError`` for a path that does not exist, with the nearest that does.
    """
    value: Any = record
    for step in _steps(record, path):
        if value is None:
            raise InputError(Problem("arguments", "path", path, "lies in something that is not given"))
        value = _inside(value, step)
    return value


def replaced(record: T, changes: Mapping[str, Any], *, file: str = "scenario") -> T:
    """Return a copy of a record with the values at some paths replaced, all at once.

    Every record on the way is validated as if it had been read from a file with the new values in it. Raises
    ``InputError`` with every problem, those of the paths before those of the values; ``file`` is named in them.
    """
    tree = _Branch()
    problems: list[Problem] = []
    for path, value in changes.items():
        try:
            _plant(tree, _steps(record, path), value, path)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    changed: T = _rebuilt(record, tree, file, "")
    return changed


def with_value(record: T, path: str, value: Any) -> T:
    """Return a copy of a record with one value replaced, as ``replaced`` does it."""
    return replaced(record, {path: value})


def paths(record: BaseModel) -> Iterator[str]:
    """Yield the path of every single value of a record, entries of lists by their ids where they have some."""
    yield from (path.removeprefix(".") for path in _paths(record, ""))


class _Branch(dict[Step, Any]):
    """Changes inside one value, by step; a value that is no branch replaces what stands there."""


def _plant(tree: _Branch, steps: Sequence[Step], value: Any, path: str) -> None:
    """Put a change into the tree; raises ``InputError`` if it overlaps another."""
    for step in steps[:-1]:
        inner = tree.setdefault(step, _Branch())
        if not isinstance(inner, _Branch):
            raise InputError(_overlap(path))
        tree = inner
    if steps[-1] in tree:
        raise InputError(_overlap(path))
    tree[steps[-1]] = value


def _overlap(path: str) -> Problem:
    return Problem("arguments", "path", path, "is changed twice, or as a whole and in part")


def _rebuilt(value: Any, branch: Mapping[Step, Any], file: str, at: str) -> Any:
    """Return a value with the changes of a branch made; records are validated, the innermost first."""
    made: dict[Step, Any] = {}
    problems: list[Problem] = []
    for step, change in branch.items():
        where = f"{at}.{_name(value, step)}" if at else str(step)
        try:
            deeper = isinstance(change, _Branch)
            made[step] = _rebuilt(_inside(value, step), change, file, where) if deeper else change
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    if isinstance(value, BaseModel):
        return validate(type(value), {**_given(value, made, file, at), **made}, file, at=at)
    if isinstance(value, tuple | list):
        return tuple(made.get(index, item) for index, item in enumerate(value))
    return {**(value or {}), **made}


def _given(record: BaseModel, made: Mapping[Step, Any], file: str, at: str) -> dict[str, Any]:
    """Return the fields that a record was given, less those that give way to the changed ones."""
    if isinstance(record, TaskClass | Arrivals) and made.get("preset") is not None:
        return record.own_fields(Lookup(file, at))
    given = {name: getattr(record, name) for name in record.model_fields_set}
    if isinstance(record, Workload):
        for name, other in Workload.ALTERNATIVES.items():
            if made.get(name) is not None and other not in made:
                given.pop(other, None)
    return given


def _steps(record: BaseModel, path: str) -> list[Step]:
    """Return the steps of a path, each checked against the record.

    A path is read along the record rather than split at dots, since ids may hold dots.
    """
    if not path:
        raise InputError(Problem("arguments", "path", path, "is empty"))
    if not _FIELD.match(path):
        raise InputError(Problem("arguments", "path", path, "is no path such as economics.pue or company.seats"))
    steps: list[Step] = []
    value: Any = record
    at = 0
    while at < len(path):
        step, end = _step(value, path, at)
        value = _inside(value, step)
        steps.append(step)
        at = end + 1 if path[end : end + 1] == "." else end
    return steps


def _step(value: Any, path: str, at: int) -> tuple[Step, int]:
    """Return the step that stands at a position of a path, and where it ends."""
    bracket = _BRACKET.match(path, at)
    names = _names(value)
    if bracket is not None:
        word, end = bracket[1], bracket.end()
    else:
        # The longest id wins: `own.8b` must not be read as `own`.
        known = [n for n in names if path.startswith(n, at) and path[at + len(n) : at + len(n) + 1] in ("", ".", "[")]
        found = _WORD.match(path, at)
        word = max(known, key=len) if known else found[0] if found else ""
        end = at + len(word)
    if not word:
        raise InputError(Problem("arguments", "path", path, "is no path such as economics.pue or company.seats"))
    if isinstance(value, tuple | list):
        if word in names:
            return names.index(word), end
        if word.isdecimal() and int(word) < len(value):
            return int(word), end
    elif word in names or value is None or (isinstance(value, Mapping) and end == len(path)):
        return word, end
    raise InputError(_no_such(value, path, at, word, names))


def _no_such(value: Any, path: str, at: int, word: str, names: Sequence[str]) -> Problem:
    """Return the problem of a path that leads nowhere, with the nearest paths that lead somewhere."""
    entries = isinstance(value, tuple | list | Mapping)
    written = "[{}]" if path[at] == "[" else "{}"
    near = [path[:at] + written.format(name) for name in nearest(word, names)]
    if not at and isinstance(value, BaseModel):
        # A field named without its record, such as requests_per_day for workload.requests_per_day.
        near = [p for p in paths(value) if p.endswith(f".{word}")][:3] or near
    remedy = f"nearest {', '.join(map(repr, near))}" if near else ""
    return Problem("arguments", "path", path, f"has no {'entry ' if entries else ''}{word!r}", remedy)


def _names(value: Any) -> list[str]:
    """Return the names by which the parts of a value are called."""
    if isinstance(value, BaseModel):
        return list(type(value).model_fields)
    if isinstance(value, Mapping):
        return [str(key) for key in value]
    if isinstance(value, tuple | list):
        return [str(getattr(item, "id", index)) for index, item in enumerate(value)]
    return []


def _name(value: Any, step: Step) -> str:
    return _names(value)[step] if isinstance(step, int) else step


def _inside(value: Any, step: Step) -> Any:
    """Return a part of a value; ``None`` where an optional record or entry is not given yet."""
    if isinstance(value, BaseModel):
        return getattr(value, str(step))
    if isinstance(value, tuple | list):
        return value[int(step)]
    return value.get(step) if isinstance(value, Mapping) else None


def _paths(value: Any, at: str) -> Iterator[str]:
    names = _names(value)
    if not names:
        yield at
    for step, name in enumerate(names):
        yield from _paths(_inside(value, step if isinstance(value, tuple | list) else name), f"{at}.{name}")

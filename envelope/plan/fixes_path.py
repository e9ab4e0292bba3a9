"""Reading and changing one value of a scenario by its path."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from envelope.errors import InputError, Problem, nearest
from envelope.plan.results import Change
from envelope.spec.scenario import Scenario

T = TypeVar("T", bound=BaseModel)

_STEP = re.compile(r"([a-z_][a-z0-9_]*)(?:\[([^\]]+)\])?")


def value_at(record: BaseModel, path: str) -> Any:
    """Return the value at a path such as ``candidates[own-70b].pools[0].replicas``.

    Lists take an index or the id of an entry, mappings a key. Raises ``InputError`` for a path that does not exist.
    """
    value: Any = record
    for name, key in _steps(path):
        value = _field(value, name, path)
        if key is not None:
            value = value[_key(value, key, path)]
    return value


def with_value(record: T, path: str, new: Any, *, whole: str | None = None) -> T:
    """Return a copy of a record with one value replaced; what is replaced is validated.

    Raises ``InputError`` for a path that does not exist and for a value that is not allowed there; ``whole`` is the
    path that the error names.
    """
    whole = whole or path
    (name, key), *rest = _steps(path)
    old = _field(record, name, path)
    if rest or key is not None:
        inner = ".".join(n if k is None else f"{n}[{k}]" for n, k in rest)
        if key is None:
            new = with_value(old, inner, new, whole=whole)
        else:
            at = _key(old, key, path) if key not in _keys(old) else key
            part = with_value(old[at], inner, new, whole=whole) if rest else new
            new = {**old, at: part} if isinstance(old, Mapping) else (*old[: int(at)], part, *old[int(at) + 1 :])
        if rest:
            return record.model_copy(update={name: new})
    try:
        return type(record).model_validate({**dict(record), name: new})
    except ValidationError as error:
        rules = "; ".join(str(e["msg"]).removeprefix("Value error, ") for e in error.errors())
        raise InputError(Problem("scenario", whole, new, rules)) from None


def applied(scenario: Scenario, changes: Iterable[Change]) -> Scenario:
    """Return a scenario with changes made to it."""
    for change in changes:
        scenario = with_value(scenario, change.path, change.value)
    return scenario


def _steps(path: str) -> list[tuple[str, str | None]]:
    # Ids may hold dots, so a path is read step by step rather than split at dots.
    steps: list[tuple[str, str | None]] = []
    at = 0
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None or (found.end() < len(path) and path[found.end()] != "."):
            raise InputError(Problem("arguments", "path", path, "is no path such as economics.pue or company.seats"))
        steps.append((found[1], found[2]))
        at = found.end() + 1
    if not steps:
        raise InputError(Problem("arguments", "path", path, "is empty"))
    return steps


def _field(record: Any, name: str, path: str) -> Any:
    if not isinstance(record, BaseModel) or name not in type(record).model_fields:
        known = list(type(record).model_fields) if isinstance(record, BaseModel) else []
        near = nearest(name, known)
        remedy = f"nearest {', '.join(map(repr, near))}" if near else ""
        raise InputError(Problem("arguments", "path", path, f"has no {name!r}", remedy))
    return getattr(record, name)


def _keys(value: Any) -> list[str]:
    return [str(k) for k in value] if isinstance(value, Mapping) else []


def _key(value: Any, key: str, path: str) -> Any:
    """Return the index or mapping key that a step means."""
    if isinstance(value, Mapping) and key in value:
        return key
    if isinstance(value, tuple):
        if key.isdecimal() and int(key) < len(value):
            return int(key)
        for index, item in enumerate(value):
            if getattr(item, "id", None) == key:
                return index
        known = [str(getattr(item, "id", i)) for i, item in enumerate(value)]
    else:
        known = _keys(value)
    near = nearest(key, known)
    remedy = f"nearest {', '.join(map(repr, near))}" if near else ""
    raise InputError(Problem("arguments", "path", path, f"has no entry {key!r}", remedy))

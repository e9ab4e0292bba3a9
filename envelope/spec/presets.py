"""Fields that a record takes from a preset of the catalog: how they merge, and how a reader finds the preset."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

T = TypeVar("T", bound=BaseModel)


class Look(Protocol):
    """How the reader of a file finds records of the catalog; it knows the file and the field, for the error."""

    def __call__(self, cls: type[T], kind: str, name: str, path: str) -> T:
        """Return the record of ``kind`` called ``name``, which is written at ``path``."""

    def inside(self, path: str) -> "Look":
        """Return the same for a part of the record."""

    def problem(self, path: str, value: object, rule: str) -> Exception:
        """Return the error for a value that the rule forbids."""


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``over`` on top of ``base``; parts that are records merge unless ``over`` names another kind."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and "kind" not in value:
            out[key] = merged(old, value)
        else:
            out[key] = value
    return out


def without(base: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was put on top of ``base`` to make ``whole``."""
    over = {}
    for key, value in whole.items():
        old = base.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and "kind" not in value:
            value = without(old, value)
            if not value:
                continue
        elif key in base and value == old:
            continue
        over[key] = value
    return over

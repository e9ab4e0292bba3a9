"""Fields of a checkpoint's metadata, read with types and bounds; every problem is collected, not only the first."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envelope.errors import InputError, Problem

MAX_JSON_BYTES = 64 * 2**20
"""Largest JSON file that is read: an index of a million tensors fits, a mistaken path does not fill the memory."""
MAX_COUNT = 2**31
"""Largest count that a field may give; tensor dimensions and context lengths stay far below."""
MAX_LAYERS = 1000
"""Most layers of a model; the deepest published one has 126."""


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises ``InputError`` for a missing, oversized or malformed file, for a repeated key and for NaN. Infinity, which
    published files hold as an open limit, is read; no field that counts something takes it.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise InputError(Problem(str(path), "", None, f"is larger than {MAX_JSON_BYTES // 2**20} MiB"))
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(Problem(str(path), "", None, "no such file")) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(Problem(str(path), "", None, f"cannot be read: {error}")) from None
    return parse_json(text, str(path))


def parse_json(text: str, name: str) -> dict[str, Any]:
    """Return the object in JSON text; ``name`` stands for the file in errors."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise InputError(Problem(name, key, None, "stands there twice"))
            found[key] = value
        return found

    def number(constant: str) -> float:
        if constant == "NaN":
            raise ValueError("NaN is not a number in JSON")
        return float(constant)

    try:
        data = json.loads(text, object_pairs_hook=unique, parse_constant=number)
    except (ValueError, RecursionError) as error:
        raise InputError(Problem(name, "", None, f"is not valid JSON: {error}")) from None
    if not isinstance(data, dict):
        raise InputError(Problem(name, "", None, "must hold one object with fields"))
    return data


class Fields:
    """Mapping whose values are asked for by type; remembers what was asked for and what was wrong.

    Several names may be given for one quantity, because publishers name it differently: the first that is
    present and not ``null`` counts.
    """

    def __init__(self, data: Mapping[str, Any], file: str, *, defaults: Mapping[str, Any] | None = None) -> None:
        self._data = data
        self._defaults = defaults or {}
        self.file = file
        self.read: set[str] = set()
        self.defaulted: set[str] = set()
        """Fields that the file leaves out and the architecture's own defaults gave."""
        self.problems: list[Problem] = []

    def get(self, *names: str) -> tuple[str, Any]:
        """Return the first of ``names`` that is present, and its value; (first name, ``None``) if none is."""
        self.read.update(names)
        for source in (self._data, self._defaults):
            for name in names:
                if source.get(name) is not None:
                    if source is self._defaults:
                        self.defaulted.add(name)
                    return name, source[name]
        return names[0], None

    def has(self, *names: str) -> bool:
        """Return whether one of ``names`` is present and not ``null``."""
        return self.get(*names)[1] is not None

    def wrong(self, name: str, value: object, rule: str, remedy: str = "") -> None:
        """Collect a problem."""
        self.problems.append(Problem(self.file, name, value, rule, remedy))

    def count(self, *names: str, least: int = 1, most: int = MAX_COUNT) -> int | None:
        """Return a whole number within bounds, or ``None`` if it is absent or wrong (which is collected).

        A list that gives every layer the same number stands for that number (Hunyuan).
        """
        name, value = self.get(*names)
        if isinstance(value, list) and value and all(each == value[0] for each in value):
            value = value[0]
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.wrong(name, value, f"must be a whole number from {least:,} to {most:,}")
            return None
        return value

    def required(self, *names: str, most: int = MAX_COUNT) -> int:
        """Return a count that must be there; 1 stands in for a missing one, whose absence is collected."""
        if not self.has(*names):
            others = f" (or {', '.join(names[1:])})" if len(names) > 1 else ""
            self.wrong(names[0], None, f"is required{others}")
            return 1
        return self.count(*names, most=most) or 1

    def flag(self, *names: str) -> bool | None:
        """Return a truth value, or ``None``."""
        name, value = self.get(*names)
        if value is None or isinstance(value, bool):
            return value
        self.wrong(name, value, "must be true or false")
        return None

    def text(self, *names: str) -> str | None:
        """Return a text, or ``None``."""
        name, value = self.get(*names)
        if value is None or isinstance(value, str):
            return value
        self.wrong(name, value, "must be a text")
        return None

    def sequence(self, *names: str, length: int | None = None) -> list[Any] | None:
        """Return a list (of at least ``length`` entries), or ``None``."""
        name, value = self.get(*names)
        if value is None:
            return None
        if not isinstance(value, list):
            self.wrong(name, value, "must be a list")
            return None
        if length is not None and len(value) < length:
            self.wrong(name, None, f"has {len(value)} entries for {length} layers")
            return None
        return value

    def inner(self, *names: str) -> "Fields | None":
        """Return a nested object as fields that share the list of problems, or ``None``."""
        name, value = self.get(*names)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self.wrong(name, value, "must be an object")
            return None
        found = Fields(value, f"{self.file}: {name}")
        found.problems = self.problems
        return found

    def names(self) -> list[str]:
        """Return the names of all fields."""
        return [str(name) for name in self._data]

    def without_null(self) -> dict[str, Any]:
        """Return the fields that are not ``null``."""
        return {name: value for name, value in self._data.items() if value is not None}

    def unread(self) -> list[str]:
        """Return the fields that nobody asked for, sorted."""
        return sorted(str(name) for name in set(self._data) - self.read)

    def raise_problems(self) -> None:
        """Raise ``InputError`` if anything was wrong."""
        if self.problems:
            raise InputError(self.problems)

"""Changing one value in the text of a scenario while everything else, comments included, stays as it was written."""

from collections.abc import Sequence
from typing import Any

from envelope.errors import InputError, Problem
from envelope.spec.yaml_text import Place, flow_text, places

Step = str | int


def edited(text: str, path: Sequence[Step], value: Any, *, name: str = "scenario") -> str:
    """Return a YAML text with the value at a path replaced, or added where the path is not written yet.

    Missing mappings on the way are added too; entries of lists must exist. ``name`` stands for the file in errors.
    Raises ``InputError`` for a text that is not YAML and for a path that leads through something else.

    >>> edited("a: 1  # one", ["b", "c"], [3]).splitlines()
    ['a: 1  # one', 'b: {c: [3]}']
    """
    known = places(text, name)
    steps = tuple(path)
    place = known.get(steps)
    if place is not None:
        return text[: place.start] + flow_text(value) + text[place.end :]
    missing = steps
    while missing and missing[:-1] not in known:
        value = {missing[-1]: value}
        missing = missing[:-1]
    if not missing or not isinstance(missing[-1], str):
        raise InputError(Problem(name, ".".join(map(str, path)), None, "is not in the text, so it cannot be changed"))
    return _added(text, known[missing[:-1]], missing[-1], flow_text(value), name)


def _added(text: str, parent: Place, key: str, value: str, name: str) -> str:
    """Return the text with ``key: value`` added at the end of a mapping."""
    if parent.kind == "flow":
        at = parent.end - 1
        comma = ", " if text[parent.start + 1 : at].strip() else ""
        return f"{text[:at].rstrip()}{comma}{key}: {value}{text[at:]}"
    if parent.kind == "block":
        end = text.find("\n", parent.end)
        at = len(text) if end < 0 else end
        return f"{text[:at]}\n{' ' * parent.column}{key}: {value}{text[at:]}"
    if not text[parent.start : parent.end].strip() or text[parent.start : parent.end] in {"null", "~"}:
        return f"{text[: parent.start]} {{{key}: {value}}}{text[parent.end :]}"
    raise InputError(Problem(name, key, None, "cannot be added: a single value stands in its place"))

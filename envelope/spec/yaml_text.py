"""YAML: the only place that reads and writes it, and words its errors."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel

from envelope.errors import InputError, Problem

MAX_FILE_BYTES = 8 * 2**20
"""Largest data file or scenario that is read; keeps a mistaken path from filling the memory."""

MAX_DEPTH = 64
"""Deepest nesting of a data file; libyaml recurses, and overruns its stack some ten thousand levels down."""
_DEEP_OR_SHARED = re.compile(rf"[&*]\w|^ {{{MAX_DEPTH}}}|([-?:] ){{{MAX_DEPTH // 4}}}", re.MULTILINE)
"""Text that may hold aliases, or blocks nested deeply."""
MAX_NODES = 1_000_000
"""Most values of a data file once aliases are replaced by what they stand for."""


_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_BASE):  # type: ignore[misc]
    """Safe loader that keeps dates as the text a person wrote, as every schema here expects."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in _BASE.yaml_implicit_resolvers.items()
}


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file.

    Raises ``InputError`` if it is missing, too large, not UTF-8 or not YAML.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            rule = f"is larger than {MAX_FILE_BYTES // 2**20} MiB"
            raise InputError(Problem(str(path), "", None, rule))
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(Problem(str(path), "", None, "no such file", _near_file(path))) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(Problem(str(path), "", None, f"cannot be read: {error}")) from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> Any:
    """Return the content of YAML text; ``name`` stands for the file in errors."""
    try:
        _refuse_endless(text, name)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InputError(Problem(name, where, None, f"is not valid YAML: {error.problem}")) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(Problem(name, "", None, f"is not valid YAML: {error}")) from None


def _refuse_endless(text: str, name: str) -> None:
    """Raise ``InputError`` for nesting that would overrun libyaml's stack, and for aliases that grow beyond bounds.

    Only texts that could hold either are walked through, event by event; most data files cannot.
    """
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    if deepest < MAX_DEPTH and not _DEEP_OR_SHARED.search(text):
        return
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, total))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_nodes):
                raise InputError(Problem(name, "", f"*{event.anchor}", "is an alias within what it stands for"))
            total += sizes.get(event.anchor or "", 1)
        total += 1
        deep = len(open_nodes) > MAX_DEPTH
        if deep or total > MAX_NODES:
            what = f"nested more than {MAX_DEPTH} deep" if deep else f"more than {MAX_NODES:,} values with its aliases"
            raise InputError(Problem(name, "", None, f"is {what}", "no record needs that"))


def to_yaml(record: BaseModel) -> str:
    """Return a record as the text of its data file; defaults are left out."""
    data = record.model_dump(mode="json", exclude_defaults=True)
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110))


def flow_text(value: Any) -> str:
    """Return a plain value as YAML on one line."""
    shown = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10**9)
    return str(shown).removesuffix("\n").removesuffix("\n...")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands in a YAML text, in characters; the text after a block's last value is not part of it."""

    start: int
    end: int
    column: int
    kind: Literal["scalar", "flow", "block"]


def places(text: str, name: str) -> dict[tuple[str | int, ...], Place]:
    """Return where each value stands in a YAML text, by its path; ``name`` stands for the file in errors."""
    parse_yaml(text, name)
    found: dict[tuple[str | int, ...], Place] = {}
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None:
        _note_places(root, (), text, found)
    return found


def _note_places(
    node: yaml.Node, path: tuple[str | int, ...], text: str, found: dict[tuple[str | int, ...], Place]
) -> int:
    """Note the places of a node and of all inside it; return where the last value ends."""
    start = node.start_mark
    end = start.index + len(text[start.index : node.end_mark.index].rstrip())
    inner: list[tuple[str | int, yaml.Node]]
    if isinstance(node, yaml.MappingNode):
        inner = [(str(key.value), value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        inner = list(enumerate(node.value))
    else:
        inner = []
    ends = [_note_places(value, (*path, step), text, found) for step, value in inner]
    flow = getattr(node, "flow_style", None)
    kind: Literal["scalar", "flow", "block"] = "scalar" if isinstance(node, yaml.ScalarNode) else "block"
    if kind == "block" and flow:
        kind = "flow"
    if kind == "block" and ends:
        end = ends[-1]
    found[path] = Place(start.index, end, start.column, kind)
    return end


def _near_file(path: Path) -> str:
    try:
        names = [p.name for p in path.parent.iterdir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"nearest {str(path.parent / close[0])!r}" if close else ""

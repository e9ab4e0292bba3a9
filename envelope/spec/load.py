"""Reading data files: the only place that reads YAML, finds files by name and words the errors.

Every kind of record lives in one folder as one file per record, named after its id. A user's folders
(``--data-dir``, ``ENVELOPE_DATA``) come before the packaged ones and have the same layout.
"""

import difflib
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from envelope.errors import InputError, Problem, nearest, unknown_name

T = TypeVar("T", bound=BaseModel)

MAX_FILE_BYTES = 8 * 2**20
"""Largest data file or scenario that is read; keeps a mistaken path from filling the memory."""

MAX_DEPTH = 64
"""Deepest nesting of a data file; libyaml recurses, and overruns its stack some ten thousand levels down."""
_DEEP_OR_SHARED = re.compile(rf"[&*]\w|^ {{{MAX_DEPTH}}}|([-?:] ){{{MAX_DEPTH // 4}}}", re.MULTILINE)
"""Text that may hold aliases, or blocks nested deeply."""
MAX_NODES = 1_000_000
"""Most values of a data file once aliases are replaced by what they stand for."""

_PACKAGE = Path(__file__).resolve().parent.parent
_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_BASE):  # type: ignore[misc]
    """Safe loader that keeps dates as the text a person wrote, as every schema here expects."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in _BASE.yaml_implicit_resolvers.items()
}

_search_path: tuple[Path, ...] | None = None


def set_data_dirs(dirs: tuple[Path, ...]) -> None:
    """Put the user's data folders before the packaged ones, for this process. Clears the caches."""
    global _search_path
    for folder in dirs:
        if not folder.is_dir():
            raise InputError(Problem("--data-dir", "", str(folder), "is not a folder"))
    _search_path = dirs
    _index.cache_clear()
    _load_by_id.cache_clear()


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
    """Forget what has been read, after a record was written."""
    _index.cache_clear()
    _load_by_id.cache_clear()


_BESIDE = ("hardware_profiles", "scenarios")
"""Kinds of record that lie beside the catalog."""


def _packaged() -> tuple[Path, Path]:
    """Return the packaged folders, the catalog last; a source checkout keeps the other beside the package."""
    installed = _PACKAGE / "_data"
    return (installed, _PACKAGE / "catalog") if installed.is_dir() else (_PACKAGE.parent, _PACKAGE / "catalog")


def is_packaged(path: Path) -> bool:
    """Return whether a file lies among the packaged data, which is read only."""
    beside, catalog = _packaged()
    shipped = (catalog, *(beside / kind for kind in _BESIDE))
    return any(path.resolve().is_relative_to(folder.resolve()) for folder in shipped)


def folders(kind: str) -> list[Path]:
    """Return the existing folders that hold records of ``kind`` (``models``, ``hardware_profiles`` …)."""
    return [d / kind for d in data_dirs() if (d / kind).is_dir()]


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


def validate(cls: type[T], data: Any, name: str, *, at: str = "") -> T:
    """Return ``data`` as a ``cls``, or raise ``InputError`` with every problem and the nearest allowed key.

    ``at`` is the path of the record inside the file, if it is not the whole of it.
    """
    if not isinstance(data, Mapping):
        raise InputError(Problem(name, at, data, "must be a mapping of fields"))
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        raise InputError([_problem(cls, data, name, at, dict(e)) for e in error.errors()]) from None


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
    raise unknown_name(file, path, name, list(close)[:3], _LISTING.get(kind, kind))


def load_all(cls: type[T], kind: str) -> list[T]:
    """Return every record of ``kind``, sorted by id."""
    return [_load_by_id(cls, kind, ident) for ident in sorted(_index(kind))]


def ids(kind: str) -> list[str]:
    """Return the ids of the records of ``kind``, sorted."""
    return sorted(_index(kind))


def path_of(kind: str, ident: str) -> Path:
    """Return the file of a record by its id."""
    return _index(kind)[ident]


_LISTING = {"hardware_profiles": "hardware"}


def _key(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(" ", "-")


@cache
def _index(kind: str) -> dict[str, Path]:
    """Return id → file; the first folder of the search path wins."""
    found: dict[str, Path] = {}
    for folder in folders(kind):
        for file in sorted(folder.glob("*.yaml")):
            found.setdefault(file.stem, file)
    return found


@cache
def _load_by_id(cls: type[T], kind: str, ident: str) -> T:
    return load_file(cls, _index(kind)[ident])


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


def _near_file(path: Path) -> str:
    try:
        names = [p.name for p in path.parent.iterdir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"nearest {str(path.parent / close[0])!r}" if close else ""


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

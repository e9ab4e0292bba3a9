"""Header of a GGUF file: metadata and tensor descriptions, read with bounds and without the tensors' data.

Layout: the GGUF specification of ggml (github.com/ggml-org/ggml, docs/gguf.md), versions 2 and 3.
"""

import math
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from envelope.errors import InputError, Problem

MAX_HEADER_BYTES = 512 * 2**20
"""Most bytes of a header that are read or passed over; the largest tokenizers take a few dozen MB."""
MAX_KEYS = 100_000
MAX_TENSORS = 100_000
MAX_TEXT_BYTES = 2**20
"""Longest text that is kept; longer ones are errors for names, and passed over as values (chat templates)."""
MAX_KEPT = 4096
"""Longest array that is kept; tokens and merges are passed over."""
MAX_DIMS = 4
"""Dimensions that a ggml tensor has at most."""

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class Tensor:
    """Name, shape (fastest dimension first) and ggml type of a tensor."""

    name: str
    dims: tuple[int, ...]
    type_id: int

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What the header of a GGUF file, or of all shards of one, says."""

    metadata: dict[str, Any]
    """Key → value; long arrays are left out."""
    tensors: tuple[Tensor, ...]
    files: tuple[Path, ...] = field(default=())


def read_gguf(path: Path) -> GgufHeader:
    """Return the header of a GGUF file; of a sharded one the first shard's metadata and all shards' tensors.

    Raises ``InputError`` for files that are not GGUF, truncated, repeat a key or claim more than they can hold.
    """
    first = _read_one(path)
    count = first.metadata.get("split.count", 1)
    if not isinstance(count, int) or count <= 1:
        return first
    match = re.fullmatch(r"(.+)-(\d{5})-of-(\d{5})\.gguf", path.name)
    if match is None or int(match[3]) != count or count > 9999:
        rule = f"says it is one of {count} shards, but is not named like NAME-00001-of-{min(count, 99999):05d}.gguf"
        raise InputError(Problem(str(path), "split.count", None, rule))
    names = [path.with_name(f"{match[1]}-{n:05d}-of-{match[3]}.gguf") for n in range(1, count + 1)]
    missing = [Problem(str(n), "", None, "shard is missing") for n in names if not n.is_file()]
    if missing:
        raise InputError(missing[:20])
    parts = [first if n == path else _read_one(n) for n in names]
    tensors = tuple(t for part in parts for t in part.tensors)
    _unique([t.name for t in tensors], path)
    return GgufHeader(parts[0].metadata, tensors, tuple(names))


def _read_one(path: Path) -> GgufHeader:
    try:
        with path.open("rb") as file:
            return _Reader(file, path, path.stat().st_size).header()
    except FileNotFoundError:
        raise InputError(Problem(str(path), "", None, "no such file")) from None
    except OSError as error:
        raise InputError(Problem(str(path), "", None, f"cannot be read: {error.strerror}")) from None


def _unique(names: list[str], path: Path) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(Problem(str(path), name, None, "stands there twice"))
        seen.add(name)


class _Reader:
    """Reads a header front to back and stops at the first thing that cannot be."""

    def __init__(self, file: BinaryIO, path: Path, file_bytes: int) -> None:
        self._file, self._path = file, path
        self._left = min(file_bytes, MAX_HEADER_BYTES)
        self._order = "<"

    def header(self) -> GgufHeader:
        if self._take(4) != b"GGUF":
            raise self._error("", "is not a GGUF file")
        raw = self._take(4)
        version = struct.unpack("<I", raw)[0]
        if version > 0xFFFF:
            self._order, version = ">", struct.unpack(">I", raw)[0]
        if version not in (2, 3):
            raise self._error("version", f"{version} is not supported; known are 2 and 3")
        tensors, keys = self._number("Q"), self._number("Q")
        if tensors > MAX_TENSORS or keys > MAX_KEYS:
            raise self._error("", f"claims {keys:,} keys and {tensors:,} tensors")
        metadata: dict[str, Any] = {}
        for _ in range(keys):
            name = self._name()
            if name in metadata:
                raise self._error(name, "stands there twice")
            metadata[name] = self._value(self._number("I"), name)
        found = tuple(self._tensor() for _ in range(tensors))
        _unique([t.name for t in found], self._path)
        return GgufHeader(metadata, found, (self._path,))

    def _tensor(self) -> Tensor:
        name = self._name()
        count = self._number("I")
        if not 1 <= count <= MAX_DIMS:
            raise self._error(name, f"has {count} dimensions; 1 to {MAX_DIMS} are possible")
        dims = tuple(self._number("Q") for _ in range(count))
        if not all(0 < d < 2**40 for d in dims) or math.prod(dims) >= 2**53:
            raise self._error(name, f"has the impossible shape {dims}")
        type_id = self._number("I")
        self._number("Q")  # where the data begins
        return Tensor(name, dims, type_id)

    def _value(self, kind: int, name: str, depth: int = 0) -> Any:
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind == _TEXT:
            return self._text(name)
        if kind != _ARRAY or depth > 2:
            raise self._error(name, f"has the unknown type {kind}" if kind != _ARRAY else "is nested too deeply")
        inner, count = self._number("I"), self._number("Q")
        least = struct.calcsize("<" + _SCALARS[inner]) if inner in _SCALARS else 8
        if count * least > self._left:
            raise self._error(name, f"claims {count:,} entries, more than the file holds")
        if inner in _SCALARS and count > MAX_KEPT:
            self._skip(count * least)
            return None
        kept = [self._value(inner, name, depth + 1) for _ in range(min(count, MAX_KEPT))]
        for _ in range(count - len(kept)):
            self._value(inner, name, depth + 1)
        return kept if len(kept) == count else None

    def _name(self) -> str:
        found = self._text("name")
        if found is None or not found:
            raise self._error("", "has an empty or endless name")
        return found

    def _text(self, name: str) -> str | None:
        length = self._number("Q")
        if length > self._left:
            raise self._error(name, f"claims a text of {length:,} bytes, more than the file holds")
        if length > MAX_TEXT_BYTES:
            self._skip(length)
            return None
        return self._take(length).decode("utf-8", errors="replace")

    def _number(self, code: str) -> Any:
        return struct.unpack(self._order + code, self._take(struct.calcsize("<" + code)))[0]

    def _take(self, count: int) -> bytes:
        if count > self._left:
            raise self._error("", f"ends within its header, or has one of more than {MAX_HEADER_BYTES // 2**20} MiB")
        found = self._file.read(count)
        if len(found) < count:
            raise self._error("", "ends within its header")
        self._left -= count
        return found

    def _skip(self, count: int) -> None:
        self._left -= count
        self._file.seek(count, 1)

    def _error(self, where: str, rule: str) -> InputError:
        return InputError(Problem(str(self._path), where[:200], None, rule))

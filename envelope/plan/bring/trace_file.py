"""Reading a request trace from CSV."""

import csv
import json
import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from envelope.errors import InputError, Problem, nearest
from envelope.serving.requests import Floats, Ints

REQUIRED = ("arrival_s", "input_tokens", "output_tokens")
OPTIONAL = ("prompt_id", "hash_ids")

_MOST_PROBLEMS = 20
"""Wrong lines that are reported before reading stops."""

_MOST_TOKENS = 10**9
"""Longest prompt or answer that can be meant."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Columns of a trace."""

    arrival_s: Floats
    input_tokens: Ints
    output_tokens: Ints
    prompt_id: Ints | None = None
    """Equal ids are equal prompts."""
    hash_ids: list[list[int]] | None = None
    """Blocks of each prompt; equal leading ids are a shared prefix."""
    hash_block_tokens: int = 512
    """Tokens of one block (512 as in the Mooncake traces)."""


def read_trace(path: Path) -> Trace:
    """Return the trace in a CSV file with a header.

    Columns: ``arrival_s`` (seconds), ``input_tokens``, ``output_tokens``, optionally ``prompt_id`` or ``hash_ids``
    (numbers separated by spaces, or a JSON list). Raises ``InputError`` with every wrong line, up to twenty.
    """
    rows = _Rows()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            columns = _columns(path, next(reader, []))
            _read(path, reader, columns, rows)
    except FileNotFoundError:
        raise InputError(Problem(str(path), "", None, "no such file")) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(Problem(str(path), "", None, f"cannot be read: {error}")) from None
    if not rows.arrival_s:
        raise InputError(Problem(str(path), "", None, "holds no requests"))
    return Trace(
        arrival_s=np.array(rows.arrival_s, dtype=np.float64),
        input_tokens=np.array(rows.input_tokens, dtype=np.int64),
        output_tokens=np.array(rows.output_tokens, dtype=np.int64),
        prompt_id=np.array(rows.prompt_id, dtype=np.int64) if "prompt_id" in columns else None,
        hash_ids=rows.hash_ids if "hash_ids" in columns else None,
    )


@dataclass(slots=True)
class _Rows:
    """Columns while they are read, eight bytes a cell, so that a million rows take little memory."""

    arrival_s: "array[float]" = field(default_factory=lambda: array("d"))
    input_tokens: "array[int]" = field(default_factory=lambda: array("q"))
    output_tokens: "array[int]" = field(default_factory=lambda: array("q"))
    prompt_id: "array[int]" = field(default_factory=lambda: array("q"))
    hash_ids: list[list[int]] = field(default_factory=list)


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    names = [name.strip() for name in header]
    columns = {name: names.index(name) for name in (*REQUIRED, *OPTIONAL) if name in names}
    problems = []
    for name in REQUIRED:
        if name not in columns:
            close = nearest(name, [n for n in names if n])
            shown = ", ".join(repr(n[:40]) for n in names[:20])
            found = f"found {shown}" + (f"; nearest {close[0]!r}" if close else "")
            problems.append(Problem(str(path), "line 1", None, f"the column {name!r} is missing", found))
    if problems:
        raise InputError(problems)
    return columns


def _read(path: Path, reader: Iterator[list[str]], columns: dict[str, int], rows: _Rows) -> None:
    """Read all rows into ``rows``; raises ``InputError`` with the wrong ones, up to twenty."""
    problems: list[Problem] = []
    number = 2
    while block := list(islice(reader, _BLOCK_ROWS)):
        if not _add_block(block, columns, rows):
            _add_one_by_one(path, number, block, columns, rows, problems)
        number += len(block)
        if len(problems) >= _MOST_PROBLEMS:
            break
    if problems:
        raise InputError(problems[:_MOST_PROBLEMS])


_BLOCK_ROWS = 10_000


def _add_block(block: list[list[str]], columns: dict[str, int], rows: _Rows) -> bool:
    """Add rows all at once if they are plain and right; returns whether they were, else nothing was added."""
    if set(columns) - set(REQUIRED):
        return False
    try:
        read = {name: np.array([cells[columns[name]] for cells in block], dtype=np.float64) for name in REQUIRED}
    except (ValueError, IndexError):
        return False
    arrival, counts = read["arrival_s"], np.concatenate([read["input_tokens"], read["output_tokens"]])
    whole = (counts >= 1) & (counts <= _MOST_TOKENS) & (counts == np.floor(counts))
    if not (whole.all() and ((arrival >= 0) & (arrival < math.inf)).all()):
        return False
    rows.arrival_s.frombytes(arrival.tobytes())
    rows.input_tokens.frombytes(read["input_tokens"].astype(np.int64).tobytes())
    rows.output_tokens.frombytes(read["output_tokens"].astype(np.int64).tobytes())
    return True


def _add_one_by_one(
    path: Path, first: int, block: list[list[str]], columns: dict[str, int], rows: _Rows, problems: list[Problem]
) -> None:
    """Add rows that need a closer look; what is wrong goes to ``problems``."""
    for number, cells in enumerate(block, first):
        if not any(cell.strip() for cell in cells):
            continue
        try:
            _add(cells, columns, rows)
        except _Wrong as error:
            problems.append(Problem(str(path), f"line {number}{error.column}", error.value, error.rule))
            if len(problems) >= _MOST_PROBLEMS:
                return


class _Wrong(Exception):
    """One cell that cannot be read."""

    def __init__(self, column: str, value: str, rule: str) -> None:
        self.column, self.value, self.rule = f", column {column}" if column else "", value[:60], rule


def _add(cells: list[str], columns: dict[str, int], rows: _Rows) -> None:
    if len(cells) <= max(columns.values()):
        raise _Wrong("", ",".join(cells), f"has {len(cells)} fields, the header promises more")
    arrival = _seconds(cells[columns["arrival_s"]])
    given, made = (_count(cells[columns[name]], name) for name in ("input_tokens", "output_tokens"))
    if "prompt_id" in columns:
        rows.prompt_id.append(_whole(cells[columns["prompt_id"]]))
    if "hash_ids" in columns:
        rows.hash_ids.append(_hashes(cells[columns["hash_ids"]]))
    rows.arrival_s.append(arrival)
    rows.input_tokens.append(given)
    rows.output_tokens.append(made)


def _seconds(cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise _Wrong("arrival_s", cell, "must be a number of seconds of at least 0")
    return value


def _count(cell: str, name: str) -> int:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not (1 <= value <= _MOST_TOKENS and value.is_integer()):
        raise _Wrong(name, cell, f"must be a whole number from 1 to {_MOST_TOKENS:,}")
    return int(value)


def _whole(cell: str) -> int:
    try:
        value = int(cell)
    except ValueError:
        raise _Wrong("prompt_id", cell, "must be a whole number") from None
    if abs(value) >= 2**63:
        raise _Wrong("prompt_id", cell, "must have fewer than 64 bits")
    return value


def _hashes(cell: str) -> list[int]:
    text = cell.strip()
    try:
        return [int(value) for value in (json.loads(text) if text.startswith("[") else text.split())]
    except (ValueError, TypeError):
        raise _Wrong("hash_ids", cell, "must be whole numbers separated by spaces, or a JSON list of them") from None

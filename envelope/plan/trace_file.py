"""Reading a request trace from CSV."""

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from envelope.errors import InputError, Problem, nearest
from envelope.serving.requests import Floats, Ints

REQUIRED = ("arrival_s", "input_tokens", "output_tokens")
OPTIONAL = ("prompt_id", "hash_ids")

_MOST_PROBLEMS = 20
"""Wrong lines that are reported before reading stops."""


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
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            columns = _columns(path, next(reader, []))
            rows = list(_rows(path, reader, columns))
    except FileNotFoundError:
        raise InputError(Problem(str(path), "", None, "no such file")) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(Problem(str(path), "", None, f"cannot be read: {error}")) from None
    if not rows:
        raise InputError(Problem(str(path), "", None, "holds no requests"))
    arrival, given, made, prompts, hashes = zip(*rows, strict=True)
    return Trace(
        arrival_s=np.array(arrival, dtype=np.float64),
        input_tokens=np.array(given, dtype=np.int64),
        output_tokens=np.array(made, dtype=np.int64),
        prompt_id=np.array(prompts, dtype=np.int64) if "prompt_id" in columns else None,
        hash_ids=list(hashes) if "hash_ids" in columns else None,
    )


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    names = [name.strip() for name in header]
    columns = {name: names.index(name) for name in (*REQUIRED, *OPTIONAL) if name in names}
    problems = []
    for name in REQUIRED:
        if name not in columns:
            close = nearest(name, [n for n in names if n])
            found = f"found {', '.join(repr(n) for n in names)}" + (f"; nearest {close[0]!r}" if close else "")
            problems.append(Problem(str(path), "line 1", None, f"the column {name!r} is missing", found))
    if problems:
        raise InputError(problems)
    return columns


Row = tuple[float, int, int, int, list[int]]


def _rows(path: Path, reader: Iterator[list[str]], columns: dict[str, int]) -> Iterator[Row]:
    problems: list[Problem] = []
    for number, cells in enumerate(reader, 2):
        if not any(cell.strip() for cell in cells):
            continue
        try:
            yield _row(cells, columns)
        except (ValueError, IndexError) as error:
            problems.append(Problem(str(path), f"line {number}", ",".join(cells)[:60], str(error)))
            if len(problems) >= _MOST_PROBLEMS:
                break
    if problems:
        raise InputError(problems)


def _row(cells: list[str], columns: dict[str, int]) -> Row:
    if len(cells) <= max(columns.values()):
        raise ValueError(f"has {len(cells)} fields, the header promises more")
    arrival = float(cells[columns["arrival_s"]])
    if not math.isfinite(arrival) or arrival < 0:
        raise ValueError("arrival_s must be a finite number of at least 0")
    given, made = (_count(cells[columns[name]], name) for name in ("input_tokens", "output_tokens"))
    prompt = int(cells[columns["prompt_id"]]) if "prompt_id" in columns else 0
    hashes = _hashes(cells[columns["hash_ids"]]) if "hash_ids" in columns else []
    return arrival, given, made, prompt, hashes


def _count(cell: str, name: str) -> int:
    value = float(cell)
    if not value.is_integer() or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1")
    return int(value)


def _hashes(cell: str) -> list[int]:
    text = cell.strip()
    values = json.loads(text) if text.startswith("[") else text.split()
    return [int(value) for value in values]

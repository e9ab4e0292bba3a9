"""The rows of a study as one table: CSV, JSON lines or Parquet, the same to the byte wherever they were computed."""

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TextIO

from envelope.errors import EnvelopeError, InputError, Problem
from envelope.parquet import ParquetFile, require_parquet
from envelope.plan.sweep.results import Sweep, flat_row
from envelope.plan.sweep.row import Row

Format = Literal["csv", "jsonl", "parquet"]

_GROUP = 8192
"""Rows held in memory at once."""


def require_format(name: str) -> None:
    """Raise ``InputError`` for an unknown format and ``MissingExtraError`` for Parquet without its library."""
    if name not in _WRITERS:
        raise InputError(Problem("command line", "--format", name, "unknown", f"allowed: {', '.join(_WRITERS)}"))
    if name == "parquet":
        require_parquet()


def write_tables(found: Sweep, formats: Sequence[Format]) -> list[Path]:
    """Write the rows of a sweep into its folder and return the files, each complete or not there at all."""
    paths = []
    for name in formats:
        path = found.folder / f"rows.{name}"
        part = path.with_name(f"{path.name}.part")
        try:
            _WRITERS[name](found, part)
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise EnvelopeError(f"{path}: {error.strerror or error}; the rows are safe in journal.jsonl") from None
        paths.append(path)
    return paths


def _csv(found: Sweep, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns(found.study.paths))
        for record in found.records():
            writer.writerow([_cell(value) for value in record.values()])
        _sync(file)


def _jsonl(found: Sweep, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        for record in found.records():
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        _sync(file)


def _parquet(found: Sweep, path: Path) -> None:
    types = {name: _type(name, found) for name in columns(found.study.paths)}
    texts = [name for name in found.study.paths if types[name] is str]
    with ParquetFile(path, types) as file:
        records = found.records()
        while group := list(islice(records, _GROUP)):
            for record in group:
                record.update({name: _text(record[name]) for name in texts})
            file.add_rows(group)


def columns(paths: tuple[str, ...]) -> list[str]:
    """Return the columns of the table of a study that varies some values."""
    empty = Row(run=0, variant=0, scenario="", candidate="", seed=0, status="failed")
    return list(flat_row(empty, paths))


def _type(name: str, found: Sweep) -> type:
    if name in Row.model_fields:
        text = str(Row.model_fields[name].annotation)
        return next((kind for kind in (bool, int, float) if kind.__name__ in text), str)
    given = list(_values(found, name))
    if name in found.study.ranges or all(isinstance(v, int | float) and not isinstance(v, bool) for v in given):
        return float
    return str


def _values(found: Sweep, path: str) -> Iterator[Any]:
    for group in (found.study.set, *found.study.zip):
        yield from group.get(path, ())


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cell(value: Any) -> Any:
    """Return a value as one cell: lists and records as JSON."""
    return value if isinstance(value, int | float) else _text(value)


def _sync(file: TextIO) -> None:
    file.flush()
    os.fsync(file.fileno())


_WRITERS: dict[str, Callable[[Sweep, Path], None]] = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}

"""Opening log files: plain or gzip, CSV, JSON or JSON lines, and the many ways to write a time."""

import csv
import gzip
import io
import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from envelope.errors import InputError, Problem


def open_text(path: Path) -> TextIO:
    """Return the file as text, unpacked if its name ends in ``.gz``."""
    try:
        if path.suffix == ".gz":
            return io.TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8-sig", errors="replace")
        return path.open(encoding="utf-8-sig", errors="replace", newline="")
    except OSError as error:
        raise InputError(Problem(str(path), "", None, f"cannot be read: {error.strerror or error}")) from None


def csv_rows(path: Path) -> Iterator[dict[str, str]]:
    """Return the rows of a CSV file by column name."""
    with open_text(path) as file:
        try:
            for row in csv.DictReader(file):
                yield {(k or "").strip(): (v or "").strip() for k, v in row.items() if isinstance(v, str)}
        except csv.Error as error:
            raise InputError(Problem(str(path), "", None, f"is not a CSV file: {error}")) from None


def json_records(path: Path) -> Iterator[Any]:
    """Return the records of a JSON-lines file, or the one value of a JSON file."""
    with open_text(path) as file:
        first = file.readline()
        try:
            yield json.loads(first)
        except (ValueError, RecursionError):
            yield _whole(path, first + file.read())
            return
        for number, line in enumerate(file, start=2):
            if line.strip():
                yield _line(path, number, line)


def _whole(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        rule = f"is neither CSV nor JSON: {error.msg}"
        raise InputError(Problem(str(path), f"line {error.lineno}", None, rule)) from None
    except (ValueError, RecursionError) as error:
        raise InputError(Problem(str(path), "", None, f"is neither CSV nor JSON: {error}")) from None


def _line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(Problem(str(path), f"line {number}", None, f"is not JSON: {error.msg}")) from None
    except (ValueError, RecursionError) as error:
        raise InputError(Problem(str(path), f"line {number}", None, f"is not JSON: {error}")) from None


def seconds_of(text: str | float) -> float:
    """Return a time as seconds: a number as it stands, a date and time as Unix time (UTC if it names no zone).

    >>> seconds_of("1970-01-01 00:01:00.5000000")
    60.5
    >>> seconds_of("1970-01-01T00:00:02+00:00"), seconds_of("3.5")
    (2.0, 3.5)
    """
    if not isinstance(text, str):
        return float(text)
    raw = text.strip()
    try:
        return float(raw)
    except ValueError:
        pass
    whole, dot, rest = raw.replace("Z", "+00:00").partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    try:
        when = datetime.fromisoformat(whole + rest[len(digits) :] if dot else whole)
    except ValueError:
        return math.nan
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return when.timestamp() + (float(f"0.{digits}") if digits else 0.0)


def is_date(text: str | float) -> bool:
    """Return whether a time is written as a date, or as a Unix time of this century."""
    if isinstance(text, str) and not text.replace(".", "", 1).isdigit():
        return math.isfinite(seconds_of(text))
    return 9.4e8 < float(text) < 4.2e9


def whole_number(value: Any, default: int = 0) -> int:
    """Return a token count, ``default`` for what is missing or not a number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return default
    return int(number) if math.isfinite(number) else default

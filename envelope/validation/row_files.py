"""Files of measured rows, in any of the formats that are known."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from envelope.errors import InputError, Problem
from envelope.validation.rows import MeasuredRow, RowSet
from envelope.validation.rows_experiments import experiment_rows
from envelope.validation.rows_published import published_row
from envelope.validation.rows_serving import serving_rows
from envelope.validation.startup.log import StartupLog


def load_rows(path: Path) -> RowSet:
    """Return the rows of a file in any of the four formats, found out from its content.

    Raises ``InputError`` if the file is missing, is not JSON, or holds none of them.
    """
    records = _records(path)
    if isinstance(records, dict):
        return experiment_rows(records, path)
    if not records:
        raise InputError(Problem(str(path), "", None, "holds no rows"))
    if any("weights_gib" in r or "kv_gib" in r or "kv_tokens" in r for r in records):
        return _logs(records)
    if any("silicon_ttft_ms" in r or "silicon_tpot_ms" in r for r in records):
        return _collect(records, serving_rows)
    if any("kind" in r and "value" in r for r in records):
        return _collect(records, lambda r: [published_row(r)])
    if any("scheduler" in r and "measured" in r for r in records):
        return experiment_rows({"experiments": records}, path)
    if any("collection" in r and "quantity" in r for r in records):
        return _collect(records, lambda r: [MeasuredRow.model_validate(r)])
    rule = "is in none of the known row formats (published, datacenter serving, vLLM experiments, start-up logs)"
    raise InputError(Problem(str(path), "", None, rule, "see docs/accuracy.md for the fields"))


def _records(path: Path) -> list[dict[str, Any]] | dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(Problem(str(path), "", None, "no such file")) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(Problem(str(path), "", None, f"cannot be read: {error}")) from None
    try:
        if path.suffix == ".jsonl":
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(Problem(str(path), "", None, f"is not valid JSON: {error}")) from None
    if isinstance(found, dict) and "experiments" in found:
        return found
    rows = found.get("rows") if isinstance(found, dict) else found
    if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
        raise InputError(Problem(str(path), "", None, "must be a list of rows"))
    return rows


def _logs(records: list[dict[str, Any]]) -> RowSet:
    logs: list[StartupLog] = []
    rejected: list[tuple[str, str]] = []
    for number, record in enumerate(records, 1):
        try:
            logs.append(StartupLog.model_validate(record))
        except ValueError as error:
            rejected.append((f"line {number}", f"start-up log not understood: {str(error).splitlines()[0]}"))
    return RowSet(rows=(), logs=tuple(logs), rejected=tuple(rejected))


def _collect(records: list[dict[str, Any]], convert: Callable[[dict[str, Any]], list[MeasuredRow]]) -> RowSet:
    rows: list[MeasuredRow] = []
    rejected: list[tuple[str, str]] = []
    for number, record in enumerate(records, 1):
        try:
            rows += convert(record)
        except (KeyError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            rejected.append((str(record.get("id", f"line {number}")), f"row not understood: {reason}"))
    return RowSet(rows=tuple(rows), rejected=tuple(rejected))

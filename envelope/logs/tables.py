"""Logs with one request per row: research traces, gateways and plain CSV."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envelope.errors import InputError, Problem, nearest
from envelope.logs.reading import csv_rows, is_date, json_records, seconds_of, whole_number
from envelope.logs.rows import Row, trace_of
from envelope.serving.trace import Trace

SYNONYMS: dict[str, tuple[str, ...]] = {
    "arrival_s": ("arrival_s", "arrived_at", "timestamp", "created_at", "start_time", "starttime", "time", "arrival"),
    "input_tokens": ("input_tokens", "prompt_tokens", "tokens_prompt", "contexttokens", "input_length",
                     "num_prefill_tokens", "request tokens", "isl"),
    "output_tokens": ("output_tokens", "completion_tokens", "tokens_completion", "generatedtokens", "output_length",
                      "num_decode_tokens", "response tokens", "generated_tokens", "osl"),
    "cached": ("cached_input_tokens", "tokens_cached", "cached_tokens", "cache_read_input_tokens"),
    "session": ("session_id", "session id", "conversation_id", "chat_id", "sessionid"),
    "model": ("model", "model_permaslug", "model_group", "provided_model_name"),
    "ttft_s": ("ttft_s", "time_to_first_token"),
    "e2e_s": ("e2e_s", "latency", "elapsed time", "latency_s", "duration_s"),
}  # fmt: skip
"""Column names that mean the same, in lower case; the first is ours."""

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def plain_csv(path: Path, *, mapping: Mapping[str, str] | None = None, time_unit: str | None = None) -> Trace:
    """Return a CSV with any of the known column names; ``mapping`` names others, ``time_unit`` is s, ms, us or ns.

    Covers the Azure LLM trace, BurstGPT, Splitwise and Vidur as well, whose names are among the synonyms.
    """
    rows = list(csv_rows(path))
    if not rows:
        raise InputError(Problem(str(path), "", None, "has no rows"))
    columns = _columns(list(rows[0]), mapping or {}, str(path))
    dated = is_date(rows[0][columns["arrival_s"]] or "nan")
    times = [seconds_of(r[columns["arrival_s"]]) for r in rows]
    scale, note = _scale(times, time_unit, dated, str(path))
    found = [_csv_row(r, columns, t * scale) for r, t in zip(rows, times, strict=True)]
    bad = [i for i, row in enumerate(found) if not math.isfinite(row.time_s)]
    if bad:
        value = rows[bad[0]][columns["arrival_s"]]
        raise InputError(Problem(str(path), f"row {bad[0] + 2}", value, f"is not a time ({len(bad)} rows)"))
    return trace_of(found, format=_named(rows[0]), file=str(path), dated=dated, notes=note)


def _columns(names: list[str], mapping: Mapping[str, str], file: str) -> dict[str, str]:
    """Return our name → column name, or raise for a missing one."""
    low = {name.lower(): name for name in names}
    found: dict[str, str] = {}
    for ours, known in SYNONYMS.items():
        wanted = mapping.get(ours)
        if wanted is not None and wanted not in names:
            close = ", ".join(nearest(wanted, names))
            raise InputError(Problem(file, ours, wanted, "no such column", f"nearest {close}" if close else ""))
        match = wanted or next((low[k] for k in known if k in low), None)
        if match is not None:
            found[ours] = match
    missing = [k for k in ("arrival_s", "input_tokens", "output_tokens") if k not in found]
    if missing:
        rule = f"no column for {', '.join(missing)}; columns are {', '.join(names)}"
        raise InputError(Problem(file, "", None, rule, "name it with --map " + missing[0] + "=COLUMN"))
    return found


def _csv_row(r: Mapping[str, str], columns: Mapping[str, str], time_s: float) -> Row:

    def get(name: str) -> str:
        return r.get(columns[name], "") if name in columns else ""

    return Row(
        time_s=time_s,
        input_tokens=whole_number(get("input_tokens")),
        output_tokens=whole_number(get("output_tokens")),
        cached=whole_number(get("cached"), -1),
        session=get("session"),
        model=get("model"),
        ttft_s=_number(get("ttft_s")),
        e2e_s=_number(get("e2e_s")),
        failed=r.get("status", "").lower() in ("failure", "failed", "error"),
    )


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def _scale(times: list[float], unit: str | None, dated: bool, file: str) -> tuple[float, tuple[str, ...]]:
    """Return seconds per unit of the time column: given, or guessed from its span and said."""
    if unit is not None:
        if unit not in UNITS:
            raise InputError(Problem(file, "time_unit", unit, f"must be one of {', '.join(UNITS)}"))
        return UNITS[unit], ()
    if dated or len(times) < 2:
        return 1.0, ()
    mean_gap = (max(times) - min(times)) / (len(times) - 1)
    if mean_gap > 1e6:
        return 1e-9, (f"times taken as nanoseconds (mean gap {mean_gap:.3g})",)
    if mean_gap > 2e3:
        return 1e-3, (f"times taken as milliseconds (mean gap {mean_gap:.3g})",)
    return 1.0, ("times taken as seconds",)


def _named(row: Mapping[str, str]) -> str:
    if "ContextTokens" in row:
        return "azure_llm_csv"
    if "Request tokens" in row:
        return "burstgpt_csv"
    return "splitwise_vidur_csv" if "num_prefill_tokens" in row else "plain_csv"


def hashed_jsonl(path: Path) -> Trace:
    """Return a Mooncake (milliseconds, 512-token blocks) or Bailian (seconds, 16-token blocks) trace."""
    records = list(json_records(path))
    bailian = "chat_id" in records[0]
    roots: dict[Any, str] = {}
    rows = []
    for r in records:
        session = ""
        if bailian:
            parent = r.get("parent_chat_id", -1)
            session = roots.get(parent, str(r["chat_id"]))
            roots[r["chat_id"]] = session
        rows.append(
            Row(
                time_s=float(r["timestamp"]) * (1.0 if bailian else 1e-3),
                input_tokens=whole_number(r["input_length"]),
                output_tokens=whole_number(r["output_length"]),
                session=session or str(r.get("session_id", "")),
                hash_ids=tuple(r.get("hash_ids", ())),
            )
        )
    name = "bailian_jsonl" if bailian else "mooncake_jsonl"
    return trace_of(rows, format=name, file=str(path), block_tokens=16 if bailian else 512)


def litellm(path: Path) -> Trace:
    """Return LiteLLM spend logs (CSV dump or JSON). Its ``cache_hit`` is a response cache, not a prefix cache."""
    rows = []
    for r in _records(path):
        start, end = seconds_of(r.get("startTime", "nan")), seconds_of(r.get("endTime") or "nan")
        first = seconds_of(r.get("completionStartTime") or "nan")
        metadata = _object(r.get("metadata"))
        usage = _object(metadata.get("usage_object"))
        details = _object(usage.get("prompt_tokens_details"))
        rows.append(
            Row(
                time_s=start,
                input_tokens=whole_number(r.get("prompt_tokens")),
                output_tokens=whole_number(r.get("completion_tokens")),
                cached=whole_number(details.get("cached_tokens", usage.get("cache_read_input_tokens")), -1),
                session=str(r.get("session_id") or ""),
                model=str(r.get("model_group") or r.get("model") or ""),
                ttft_s=first - start if first < end else math.nan,
                e2e_s=end - start,
                failed=str(r.get("status", "success")).lower() not in ("success", "", "none"),
            )
        )
    return trace_of(_timed(rows), format="litellm_spend_logs", file=str(path), dated=True)


def openrouter(path: Path) -> Trace:
    """Return an OpenRouter activity export: one generation per row, with its latencies."""
    rows = []
    for r in csv_rows(path):
        total = _number(r.get("generation_time_ms")) / 1e3
        rows.append(
            Row(
                time_s=seconds_of(r["created_at"]),
                input_tokens=whole_number(r.get("tokens_prompt")),
                output_tokens=whole_number(r.get("tokens_completion")),
                cached=whole_number(r.get("tokens_cached"), -1),
                session=r.get("user", ""),
                model=r.get("model_permaslug", ""),
                ttft_s=_number(r.get("time_to_first_token_ms")) / 1e3,
                e2e_s=total,
                failed=r.get("cancelled", "").lower() in ("true", "1"),
            )
        )
    return trace_of(_timed(rows), format="openrouter_activity_csv", file=str(path), dated=True)


def langfuse(path: Path) -> Trace:
    """Return Langfuse observations of type GENERATION (blob export or API, CSV or JSON)."""
    rows = []
    for r in _records(path):
        if str(r.get("type", "GENERATION")).upper() != "GENERATION":
            continue
        usage = _object(r.get("usage_details") or r.get("usageDetails"))
        start = seconds_of(r.get("start_time") or r.get("startTime") or "nan")
        cached = sum(whole_number(v) for k, v in usage.items() if "cache" in k and "creat" not in k)
        written = sum(whole_number(v) for k, v in usage.items() if "cache" in k and "creat" in k)
        rows.append(
            Row(
                time_s=start,
                input_tokens=whole_number(usage.get("input")) + cached + written,
                output_tokens=whole_number(usage.get("output")),
                cached=cached if any("cache" in k for k in usage) else -1,
                session=str(r.get("session_id") or r.get("sessionId") or ""),
                model=str(r.get("provided_model_name") or r.get("model") or ""),
                ttft_s=_number(r.get("time_to_first_token") or r.get("timeToFirstToken")),
                e2e_s=_number(r.get("latency")),
                failed=str(r.get("level", "")).upper() == "ERROR",
            )
        )
    note = ("cached tokens are added to Langfuse's 'input', which leaves them out",)
    return trace_of(_timed(rows), format="langfuse_observations", file=str(path), dated=True, notes=note)


def _records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a CSV, JSON or JSON-lines export."""
    if path.name.removesuffix(".gz").endswith(".csv"):
        return list(csv_rows(path))
    out: list[dict[str, Any]] = []
    for value in json_records(path):
        inner = value.get("data", value) if isinstance(value, dict) else value
        out.extend(inner if isinstance(inner, list) else [inner])
    return out


def _object(value: Any) -> dict[str, Any]:
    """Return a JSON object that may have been written as text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return {}
    return value if isinstance(value, dict) else {}


def _timed(rows: list[Row]) -> list[Row]:
    """Mark rows without a time as failures: they cannot be replayed."""
    for row in rows:
        if not math.isfinite(row.time_s):
            row.failed, row.time_s = True, 0.0
    return rows

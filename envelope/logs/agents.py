"""Logs of coding agents and of traces made of spans."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from envelope.errors import InputError, Problem
from envelope.logs.reading import json_records, seconds_of, whole_number
from envelope.logs.rows import Row, trace_of
from envelope.serving.trace import Trace

SESSION_SPACE = 1 << 32
"""Block hashes that are local to a session are shifted by this much per session, so that they never meet."""


def weka_sessions(path: Path) -> Trace:
    """Return agent sessions in the WEKA form: one session per line, nested requests of sub-agents laid flat.

    Times count from each session's start on a clock of whole seconds; sessions are laid end to start at time 0,
    since the format does not say when they began.
    """
    rows: list[Row] = []
    block = 64
    for number, session in enumerate(json_records(path)):
        block = int(session.get("block_size", 64))
        local = session.get("hash_id_scope", "local") == "local"
        shift = number * SESSION_SPACE if local else 0
        for r, sub in _flat(session.get("requests", []), ""):
            ids = tuple(int(h) + shift for h in r.get("hash_ids", ()))
            rows.append(
                Row(
                    time_s=float(r.get("t", 0.0)),
                    input_tokens=whole_number(r.get("in")),
                    output_tokens=whole_number(r.get("out")),
                    session=f"{session.get('id', number)}{sub}",
                    model=str(r.get("model", "")),
                    ttft_s=_or_nan(r.get("ttft")),
                    e2e_s=_or_nan(r.get("api_time")),
                    hash_ids=ids,
                )
            )
    note = ("sessions have no common clock: all begin at time 0",)
    return trace_of(rows, format="weka_session_json", file=str(path), block_tokens=block, notes=note)


def _flat(requests: list[dict[str, Any]], sub: str) -> Iterator[tuple[dict[str, Any], str]]:
    for k, r in enumerate(requests):
        if r.get("requests"):
            start = float(r.get("t", 0.0))
            for inner, name in _flat(r["requests"], f"{sub}/{k}"):
                yield {**inner, "t": start + float(inner.get("t", 0.0))}, name
        elif "in" in r:
            yield r, sub


def _or_nan(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def claude_transcripts(path: Path) -> Trace:
    """Return the calls in ``~/.claude`` transcripts: one file, or all ``*.jsonl`` below a folder.

    The same message repeats once per content block, so the last of each is kept; ``input_tokens`` leaves the cache
    out, so cache reads and writes are added.
    """
    files = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
    found: dict[tuple[str, str], Row] = {}
    for file in files:
        for record in json_records(file):
            message = record.get("message") if isinstance(record, dict) else None
            usage = message.get("usage") if isinstance(message, dict) else None
            if not isinstance(message, dict) or not isinstance(usage, dict):
                continue
            read = whole_number(usage.get("cache_read_input_tokens"))
            written = whole_number(usage.get("cache_creation_input_tokens"))
            side = f"/{file.stem}" if record.get("isSidechain") else ""
            found[(str(message.get("id")), str(record.get("requestId")))] = Row(
                time_s=seconds_of(record.get("timestamp", "nan")),
                input_tokens=whole_number(usage.get("input_tokens")) + read + written,
                output_tokens=whole_number(usage.get("output_tokens")),
                cached=read,
                session=str(record.get("sessionId", "")) + side,
                model=str(message.get("model", "")),
            )
    rows = [row for row in found.values() if math.isfinite(row.time_s)]
    note = ("transcripts tell when an answer was written, not when the call began",)
    return trace_of(rows, format="claude_code_local", file=str(path), dated=True, notes=note)


def tracelab_rounds(path: Path) -> Trace:
    """Return TraceLab rounds (one call per line); (session, round) is not unique, so each line counts."""
    rows = []
    for r in json_records(path):
        times = [seconds_of(e["timestamp"]) for e in r.get("timing_events", ()) if e.get("timestamp")]
        rows.append(
            Row(
                time_s=min(times, default=math.nan),
                input_tokens=whole_number(r.get("input_tokens_total")),
                output_tokens=whole_number(r.get("output_tokens")),
                cached=whole_number(r.get("prefix_tokens"), -1),
                session=str(r.get("session_id", "")),
                model=str(r.get("model", "")),
                failed=not times,
            )
        )
    for row in rows:
        if row.failed:
            row.time_s = 0.0
    return trace_of(rows, format="tracelab_jsonl", file=str(path), dated=True)


def otel_spans(path: Path) -> Trace:
    """Return OpenTelemetry GenAI spans: OTLP JSON (``resourceSpans``) or a flat list of spans, vLLM's included."""
    rows = []
    for value in json_records(path):
        for span in _spans(value):
            at = _attributes(span.get("attributes", {}))
            tokens_in = at.get("gen_ai.usage.input_tokens", at.get("gen_ai.usage.prompt_tokens"))
            tokens_out = at.get("gen_ai.usage.output_tokens", at.get("gen_ai.usage.completion_tokens"))
            if tokens_in is None or tokens_out is None:
                continue
            start, end = _nanoseconds(span, "start"), _nanoseconds(span, "end")
            rows.append(
                Row(
                    time_s=start,
                    input_tokens=whole_number(tokens_in),
                    output_tokens=whole_number(tokens_out),
                    cached=whole_number(at.get("gen_ai.usage.cache_read.input_tokens"), -1),
                    session=str(at.get("gen_ai.conversation.id", "")),
                    model=str(at.get("gen_ai.response.model", at.get("gen_ai.request.model", ""))),
                    ttft_s=_or_nan(at.get("gen_ai.latency.time_to_first_token")),
                    e2e_s=_or_nan(at.get("gen_ai.latency.e2e", end - start)),
                    failed="error.type" in at,
                )
            )
    if not rows:
        raise InputError(Problem(str(path), "", None, "holds no spans with gen_ai.usage attributes"))
    return trace_of(rows, format="otel_genai_spans", file=str(path), dated=True)


def _spans(value: Any) -> Iterator[dict[str, Any]]:
    """Return all spans of an export, however deep they lie."""
    if isinstance(value, list):
        for item in value:
            yield from _spans(item)
    elif isinstance(value, dict):
        if "attributes" in value and any(k in value for k in ("startTimeUnixNano", "start_time", "startTime")):
            yield value
        for key in ("resourceSpans", "scopeSpans", "spans", "data"):
            yield from _spans(value.get(key, []))


def _attributes(raw: Any) -> dict[str, Any]:
    """Return attributes as a dict; OTLP writes them as a list of keys with typed values."""
    if isinstance(raw, dict):
        return raw
    out: dict[str, Any] = {}
    for item in raw or []:
        value = item.get("value", {})
        out[str(item.get("key"))] = next(iter(value.values()), None) if isinstance(value, dict) else value
    return out


def _nanoseconds(span: dict[str, Any], end: str) -> float:
    nano = span.get(f"{end}TimeUnixNano")
    if nano is not None:
        return float(nano) * 1e-9
    return seconds_of(span.get(f"{end}_time", span.get(f"{end}Time", "nan")))

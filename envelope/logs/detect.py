"""Which format a log has, and the one function that reads any of them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from envelope.errors import InputError, Problem, nearest
from envelope.logs import agents, tables, usage
from envelope.logs.reading import csv_rows, json_records
from envelope.logs.usage import Usage
from envelope.serving.trace import Trace

Reader = Callable[[Path], Trace | Usage]


class Format(NamedTuple):
    """One form of log: what reads it, and how it is recognised."""

    reader: Reader
    columns: tuple[frozenset[str], ...] = ()
    """Sets of column names, or keys of JSON records, each of which gives the format away; without any it is plain CSV
    or a folder, or is asked for by its name."""


def _with(*names: str) -> frozenset[str]:
    return frozenset(names)


FORMATS: dict[str, Format] = {
    "azure_llm_csv": Format(tables.plain_csv),
    "burstgpt_csv": Format(tables.plain_csv),
    "splitwise_vidur_csv": Format(tables.plain_csv),
    "plain_csv": Format(tables.plain_csv),
    "openrouter_activity_csv": Format(tables.openrouter, (_with("generation_id", "tokens_prompt"),)),
    "litellm_spend_logs": Format(tables.litellm, (_with("startTime", "prompt_tokens"),)),
    "langfuse_observations": Format(tables.langfuse, (_with("usage_details"), _with("usageDetails"))),
    "anthropic_console_csv": Format(usage.anthropic_usage, (_with("usage_date_utc"),)),
    "openai_usage_csv": Format(usage.openai_usage, (_with("num_model_requests"),)),
    "bailian_jsonl": Format(tables.hashed_jsonl, (_with("parent_chat_id", "input_length"),)),
    "mooncake_jsonl": Format(tables.hashed_jsonl, (_with("timestamp", "input_length"),)),
    "weka_session_json": Format(agents.weka_sessions, (_with("requests", "hash_id_scope"),)),
    "tracelab_jsonl": Format(agents.tracelab_rounds, (_with("round_index", "input_tokens_total"),)),
    "claude_code_local": Format(agents.claude_transcripts, (_with("sessionId", "message"),)),
    "otel_genai_spans": Format(agents.otel_spans, (_with("resourceSpans"), _with("spans"), _with("attributes"))),
}
"""Format by id; of several whose columns a log has, the first counts."""


def read_log(
    path: Path, *, format: str | None = None, mapping: Mapping[str, str] | None = None, time_unit: str | None = None
) -> Trace | Usage:
    """Return the requests (or, from a usage export, the totals) of a company's own log.

    The format is recognised by its columns unless ``format`` names it; ``mapping`` (our column → theirs) and
    ``time_unit`` apply to plain CSV.
    """
    if not path.exists():
        raise InputError(Problem(str(path), "", None, "no such file"))
    if format is not None and format not in FORMATS:
        close = nearest(format, FORMATS)
        raise InputError(Problem(str(path), "format", format, "unknown", f"nearest {close[0]!r}" if close else ""))
    name = format or detect(path)
    if FORMATS[name].reader is tables.plain_csv:
        return tables.plain_csv(path, mapping=mapping, time_unit=time_unit)
    return FORMATS[name].reader(path)


def detect(path: Path) -> str:
    """Return the id of the format of a log file or folder."""
    if path.is_dir():
        return "claude_code_local"
    keys = _keys(path)
    for name, form in FORMATS.items():
        if any(needed <= keys for needed in form.columns):
            return name
    if path.name.removesuffix(".gz").endswith((".csv", ".txt", ".tsv")):
        return "plain_csv"
    rule = f"is of no known format; its fields are {', '.join(sorted(keys)[:12])}"
    raise InputError(Problem(str(path), "", None, rule, f"formats: {', '.join(FORMATS)}"))


def _keys(path: Path) -> set[str]:
    """Return the column names of a CSV, or the keys of the first records of a JSON log."""
    if path.name.removesuffix(".gz").endswith(".csv"):
        return set(next(csv_rows(path), {}))
    keys: set[str] = set()
    for number, value in enumerate(json_records(path)):
        record: Any = value[0] if isinstance(value, list) and value else value
        if isinstance(record, dict):
            keys |= set(record)
            inner = record.get("data")
            if isinstance(inner, list) and inner and isinstance(inner[0], dict):
                keys |= set(inner[0])
                keys |= {k for r in inner[0].get("results", [])[:1] for k in r}
        if number >= 20:
            break
    return keys

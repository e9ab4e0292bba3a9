"""Which format a log has, and the one function that reads any of them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from envelope.errors import InputError, Problem, nearest
from envelope.logs import agents, tables, usage
from envelope.logs.reading import csv_rows, json_records
from envelope.logs.usage import Usage
from envelope.serving.trace import Trace

READERS: dict[str, Callable[[Path], Trace | Usage]] = {
    "azure_llm_csv": tables.plain_csv,
    "burstgpt_csv": tables.plain_csv,
    "splitwise_vidur_csv": tables.plain_csv,
    "plain_csv": tables.plain_csv,
    "mooncake_jsonl": tables.hashed_jsonl,
    "bailian_jsonl": tables.hashed_jsonl,
    "litellm_spend_logs": tables.litellm,
    "openrouter_activity_csv": tables.openrouter,
    "langfuse_observations": tables.langfuse,
    "weka_session_json": agents.weka_sessions,
    "claude_code_local": agents.claude_transcripts,
    "tracelab_jsonl": agents.tracelab_rounds,
    "otel_genai_spans": agents.otel_spans,
    "openai_usage_csv": usage.openai_usage,
    "anthropic_console_csv": usage.anthropic_usage,
}
"""Format id → reader."""

_COLUMNS: tuple[tuple[str, frozenset[str]], ...] = (
    ("openrouter_activity_csv", frozenset({"generation_id", "tokens_prompt"})),
    ("litellm_spend_logs", frozenset({"startTime", "prompt_tokens"})),
    ("langfuse_observations", frozenset({"usage_details"})),
    ("langfuse_observations", frozenset({"usageDetails"})),
    ("anthropic_console_csv", frozenset({"usage_date_utc"})),
    ("openai_usage_csv", frozenset({"num_model_requests"})),
    ("bailian_jsonl", frozenset({"parent_chat_id", "input_length"})),
    ("mooncake_jsonl", frozenset({"timestamp", "input_length"})),
    ("weka_session_json", frozenset({"requests", "hash_id_scope"})),
    ("tracelab_jsonl", frozenset({"round_index", "input_tokens_total"})),
    ("claude_code_local", frozenset({"sessionId", "message"})),
    ("otel_genai_spans", frozenset({"resourceSpans"})),
    ("otel_genai_spans", frozenset({"spans"})),
    ("otel_genai_spans", frozenset({"attributes"})),
)


def read_log(
    path: Path, *, format: str | None = None, mapping: Mapping[str, str] | None = None, time_unit: str | None = None
) -> Trace | Usage:
    """Return the requests (or, from a usage export, the totals) of a company's own log.

    The format is recognised by its columns unless ``format`` names it; ``mapping`` (our column → theirs) and
    ``time_unit`` apply to plain CSV.
    """
    if not path.exists():
        raise InputError(Problem(str(path), "", None, "no such file"))
    if format is not None and format not in READERS:
        close = nearest(format, READERS)
        raise InputError(Problem(str(path), "format", format, "unknown", f"nearest {close[0]!r}" if close else ""))
    name = format or detect(path)
    if READERS[name] is tables.plain_csv:
        return tables.plain_csv(path, mapping=mapping, time_unit=time_unit)
    return READERS[name](path)


def detect(path: Path) -> str:
    """Return the id of the format of a log file or folder."""
    if path.is_dir():
        return "claude_code_local"
    keys = _keys(path)
    for name, needed in _COLUMNS:
        if needed <= keys:
            return name
    if path.name.removesuffix(".gz").endswith((".csv", ".txt", ".tsv")):
        return "plain_csv"
    rule = f"is of no known format; its fields are {', '.join(sorted(keys)[:12])}"
    raise InputError(Problem(str(path), "", None, rule, f"formats: {', '.join(READERS)}"))


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

"""Reading the result files of evaluation harnesses as evidence records."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from envelope.errors import InputError, Problem
from envelope.spec.evidence import EvidenceRecord
from envelope.spec.load import validate
from envelope.spec.yaml_text import MAX_FILE_BYTES

METRICS = ("exact_match", "pass@1", "pass_at_1", "acc", "accuracy", "mean", "includes", "match")
"""Metrics that are shares of passed trials, in the order in which they are looked for."""

CSV_COLUMNS = tuple(EvidenceRecord.model_fields)
"""Columns of a CSV file; ``model``, ``task``, ``trials``, ``passes`` and ``date`` are required."""


def read_evidence(
    path: Path,
    *,
    model: str | None = None,
    task: str | None = None,
    weights: str | None = None,
    adaptation: str | None = None,
    kind: str | None = None,
    metric: str | None = None,
) -> list[EvidenceRecord]:
    """Return the records in a result file of lm-evaluation-harness, Inspect or promptfoo (JSON), or in a CSV.

    What is given replaces what the file says: ``model`` maps the harness's name to the catalog's, ``task`` the
    benchmark to a task class of the scenario. Raises ``InputError`` for a file that is none of these.
    """
    text = _text(path)
    rows = _csv_rows(text, path) if path.suffix.lower() == ".csv" else _json_rows(text, path, metric)
    if not rows:
        raise InputError(Problem(str(path), "", None, "holds no result with a pass rate and a number of trials"))
    given = {"model": model, "task": task, "weights": weights, "adaptation": adaptation, "kind": kind}
    over = {name: value for name, value in given.items() if value is not None}
    return [
        validate(EvidenceRecord, {"source": path.name, **row, **over}, f"{path} result {i + 1}")
        for i, row in enumerate(rows)
    ]


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > 32 * MAX_FILE_BYTES:
            raise InputError(Problem(str(path), "", None, f"is larger than {32 * MAX_FILE_BYTES // 2**20} MiB"))
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(Problem(str(path), "", None, "no such file")) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(Problem(str(path), "", None, f"cannot be read: {error}")) from None


def _csv_rows(text: str, path: Path) -> list[dict[str, Any]]:
    try:
        return [
            {name: value.strip() for name, value in row.items() if name is not None and value and value.strip()}
            for row in csv.DictReader(io.StringIO(text))
        ]
    except csv.Error as error:
        raise InputError(Problem(str(path), "", None, f"is not a CSV file: {error}")) from None


def _json_rows(text: str, path: Path, metric: str | None) -> list[dict[str, Any]]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(Problem(str(path), "", None, f"is not valid JSON: {error}")) from None
    for matches, rows in _HARNESSES:
        if isinstance(data, Mapping) and matches(data):
            try:
                return rows(data, metric)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                rule = f"is not as its harness writes it: {error!r}"
                raise InputError(Problem(str(path), "", None, rule)) from None
    rule = "is no result of lm-evaluation-harness, Inspect or promptfoo"
    raise InputError(Problem(str(path), "", None, rule, "or give a CSV with the columns " + ", ".join(CSV_COLUMNS)))


def _is_lm_eval(data: Mapping[str, Any]) -> bool:
    return "results" in data and "n-samples" in data


def _lm_eval(data: Mapping[str, Any], metric: str | None) -> list[dict[str, Any]]:
    """Read ``results.json``: metrics as ``name,filter`` by task, trials under ``n-samples``."""
    config = data.get("config", {})
    common = {
        "model": data.get("model_name") or _pretrained(str(config.get("model_args", ""))),
        "date": _day(data.get("date")),
        "revision": str(config.get("model_sha") or config.get("model_revision") or ""),
        "harness": f"lm-evaluation-harness {data.get('lm_eval_version') or data.get('git_hash', '')}".strip(),
    }
    rows = []
    for task, values in data["results"].items():
        if task not in data["n-samples"]:
            continue
        shares = {name.split(",")[0]: value for name, value in values.items() if isinstance(value, int | float)}
        share = _share(shares, metric)
        if share is not None:
            trials = int(data["n-samples"][task]["effective"])
            rows.append({**common, "task": _name(task), "trials": trials, "passes": round(share * trials)})
    return rows


def _is_inspect(data: Mapping[str, Any]) -> bool:
    return isinstance(data.get("eval"), Mapping) and "status" in data


def _inspect(data: Mapping[str, Any], metric: str | None) -> list[dict[str, Any]]:
    """Read an evaluation log: one record per scorer; samples times epochs are the trials."""
    run, results = data["eval"], data.get("results") or {}
    revision = run.get("revision") or {}
    common = {
        "model": run["model"],
        "date": _day(run.get("created")),
        "revision": str(revision.get("commit", "")) if isinstance(revision, Mapping) else "",
        "harness": f"Inspect {run.get('packages', {}).get('inspect_ai', '')}".strip(),
        "task": _name(str(run["task"]).split("/")[-1]),
    }
    epochs = int((run.get("config") or {}).get("epochs") or 1)
    # A metric is the mean over samples once the epochs are reduced, but every epoch is a trial of its own.
    samples = int(results.get("completed_samples") or 0)
    trials = samples if samples and samples % epochs == 0 else samples * epochs
    rows = []
    for score in results.get("scores", []):
        shares = {name: m["value"] for name, m in score["metrics"].items() if isinstance(m["value"], int | float)}
        share = _share(shares, metric)
        if share is not None and trials:
            rows.append({**common, "trials": trials, "passes": round(share * trials), "note": score.get("name", "")})
    return rows


def _is_promptfoo(data: Mapping[str, Any]) -> bool:
    return "evalId" in data or (isinstance(data.get("results"), Mapping) and "prompts" in data["results"])


def _promptfoo(data: Mapping[str, Any], _metric: str | None) -> list[dict[str, Any]]:
    """Read an exported evaluation: passed and failed tests of each prompt and provider; errors are no trials."""
    results = data["results"]
    rows = []
    for prompt in results["prompts"]:
        counts = prompt["metrics"]
        passes, fails = int(counts["testPassCount"]), int(counts["testFailCount"])
        if passes + fails:
            rows.append(
                {
                    "model": prompt["provider"],
                    "task": _name(str(prompt.get("label") or data.get("evalId", "promptfoo"))),
                    "trials": passes + fails,
                    "passes": passes,
                    "date": _day(results.get("timestamp")),
                    "harness": "promptfoo",
                    "note": str(data.get("evalId", "")),
                }
            )
    return rows


def _share(shares: Mapping[str, Any], metric: str | None) -> float | None:
    """Return the share of passed trials: the metric asked for, else the first known one."""
    for name in (metric,) if metric else METRICS:
        value = shares.get(name)
        if value is not None and 0 <= value <= 1:
            return float(value)
    return None


def _pretrained(model_args: str) -> str:
    pairs = dict(part.split("=", 1) for part in model_args.split(",") if "=" in part)
    return pairs.get("pretrained") or pairs.get("model") or model_args


def _name(text: str) -> str:
    """Return a name as evidence files write it: lower case, other signs as hyphens, at most 80 characters."""
    kept = "".join(c if c.isalnum() and c.isascii() else "-" for c in text.lower())
    return "-".join(part for part in kept.split("-") if part)[:80] or "unnamed"


def _day(value: object) -> str:
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC).date().isoformat()
    if isinstance(value, str) and len(value) >= 10:
        return value[:10]
    raise ValueError("has no date")


Rows = Callable[[Mapping[str, Any], str | None], list[dict[str, Any]]]

_HARNESSES: Sequence[tuple[Callable[[Mapping[str, Any]], bool], Rows]] = (
    (_is_lm_eval, _lm_eval),
    (_is_inspect, _inspect),
    (_is_promptfoo, _promptfoo),
)

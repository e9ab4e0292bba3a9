"""Usage exports of hosted providers: totals per day or hour, never single requests."""

from pathlib import Path
from typing import Any

from envelope.errors import InputError, Problem
from envelope.logs.reading import csv_rows, json_records, seconds_of, whole_number
from envelope.provenance import Frozen
from envelope.spec.lengths import mean_of
from envelope.spec.load import load, validate
from envelope.spec.workload import Workload, WorkloadPreset


class Usage(Frozen):
    """Totals of a usage export. It knows rates and means; the shape of the lengths must come from elsewhere."""

    format: str
    span_s: float
    requests: int | None
    """``None`` where the provider does not count requests (Anthropic)."""
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    hourly: tuple[float, ...] = ()
    """Requests by hour of the day (UTC), if the buckets are hours or shorter."""
    notes: tuple[str, ...] = ()

    @property
    def requests_per_day(self) -> float | None:
        """Mean requests per day."""
        return None if self.requests is None else self.requests / max(self.span_s / 86_400.0, 1e-9)


def openai_usage(path: Path) -> Usage:
    """Return an OpenAI usage export (CSV, or the JSON of the API with ``data[].results[]``)."""
    rows: list[tuple[float, float, dict[str, Any]]] = []
    if path.name.removesuffix(".gz").endswith(".csv"):
        records: list[dict[str, Any]] = list(csv_rows(path))
        rows = [(seconds_of(r["start_time"]), seconds_of(r["end_time"]), r) for r in records if r.get("start_time")]
    else:
        for value in json_records(path):
            for bucket in value.get("data", []):
                rows += [(float(bucket["start_time"]), float(bucket["end_time"]), r) for r in bucket["results"]]
    if not rows:
        raise InputError(Problem(str(path), "", None, "holds no usage buckets"))
    hourly = [0.0] * 24
    width = rows[0][1] - rows[0][0]
    for start, _, r in rows:
        hourly[int(start % 86_400 // 3600)] += whole_number(r.get("num_model_requests"))

    def total(name: str) -> int:
        return sum(whole_number(r.get(name)) for _, _, r in rows)

    return Usage(
        format="openai_usage_csv",
        span_s=max(e for _, e, _ in rows) - min(s for s, _, _ in rows),
        requests=total("num_model_requests"),
        input_tokens=total("input_tokens"),
        cached_input_tokens=total("input_cached_tokens"),
        output_tokens=total("output_tokens"),
        hourly=tuple(hourly) if width <= 3600 else (),
    )


def anthropic_usage(path: Path) -> Usage:
    """Return an Anthropic console export: one row per day, model and key, without a count of requests."""
    rows = list(csv_rows(path))
    if not rows:
        raise InputError(Problem(str(path), "", None, "holds no usage rows"))

    def total(name: str) -> int:
        return sum(whole_number(r.get(name)) for r in rows)

    read = total("usage_input_tokens_cache_read")
    written = total("usage_input_tokens_cache_write_5m") + total("usage_input_tokens_cache_write_1h")
    days = {r.get("usage_date_utc", "") for r in rows}
    return Usage(
        format="anthropic_console_csv",
        span_s=86_400.0 * len(days),
        requests=None,
        input_tokens=total("usage_input_tokens_no_cache") + written + read,
        cached_input_tokens=read,
        output_tokens=total("usage_output_tokens"),
        notes=("the export counts no requests: their number follows from the mean length of the named shape",),
    )


def workload_of_usage(usage: Usage, shape: str) -> Workload:
    """Return a workload with the usage's rate and means and the shape of the preset ``shape``.

    Lengths of single requests are scaled to the mean of the export; sessions keep their own lengths. The note says
    which trace lent the shape.
    """
    preset = load(WorkloadPreset, "workloads", shape, file="usage", path="shape")
    lengths = preset.task.output_tokens
    if lengths is None:
        raise InputError(Problem("usage", "shape", shape, "has no output lengths"))
    requests = usage.requests if usage.requests else max(1, round(usage.output_tokens / mean_of(lengths)))
    per_day = requests / max(usage.span_s / 86_400.0, 1e-9)
    task: dict[str, Any] = {"id": "imported", "preset": shape}
    if preset.task.input_tokens is not None and usage.input_tokens > 0:
        task["input_tokens"] = _scaled(preset.task.input_tokens, usage.input_tokens / requests)
    if usage.output_tokens > 0:
        task["output_tokens"] = _scaled(lengths, usage.output_tokens / requests)
    source = preset.sources["default"].source
    note = f"rates and means from {usage.format}; shape of lengths, bursts and prefixes lent by {shape} ({source})"
    found = {"tasks": [task], "requests_per_day": max(per_day, 1e-9), "note": note}
    return validate(Workload, found, "usage")


def _scaled(lengths: Any, mean: float) -> dict[str, Any]:
    """Return a distribution of the same shape with another mean, as 41 quantiles."""
    import numpy as np

    from envelope.serving.sampling import draw

    values = draw(lengths, np.random.default_rng(0), 40_000)
    points = np.quantile(values, np.linspace(0.0, 1.0, 41))
    points *= mean / np.mean((points[:-1] + points[1:]) / 2)
    return {"kind": "quantiles", "values": [float(p) for p in points]}

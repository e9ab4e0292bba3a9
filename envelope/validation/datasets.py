"""Request statistics of benchmark data sets and load-test profiles that rows refer to by name."""

import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field

from envelope.provenance import Frozen, Source
from envelope.spec.load import validate
from envelope.spec.yaml_text import read_yaml

_FILE = Path(__file__).with_name("datasets.yaml")


class Dataset(Frozen):
    """Mean lengths of a data set's requests, and the latency limits of the benchmark that uses it."""

    input_tokens: float = Field(gt=0)
    output_tokens: float = Field(gt=0)
    length_cv: float = Field(default=0.0, ge=0)
    """Coefficient of variation of the lengths."""
    ttft_limit_s: float | None = Field(default=None, gt=0)
    """Largest 99th percentile of the TTFT that the benchmark admits."""
    tpot_limit_s: float | None = Field(default=None, gt=0)
    """Largest 99th percentile of the TPOT that the benchmark admits."""
    source: Source


class Profile(Frozen):
    """Load-test profile of the inference-sim harness, for experiments that name it without its settings."""

    spec: dict[str, float]
    stages: tuple[tuple[float, float], ...]
    """(duration in seconds, requests per second) of each stage."""
    source: Source


class RunSettings(Frozen):
    """Settings that runs of a collection used although their rows do not state them, with what they are known by."""

    collection: str
    engine: str = ""
    model: str = ""
    """Pattern of the model's name; the same holds for ``device``."""
    device: str = ""
    versions: tuple[str, ...] = ()
    batch_below: float | None = None
    data_parallel: bool | None = None
    """Whether attention is data-parallel."""
    draft_tokens: int | None = Field(default=None, ge=0)
    draft_tokens_data_parallel: int | None = Field(default=None, ge=0)
    """With data-parallel attention."""
    draft_acceptance_frac: float = Field(default=0.0, ge=0, lt=1)
    lag_steps: float | None = Field(default=None, ge=0)
    """Steps by which polling and streaming in groups hold the first token back."""
    front_end_s: float | None = Field(default=None, ge=0)
    """Time that a front end before the engine adds to the first token."""
    kv: str | None = None
    attention_dp: bool = False
    """Attention data-parallel and experts spread over all devices of a stage."""
    memory_frac: float | None = Field(default=None, gt=0, le=1)
    max_num_batched_tokens: int | None = Field(default=None, ge=1)
    requests: tuple[tuple[int, int, int], ...] = ()
    """(input tokens, output tokens, requests) of offline runs; other lengths take the entry of the nearest sum."""
    source: Source

    def requests_for(self, input_tokens: float | None, output_tokens: float | None) -> int | None:
        """Return the requests of an offline run of these lengths, or ``None`` where nothing is known."""
        if not self.requests or input_tokens is None or output_tokens is None:
            return None
        exact = {(i, o): n for i, o, n in self.requests}.get((round(input_tokens), round(output_tokens)))
        total = input_tokens + output_tokens
        near = min(self.requests, key=lambda r: abs(math.log((r[0] + r[1]) / total)))
        return exact or near[2]

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row (with the fields of ``MeasuredRow``) belongs to these runs."""
        named = ((self.model, row["model"]), (self.device, row["device"]))
        return (
            bool(re.search(f"/({self.collection})$", str(row["collection"])))
            and (not self.engine or row["engine"] == self.engine)
            and all(re.search(pattern, str(text), re.IGNORECASE) for pattern, text in named)
            and (not self.versions or row["engine_version"] in self.versions)
            and (self.data_parallel is None or self.data_parallel == ((row["dp"] or 1) > 1))
            and (self.batch_below is None or float(row["batch"] or 1.0) < self.batch_below)
        )


class _Document(Frozen):
    datasets: dict[str, Dataset]
    settings: tuple[RunSettings, ...]
    profiles: dict[str, Profile]


@cache
def _document() -> _Document:
    return validate(_Document, read_yaml(_FILE), str(_FILE))


def load_datasets() -> dict[str, Dataset]:
    """Return the data sets by key."""
    return _document().datasets


def load_profiles() -> dict[str, Profile]:
    """Return the load-test profiles by name."""
    return _document().profiles


def inferred_settings(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of ``MeasuredRow`` that a row does not state but its run is known to have used."""
    found: dict[str, Any] = {}
    for entry in _document().settings:
        if not entry.fits(row):
            continue
        if entry.draft_tokens is not None:
            several = (row["dp"] or 1) > 1 and entry.draft_tokens_data_parallel is not None
            drafts = entry.draft_tokens_data_parallel if several else entry.draft_tokens
            found.setdefault("draft_tokens", drafts)
            found.setdefault("draft_acceptance_frac", entry.draft_acceptance_frac)
        if entry.lag_steps is not None:
            found.setdefault("lag_steps", entry.lag_steps)
        if entry.front_end_s is not None:
            found.setdefault("front_end_s", entry.front_end_s)
        if entry.kv is not None and not row["kv"]:
            found.setdefault("kv", entry.kv)
        for key in ("memory_frac", "max_num_batched_tokens"):
            if getattr(entry, key) is not None:
                found.setdefault(key, getattr(entry, key))
        if entry.attention_dp and row["device_count"] > 1:
            ranks = row["device_count"] // (row["pp"] or 1)
            found.update({"tp": None, "dp": ranks, "ep": ranks})
        requests = entry.requests_for(row["input_tokens"], row["output_tokens"])
        if requests is not None:
            found.setdefault("requests", requests)
    return found

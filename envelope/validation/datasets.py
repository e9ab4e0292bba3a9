"""Request statistics of benchmark data sets and load-test profiles that rows refer to by name."""

import re
from functools import cache
from pathlib import Path

from pydantic import Field

from envelope.provenance import Frozen, Source
from envelope.spec.load import read_yaml, validate

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


class Drafts(Frozen):
    """Runs of a collection that used speculative decoding although their rows do not say so."""

    model: str
    """Pattern of the model's name."""
    versions: tuple[str, ...]
    """Engine images of these runs."""
    draft_tokens: int = Field(ge=1)
    draft_tokens_data_parallel: int = Field(ge=1)
    """With data-parallel attention."""
    acceptance_frac: float = Field(gt=0, lt=1)
    source: Source


class Lag(Frozen):
    """Settings of a collection that hold the first token back by whole steps."""

    collection: str
    engine: str
    model: str
    """Pattern of the models served so."""
    steps: float = Field(ge=0)
    source: Source


class _Document(Frozen):
    datasets: dict[str, Dataset]
    drafts: tuple[Drafts, ...]
    lags: tuple[Lag, ...]
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


def inferred_drafts(model: str, version: str, dp: int) -> tuple[int, float]:
    """Return draft tokens and acceptance of a run known by its model and engine image; (0, 0) without."""
    for run in _document().drafts:
        if version in run.versions and re.search(run.model, model, re.IGNORECASE):
            return (run.draft_tokens if dp == 1 else run.draft_tokens_data_parallel), run.acceptance_frac
    return 0, 0.0


def inferred_lag_steps(collection: str, engine: str, model: str) -> float:
    """Return the steps by which a collection's settings hold the first token back; 0 without."""
    for lag in _document().lags:
        if lag.collection == collection and lag.engine == engine and re.search(lag.model, model, re.IGNORECASE):
            return lag.steps
    return 0.0

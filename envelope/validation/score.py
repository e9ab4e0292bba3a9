"""Scores: absolute percentage errors, summaries by class, and what was not predicted at all."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from envelope.provenance import Frozen


class ScoredRow(Frozen):
    """One measured row beside its prediction, in the unit of the source."""

    id: str
    record: str = ""
    """Id of the record in its file; a record that measured several quantities gives a row for each."""
    collection: str
    quantity: str
    device_class: str
    architecture: str
    device: str
    model: str
    engine: str
    unit: str
    measured: float | None
    predicted: float | None
    ape_frac: float | None
    """|predicted/measured − 1|; ``None`` if there is no prediction."""
    bias_frac: float | None
    """predicted/measured − 1."""
    bound: str | None = None
    """What the model believed to limit the step: compute, memory, communication or overhead."""
    hardware_id: str | None = None
    model_id: str | None = None
    weights: str | None = None
    """Id of the weight format."""
    batch_per_device: float | None = None
    input_tokens: float | None = None
    assumed: tuple[str, ...] = ()
    """What had to be assumed to map the row."""
    reason: str | None = None
    """Why there is no prediction."""
    peers: dict[str, float] = Field(default_factory=dict)
    """Absolute percentage errors of other predictors on this row, as fractions."""
    overloaded: bool = False


class SummaryRow(Frozen):
    """Errors of one quantity on one class of devices and models."""

    quantity: str
    device_class: str
    architecture: str
    n: int
    """Rows, those without a prediction included."""
    coverage_frac: float
    median_ape_frac: float | None
    mean_ape_frac: float | None
    p90_ape_frac: float | None
    bias_frac: float | None
    """Median of predicted/measured − 1; positive means too much."""


class PeerScore(Frozen):
    """Errors of another predictor on the rows that it covers, beside ours on the same rows."""

    peer: str
    quantity: str
    collection: str
    n: int
    median_ape_frac: float
    mean_ape_frac: float
    our_median_ape_frac: float | None
    our_mean_ape_frac: float | None


def ape(predicted: float, measured: float) -> float:
    """Return the absolute percentage error as a fraction, |predicted/measured − 1|.

    >>> ape(90.0, 100.0)
    0.1
    """
    return abs(predicted / measured - 1.0)


def _errors(rows: Sequence[ScoredRow]) -> dict[str, float | None]:
    values = np.array([r.ape_frac for r in rows if r.ape_frac is not None])
    signed = np.array([r.bias_frac for r in rows if r.bias_frac is not None])
    if len(values) == 0:
        return dict.fromkeys(("median_ape_frac", "mean_ape_frac", "p90_ape_frac", "bias_frac"))
    return {
        "median_ape_frac": float(np.median(values)),
        "mean_ape_frac": float(np.mean(values)),
        "p90_ape_frac": float(np.percentile(values, 90)),
        "bias_frac": float(np.median(signed)),
    }


def _grouped(
    rows: Iterable[ScoredRow], key: Callable[[ScoredRow], tuple[str, ...]]
) -> dict[tuple[str, ...], list[ScoredRow]]:
    groups: dict[tuple[str, ...], list[ScoredRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return dict(sorted(groups.items()))


def summarise(rows: Iterable[ScoredRow]) -> list[SummaryRow]:
    """Return one summary row per quantity, device class and architecture."""
    groups = _grouped(rows, lambda r: (r.quantity, r.device_class, r.architecture))
    return [_summary(found, *key) for key, found in groups.items()]


def totals(rows: Iterable[ScoredRow]) -> list[SummaryRow]:
    """Return one summary row per quantity and family of rows, all devices and models together.

    The family stands in ``device_class``; overloaded load tests, whose times measure the client's patience, are
    a family of their own.
    """
    groups = _grouped(rows, lambda r: (r.quantity, _family(r)))
    return [_summary(found, key[0], key[1], "all") for key, found in groups.items()]


def _family(row: ScoredRow) -> str:
    if row.collection.startswith("load_test"):
        return "load_test/overloaded" if row.overloaded else "load_test"
    return row.collection


def _summary(rows: list[ScoredRow], quantity: str, device_class: str, architecture: str) -> SummaryRow:
    covered = sum(r.ape_frac is not None for r in rows)
    return SummaryRow(
        quantity=quantity,
        device_class=device_class,
        architecture=architecture,
        n=len(rows),
        coverage_frac=covered / len(rows),
        **_errors(rows),
    )


def peer_scores(rows: Iterable[ScoredRow]) -> list[PeerScore]:
    """Return every peer's errors beside ours on exactly the rows that it predicts."""
    groups: dict[tuple[str, str, str], list[ScoredRow]] = {}
    for row in rows:
        for peer in row.peers:
            groups.setdefault((row.quantity, _family(row), peer), []).append(row)
    found: list[PeerScore] = []
    for (quantity, collection, peer), members in sorted(groups.items()):
        theirs = np.array([r.peers[peer] for r in members])
        ours: dict[str, Any] = _errors(members)
        found.append(
            PeerScore(
                peer=peer,
                quantity=quantity,
                collection=collection,
                n=len(members),
                median_ape_frac=float(np.median(theirs)),
                mean_ape_frac=float(np.mean(theirs)),
                our_median_ape_frac=ours["median_ape_frac"],
                our_mean_ape_frac=ours["mean_ape_frac"],
            )
        )
    return found


def worst(rows: Iterable[ScoredRow], count: int = 20) -> list[ScoredRow]:
    """Return the rows with the largest ratio between prediction and measurement, whichever is larger."""
    covered = [r for r in rows if r.predicted and r.measured]
    return sorted(covered, key=lambda r: -abs(math.log((r.predicted or 1.0) / (r.measured or 1.0))))[:count]

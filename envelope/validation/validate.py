"""Scoring predictions against measured rows: the run behind ``envelope validate``."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from envelope.perf.replica import ReplicaSpec
from envelope.result import Result
from envelope.spec.folders import data_dirs, set_data_dirs
from envelope.spec.load import Reporter
from envelope.validation.predict import predict
from envelope.validation.row_files import load_rows
from envelope.validation.rows import MeasuredRow, RowSet
from envelope.validation.score import PeerScore, ScoredRow, SummaryRow, ape, peer_scores, summarise, totals, worst
from envelope.validation.startup.scoring import score_log
from envelope.validation.target import UnmappableError, classes_of

FACTS = Path(__file__).with_name("facts")
"""Curated measured facts that ship with the package."""

_BATCH = 24
"""Rows that a worker predicts between two reports of progress."""


class ValidationReport(Result):
    """Predictions beside measurements, and their errors."""

    source: str
    """File of the rows, or ``shipped facts``."""
    version: str
    summary: tuple[SummaryRow, ...]
    rows: tuple[ScoredRow, ...]
    totals: tuple[SummaryRow, ...]
    """By quantity and family of rows (in ``device_class``)."""
    peers: tuple[PeerScore, ...]
    uncovered: tuple[tuple[str, str], ...]
    """Row id and reason of everything that was not predicted."""

    @property
    def worst(self) -> list[ScoredRow]:
        """The 20 rows that are furthest off."""
        return worst(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, the worst rows included."""
        plain = self.model_dump(mode="json")
        return plain | {"worst": [r.model_dump(mode="json") for r in self.worst]}


def validate(
    rows: str | Path | None = None,
    *,
    progress: Reporter | None = None,
    workers: int | None = None,
    select: Callable[[MeasuredRow], bool] | None = None,
) -> ValidationReport:
    """Score predictions against the rows of a file, or against the shipped facts.

    ``progress`` is told the share done; ``workers`` is the number of processes (by default 2, or 1 for few rows);
    ``select`` keeps the rows for which it is true. Raises ``InputError`` for a file that is missing or in no
    known format.
    """
    from envelope.version import __version__

    row_set = load_rows(Path(rows)) if rows is not None else shipped_facts()
    chosen = tuple(r for r in row_set.rows if select is None or select(r))
    scored = list(_score_all(chosen, row_set.requests_path, progress, workers))
    if select is None:
        scored += [row for number, log in enumerate(row_set.logs, 1) for row in score_log(log, number)]
    scored += [_rejected(ident, reason) for ident, reason in row_set.rejected]
    return ValidationReport(
        source=str(rows) if rows is not None else "shipped facts",
        version=__version__,
        summary=tuple(summarise(scored)),
        rows=tuple(scored),
        totals=tuple(totals(scored)),
        peers=tuple(peer_scores(scored)),
        uncovered=tuple((r.id, r.reason or "") for r in scored if r.ape_frac is None),
    )


def shipped_facts() -> RowSet:
    """Return the curated rows of the package, of all its files together."""
    sets = [load_rows(path) for path in sorted(FACTS.glob("*.jsonl"))]
    return RowSet(
        rows=tuple(row for s in sets for row in s.rows),
        logs=tuple(log for s in sets for log in s.logs),
        rejected=tuple(r for s in sets for r in s.rejected),
    )


def _score_all(
    rows: tuple[MeasuredRow, ...], requests_path: str | None, report: Reporter | None, workers: int | None
) -> Iterator[ScoredRow]:
    """Yield scored rows in order; rows of one deployment stay together, so that its step tables are made once."""
    count = workers or (min(2, os.cpu_count() or 1) if len(rows) > 10 * _BATCH else 1)
    batches = _batches(rows)
    score = partial(_score_batch, requests_path=requests_path)
    results: dict[str, list[ScoredRow]] = {}
    done = 0
    for scored in _mapped(score, batches, count):
        done += len(scored)
        for found in scored:
            results.setdefault(found.id, []).append(found)
        if report is not None:
            report(done / max(len(rows), 1), f"{done} of {len(rows)} rows")
    for row in rows:
        yield results[row.id].pop(0)


def _mapped(
    score: Callable[[list[MeasuredRow]], list[ScoredRow]], batches: list[list[MeasuredRow]], count: int
) -> Iterator[list[ScoredRow]]:
    if count <= 1:
        yield from map(score, batches)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        count, mp_context=context, initializer=set_data_dirs, initargs=(data_dirs()[:-2],)
    ) as pool:
        yield from pool.map(score, batches)


def _batches(rows: tuple[MeasuredRow, ...]) -> list[list[MeasuredRow]]:
    ordered = sorted(rows, key=lambda r: (r.device, r.model, r.engine, r.collection, str(r.weights), r.id))
    return [ordered[i : i + _BATCH] for i in range(0, len(ordered), _BATCH)]


def _score_batch(rows: list[MeasuredRow], requests_path: str | None) -> list[ScoredRow]:
    return [score_row(row, requests_path) for row in rows]


def score_row(row: MeasuredRow, requests_path: str | None = None) -> ScoredRow:
    """Return one row beside its prediction; a row that cannot be predicted carries the reason."""
    device_class, architecture = classes_of(row)
    common = {
        "id": row.id,
        "record": row.id.removesuffix(f":{row.quantity}"),
        "collection": row.collection,
        "quantity": row.quantity,
        "device_class": device_class,
        "architecture": architecture,
        "device": row.device if row.device_count == 1 else f"{row.device_count}x {row.device}",
        "model": row.model,
        "engine": row.engine,
        "unit": row.unit,
        "measured": row.value * row.scale,
        "overloaded": row.overloaded,
        "peers": {peer: ape(value, row.value) for peer, value in row.peers.items()},
    }
    try:
        found = predict(row, requests_path)
    except UnmappableError as error:
        nothing = {"predicted": None, "ape_frac": None, "bias_frac": None}
        return ScoredRow.model_validate(common | nothing | {"reason": str(error)})
    return ScoredRow.model_validate(
        common
        | {
            "predicted": found.value * row.scale,
            "ape_frac": ape(found.value, row.value),
            "bias_frac": found.value / row.value - 1.0,
            "bound": found.bound,
            "hardware_id": found.target.replica.hardware.id,
            "model_id": found.target.replica.model.id,
            "assumed": found.target.assumed,
            "weights": _weights(found.target.replica),
            "batch_per_device": row.batch / found.target.devices if row.batch else None,
            "input_tokens": row.input_tokens,
        }
    )


def _weights(replica: ReplicaSpec) -> str:
    return replica.weights.id if replica.weights is not None else replica.model.native_format


def _rejected(ident: str, reason: str) -> ScoredRow:
    return ScoredRow(
        id=ident, collection="rejected", quantity="unknown", device_class="unknown", architecture="unknown",
        device="", model="", engine="", unit="", measured=None, predicted=None, ape_frac=None, bias_frac=None,
        reason=reason,
    )  # fmt: skip

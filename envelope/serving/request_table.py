"""One row per request of a run, as CSV or Parquet, written while the run goes on."""

import csv
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from envelope.errors import InputError, Problem
from envelope.parquet import ParquetFile
from envelope.serving.fleet import Fleet
from envelope.serving.kernel import layout as k
from envelope.serving.metrics import Measured
from envelope.serving.requests import ClassInfo
from envelope.spec.workload import SENSITIVITIES

COLUMNS = {
    "arrival_s": "seconds since the start of the simulation",
    "class": "task class",
    "sensitivity": "public, internal or private",
    "client": "number of the user, client or recorded session that sent it",
    "input_tokens": "prompt",
    "cached_tokens": "part of the prompt that the cache of the replica or of the hosted API held",
    "output_tokens": "answer",
    "outcome": "completed, refused (private, length, hosted) or unfinished",
    "served_by": "number of the replica, 'hosted', or empty",
    "detour": "spilled (sent out for lack of room), escalated, degraded (kept inside for privacy) or empty",
    "ttft_s": "arrival to first token",
    "tpot_s": "mean time per token after the first",
    "e2e_s": "arrival to last token",
    "preemptions": "times that it was taken out of the batch for lack of KV blocks",
    "restarts": "times that a failure lost its work",
    "hosted_attempts": "calls of the hosted API, refused ones included",
}
"""Columns of the table and what they mean."""

_OUTCOMES = {
    k.STATUS_DONE: "completed",
    k.STATUS_REFUSED_PRIVATE: "refused (private)",
    k.STATUS_REFUSED_LENGTH: "refused (length)",
    k.STATUS_REFUSED_HOSTED: "refused (hosted)",
}


class RequestTable:
    """A file that takes the requests of a run block by block; the suffix ``.parquet`` or ``.csv`` says which kind."""

    def __init__(self, path: Path, fleet: Fleet, classes: tuple[ClassInfo, ...]) -> None:
        if path.suffix not in (".csv", ".parquet"):
            raise InputError(Problem(str(path), "", None, "a table of requests ends in .csv or .parquet"))
        self._path, self._fleet, self._names = path, fleet, [c.id for c in classes]
        self._parquet = ParquetFile(path) if path.suffix == ".parquet" else None
        self._writer: Any = None
        self._file: Any = None

    def __enter__(self) -> Self:
        if self._parquet is None:
            self._file = self._path.open("w", encoding="utf-8", newline="")
            self._writer = csv.writer(self._file, lineterminator="\n")
            self._writer.writerow(COLUMNS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for opened in (self._file, self._parquet):
            if opened is not None:
                opened.close()

    def add(self, m: Measured) -> None:
        """Write some requests."""
        columns = self._columns(m)
        if self._parquet is None:
            self._writer.writerows(zip(*(_cells(c) for c in columns.values()), strict=True))
        else:
            self._parquet.add_columns(columns)

    def _columns(self, m: Measured) -> dict[str, Any]:
        served = np.where(m.done, np.where(m.hosted, "hosted", m.server.astype(str)), "")
        flags = [(k.FLAG_SPILLED, "spilled"), (k.FLAG_ESCALATED, "escalated"), (k.FLAG_DEGRADED, "degraded")]
        values = (
            m.arrival_s, np.array(self._names)[m.task], np.array(SENSITIVITIES)[m.sensitivity], m.client,
            m.input_tokens, np.where(m.hosted, m.hosted_hit, m.hit), m.output_tokens,
            np.array([_OUTCOMES.get(int(s), "unfinished") for s in m.status], dtype=str), served,
            np.select([(m.flags & bit) > 0 for bit, _ in flags], [name for _, name in flags], ""),
            *(np.where(m.done, times, np.nan) for times in (m.ttft_s, m.tpot_s, m.e2e_s)),
            m.preemptions, m.restarts, m.attempts,
        )  # fmt: skip
        return dict(zip(COLUMNS, values, strict=True))


def _cells(column: Any) -> Any:
    """Return a column as cells of a CSV file: times to a microsecond, what is not known empty."""
    if column.dtype.kind == "f":
        return ["" if np.isnan(v) else f"{v:.6f}" for v in column]
    return column

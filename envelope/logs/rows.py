"""One request as a reader finds it, and the rows of a log as a trace."""

from dataclasses import dataclass

import numpy as np

from envelope.errors import InputError, Problem
from envelope.serving.requests import Ints
from envelope.serving.trace import Trace


@dataclass(slots=True)
class Row:
    """One request as a reader finds it."""

    time_s: float
    input_tokens: int
    output_tokens: int
    cached: int = -1
    session: str = ""
    model: str = ""
    ttft_s: float = np.nan
    e2e_s: float = np.nan
    hash_ids: tuple[int, ...] = ()
    failed: bool = False


def trace_of(
    rows: list[Row], *, format: str, file: str, dated: bool = False, block_tokens: int = 0, notes: tuple[str, ...] = ()
) -> Trace:
    """Return the rows as a trace: sorted, failures taken out, optional columns only where they say something."""
    good = [r for r in rows if not r.failed and r.output_tokens > 0 and r.input_tokens > 0]
    if not good:
        raise InputError(Problem(file, "", None, f"holds no requests that were answered (read as {format})"))
    good.sort(key=lambda r: r.time_s)
    begin = good[0].time_s
    names = {name: i for i, name in enumerate(dict.fromkeys(r.session for r in good if r.session))}
    ttft, e2e = np.array([r.ttft_s for r in good]), np.array([r.e2e_s for r in good])
    return Trace(
        format=format,
        arrival_s=np.array([r.time_s - begin for r in good]),
        input_tokens=np.array([r.input_tokens for r in good], dtype=np.int64),
        output_tokens=np.array([r.output_tokens for r in good], dtype=np.int64),
        start_unix_s=begin if dated else None,
        cached_input_tokens=_column([r.cached for r in good]),
        session=np.array([names.get(r.session, -1) for r in good], dtype=np.int64) if names else None,
        model=tuple(r.model for r in good) if any(r.model for r in good) else (),
        ttft_s=ttft if np.isfinite(ttft).any() else None,
        e2e_s=e2e if np.isfinite(e2e).any() else None,
        hash_ids=tuple(r.hash_ids for r in good) if any(r.hash_ids for r in good) else None,
        block_tokens=block_tokens,
        failures=len(rows) - len(good),
        notes=notes,
    )


def _column(values: list[int]) -> Ints | None:
    found = np.array(values, dtype=np.int64)
    return np.maximum(found, 0) if (found >= 0).any() else None

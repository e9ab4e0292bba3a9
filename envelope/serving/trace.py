"""A recorded trace: one row per request, with what the log knew about it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from envelope.serving.prefixes import with_prefixes
from envelope.serving.requests import Floats, Ints, Mask, Requests, open_loop, replace_columns


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Requests of a log in the order of their arrival, failures kept apart."""

    format: str
    """Id of the log format that was recognised."""
    arrival_s: Floats
    """Seconds since the first request."""
    input_tokens: Ints
    """Prompt tokens, those from a cache included."""
    output_tokens: Ints
    start_unix_s: float | None = None
    """Unix time of the first request, if the log has dates; needed for daily and weekly shapes."""
    cached_input_tokens: Ints | None = None
    session: Ints | None = None
    """Number of the session or conversation, −1 if none."""
    model: tuple[str, ...] = ()
    """Model of each request, if the log names it."""
    ttft_s: Floats | None = None
    e2e_s: Floats | None = None
    hash_ids: tuple[tuple[int, ...], ...] | None = None
    """Hashes of the leading blocks of each prompt; equal leading ids are a shared prefix."""
    block_tokens: int = 0
    """Tokens per hashed block."""
    failures: int = 0
    """Rows that are failures (no output, error status): not requests, but counted."""
    notes: tuple[str, ...] = ()
    """What the reader guessed or left out."""

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def span_s(self) -> float:
        """Time from the first to the last request."""
        return float(self.arrival_s[-1]) if len(self) else 0.0


def part(trace: Trace, rows: Ints, faster: float = 1.0) -> Trace:
    """Return some requests of a trace in their order, ``faster`` times as close to each other."""
    begin = float(trace.arrival_s[rows[0]])
    columns = ("input_tokens", "output_tokens", "cached_input_tokens", "session", "ttft_s", "e2e_s")
    cut: dict[str, Any] = {n: None if getattr(trace, n) is None else getattr(trace, n)[rows] for n in columns}
    return replace(
        trace,
        **cut,
        arrival_s=(trace.arrival_s[rows] - begin) / faster,
        start_unix_s=None if trace.start_unix_s is None else trace.start_unix_s + begin,
        model=tuple(trace.model[i] for i in rows) if trace.model else (),
        hash_ids=None if trace.hash_ids is None else tuple(trace.hash_ids[i] for i in rows),
    )


def requests_of(trace: Trace, *, closed_sessions: bool = False, seed: int = 0) -> Requests:
    """Return a trace as requests for the simulation.

    Open loop: everything arrives when the log says. With ``closed_sessions`` the later calls of a session wait for
    the answer and then as long as they did in the log (where it knows when answers ended).
    """
    made = open_loop(trace.arrival_s, trace.input_tokens, trace.output_tokens, seed=seed)
    if trace.hash_ids is not None and trace.block_tokens > 0:
        made = with_prefixes(made, [list(ids) for ids in trace.hash_ids], trace.block_tokens)
    if trace.session is None:
        return made
    made = replace_columns(made, seat=np.where(trace.session >= 0, trace.session, made.seat))
    return _closed(made, trace) if closed_sessions else made


def _closed(made: Requests, trace: Trace) -> Requests:
    assert trace.session is not None
    n = len(trace)
    order = np.lexsort((np.arange(n), trace.session))
    same = (trace.session[order][1:] == trace.session[order][:-1]) & (trace.session[order][1:] >= 0)
    follower = np.full(n, -1, dtype=np.int64)
    follower[order[:-1][same]] = order[1:][same]
    follows: Mask = np.zeros(n, dtype=np.bool_)
    follows[order[1:][same]] = True
    ended = trace.arrival_s + (np.nan_to_num(trace.e2e_s) if trace.e2e_s is not None else 0.0)
    gap = np.zeros(n)
    gap[order[1:]] = np.maximum(trace.arrival_s[order[1:]] - ended[order[:-1]], 0.0)
    chain = np.where(trace.session >= 0, trace.session, -1) if trace.hash_ids is None else made.chain
    return replace_columns(made, follower=follower, follows=follows, gap_s=np.where(follows, gap, 0.0), chain=chain)

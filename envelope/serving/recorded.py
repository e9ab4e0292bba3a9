"""A recorded log as the requests of a workload: the busiest part of it, thinned and grown as asked."""

import numpy as np

from envelope.errors import InputError, Problem
from envelope.serving.arrivals import Window, sensitivities, stream
from envelope.serving.requests import ClassInfo, Ints, Requests, replace_columns
from envelope.serving.trace import Trace, part, requests_of
from envelope.spec.workload import Workload
from envelope.units import SECONDS_PER_DAY

_HOUR_S = 3600.0


def recorded(
    work: Workload,
    trace: Trace,
    *,
    seed: int,
    max_requests: int,
    window: Window | None = None,
    share: float = 1.0,
    year: int = 0,
) -> Requests:
    """Return requests of a recorded log as requests of the workload's first task class.

    The class gives limits, difficulty and sensitivity; lengths and times are the log's. Later calls of a session
    wait for the answer before. Of a log longer than an hour the busiest hour is taken (or ``window``, if the log has
    dates), of that at most ``max_requests`` requests. ``share`` keeps that share of the sessions, whole; growth until
    ``year`` lets the same requests arrive in less time.
    """
    log = work.trace or trace.format
    rows = _in_window(trace, window, log)
    rows = rows[_kept(trace, rows, share, seed)][:max_requests]
    if len(rows) == 0:
        raise InputError(Problem("workload", "trace", log, "holds no requests in the window"))
    made = requests_of(
        part(trace, rows, faster=work.rate_in_year(year)), closed_sessions=trace.session is not None, seed=seed
    )
    task = work.tasks[0]
    group = np.where(made.chain >= 0, made.chain, np.arange(len(made)) + made.chains)
    none = np.zeros(len(made), dtype=np.int64)
    return replace_columns(
        made,
        classes=(ClassInfo(task.id, task.slo, task.difficulty, task.priority, task.adapter),),
        sensitivity=sensitivities((task,), stream(seed, "sensitivity"), none, group),
    )


def _in_window(trace: Trace, window: Window | None, log: str) -> Ints:
    """Return the requests in the window, or in the busiest hour."""
    times = trace.arrival_s
    if window is None:
        upto = np.searchsorted(times, times + _HOUR_S, side="right")
        first = int(np.argmax(upto - np.arange(len(times))))
        return np.arange(first, upto[first])
    if trace.start_unix_s is None:
        raise InputError(Problem("workload", "trace", log, "has no dates, so that no part of the week can be chosen"))
    # 1970-01-01 was a Thursday: three days after Monday 00:00.
    in_week = (trace.start_unix_s + 3 * SECONDS_PER_DAY + times) % (7 * SECONDS_PER_DAY)
    week = np.floor((trace.start_unix_s + 3 * SECONDS_PER_DAY + times) / (7 * SECONDS_PER_DAY))
    inside = (in_week >= window.start_s) & (in_week < window.start_s + window.span_s)
    weeks, counts = np.unique(week[inside], return_counts=True)
    if len(weeks) == 0:
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(inside & (week == weeks[np.argmax(counts)]))


def _kept(trace: Trace, rows: Ints, share: float, seed: int) -> Ints:
    """Return which of the rows a thinned log keeps: all calls of a session, or none."""
    if share >= 1.0:
        return np.arange(len(rows))
    group = rows + 0
    if trace.session is not None:
        session = trace.session[rows]
        group = np.where(session >= 0, session, len(trace) + rows)
    _, number = np.unique(group, return_inverse=True)
    return np.flatnonzero(stream(seed, "share").random(int(number.max(initial=-1)) + 1)[number] < share)

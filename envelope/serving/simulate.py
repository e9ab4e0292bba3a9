"""The front door of the room: simulate a fleet on a workload or on given requests."""

from contextlib import ExitStack
from pathlib import Path

from envelope.errors import InputError, Problem
from envelope.serving.arrivals import Window, drawn_stream, window_of
from envelope.serving.fleet import Fleet
from envelope.serving.metrics import measured
from envelope.serving.recorded import recorded
from envelope.serving.request_table import RequestTable
from envelope.serving.requests import BLOCK_REQUESTS, Floats, Ints, Requests, Stream, stream_of
from envelope.serving.result import SimulationResult
from envelope.serving.run import Run, run_stream
from envelope.serving.summary import summarise
from envelope.serving.tally import RunTally, empty_tally
from envelope.serving.trace import Trace
from envelope.spec.load import Reporter
from envelope.spec.workload import Workload

WARMUP_FRAC = 0.1
"""Share of the simulated time that fills queues and caches and is not counted."""


def simulate(
    fleet: Fleet,
    work: Workload | Requests,
    *,
    trace: Trace | None = None,
    seed: int = 1,
    seeds: int = 1,
    max_requests: int = 20_000,
    window: Window | None = None,
    share: float = 1.0,
    year: int = 0,
    warmup_frac: float = WARMUP_FRAC,
    flat: bool = True,
    table: Path | None = None,
    report: Reporter | None = None,
    block: int = BLOCK_REQUESTS,
) -> SimulationResult:
    """Return how ``fleet`` serves ``work``.

    A workload is simulated in its busiest hour (or ``window``), at most about ``max_requests`` requests per seed,
    with ``share`` of its load and the growth until ``year``; ``seeds`` independent repetitions give the
    confidence intervals. With ``trace`` the workload's requests are those of a recorded log. Requests given as columns
    are served as they stand, once. After the window everything in flight is served to its end, so that no latency is
    cut off. ``table`` (``.csv`` or ``.parquet``) takes one row per counted request of the first seed;
    ``request_table.COLUMNS`` says what is in it.

    Requests are drawn and loaded ``block`` at a time, and percentiles of more than 200,000 values come from sketches
    that are exact to 0.1 %, so that memory does not grow with their number. Raises ``InputError`` for a share out of
    range, a trace without requests in the window or a table with another suffix.
    """
    runs: list[Run] = []
    tallies: list[RunTally] = []
    numbers = [seed + i for i in range(seeds)] if isinstance(work, Workload) else [seed]
    for i, number in enumerate(numbers):
        stream = (
            stream_of(work, block)
            if isinstance(work, Requests)
            else _drawn(work, trace, number, window, max_requests, share, year, flat, block)
        )
        run, tally = _served(fleet, stream, number, warmup_frac, table if i == 0 else None)
        runs.append(run)
        tallies.append(tally)
        if report is not None:
            report((i + 1) / len(numbers), f"seed {number}")
    return summarise(runs, tallies, numbers, share)


def _drawn(
    work: Workload,
    trace: Trace | None,
    seed: int,
    window: Window | None,
    max_requests: int,
    share: float,
    year: int,
    flat: bool,
    block: int,
) -> Stream:
    if not 0 < share <= 1:
        raise InputError(Problem("simulation", "share", share, "must be above 0 and at most 1"))
    if trace is not None:
        made = recorded(work, trace, seed=seed, max_requests=max_requests, window=window, share=share, year=year)
        return stream_of(made, block)
    chosen = window or window_of(work, max_requests=max_requests, share=share * work.rate_in_year(year))
    return drawn_stream(work, seed=seed, window=chosen, share=share, year=year, flat=flat, block=block)


def _served(fleet: Fleet, stream: Stream, seed: int, warmup_frac: float, table: Path | None) -> tuple[Run, RunTally]:
    """Serve a stream and return the run and what remains of its requests."""
    classes, warmup_s = stream.first.classes, warmup_frac * stream.span_s
    tally = empty_tally(fleet, classes)
    with ExitStack() as stack:
        rows = None if table is None else stack.enter_context(RequestTable(table, fleet, classes))

        def take(rq: Ints, rx: Floats) -> None:
            m = measured(fleet, classes, rq, rx, warmup_s)
            tally.add(m)
            if rows is not None:
                rows.add(m)

        run = run_stream(fleet, stream, take, seed=seed, warmup_s=warmup_s)
    return run, tally

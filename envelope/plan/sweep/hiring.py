"""Crews to be had: this process, processes of this machine, or the workers of a Dask cluster."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any, TypeVar

from envelope.errors import InputError, Problem, nearest
from envelope.plan.sweep.crew import Crew, Hire
from envelope.plan.sweep.dask_crew import dask_crew, require_dask

T = TypeVar("T")
_KINDS = ("here", "processes", "dask")


def hiring(executor: str | Executor | None, workers: int | None) -> Hire:
    """Return how to open the crew that is asked for.

    ``executor`` is ``here``, ``processes`` (the default; one worker works here), ``dask`` (a cluster started on this
    machine), the address of a Dask scheduler such as ``dask://host:8786``, or any ``concurrent.futures.Executor``.
    Raises ``InputError`` for anything else and ``MissingExtraError`` without Dask.
    """
    if isinstance(executor, Executor):
        given = executor
        return lambda: contextlib.nullcontext(Crew(given, lambda: workers or cores(), lambda: False))
    kind, _, address = (executor or "processes").partition("://")
    if kind not in _KINDS or (address and kind != "dask"):
        near = nearest(kind, _KINDS)
        remedy = f"{f'nearest {near[0]!r}; ' if near else ''}allowed: {', '.join(_KINDS)}, dask://HOST:PORT"
        raise InputError(Problem("command line", "--executor", executor, "unknown", remedy))
    if workers is not None and workers < 1:
        raise InputError(Problem("command line", "--workers", workers, "must be at least 1"))
    if kind == "dask":
        require_dask()
        return lambda: dask_crew(address, workers or cores())
    count = workers or cores()
    if kind == "here" or count == 1:
        return lambda: contextlib.nullcontext(Crew(_Here(), lambda: 1, lambda: False))
    return lambda: _processes(count)


def cores() -> int:
    """Return the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Here(Executor):
    """Runs a task when it is submitted."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        """Run a task and return its outcome."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # handed over as any executor does
            future.set_exception(error)
        return future


@contextmanager
def _processes(count: int) -> Iterator[Crew]:
    # Spawned rather than forked: the same on every system, and safe beside threads.
    pool = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        yield Crew(pool, lambda: count, lambda: False)
    finally:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """Leave Ctrl-C to the process that collects the rows, and end when that process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)

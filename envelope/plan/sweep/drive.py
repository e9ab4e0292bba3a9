"""Keeping a crew busy until every run has its row, whatever happens to the workers."""

import pickle
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path

from envelope.errors import EnvelopeError
from envelope.plan.sweep.crew import Crew, Hire
from envelope.plan.sweep.row import Row, run_row
from envelope.plan.sweep.variants import Run
from envelope.serving.compiled import COMPILE_REQUESTS, LOAD_REQUESTS, on_disk, prepare
from envelope.spec.data_version import data_version
from envelope.spec.folders import use_data_dirs
from envelope.spec.scenario import Scenario
from envelope.version import __version__

_CHUNK = 16
"""Runs of one task at most: enough that handing it over costs nothing, few enough to lose."""
_ATTEMPTS = 3
"""Times that a task may die with its worker before its runs are tried one by one."""
_POLL_S = 1.0
_LOST = ("KilledWorker", "CommClosedError", "FutureCancelledError", "TimeoutError")
"""Names of exceptions by which a cluster says that it lost a task."""


@dataclass(frozen=True, slots=True)
class Order:
    """What every task of a sweep shares."""

    scenarios: bytes
    """The scenarios, pickled once."""
    data_dirs: tuple[Path, ...]
    version: str
    data_version: str
    requests: int
    """Requests that all runs simulate together, about."""


@dataclass(frozen=True, slots=True)
class _Task:
    runs: tuple[Run, ...]
    died: int = 0


@dataclass(slots=True)
class _State:
    fresh: Iterator[_Task]
    again: deque[_Task] = field(default_factory=deque)
    alone: deque[_Task] = field(default_factory=deque)
    """Single runs whose task died with several workers."""
    pending: dict["Future[list[Row]]", _Task] = field(default_factory=dict)
    delivered: bool = False


def drive(order: Order, runs: Iterator[Run], total: int, hire: Hire, deliver: Callable[[Sequence[Row]], None]) -> None:
    """Have every run done and hand its row over, in the order in which they are finished.

    Tasks whose worker died are done again by others; a run that kills three workers becomes a failed row. Raises
    ``EnvelopeError`` if workers cannot start at all or know other data than this process.
    """
    state = _State(fresh=iter(()))
    hired = 0
    left = True
    while left:
        if hired >= _ATTEMPTS and not state.delivered:
            raise EnvelopeError(
                "the worker processes die at their start: in a script, call sweep under `if __name__ == '__main__':`, "
                "or ask for workers=1"
            )
        with hire() as crew:
            if not hired:
                state.fresh = _tasks(runs, max(1, min(_CHUNK, total // (crew.workers() * 8))))
            hired += 1
            left = not _worked(order, crew, state, deliver)


def _worked(order: Order, crew: Crew, state: _State, deliver: Callable[[Sequence[Row]], None]) -> bool:
    """Give a crew tasks until none is left (true), or until the crew is lost (false)."""
    while True:
        try:
            _hand_out(order, crew, state)
        except (BrokenExecutor, RuntimeError, OSError):
            return _all_again(state)
        if not state.pending:
            return True
        done, _ = wait(state.pending, timeout=_POLL_S, return_when=FIRST_COMPLETED)
        broken = False
        for future in done:
            task = state.pending.pop(future)
            error = _error(future)
            if error is None:
                deliver(future.result())
                state.delivered = True
            elif _is_loss(error):
                broken |= isinstance(error, BrokenExecutor)
                _again(state, task, deliver)
            else:
                raise error
        if broken or (not done and crew.lost()):
            return _all_again(state)


def _hand_out(order: Order, crew: Crew, state: _State) -> None:
    """Submit tasks until every worker has one and the next; suspicious ones only when nothing else is under way."""
    room = 2 * crew.workers()
    while len(state.pending) < room:
        task = state.again.popleft() if state.again else next(state.fresh, None)
        if task is None:
            break
        _submit(order, crew, state, task)
    if not state.pending and state.alone:
        _submit(order, crew, state, state.alone.popleft())


def _submit(order: Order, crew: Crew, state: _State, task: _Task) -> None:
    try:
        future = crew.executor.submit(run_task, order, task.runs)
    except BaseException:
        (state.alone if task.died >= _ATTEMPTS else state.again).append(task)
        raise
    state.pending[future] = task


def _again(state: _State, task: _Task, deliver: Callable[[Sequence[Row]], None]) -> None:
    """Put a task back that died with its worker."""
    died = task.died + 1
    if died < _ATTEMPTS:
        state.again.append(replace(task, died=died))
    elif len(task.runs) > 1 or died == _ATTEMPTS:
        state.alone.extend(_Task((run,), _ATTEMPTS) for run in task.runs)
    else:
        deliver([_killer(run) for run in task.runs])


def _all_again(state: _State) -> bool:
    """Put everything under way back, after its crew was lost; returns that there is work left."""
    for task in state.pending.values():
        (state.alone if task.died >= _ATTEMPTS else state.again).append(task)
    state.pending.clear()
    return False


def _killer(run: Run) -> Row:
    return Row(
        run=run.index, variant=run.variant, scenario=run.scenario_id, candidate=run.candidate, seed=run.seed,
        changes=dict(run.changes), status="failed", error=f"the worker died {_ATTEMPTS} times",
        data_version=data_version(),
    )  # fmt: skip


def _error(future: "Future[list[Row]]") -> BaseException | None:
    try:
        return future.exception()
    except CancelledError as error:
        return error


def _is_loss(error: BaseException) -> bool:
    return isinstance(error, BrokenExecutor | CancelledError) or type(error).__name__ in _LOST


def _tasks(runs: Iterator[Run], size: int) -> Iterator[_Task]:
    while chunk := tuple(islice(runs, size)):
        yield _Task(chunk)


def run_task(order: Order, runs: Sequence[Run]) -> list[Row]:
    """Return the rows of some runs; this is what workers execute.

    Raises ``EnvelopeError`` if the worker has another version of the package or of the data.
    """
    use_data_dirs(order.data_dirs)
    if (__version__, data_version()) != (order.version, order.data_version):
        raise EnvelopeError(
            f"a worker has version {__version__} with data {data_version()}, this process {order.version} with data "
            f"{order.data_version}: install the same version and data folders everywhere"
        )
    warm(order.requests)
    scenarios = _scenarios(order.scenarios)
    return [run_row(scenarios[run.scenario], run, order.data_version) for run in runs]


@lru_cache(maxsize=1)
def warm(requests: int) -> None:
    """Load the compiled kernel once, or compile it, if that many requests are worth it."""
    if requests > (LOAD_REQUESTS if on_disk() else COMPILE_REQUESTS):
        prepare()


@lru_cache(maxsize=4)
def _scenarios(pickled: bytes) -> tuple[Scenario, ...]:
    found: tuple[Scenario, ...] = pickle.loads(pickled)  # noqa: S301 - made by the process that hands out the task
    return found

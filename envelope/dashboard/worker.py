"""One worker process of the dashboard: ``python -m envelope.dashboard.worker``, fed through its pipes.

It reads orders from standard input and answers on standard output, both pickled; its parent is its only peer. A pipe
that ends, because the server ended, ends the worker.
"""

import gc
import logging
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from envelope.errors import InputError, Problem

_NICE = 10
"""Steps by which a worker's priority lies below that of the server."""


@dataclass(frozen=True, slots=True)
class Order:
    """A function to call; it takes ``progress`` as well."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)
    data_version: str = ""
    """State of the data files that the answer must rest on."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the work is, 0–1, and what is being done."""

    share: float
    doing: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the function returned, or what was wrong with its input, or the crash in one line."""

    value: Any = None
    problems: tuple[Problem, ...] = ()
    crash: str = ""


def main() -> None:
    """Serve orders until the pipe ends."""
    if hasattr(os, "nice"):
        # Server and browser, which draw what is done, come before what is still to be worked out.
        os.nice(_NICE)
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever prints must not reach the pipe.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    stopping = _Stopping()
    version = ""
    while True:
        try:
            order: Order = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        if order.data_version != version:
            _forget()
            version = order.data_version
        try:
            _send(out, _answer(order, out, stopping))
        except BrokenPipeError:
            return


def warm(*, progress: Callable[[float, str], object]) -> None:
    """Import what most orders need, and load the compiled kernel if there is one, before the first order comes."""
    import scipy.stats  # noqa: F401  # asked for by the ranges of costs, and slow to import

    import envelope.plan.verdict.figures  # noqa: F401
    from envelope.serving.compiled import LOAD_REQUESTS, prepare, worth_compiling

    if worth_compiling(LOAD_REQUESTS + 1):
        prepare()
    # What is loaded stays: no search for garbage has to look through it again.
    gc.collect()
    gc.freeze()
    progress(1.0, "ready")


class _Stopped(BaseException):
    """The order is to be dropped."""


class _Stopping:
    """Raises ``_Stopped`` within an order when the parent asks for it, but never in the middle of a message."""

    def __init__(self) -> None:
        self._within = self._asked = False
        if hasattr(signal, "SIGUSR1"):
            signal.signal(signal.SIGUSR1, self._ask)

    def _ask(self, _number: int, _frame: object) -> None:
        self._asked = True
        self.check()

    def check(self) -> None:
        """Raise if it was asked for and an order is being worked on."""
        if self._asked and self._within:
            self._within = False
            raise _Stopped

    @contextmanager
    def within(self) -> Iterator[None]:
        """Mark the time in which an order can be dropped."""
        self._asked, self._within = False, True
        try:
            yield
        finally:
            self._within = False

    def tell(self, out: BinaryIO, message: Progress) -> None:
        """Send a message whole, then follow."""
        self._within = False
        _send(out, message)
        self._within = True
        self.check()


def _answer(order: Order, out: BinaryIO, stopping: _Stopping) -> Answer:
    try:
        with stopping.within():
            found = order.function(
                *order.args, **order.options, progress=lambda s, what: stopping.tell(out, Progress(s, what))
            )
        return Answer(found)
    except _Stopped:
        return Answer(crash="stopped")
    except InputError as error:
        return Answer(problems=error.problems)
    except BrokenPipeError:
        raise
    except Exception as error:
        logging.getLogger(__name__).exception("order failed")
        return Answer(crash=f"{type(error).__name__}: {error}")


def _send(out: BinaryIO, message: Progress | Answer) -> None:
    pickle.dump(message, out)
    out.flush()


def _forget() -> None:
    from envelope.spec.folders import forget

    forget()


if __name__ == "__main__":
    # Orders name classes of this module by its real name, not by __main__.
    from envelope.dashboard.worker import main as serve

    serve()

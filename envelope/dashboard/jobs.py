"""Work in worker processes: jobs with progress and cancel, whose results are kept by what they depend on."""

import hashlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import OrderedDict
from contextlib import suppress
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from envelope.dashboard.worker import Answer, Order, Progress, warm
from envelope.errors import EnvelopeError, InputError

KEPT_JOBS = 400
"""Jobs whose results are kept; the oldest give way."""
MOST_WORKERS = 4
_STOP = getattr(signal, "SIGUSR1", None)
"""Signal that asks a worker to drop what it does, which keeps what it has loaded and remembers."""
_KILL_AFTER_S = 2.0
"""Time that a worker has to follow that signal."""


class State(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobError(EnvelopeError):
    """A job crashed or was cancelled, so that it has no result."""


class Job:
    """One call of a function in a worker process; several sessions may watch the same one."""

    def __init__(self, key: str, order: Order, label: str, affinity: str, lasting: bool = False) -> None:
        self.key, self.order, self.label, self.affinity, self.lasting = key, order, label, affinity, lasting
        self.state = State.QUEUED
        self.progress = Progress(0.0, "waiting for a free worker")
        self.answer = Answer()
        self.watchers: set[str] = set()
        self._ended = threading.Event()

    @property
    def ended(self) -> bool:
        """Whether it is done, failed or cancelled."""
        return self._ended.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end for that long; return whether it has ended."""
        return self._ended.wait(timeout_s)

    def value(self) -> Any:
        """Return the result of an ended job.

        Raises ``InputError`` as the function did, ``JobError`` if it crashed or was cancelled.
        """
        if self.state is State.CANCELLED:
            raise JobError(f"{self.label}: cancelled")
        if self.answer.problems:
            raise InputError(self.answer.problems)
        if self.answer.crash:
            raise JobError(f"{self.label}: {self.answer.crash}")
        return self.answer.value

    def end(self, state: State, answer: Answer) -> None:
        """Record the outcome and wake who waits."""
        self.answer, self.state = answer, state
        self._ended.set()


def fingerprint(*things: object) -> str:
    """Return a hash of the content of records and plain values; equal content has an equal hash."""
    digest = hashlib.sha256()
    for thing in things:
        text = thing.model_dump_json() if isinstance(thing, BaseModel) else repr(thing)
        digest.update(f"{type(thing).__name__}:{text}\0".encode())
    return digest.hexdigest()[:32]


class Workers:
    """The worker processes, the queue before them and the jobs kept."""

    def __init__(self, count: int | None = None, *, kept: int = KEPT_JOBS) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._queue: list[Job] = []
        self._kept = kept
        self._change = threading.Condition()
        number = count or max(2, min(MOST_WORKERS, os.cpu_count() or 2))
        self._workers = [_Worker() for _ in range(number)]
        self._loading = number
        for worker in self._workers:
            threading.Thread(target=self._serve, args=(worker,), daemon=True).start()

    def find(self, key: str) -> Job | None:
        """Return the job of that key, if it is kept."""
        with self._change:
            job = self._jobs.get(key)
            if job is not None:
                self._jobs.move_to_end(key)
            return job

    def submit(
        self, key: str, order: Order, *, label: str, affinity: str = "", watcher: str = "", lasting: bool = False
    ) -> Job:
        """Return the job of that key, started now unless it is kept, waits or runs.

        One that was cancelled or crashed starts again. A ``lasting`` one goes on when its watcher turns to something
        else, and leaves one worker free for the others.

        Jobs of the same ``affinity`` go to the same worker where that costs no waiting: it remembers their parts.
        """
        with self._change:
            job = self._jobs.get(key)
            if job is None or job.state is State.CANCELLED or job.answer.crash:
                job = Job(key, order, label, affinity, lasting)
                self._jobs[key] = job
                self._queue.append(job)
                self._drop_oldest()
                self._change.notify_all()
            self._jobs.move_to_end(key)
            job.watchers.add(watcher)
            return job

    def cancel(self, job: Job, watcher: str = "") -> None:
        """Stop watching a job; it ends at once if nobody else watches it."""
        with self._change:
            job.watchers.discard(watcher)
            if job.watchers or job.ended:
                return
            self._drop(job)

    def turn_away(self, watcher: str) -> None:
        """Stop watching all jobs but the lasting ones: the page has changed. Those it still wants it submits again."""
        with self._change:
            for job in self._jobs.values():
                if not job.lasting and not job.ended:
                    job.watchers.discard(watcher)

    def make_room(self) -> None:
        """Drop the jobs that nobody watches any more, so that those which somebody waits for come first."""
        with self._change:
            for job in [job for job in self._jobs.values() if not (job.ended or job.watchers or job.lasting)]:
                self._drop(job)

    def _drop(self, job: Job) -> None:
        if job in self._queue:
            self._queue.remove(job)
            job.end(State.CANCELLED, Answer())
        for worker in self._workers:
            if worker.job is job and job.state is not State.CANCELLED:
                job.state = State.CANCELLED
                worker.stop(job)

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Wait until every process has loaded what it needs, at most that long; return whether they have."""
        with self._change:
            return self._change.wait_for(lambda: self._loading == 0, max(timeout_s, 0.0))

    def close(self) -> None:
        """End the worker processes."""
        for worker in self._workers:
            worker.kill()
            if worker.job is None:
                worker.release()

    def _drop_oldest(self) -> None:
        for key in [k for k, j in self._jobs.items() if j.ended][: max(len(self._jobs) - self._kept, 0)]:
            del self._jobs[key]

    def _serve(self, worker: "_Worker") -> None:
        worker.start()
        with self._change:
            self._loading -= 1
            self._change.notify_all()
        while True:
            job = self._take(worker)
            answer = worker.run(job)
            cancelled = job.state is State.CANCELLED
            failed = bool(answer.problems or answer.crash)
            with self._change:
                worker.job = None
                job.end(State.CANCELLED if cancelled else State.FAILED if failed else State.DONE, answer)

    def _take(self, worker: "_Worker") -> Job:
        with self._change:
            while not (queue := self._queue_of(worker)):
                self._change.wait()
            elsewhere = set().union(*(w.affinities for w in self._workers if w is not worker))
            job = min(queue, key=lambda j: (j.lasting, j.affinity not in worker.affinities, j.affinity in elsewhere))
            self._queue.remove(job)
            job.state, worker.job = State.RUNNING, job
            worker.affinities.add(job.affinity)
            return job

    def _queue_of(self, worker: "_Worker") -> list[Job]:
        """Return the jobs that a worker may take: the first of several workers takes no lasting ones."""
        reserved = worker is self._workers[0] and len(self._workers) > 1
        return [job for job in self._queue if not (job.lasting and reserved)]


_THIS_SERVER: list[Workers] = []
_STARTING = threading.Lock()


def workers() -> Workers:
    """Return the worker processes of this server, started at the first call."""
    with _STARTING:
        if not _THIS_SERVER:
            _THIS_SERVER.append(Workers())
        return _THIS_SERVER[0]


class _Worker:
    """A worker process and the job it has; it is started again after a kill or a crash."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.job: Job | None = None
        self.affinities: set[str] = set()

    def start(self) -> None:
        """Start the process and let it import what it needs."""
        command = [sys.executable, "-m", "envelope.dashboard.worker"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.affinities = set()
        self._exchange(Order(warm, ()), Job("", Order(warm, ()), "warm", ""))

    def run(self, job: Job) -> Answer:
        """Return the answer to a job's order, in a fresh process if the last one has ended."""
        if self.process is None or self.process.poll() is not None:
            self.release()
            self.start()
        return self._exchange(job.order, job)

    def stop(self, job: Job) -> None:
        """Ask the process to drop a job; end it if it does not follow soon."""
        if self.process is None or _STOP is None:
            self.kill()
            return
        self.process.send_signal(_STOP)
        timer = threading.Timer(_KILL_AFTER_S, lambda: self.kill() if self.job is job else None)
        timer.daemon = True
        timer.start()

    def kill(self) -> None:
        """End the process, whatever it does."""
        if self.process is not None:
            self.process.kill()

    def release(self) -> None:
        """Close the pipes of a process that has ended."""
        if self.process is not None:
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                with suppress(OSError):
                    if pipe is not None:
                        pipe.close()
            self.process = None

    def _exchange(self, order: Order, job: Job) -> Answer:
        if self.process is None or self.process.stdin is None or self.process.stdout is None:
            return Answer(crash="the worker process did not start")
        try:
            pickle.dump(order, self.process.stdin)
            self.process.stdin.flush()
            while True:
                message = pickle.load(self.process.stdout)
                if isinstance(message, Answer):
                    return message
                job.progress = message
        except (EOFError, OSError, pickle.UnpicklingError):
            self.release()
            return Answer(crash="the worker process ended; was the memory used up?")

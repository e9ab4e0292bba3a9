"""Work in worker processes: jobs with progress and cancel, whose results are kept by what they depend on."""

import hashlib
import os
import pickle
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

    def __init__(self, key: str, order: Order, label: str, affinity: str) -> None:
        self.key, self.order, self.label, self.affinity = key, order, label, affinity
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
        for worker in self._workers:
            threading.Thread(target=self._serve, args=(worker,), daemon=True).start()

    def find(self, key: str) -> Job | None:
        """Return the job of that key, if it is kept."""
        with self._change:
            job = self._jobs.get(key)
            if job is not None:
                self._jobs.move_to_end(key)
            return job

    def submit(self, key: str, order: Order, *, label: str, affinity: str = "", watcher: str = "") -> Job:
        """Return the job of that key, started now unless it is kept, waits or runs.

        One that was cancelled or crashed starts again.

        Jobs of the same ``affinity`` go to the same worker where that costs no waiting: it remembers their parts.
        """
        with self._change:
            job = self._jobs.get(key)
            if job is None or job.state is State.CANCELLED or job.answer.crash:
                job = Job(key, order, label, affinity)
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
            if job in self._queue:
                self._queue.remove(job)
                job.end(State.CANCELLED, Answer())
            for worker in self._workers:
                if worker.job is job:
                    job.state = State.CANCELLED
                    worker.kill()

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
            while not self._queue:
                self._change.wait()
            elsewhere = set().union(*(w.affinities for w in self._workers if w is not worker))
            job = min(self._queue, key=lambda j: (j.affinity not in worker.affinities, j.affinity in elsewhere))
            self._queue.remove(job)
            job.state, worker.job = State.RUNNING, job
            worker.affinities.add(job.affinity)
            return job


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

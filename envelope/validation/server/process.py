"""Starting a server in a process group of its own, waiting until it answers, and ending all of the group."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from envelope.errors import EnvelopeError
from envelope.spec.load import Reporter

_POLL_S = 0.5
_GRACE_S = 15.0
"""Time that a server has to end by itself before it is killed."""
_LINES_SHOWN = 4
_USUAL_START_S = 120.0
"""Only what the progress bar is drawn by."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that was started here."""

    url: str
    log: Path
    group: int
    """Number of its process group."""
    start_s: float
    """Seconds until it answered."""

    def text(self) -> str:
        """Return what it has logged so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def cpu_s(self) -> float:
        """Return the processor time that its processes have used, in seconds; 0 where the system does not tell."""
        return group_cpu_s(self.group)


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[str],
    port: int,
    log: Path,
    *,
    ready: Callable[[str], bool],
    environment: Mapping[str, str],
    limit_s: float,
    report: Reporter,
    explain: Callable[[str], str] = lambda _: "",
) -> Iterator[Running]:
    """Start a server, give it while it answers, and end it with every process that it started, whatever happens.

    ``ready`` tells whether the server at an address answers; ``explain`` turns its log into a remedy. Raises
    ``EnvelopeError`` if it ends or stays silent for ``limit_s``; its log is kept.
    """
    url = f"http://127.0.0.1:{port}"
    start = time.perf_counter()
    with log.open("wb") as file, _heeding_termination():
        try:
            # A group of its own: Ctrl-C in the terminal reaches this program alone, which then ends the server.
            process = subprocess.Popen(
                list(command), stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env={**os.environ, **environment}, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise EnvelopeError(f"{command[0]} did not start: {error.strerror}") from None
        try:
            while not ready(url):
                spent = time.perf_counter() - start
                if process.poll() is not None:
                    raise EnvelopeError(_ended(command[0], process.returncode, log, explain))
                if spent > limit_s:
                    raise EnvelopeError(f"{command[0]} did not answer within {limit_s:.0f} s; its log: {log}")
                report(min(spent / _USUAL_START_S, 0.99), f"starting {Path(command[0]).name}, {spent:.0f} s")
                time.sleep(_POLL_S)
            yield Running(url, log, process.pid, time.perf_counter() - start)
        finally:
            end_group(process)


@contextlib.contextmanager
def _heeding_termination() -> Iterator[None]:
    """Let being told to end interrupt this program as Ctrl-C does, so that the server it started ends too.

    A shell that starts it in the background has it ignore Ctrl-C; that stays as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _as_ctrl_c)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _as_ctrl_c(number: int, frame: FrameType | None) -> None:
    """Do what Ctrl-C does now: an event loop's own handler cancels its task, where an exception could fall into a
    callback that swallows it.
    """
    ours = signal.getsignal(signal.SIGINT)
    (ours if callable(ours) else signal.default_int_handler)(number, frame)


def _ended(program: str, status: int, log: Path, explain: Callable[[str], str]) -> str:
    text = log.read_text(encoding="utf-8", errors="replace")
    remedy = explain(text)
    lines = [line.strip() for line in text.splitlines() if line.strip()][-_LINES_SHOWN:]
    said = " / ".join(lines) or "no message"
    return f"{program} ended with status {status}: {remedy or said}; its log: {log}"


def end_group(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all of its group: politely first, by force after a while."""
    for number, wait_s in ((signal.SIGINT, _GRACE_S), (signal.SIGTERM, _GRACE_S / 3), (signal.SIGKILL, _GRACE_S)):
        if not _signalled(process.pid, number):
            break
        end = time.perf_counter() + wait_s
        while time.perf_counter() < end and _alive(process):
            time.sleep(0.1)
        if not _alive(process):
            break
    process.poll()


def _alive(process: "subprocess.Popen[bytes]") -> bool:
    """Return whether any process of the group is left; the first one is reaped on the way."""
    if process.poll() is None:
        return True
    if not Path("/proc/self/stat").exists():
        return _signalled(process.pid, 0)
    # An ended process whose parent has ended too may stay in the table for ever.
    return any(words[0] != "Z" for words in _members(process.pid, Path("/proc")))


def _signalled(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def group_cpu_s(group: int, proc: Path = Path("/proc")) -> float:
    """Return the processor time of a process group's living processes and their ended children, in seconds."""
    ticks = sum(int(word) for words in _members(group, proc) for word in words[11:15])
    return ticks / float(os.sysconf("SC_CLK_TCK"))


def _members(group: int, proc: Path) -> Iterator[list[str]]:
    """Yield what the system tells of each process of a group: state, parent, group … (proc_pid_stat(5))."""
    for stat in proc.glob("[0-9]*/stat"):
        try:
            # The name before it stands in brackets and may hold blanks.
            words = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if len(words) > 14 and int(words[2]) == group:
            yield words

"""One run of the simulation: SimPy keeps the clock of faults and schedules, the kernel serves in between."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import simpy

from envelope.serving.compiled import worth_compiling
from envelope.serving.control import draw_outages, outage_log, start_controls
from envelope.serving.feed import Feed
from envelope.serving.fleet import Fleet
from envelope.serving.kernel import layout as k
from envelope.serving.requests import ClassInfo, Floats, Ints, Requests, Stream, replace_columns
from envelope.serving.result import FleetEvent
from envelope.serving.running import Controls
from envelope.serving.state import BINS, State, build

TICKS = 240
"""Samples of the timeline."""

DRAIN_S = 2 * 86_400.0
"""Time after the last start for which unfinished requests are still served."""


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Counters of all replicas at one time."""

    time_s: float
    busy_s: Floats
    energy_j: float
    up_s: Floats
    bound_s: Floats
    """[4] busy seconds by what limits a step."""
    blocked_s: Floats
    """[7] busy seconds with a queue by what keeps it waiting."""
    tokens_in: int
    tokens_hit: int
    tokens_out: int
    gaps: Ints
    """[classes, bins] histogram of gaps between tokens."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Everything that one run leaves behind, before statistics."""

    fleet: Fleet
    classes: tuple[ClassInfo, ...]
    rq: Ints
    """Integers of the requests that were not taken out before the end, in the order in which they were loaded."""
    rx: Floats
    """Their floats."""
    warm: Snapshot
    """At the end of the warm-up."""
    ended: Snapshot
    """At the end of the measured time."""
    final: Snapshot
    ticks: Ints
    tick_times: Floats
    blocks_free: Ints
    """[replicas] free KV blocks at the end; all of them when nothing is left running."""
    peaks: Ints
    """[replicas, 3] preemptions, most blocks in use, most sequences."""
    events: dict[str, int] = field(default_factory=dict)
    """Failures, repairs, power cuts, starts and so on."""
    log: tuple[FleetEvent, ...] = ()
    peak_replicas: int = 0
    horizon_s: float = 0.0


Take = Callable[[Ints, Floats], object]
"""What is done with the integers and floats of requests that have ended, in order of arrival."""


@dataclass(slots=True)
class _Course:
    """A run under way."""

    controls: Controls
    feed: Feed
    warmup_s: float
    marks: list[Snapshot] = field(default_factory=list)

    def serve_until(self, until: float) -> None:
        """Serve until a time; the counters at the end of the warm-up are noted on the way."""
        if not self.marks and self.warmup_s <= until:
            if self.warmup_s > 0:
                _run_to(self.controls.env, self.controls, self.warmup_s)
            self.mark(self.warmup_s)
        _run_to(self.controls.env, self.controls, until)

    def mark(self, t: float) -> None:
        """Note the counters of all replicas."""
        self.marks.append(_snapshot(self.feed.state, t, len(self.controls.fleet.replicas)))

    def finish(self, span: float) -> None:
        """Serve until the end of the window and then until everything has ended."""
        if span > 0:
            self.serve_until(span)
            self.mark(span)
        self.serve_until(span + DRAIN_S if self.controls.active else k.NEVER)
        self.mark(max(_last_finish(self.feed), span))
        self.feed.cut_unbegun()


def run_once(
    fleet: Fleet,
    requests: Requests,
    *,
    before: Requests | None = None,
    seed: int = 0,
    warmup_s: float = 0.0,
    ticks: int = TICKS,
    compiled: bool | None = None,
) -> Run:
    """Serve ``requests`` on ``fleet`` and return what happened.

    ``before`` are requests that a load generator has served first and that do not count: the others begin when they
    have all ended. ``compiled`` chooses the mode of the kernel (``None``: compiled if it is worth it); the result is
    the same.
    """
    use = worth_compiling(len(requests), len(fleet.replicas)) if compiled is None else compiled
    span = requests.span_s if math.isfinite(requests.span_s) else 0.0
    if before is None:
        course = _begin(fleet, requests, span, seed=seed, warmup_s=warmup_s, ticks=ticks, compiled=use)
    else:
        course = _begin(fleet, before, 0.0, seed=seed, warmup_s=0.0, ticks=0, compiled=use, more=True)
        course.serve_until(k.NEVER)
        course.feed.take_ended()
        t = course.feed.last_finish_s
        course.feed.add(replace_columns(requests, arrival_s=requests.arrival_s + t))
        course.marks.clear()
        course.mark(t)
    course.finish(span)
    return _collect(course, requests.classes)


def run_stream(
    fleet: Fleet, stream: Stream, take: Take, *, seed: int = 0, warmup_s: float = 0.0, compiled: bool | None = None
) -> Run:
    """Serve a stream of requests; each goes to ``take`` once, after it has ended or at the end of the run.

    Memory holds the requests of one block and those still in the system.
    """
    use = worth_compiling(int(stream.expected), len(fleet.replicas)) if compiled is None else compiled
    # Room for requests still to come is large in a fleet of many seats, so it is taken only if any come.
    second = next(stream.later, None)
    more = second is not None
    course = _begin(
        fleet, stream.first, stream.span_s, seed=seed, warmup_s=warmup_s, ticks=TICKS, compiled=use, more=more
    )
    for at, block in chain([] if second is None else [second], stream.later):
        course.serve_until(at)
        take(*course.feed.take_ended())
        course.feed.add(block)
    course.finish(stream.span_s)
    run = _collect(course, stream.first.classes)
    take(run.rq, run.rx)
    return run


def _begin(
    fleet: Fleet,
    first: Requests,
    span: float,
    *,
    seed: int,
    warmup_s: float,
    ticks: int,
    compiled: bool,
    more: bool = False,
) -> _Course:
    """Build the state with the first requests and start what changes the fleet."""
    ticks = ticks if span > 0 else 0
    outages = draw_outages(fleet.hosted, seed, span)
    state = build(fleet, first, compiled=compiled, ticks=ticks, tick_s=span / max(ticks, 1), outages=outages, more=more)
    if ticks:
        _push_first_tick(state)
    controls = Controls(fleet=fleet, state=state, env=simpy.Environment(), span_s=span)
    start_controls(controls, seed)
    controls.log += outage_log(outages, span, controls.running)
    return _Course(controls, Feed(fleet, state, first.follows.copy()), warmup_s)


def _run_to(env: simpy.Environment, controls: Controls, until: float) -> None:
    """Serve until a time, letting SimPy's events happen in between."""
    state = controls.state
    total = int(state.st[k.H_REQUESTS])
    while env.peek() <= until:
        if state.call("run_until", env.peek()) >= total and env.peek() > controls.span_s:
            return
        env.step()
    state.call("run_until", until)


def _push_first_tick(state: State) -> None:
    at, t = int(state.st[k.H_HEAP]), int(state.sx[k.G_HEAP])
    state.st[at], state.st[at + 1], state.st[at + 2] = k.EVENT_TICK, -1, 0
    state.sx[t] = state.sx[k.G_TICK_S]
    state.st[k.H_EVENTS], state.st[k.H_SEQ] = 1, 1


def _ints(state: State, at: int, rows: int, width: int) -> Ints:
    """Return a region of the state's integers as a table of its own."""
    return np.array(state.st[at : at + rows * width], dtype=np.int64).reshape(rows, width)


def _floats(state: State, at: int, rows: int, width: int) -> Floats:
    return np.array(state.sx[at : at + rows * width], dtype=np.float64).reshape(rows, width)


def _snapshot(state: State, t: float, replicas: int) -> Snapshot:
    x = _floats(state, int(state.sx[k.G_REPLICA]), replicas, k.X_SIZE)
    b = _ints(state, state.st[k.H_REPLICA], replicas, k.R_SIZE)
    serving = np.isin(b[:, k.R_KIND], (k.KIND_MIXED, k.KIND_DECODE))
    extra = np.where(serving, np.clip(t - x[:, k.X_START], 0.0, None), 0.0)
    busy = x[:, k.X_BUSY] + extra
    up = x[:, k.X_UP_S] + np.where(x[:, k.X_SINCE] >= 0, t - x[:, k.X_SINCE], 0.0)
    idle = np.clip(up - busy, 0.0, None) * x[:, k.X_IDLE_W]
    energy = float(np.sum(x[:, k.X_ENERGY] + extra * x[:, k.X_POWER] + idle))
    gaps = _ints(state, state.st[k.H_ITL], int(state.st[k.H_CLASSES]), BINS)
    return Snapshot(
        time_s=t,
        busy_s=busy,
        energy_j=energy,
        up_s=up,
        bound_s=x[:, k.X_BOUND : k.X_BOUND + 4].sum(axis=0),
        blocked_s=x[:, k.X_BLOCKED : k.X_BLOCKED + 7].sum(axis=0),
        tokens_in=int(b[:, k.R_TOKENS_IN].sum()),
        tokens_hit=int(b[:, k.R_TOKENS_HIT].sum()),
        tokens_out=int(b[:, k.R_TOKENS_OUT].sum()),
        gaps=gaps,
    )


def _last_finish(feed: Feed) -> float:
    return max(feed.last_finish_s, float(np.nanmax(feed.state.times()[:, k.F_FINISH], initial=0.0)))


def _collect(course: _Course, classes: tuple[ClassInfo, ...]) -> Run:
    controls, state, marks = course.controls, course.feed.state, course.marks
    st, sx, fleet = state.st, state.sx, controls.fleet
    held = state.rows()[:, k.Q_STATUS] != k.STATUS_FREE
    taken = int(st[k.H_TICK])
    ticks = _ints(state, st[k.H_TICK_OUT], taken, k.TICK_INTS)
    times = _floats(state, int(sx[k.G_TICK_OUT]), taken, 2)
    b = _ints(state, st[k.H_REPLICA], len(fleet.replicas), k.R_SIZE)
    peaks = b[:, [k.R_PREEMPTIONS, k.R_PEAK_BLOCKS, k.R_PEAK_RUNNING]].copy()
    return Run(
        fleet=fleet,
        classes=classes,
        rq=state.rows()[held],
        rx=state.times()[held],
        warm=marks[0],
        ended=marks[1] if len(marks) > 2 else marks[-1],
        final=marks[-1],
        ticks=ticks,
        tick_times=times,
        blocks_free=b[:, k.R_FREE].copy(),
        peaks=peaks,
        events=dict(controls.events),
        log=tuple(sorted(controls.log, key=lambda event: event.time_s)),
        peak_replicas=controls.peak_replicas,
        horizon_s=marks[-1].time_s,
    )

"""One run of the simulation: SimPy keeps the clock of faults and schedules, the kernel serves in between."""

import math
from dataclasses import dataclass, field

import numpy as np
import simpy

from envelope.serving.compiled import worth_compiling
from envelope.serving.control import draw_outages, outage_log, start_controls
from envelope.serving.fleet import Fleet
from envelope.serving.kernel import layout as k
from envelope.serving.requests import Floats, Ints, Requests
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
    requests: Requests
    rq: Ints
    rx: Floats
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


def run_once(
    fleet: Fleet,
    requests: Requests,
    *,
    seed: int = 0,
    warmup_s: float = 0.0,
    ticks: int = TICKS,
    compiled: bool | None = None,
) -> Run:
    """Serve ``requests`` on ``fleet`` and return what happened.

    ``compiled`` chooses the mode of the kernel (``None``: compiled if it is worth it); the result is the same.
    """
    use = worth_compiling(len(requests), len(fleet.replicas)) if compiled is None else compiled
    span = requests.span_s if math.isfinite(requests.span_s) else 0.0
    if not span:
        ticks = 0
    outages = draw_outages(fleet.hosted, seed, span)
    state = build(fleet, requests, compiled=use, ticks=ticks, tick_s=span / max(ticks, 1), outages=outages)
    if ticks:
        _push_first_tick(state)
    env = simpy.Environment()
    controls = Controls(fleet=fleet, state=state, env=env, span_s=span)
    start_controls(controls, seed)
    controls.log += outage_log(outages, span, controls.running)
    marks: list[Snapshot] = []
    if warmup_s > 0:
        _run_to(env, controls, warmup_s)
    marks.append(_snapshot(state, warmup_s, len(fleet.replicas)))
    if span > 0:
        _run_to(env, controls, span)
        marks.append(_snapshot(state, span, len(fleet.replicas)))
    _run_to(env, controls, span + DRAIN_S if controls.active else k.NEVER)
    now = _last_finish(state)
    marks.append(_snapshot(state, max(now, span), len(fleet.replicas)))
    return _collect(fleet, requests, state, marks, controls)


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


def _last_finish(state: State) -> float:
    finish = np.asarray(state.rx).reshape(-1, k.F_SIZE)[:, k.F_FINISH]
    return float(np.nanmax(finish)) if np.isfinite(finish).any() else 0.0


def _collect(fleet: Fleet, requests: Requests, state: State, marks: list[Snapshot], controls: Controls) -> Run:
    st, sx = state.st, state.sx
    rq = np.asarray(state.rq, dtype=np.int32).reshape(-1, k.Q_SIZE)
    rx = np.asarray(state.rx).reshape(-1, k.F_SIZE)
    never_begun = (rq[:, k.Q_STATUS] == k.STATUS_UNBORN) & requests.follows
    rq[never_begun, k.Q_STATUS] = k.STATUS_CUT
    taken = int(st[k.H_TICK])
    ticks = _ints(state, st[k.H_TICK_OUT], taken, k.TICK_INTS)
    times = _floats(state, int(sx[k.G_TICK_OUT]), taken, 2)
    b = _ints(state, st[k.H_REPLICA], len(fleet.replicas), k.R_SIZE)
    peaks = b[:, [k.R_PREEMPTIONS, k.R_PEAK_BLOCKS, k.R_PEAK_RUNNING]].copy()
    return Run(
        fleet=fleet,
        requests=requests,
        rq=rq,
        rx=rx,
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

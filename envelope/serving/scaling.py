"""Switching replicas on and off by the clock and by the load, as SimPy processes."""

from collections.abc import Generator
from typing import Any

import simpy

from envelope.serving.fleet import Autoscale, Schedule
from envelope.serving.kernel import layout as k
from envelope.serving.running import Controls
from envelope.units import SECONDS_PER_DAY

Process = Generator[simpy.Event, Any, None]

_LOOK_S = 5.0
"""Time between two looks at whether a drained replica has finished."""


def opening_hours(controls: Controls, schedule: Schedule) -> Process:
    """Drain the replicas at the start of each closed time and start them so that they serve at its end."""
    env = controls.env
    chosen = _beyond(controls, schedule.kept_replicas)
    for begin, end in schedule.closed_s:
        if begin > env.now:
            yield env.timeout(begin - env.now)
        at_start = env.now == 0.0
        for r in chosen:
            controls.down(r, "schedule", at_once=at_start)
            if not at_start:
                env.process(_switch_off(controls, r, "schedule"))
        controls.events["closings"] += 1
        controls.note("closed by the schedule")
        yield env.timeout(max(end - schedule.startup_s - env.now, 0.0))
        for r in chosen:
            if controls.reasons[r] == {"schedule"}:
                controls.state.call("set_power", r, float(env.now), 1)
        yield env.timeout(max(end - env.now, 0.0))
        for r in chosen:
            controls.up(r, "schedule")
        controls.note("open again")


def _beyond(controls: Controls, kept: int) -> list[int]:
    """Return the replicas that are not among the first ``kept`` of their pool."""
    chosen: list[int] = []
    for pool in controls.fleet.pools:
        own = [r for r in controls.units if controls.fleet.replicas[r] is pool]
        chosen += own[kept:]
    return chosen


def autoscale(controls: Controls, rule: Autoscale) -> Process:
    """Start and drain replicas of the first pool by the requests per running replica."""
    env = controls.env
    pool = [r for r in controls.units if controls.fleet.replicas[r] is controls.fleet.pools[0]]
    for r in pool[rule.min_replicas :]:
        controls.down(r, "scaled", at_once=True)
    controls.peak_replicas = rule.min_replicas
    controls.note("at the least")
    starting: set[int] = set()
    while True:
        yield env.timeout(rule.every_s)
        running = [r for r in pool if not controls.reasons.get(r)]
        load = _outstanding(controls, pool) / max(len(running) + len(starting), 1)
        hour = int((rule.clock_start_s + env.now) % SECONDS_PER_DAY // 3600)
        idle = [r for r in pool if controls.reasons.get(r) == {"scaled"} and r not in starting]
        if load > rule.scale_up_outstanding and idle and hour not in rule.off_hours:
            starting.add(idle[0])
            controls.state.call("set_power", idle[0], float(env.now), 1)
            env.process(_start_replica(controls, rule, idle[0], starting))
        low = load < rule.scale_down_outstanding or hour in rule.off_hours
        if low and len(running) > rule.min_replicas and not starting:
            controls.events["scale_downs"] += 1
            controls.down(running[-1], "scaled", at_once=False)
            controls.note("scaled down", running[-1])
            env.process(_switch_off(controls, running[-1], "scaled"))


def _start_replica(controls: Controls, rule: Autoscale, r: int, starting: set[int]) -> Process:
    controls.events["scale_ups"] += 1
    controls.note("scaling up", r)
    yield controls.env.timeout(rule.startup_s)
    starting.discard(r)
    controls.up(r, "scaled")
    controls.note("scaled up", r)


def _switch_off(controls: Controls, r: int, why: str) -> Process:
    """Switch a drained replica off as soon as its last request has ended."""
    at = int(controls.state.st[k.H_REPLICA]) + r * k.R_SIZE
    ranks = range(controls.fleet.replicas[r].ranks)
    while any(controls.state.st[at + n * k.R_SIZE + k.R_RUNNING] > 0 for n in ranks):
        yield controls.env.timeout(_LOOK_S)
        if why not in controls.reasons.get(r, ()):
            return
    controls.state.call("set_power", r, float(controls.env.now), 0)


def _outstanding(controls: Controls, pool: list[int]) -> int:
    at = int(controls.state.st[k.H_REPLICA])
    parked = int(controls.state.st[k.H_PARKED_HEAD] >= 0)
    ranks = [r + n for r in pool for n in range(controls.fleet.replicas[r].ranks)]
    return parked + sum(int(controls.state.st[at + r * k.R_SIZE + k.R_OUTSTANDING]) for r in ranks)

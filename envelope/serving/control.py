"""What changes the fleet while it serves, as SimPy processes: faults, power cuts, maintenance, autoscaling."""

import math
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy

from envelope.serving.fleet import Autoscale, Faults, Fleet, HostedConfig
from envelope.serving.kernel import layout as k
from envelope.serving.requests import Floats
from envelope.serving.state import State
from envelope.units import SECONDS_PER_DAY, SECONDS_PER_YEAR

Process = Generator[simpy.Event, Any, None]


@dataclass(slots=True)
class Controls:
    """The fleet while it runs: which replicas are wanted, broken or in maintenance."""

    fleet: Fleet
    state: State
    env: simpy.Environment
    span_s: float
    active: bool = False
    """Whether any process may change the fleet."""
    events: Counter[str] = field(default_factory=Counter)
    reasons: dict[int, set[str]] = field(default_factory=dict)
    """Why each replica is down; it is up when nothing is left."""
    peak_replicas: int = 0
    spares: int = 0

    @property
    def units(self) -> list[int]:
        """The replicas, each by the number of its first rank: what fails, starts and stops as a whole."""
        return sorted(set(self.fleet.leaders))

    def down(self, r: int, why: str, *, at_once: bool) -> None:
        """Take replica ``r`` out of service for the reason ``why``."""
        self.reasons.setdefault(r, set()).add(why)
        self.state.call("set_down", r, float(self.env.now), int(at_once))
        if at_once:
            self.state.call("set_power", r, float(self.env.now), 0)

    def up(self, r: int, why: str) -> None:
        """Remove a reason; the replica serves again when it was the last one."""
        held = self.reasons.setdefault(r, set())
        held.discard(why)
        if not held:
            self.state.call("set_up", r, float(self.env.now))
            self.state.call("set_power", r, float(self.env.now), 1)
            self._note_peak()

    def _note_peak(self) -> None:
        running = sum(not self.reasons.get(r) for r in self.units)
        self.peak_replicas = max(self.peak_replicas, running)


def draw_outages(hosted: HostedConfig | None, seed: int, span_s: float) -> Floats:
    """Return start and end of the hosted API's outages, so that its availability holds in the mean."""
    if hosted is None or hosted.availability_frac >= 1.0 or span_s <= 0:
        return np.zeros(0)
    rng = np.random.default_rng([seed, 11])
    mean_up = hosted.outage_mean_s * hosted.availability_frac / (1.0 - hosted.availability_frac)
    times: list[float] = []
    t = 0.0 if rng.random() < 1.0 - hosted.availability_frac else float(rng.exponential(mean_up))
    while t < 2.0 * span_s + SECONDS_PER_DAY:
        end = t + float(rng.exponential(hosted.outage_mean_s))
        times += [t, end]
        t = end + float(rng.exponential(mean_up))
    return np.array(times)


def start_controls(controls: Controls, seed: int) -> None:
    """Start the processes that the fleet asks for."""
    fleet, env = controls.fleet, controls.env
    units = controls.units
    n = len(units)
    controls.peak_replicas = n
    seeds = np.random.SeedSequence([seed, 13]).spawn(n + 1)
    if fleet.faults is not None and n:
        controls.spares = fleet.faults.spares
        for place, r in enumerate(units):
            _start_faults(controls, fleet.faults, r, np.random.default_rng(seeds[place]))
        if fleet.faults.power_cuts_per_year > 0:
            controls.active = True
            env.process(_power_cuts(controls, fleet.faults, np.random.default_rng(seeds[n])))
    if fleet.autoscale is not None and n:
        controls.active = True
        env.process(_autoscale(controls, fleet.autoscale))


def _start_faults(controls: Controls, faults: Faults, r: int, rng: np.random.Generator) -> None:
    devices = controls.fleet.replicas[r].devices_per_replica
    rate = devices / faults.device_mtbf_s + 1.0 / faults.node_mtbf_s
    if rate > 0:
        controls.active = True
        controls.env.process(_failures(controls, faults, r, rate, rng))
    if math.isfinite(faults.maintenance_every_s):
        controls.active = True
        controls.env.process(_maintenance(controls, faults, r))


def _failures(controls: Controls, faults: Faults, r: int, rate: float, rng: np.random.Generator) -> Process:
    """Fail, move to a spare or wait for the repair, load the model, and so on."""
    env = controls.env
    while True:
        yield env.timeout(float(rng.exponential(1.0 / rate)))
        repair = float(rng.exponential(faults.repair_s))
        controls.events["failures"] += 1
        controls.down(r, "failure", at_once=True)
        if controls.spares > 0:
            controls.spares -= 1
            controls.events["moves_to_spare"] += 1
            env.process(_spare_comes_back(controls, repair))
        else:
            yield env.timeout(repair)
        yield env.timeout(faults.reload_s)
        controls.up(r, "failure")


def _spare_comes_back(controls: Controls, repair_s: float) -> Process:
    yield controls.env.timeout(repair_s)
    controls.spares += 1


def _maintenance(controls: Controls, faults: Faults, r: int) -> Process:
    """Drain and stop one replica after the other at fixed intervals."""
    env, units = controls.env, controls.units
    yield env.timeout(faults.maintenance_every_s * (units.index(r) + 1) / len(units))
    while True:
        controls.events["maintenances"] += 1
        controls.down(r, "maintenance", at_once=False)
        yield env.timeout(faults.maintenance_s)
        controls.up(r, "maintenance")
        yield env.timeout(max(faults.maintenance_every_s - faults.maintenance_s, 1.0))


def _power_cuts(controls: Controls, faults: Faults, rng: np.random.Generator) -> Process:
    """Stop all replicas in the building; afterwards each loads its model."""
    env = controls.env
    inside = [r for r in controls.units if controls.fleet.replicas[r].inside]
    while True:
        yield env.timeout(float(rng.exponential(SECONDS_PER_YEAR / faults.power_cuts_per_year)))
        controls.events["power_cuts"] += 1
        for r in inside:
            controls.down(r, "power", at_once=True)
        yield env.timeout(float(rng.exponential(faults.power_cut_s)) + faults.reload_s)
        for r in inside:
            controls.up(r, "power")


def _autoscale(controls: Controls, rule: Autoscale) -> Process:
    """Start and drain replicas of the first pool by the requests per running replica."""
    env = controls.env
    pool = [r for r in controls.units if controls.fleet.replicas[r] is controls.fleet.pools[0]]
    for r in pool[rule.min_replicas :]:
        controls.down(r, "scaled", at_once=True)
    controls.peak_replicas = rule.min_replicas
    starting: set[int] = set()
    while True:
        yield env.timeout(rule.every_s)
        running = [r for r in pool if not controls.reasons.get(r)]
        load = _outstanding(controls, pool) / max(len(running) + len(starting), 1)
        hour = int((rule.clock_start_s + env.now) % SECONDS_PER_DAY // 3600)
        idle = [r for r in pool if "scaled" in controls.reasons.get(r, ()) and r not in starting]
        if load > rule.scale_up_outstanding and idle and hour not in rule.off_hours:
            starting.add(idle[0])
            controls.state.call("set_power", idle[0], float(env.now), 1)
            env.process(_start_replica(controls, rule, idle[0], starting))
        low = load < rule.scale_down_outstanding or hour in rule.off_hours
        if low and len(running) > rule.min_replicas and not starting:
            controls.events["scale_downs"] += 1
            controls.down(running[-1], "scaled", at_once=False)
            env.process(_switch_off(controls, running[-1]))


def _start_replica(controls: Controls, rule: Autoscale, r: int, starting: set[int]) -> Process:
    controls.events["scale_ups"] += 1
    yield controls.env.timeout(rule.startup_s)
    starting.discard(r)
    controls.up(r, "scaled")


def _switch_off(controls: Controls, r: int) -> Process:
    """Switch a drained replica off as soon as its last request has ended."""
    at = int(controls.state.st[k.H_REPLICA]) + r * k.R_SIZE
    ranks = range(controls.fleet.replicas[r].ranks)
    while any(controls.state.st[at + n * k.R_SIZE + k.R_RUNNING] > 0 for n in ranks):
        yield controls.env.timeout(5.0)
        if "scaled" not in controls.reasons.get(r, ()):
            return
    controls.state.call("set_power", r, float(controls.env.now), 0)


def _outstanding(controls: Controls, pool: list[int]) -> int:
    at = int(controls.state.st[k.H_REPLICA])
    parked = int(controls.state.st[k.H_PARKED_HEAD] >= 0)
    ranks = [r + n for r in pool for n in range(controls.fleet.replicas[r].ranks)]
    return parked + sum(int(controls.state.st[at + r * k.R_SIZE + k.R_OUTSTANDING]) for r in ranks)

"""Faults, power cuts and maintenance of the fleet, as SimPy processes."""

import math
from collections.abc import Generator
from typing import Any

import numpy as np
import simpy

from envelope.serving.fleet import Faults, Strike
from envelope.serving.running import Controls
from envelope.units import SECONDS_PER_YEAR

Process = Generator[simpy.Event, Any, None]


def start_faults(controls: Controls, faults: Faults, seed: np.random.SeedSequence) -> None:
    """Start the processes that break and mend the fleet; each replica has a random stream of its own."""
    units, env = controls.units, controls.env
    seeds = seed.spawn(len(units) + 1)
    controls.spares = faults.spares
    for place, r in enumerate(units):
        devices = controls.fleet.replicas[r].devices_per_replica
        rate = devices / faults.device_mtbf_s + 1.0 / faults.node_mtbf_s
        if rate > 0:
            controls.active = True
            env.process(_failures(controls, faults, r, rate, np.random.default_rng(seeds[place])))
        if faults.maintenance_at_s is None and math.isfinite(faults.maintenance_every_s):
            controls.active = True
            env.process(_maintenance(controls, faults, r))
    if faults.power_cuts_per_year > 0:
        controls.active = True
        env.process(_power_cuts(controls, faults, np.random.default_rng(seeds[len(units)])))
    if faults.maintenance_at_s:
        controls.active = True
        env.process(_rounds(controls, faults))
    for strike in faults.strikes:
        controls.active = True
        env.process(_strike(controls, faults, strike))


def _failures(controls: Controls, faults: Faults, r: int, rate: float, rng: np.random.Generator) -> Process:
    """Fail, restart, move to a spare or wait for the repair, load the model, and so on."""
    while True:
        yield controls.env.timeout(float(rng.exponential(1.0 / rate)))
        repair = float(rng.exponential(faults.repair_s))
        soft = bool(rng.random() < faults.restart_frac)
        yield from _outage(controls, faults, r, 0.0 if soft else repair)


def _strike(controls: Controls, faults: Faults, strike: Strike) -> Process:
    yield controls.env.timeout(strike.at_s)
    serving = [r for r in controls.units if not controls.reasons.get(r)]
    for r in serving[: strike.replicas]:
        controls.env.process(_outage(controls, faults, r, strike.repair_s))


def _outage(controls: Controls, faults: Faults, r: int, repair_s: float) -> Process:
    """Take one replica down until it has been repaired or moved to a spare, and has loaded its model."""
    controls.events["failures"] += 1
    why = f"failure {controls.events['failures']}"
    controls.down(r, why, at_once=True)
    controls.note("failure", r)
    if repair_s > 0 and controls.spares > 0:
        controls.spares -= 1
        controls.events["moves_to_spare"] += 1
        controls.note("move to a spare", r)
        controls.env.process(_spare_comes_back(controls, repair_s))
    elif repair_s > 0:
        yield controls.env.timeout(repair_s)
    yield controls.env.timeout(faults.reload_s)
    controls.up(r, why)
    controls.note("back", r)


def _spare_comes_back(controls: Controls, repair_s: float) -> Process:
    yield controls.env.timeout(repair_s)
    controls.spares += 1


def _maintenance(controls: Controls, faults: Faults, r: int) -> Process:
    """Drain and stop one replica after the other at fixed intervals."""
    env, units = controls.env, controls.units
    yield env.timeout(faults.maintenance_every_s * (units.index(r) + 1) / len(units))
    while True:
        yield from _maintain(controls, faults, r)
        yield env.timeout(max(faults.maintenance_every_s - faults.maintenance_s, 1.0))


def _rounds(controls: Controls, faults: Faults) -> Process:
    """Maintain one replica after the other from each given time on."""
    for at in faults.maintenance_at_s or ():
        if at > controls.env.now:
            yield controls.env.timeout(at - controls.env.now)
        for r in controls.units:
            yield from _maintain(controls, faults, r)


def _maintain(controls: Controls, faults: Faults, r: int) -> Process:
    controls.events["maintenances"] += 1
    controls.down(r, "maintenance", at_once=False)
    controls.note("maintenance", r)
    yield controls.env.timeout(faults.maintenance_s)
    controls.up(r, "maintenance")
    controls.note("maintenance over", r)


def _power_cuts(controls: Controls, faults: Faults, rng: np.random.Generator) -> Process:
    """Stop all replicas in the building; afterwards each loads its model."""
    env = controls.env
    inside = [r for r in controls.units if controls.fleet.replicas[r].inside]
    while True:
        yield env.timeout(float(rng.exponential(SECONDS_PER_YEAR / faults.power_cuts_per_year)))
        controls.events["power_cuts"] += 1
        for r in inside:
            controls.down(r, "power", at_once=True)
        controls.note("power cut")
        yield env.timeout(float(rng.exponential(faults.power_cut_s)) + faults.reload_s)
        for r in inside:
            controls.up(r, "power")
        controls.note("power back, models loaded")

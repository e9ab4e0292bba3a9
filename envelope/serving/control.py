"""What changes the fleet while it serves: starts the SimPy processes of faults, schedules and autoscaling."""

import numpy as np

from envelope.serving.faults import start_faults
from envelope.serving.fleet import HostedConfig
from envelope.serving.requests import Floats
from envelope.serving.result import FleetEvent
from envelope.serving.running import Controls
from envelope.serving.scaling import autoscale, opening_hours
from envelope.units import SECONDS_PER_DAY


def draw_outages(hosted: HostedConfig | None, seed: int, span_s: float) -> Floats:
    """Return start and end of the hosted API's outages: those that are given, or drawn so that its availability holds.

    Given outages replace drawn ones, so that a what-if shows their effect alone.
    """
    if hosted is None or span_s <= 0:
        return np.zeros(0)
    if hosted.outages_s:
        return np.array(sorted(hosted.outages_s), dtype=np.float64).ravel()
    if hosted.availability_frac >= 1.0:
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
    controls.peak_replicas = len(controls.units)
    if not controls.units:
        return
    if fleet.faults is not None:
        start_faults(controls, fleet.faults, np.random.SeedSequence([seed, 13]))
    if fleet.schedule is not None:
        controls.active = True
        env.process(opening_hours(controls, fleet.schedule))
    if fleet.autoscale is not None:
        controls.active = True
        env.process(autoscale(controls, fleet.autoscale))


def outage_log(outages: Floats, span_s: float, running: int) -> list[FleetEvent]:
    """Return the hosted API's outages that touch the simulated time as events."""
    kinds = ("hosted API out", "hosted API back")
    events = [
        FleetEvent(time_s=max(float(t), 0.0), kind=kind, replica=None, running=running)
        for pair in outages.reshape(-1, 2)
        if pair[0] < span_s
        for t, kind in zip(pair, kinds, strict=True)
    ]
    return [event for event in events if event.time_s <= span_s]

"""Electrical power of the devices during a step, from how busy compute and memory are."""

from dataclasses import dataclass

import numpy as np

from envelope.perf.roofline import Floats
from envelope.spec.hardware import HardwareProfile


@dataclass(frozen=True, slots=True)
class PowerShares:
    """Share of the range between idle and limit that a busy device draws."""

    active_frac: float
    """Any kernel running: clocks up, schedulers and caches busy."""
    memory_frac: float
    """Added at full memory bandwidth."""
    compute_frac: float
    """Added at full matrix throughput."""


SHARES = {
    "datacenter_gpu": PowerShares(0.18, 0.55, 0.75),
    "workstation_gpu": PowerShares(0.30, 0.60, 0.60),
    "consumer_gpu": PowerShares(0.30, 0.60, 0.60),
    "unified": PowerShares(0.30, 0.50, 0.60),
    "cpu": PowerShares(0.55, 0.25, 0.30),
    "edge": PowerShares(0.40, 0.40, 0.40),
}
"""By device class; fitted on published GPU watts (ML.ENERGY) for datacenter GPUs, judged for the others."""


def device_w(hardware: HardwareProfile, compute_use: Floats, memory_use: Floats, idle_frac: Floats) -> Floats:
    """Return watts of one device: idle + (limit − idle) · min(1, active·(1 − idle share) + memory + compute).

    ``compute_use`` and ``memory_use`` are FLOPs and bytes per second over the peaks (0–1), ``idle_frac`` the
    share of the step in which the device waits for the engine or the links.
    """
    s = SHARES[hardware.device_class]
    load = s.active_frac * (1.0 - idle_frac) + s.memory_frac * memory_use + s.compute_frac * compute_use
    power = hardware.power
    return power.idle_w + (power.max_w - power.idle_w) * np.clip(load, 0.0, 1.0)

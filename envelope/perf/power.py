"""Electrical power of the devices during a step, from how busy compute and memory are."""

import numpy as np

from envelope.perf.efficiency import Chosen
from envelope.perf.roofline import Floats
from envelope.spec.hardware import HardwareProfile


def device_w(
    hardware: HardwareProfile, curve: Chosen, compute_use: Floats, memory_use: Floats, waiting: Floats
) -> Floats:
    r"""Return watts of one device during a step.

    ``P = idle + (limit − idle)·min(1, active·(1 − w·(1 − keep)) + memory·b + compute·c^q)``: ``c`` and ``b`` are
    FLOPs and bytes per second over the datasheet peaks (0–1), ``w`` the share of the step in which the device waits
    for the engine or the links and still draws ``keep`` of its active power. Constants by family; those of
    datacenter GPUs are fitted to GPU watts of the ML.ENERGY leaderboard v3 (H100 and B200, vLLM).
    """
    active = curve["active"] * (1.0 - waiting * (1.0 - curve["keep"]))
    load = active + curve["memory"] * memory_use + curve["compute"] * compute_use ** curve["exponent"]
    power = hardware.power
    watts: Floats = power.idle_w + (power.max_w - power.idle_w) * np.clip(load, 0.0, 1.0)
    return watts

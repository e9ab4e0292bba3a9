"""Measuring this machine in one call."""

import tempfile
from pathlib import Path

import numpy as np

from envelope.errors import InputError, Problem
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import Reporter

_STORAGE_MIB = {True: 64, False: 512}
"""File that is written and read, in the quick probe and in the full one."""


def probe(
    *,
    quick: bool = False,
    patience_s: float | None = None,
    storage_dir: str | Path | None = None,
    name: str | None = None,
    progress: Reporter | None = None,
) -> HardwareProfile:
    """Return the profile of this machine's processor, memory and storage, measured now; nothing is written.

    Takes under four minutes, ``quick`` about half a minute. On a busy machine it waits up to ``patience_s`` for quiet.
    A probe that Ctrl-C interrupts returns what it has; ``profile.conditions.complete`` is false then. Save it with
    ``envelope.sensors.save.save_record``; ``envelope probe`` does, and measures GPUs too.

    Raises ``InputError`` for a storage folder that does not exist, and ``MissingExtraError`` without ONNX Runtime.
    """
    from envelope.sensors.cpu import FULL, QUICK, patient, probe_cpu
    from envelope.sensors.cpu_profile import cpu_profile, default_id
    from envelope.sensors.power import assumed_power, read_power
    from envelope.sensors.storage import storage_time

    folder = Path(storage_dir or tempfile.gettempdir())
    if not folder.is_dir():
        raise InputError(Problem("probe", "storage folder", str(folder), "is not a folder"))
    plan = QUICK if quick else FULL
    tell = progress or (lambda _share, _what: None)
    found = probe_cpu(patient(plan, patience_s) if patience_s else plan, lambda share, what: tell(0.95 * share, what))
    tell(0.96, "storage and power")
    storage = storage_time(folder, _STORAGE_MIB[quick] << 20) if found.complete else None
    power = read_power(_busy) or assumed_power(found.limit.cores)
    return cpu_profile(found, name or default_id(found), power=power, storage=storage)


def _busy() -> None:
    square = np.ones((512, 512), dtype=np.float32)
    square @ square

"""Sequential read of a large file, cold and warm: how fast weights load when a replica starts or swaps models.

Works without privileges: the system is asked to forget the file's clean pages (``posix_fadvise``). A rented
machine may still answer from its host's cache; the number is then what a load on that machine would see too.
"""

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from envelope.sensors.cores import memory_available_bytes
from envelope.sensors.timing import Sample, of_times

_CHUNK = 8 << 20


@dataclass(frozen=True, slots=True)
class StorageTime:
    """Reading one file from end to end."""

    read_bytes: float
    cold: Sample | None
    """``None`` where the system cannot be made to forget a file."""
    warm: Sample
    note: str = ""


def storage_time(folder: Path, wanted_bytes: int, repeats: int = 3) -> StorageTime | str:
    """Return the read times of a temporary file in ``folder``, or one line saying why it was not measured.

    The file takes at most a tenth of the free memory and of the free disk.
    """
    try:
        return _timed_file(folder, wanted_bytes, repeats)
    except OSError as error:
        return f"storage not measured: {folder} cannot be written ({error.strerror})"


def _timed_file(folder: Path, wanted_bytes: int, repeats: int) -> StorageTime | str:
    free = shutil.disk_usage(folder).free
    size = int(min(wanted_bytes, free / 10, memory_available_bytes() / 10)) // _CHUNK * _CHUNK
    if size < _CHUNK:
        return f"storage not measured: too little free space or memory for a file in {folder}"
    block = np.random.default_rng(0).bytes(_CHUNK)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="envelope-probe-") as file:
        for _ in range(size // _CHUNK):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        path = Path(file.name)
        forgets = hasattr(os, "posix_fadvise")
        cold = of_times([_read_cold(path) for _ in range(repeats)]) if forgets else None
        _read(path)
        warm = of_times([_read(path) for _ in range(repeats)])
    note = "" if forgets else "this system cannot forget a cached file: only warm reads were measured"
    if cold is not None and cold.best_s < 1.3 * warm.best_s:
        note = "cold reads are as fast as warm ones: the folder lies in memory, or a host caches it"
    return StorageTime(float(size), cold, warm, note)


def _read_cold(path: Path) -> float:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    return _read(path)


def _read(path: Path) -> float:
    buffer = bytearray(_CHUNK)
    start = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.perf_counter() - start

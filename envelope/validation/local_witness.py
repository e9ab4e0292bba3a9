"""A witness of the memory: how fast it reads now, against the profile's measurement of the same read."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from envelope.perf import cpu_probe
from envelope.sensors.bandwidth import read_rate
from envelope.sensors.cores import memory_available_bytes
from envelope.spec.hardware import HardwareProfile

_MOST_BYTES = 4e9
_REST_S = 0.3
_CACHES = 4.0
"""Times the last-level cache, so that the read comes from memory."""


class MemoryWitness:
    """Reads one array with all threads and compares the rate with the profile's table."""

    def __init__(self, profile: HardwareProfile, threads: int) -> None:
        table = cpu_probe.find(profile.efficiency, cpu_probe.BANDWIDTH, "any")
        self._expected = table.constants.get(f"read_{threads}") if table else None
        wanted = min(_MOST_BYTES, max(_CACHES * (profile.cache_bytes or 0.0), 64e6))
        size = min(wanted, memory_available_bytes() / 10)
        self._array = np.ones(int(size / 4) if self._expected else 1, dtype=np.float32)
        self._threads = threads

    def share(self) -> float | None:
        """Return the read bandwidth now over that of the profile, ``None`` if the profile has none."""
        if not self._expected:
            return None
        # Threads of the runtime still spin for a while after a run, and would take the processor from the read.
        time.sleep(_REST_S)
        with ThreadPoolExecutor(self._threads) as pool:
            return read_rate(pool, self._threads, self._array) / self._expected

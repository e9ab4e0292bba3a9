"""Repeated timing: the best of several runs, and how far the others lay from it.

On a shared machine noise only ever adds time, so the best run is the estimate of the undisturbed time (McCalpin's
STREAM reports the same way) and the spread tells how disturbed the others were.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from envelope.probe.conditions import cpu_clock, noise_between

QUIET_FRAC = 0.05
"""Share of the machine's processor time that others may take before a series of runs is repeated."""

_LOOK_S = 0.5
"""Window over which the processor must be quiet; its counters step by 10 ms."""
_PAUSE_S = 0.2
"""First pause before a disturbed series is repeated."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much time to spend on one quantity."""

    repeats: int = 5
    budget_s: float = 0.6
    """Time after which no further repetition starts; at least two are made."""
    retries: int = 3
    """How often a disturbed series is repeated."""
    wait_s: float = 0.0
    """How long to wait for a quiet moment before each repetition, beyond a short pause."""
    until_s: float = math.inf
    """Reading of the performance counter after which nothing is repeated any more."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One quantity timed several times."""

    best_s: float
    median_s: float
    repeats: int
    noise_frac: float = 0.0
    """Share of processor time that other processes and the hypervisor took during the quietest series."""

    @property
    def spread_frac(self) -> float:
        """(median − best) / best."""
        return (self.median_s - self.best_s) / self.best_s if self.best_s > 0 else 0.0


def of_times(times_s: list[float], noise_frac: float = 0.0) -> Sample:
    """Return the sample of a list of durations."""
    return Sample(min(times_s), statistics.median(times_s), len(times_s), noise_frac)


def timed(
    run: Callable[[], object],
    effort: Effort,
    *,
    warm_up: int = 1,
    before: Callable[[], object] | None = None,
) -> Sample:
    """Return the times of ``run``, after ``warm_up`` untimed runs.

    A series during which others took over 5 % of the processor time is repeated, after a pause that grows, and the
    best of all kept. ``before`` runs untimed ahead of each repetition.
    """
    for _ in range(warm_up):
        run()
    times: list[float] = []
    quietest = 1.0
    for attempt in range(effort.retries + 1):
        clock = cpu_clock()
        times += _series(run, effort, before)
        noise = noise_between(clock, cpu_clock())
        quietest = min(quietest, noise.foreign_frac + noise.steal_frac if noise else 0.0)
        if quietest <= QUIET_FRAC:
            break
        left = effort.until_s - time.perf_counter()
        if attempt == effort.retries or left <= 0:
            break
        time.sleep(min(_PAUSE_S * 2**attempt, left))
        wait_for_quiet(min(effort.wait_s, left))
    return of_times(times, quietest)


def wait_for_quiet(limit_s: float) -> bool:
    """Wait until others leave the processor alone for a moment, at most ``limit_s``; return whether they did."""
    end = time.perf_counter() + limit_s
    while time.perf_counter() < end:
        clock = cpu_clock()
        time.sleep(_LOOK_S)
        noise = noise_between(clock, cpu_clock())
        if noise is None or noise.foreign_frac + noise.steal_frac <= QUIET_FRAC:
            return True
    return False


def _series(run: Callable[[], object], effort: Effort, before: Callable[[], object] | None) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + effort.budget_s
    while len(times) < 2 or (len(times) < effort.repeats and time.perf_counter() < end):
        if before is not None:
            before()
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def median_spread(samples: Iterable[Sample]) -> float:
    """Return the median spread of several samples (0 for none)."""
    return statistics.median([s.spread_frac for s in samples] or [0.0])

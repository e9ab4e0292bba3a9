"""Repeated timing: the median of runs that nobody on this machine disturbed, in turns that lie apart.

Other processes show in the processor's counters; series that they disturb are repeated and left out. Neighbours of a
virtual machine on the same host do not show there: they make it faster and slower for seconds at a time. A median of
turns some seconds apart is what such a machine typically gives, for a kernel of a millisecond as for a prompt of half a
minute, where the best of many short runs would be a lucky moment. The best is kept for ceilings that nothing may beat.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from envelope.sensors.conditions import cpu_clock, noise_between

QUIET_FRAC = 0.05
"""Share of the machine's processor time that others may take before a series of runs is repeated."""

_LOOK_S = 0.5
"""Window over which the processor must be quiet; its counters step by 10 ms."""
TURNS = 2
"""Times that a quantity is visited, others in between."""
LONG_S = 4.0
"""A run of this length averages over the noise by itself: it is not repeated."""
_PAUSE_S = 0.2
"""First pause before a disturbed series is repeated."""
_NOTICEABLE_S = 0.05
"""Length from which a run needs no warming up in its later turns."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much time to spend on one quantity."""

    repeats: int = 5
    budget_s: float = 0.6
    """Time after which no further repetition starts."""
    least: int = 2
    """Repetitions made in any case, unless one takes ``LONG_S``."""
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
    """Shortest of all runs: a ceiling."""
    median_s: float
    """Median of the undisturbed runs: what the quantity typically takes."""
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
    quietest kept. ``before`` runs untimed ahead of each repetition.
    """
    for _ in range(warm_up):
        run()
    series: list[Sample] = []
    for attempt in range(effort.retries + 1):
        clock = cpu_clock()
        times = _series(run, effort, before)
        noise = noise_between(clock, cpu_clock())
        series.append(of_times(times, noise.foreign_frac + noise.steal_frac if noise else 0.0))
        if series[-1].noise_frac <= QUIET_FRAC:
            break
        left = effort.until_s - time.perf_counter()
        if attempt == effort.retries or left <= 0:
            break
        time.sleep(min(_PAUSE_S * 2**attempt, left))
        wait_for_quiet(min(effort.wait_s, left))
    return joined(series)


def timed_in_turns(runs: Sequence[Callable[[], object]], effort: Effort) -> list[Sample]:
    """Return the times of several runs that take turns, so that each is timed at moments some time apart."""
    part = of_one_turn(effort)
    found: list[list[Sample]] = [[] for _ in runs]
    for _ in range(TURNS):
        for run, samples in zip(runs, found, strict=True):
            # A short run needs awake threads and warm buffers; a long one hardly notices.
            short = not samples or samples[0].best_s < _NOTICEABLE_S
            samples.append(timed(run, part, warm_up=int(short)))
    return [joined(samples) for samples in found]


def of_one_turn(effort: Effort) -> Effort:
    """Return the share of an effort that one of ``TURNS`` turns takes."""
    return replace(effort, repeats=math.ceil(effort.repeats / TURNS), budget_s=effort.budget_s / TURNS, least=1)


def joined(samples: Sequence[Sample]) -> Sample:
    """Return several samples of one quantity as one: the mean of the medians of those that others left alone.

    Without any such the quietest counts alone.
    """
    quiet = [s for s in samples if s.noise_frac <= QUIET_FRAC] or [min(samples, key=lambda s: s.noise_frac)]
    return Sample(
        best_s=min(s.best_s for s in samples),
        median_s=statistics.fmean(s.median_s for s in quiet),
        repeats=sum(s.repeats for s in samples),
        noise_frac=max(s.noise_frac for s in quiet),
    )


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
    while len(times) < effort.least or (len(times) < effort.repeats and time.perf_counter() < end):
        if times and times[0] >= LONG_S:
            break
        if before is not None:
            before()
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def median_spread(samples: Iterable[Sample]) -> float:
    """Return the median spread of several samples (0 for none)."""
    return statistics.median([s.spread_frac for s in samples] or [0.0])

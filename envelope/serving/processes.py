"""Arrival processes: times at which requests or sessions start."""

import math

import numpy as np

from envelope.serving.requests import Floats
from envelope.spec.workload import Arrivals


def start_times(
    arrivals: Arrivals, rate_per_s: float, start_s: float, end_s: float, rng: np.random.Generator, weights: Floats
) -> Floats:
    """Return sorted times in [start, end) of a process with mean rate ``rate_per_s`` times the curve.

    ``weights`` are those of the hours from time 0 on, repeated as often as needed. The process runs in
    operational time (unit rate) and is mapped to the clock through the inverse of the cumulative rate, so
    that burstiness and curve do not disturb each other.
    """
    if rate_per_s <= 0 or end_s <= start_s:
        return np.zeros(0)
    clock, total = _cumulative_rate(arrivals, rate_per_s, start_s, end_s, rng, weights)
    if arrivals.kind == "on_off":
        unit = _on_off(arrivals, rate_per_s, float(total[-1]), rng)
    else:
        unit = _renewal(arrivals, float(total[-1]), rng)
    times: Floats = np.interp(unit, total, clock)
    return times


def _cumulative_rate(
    arrivals: Arrivals, rate: float, start: float, end: float, rng: np.random.Generator, weights: Floats
) -> tuple[Floats, Floats]:
    """Return clock times and the expected number of arrivals until each."""
    edges = np.unique(np.concatenate([[start, end], np.arange(math.ceil(start / 600), end / 600) * 600.0]))
    middle = (edges[:-1] + edges[1:]) / 2
    level = rate * weights[(middle // 3600).astype(np.int64) % len(weights)]
    if arrivals.rate_noise_cv > 0:
        shape = 1.0 / arrivals.rate_noise_cv**2
        level = level * rng.gamma(shape, 1.0 / shape, len(level))
    return edges, np.concatenate([[0.0], np.cumsum(level * np.diff(edges))])


def _renewal(arrivals: Arrivals, total: float, rng: np.random.Generator) -> Floats:
    """Return the times of a stationary-enough renewal process of unit rate up to ``total``."""
    parts: list[Floats] = []
    now = 0.0
    chunk = int(total + 4.0 * arrivals.cv * math.sqrt(total + 1.0)) + 16
    while now < total:
        times = now + np.cumsum(_gaps(arrivals, chunk, rng))
        parts.append(times)
        now = float(times[-1])
    unit = np.concatenate(parts) if parts else np.zeros(0)
    return unit[unit < total]


def _gaps(arrivals: Arrivals, n: int, rng: np.random.Generator) -> Floats:
    """Return ``n`` gaps with mean 1 and the process's coefficient of variation."""
    if arrivals.kind == "constant":
        return np.ones(n)
    if arrivals.kind == "poisson" or math.isclose(arrivals.cv, 1.0):
        return rng.exponential(1.0, n)
    if arrivals.kind == "gamma":
        shape = 1.0 / arrivals.cv**2
        return rng.gamma(shape, 1.0 / shape, n)
    shape = weibull_shape(arrivals.cv)
    return rng.weibull(shape, n) / math.gamma(1.0 + 1.0 / shape)


def weibull_shape(cv: float) -> float:
    """Return the Weibull shape with a given coefficient of variation: ``Γ(1+2/k)/Γ(1+1/k)² = 1 + cv²``.

    >>> round(weibull_shape(1.0), 6)
    1.0
    """
    low, high = 0.05, 100.0
    for _ in range(200):
        k = math.sqrt(low * high)
        log_ratio = math.lgamma(1 + 2 / k) - 2 * math.lgamma(1 + 1 / k)
        if log_ratio > math.log1p(cv * cv):
            low = k
        else:
            high = k
    return math.sqrt(low * high)


def _on_off(arrivals: Arrivals, rate: float, total: float, rng: np.random.Generator) -> Floats:
    """Return Poisson arrivals in exponential bursts with exponential pauses, in operational time."""
    cycle = arrivals.on_s + arrivals.off_s
    on, off = arrivals.on_s * rate, arrivals.off_s * rate
    n = int(total / (cycle * rate) * 2) + 16
    parts: list[Floats] = []
    now = 0.0 if rng.random() < arrivals.on_s / cycle else float(rng.exponential(off))
    while now < total:
        lengths, pauses = rng.exponential(on, n), rng.exponential(off, n)
        begins = now + np.concatenate([[0.0], np.cumsum(lengths + pauses)[:-1]])
        counts = rng.poisson(lengths * cycle / arrivals.on_s)
        within = np.repeat(begins, counts) + np.repeat(lengths, counts) * rng.random(int(counts.sum()))
        parts.append(within)
        now = float(begins[-1] + lengths[-1] + pauses[-1])
    unit = np.sort(np.concatenate(parts)) if parts else np.zeros(0)
    return unit[unit < total]

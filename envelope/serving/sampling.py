"""Drawing from the distributions of data files."""

from collections.abc import Callable

import numpy as np

from envelope.serving.requests import Floats, Ints
from envelope.spec.lengths import (
    Distribution,
    Empirical,
    Exponential,
    Fixed,
    LognormalMixture,
    Quantiles,
    Uniform,
)  # fmt: skip


def draw(d: Distribution, rng: np.random.Generator, n: int) -> Floats:
    """Return ``n`` independent values, moved to the distribution's limits where they lie outside."""
    values = _inverse(d, rng, n)
    limited = np.clip(values, d.min, np.inf if d.max is None else d.max)
    return np.asarray(limited, dtype=np.float64)


def tokens_at(d: Distribution, u: Floats, least: int = 1) -> Ints:
    """Return the token counts at the probabilities ``u`` of a distribution, at least ``least``."""
    values = np.clip(_quantile(d, u), d.min, np.inf if d.max is None else d.max)
    return np.maximum(np.rint(values), least).astype(np.int64)


def _quantile(d: Distribution, u: Floats) -> Floats:
    match d:
        case Fixed():
            return np.full(len(u), float(d.value))
        case Uniform():
            return d.low + (d.high - d.low) * u
        case Exponential():
            return np.asarray(-d.mean * np.log1p(-u))
        case Quantiles():
            points = np.array(d.points)
            return np.asarray(np.interp(u, points[:, 0], points[:, 1]))
        case LognormalMixture():
            return _mixture_quantile(d, u)
        case Empirical():
            weights = np.array(d.weights or (1.0,) * len(d.values))
            order = np.argsort(d.values, kind="stable")
            edges = np.cumsum(weights[order]) / weights.sum()
            at = np.minimum(np.searchsorted(edges, u, side="right"), len(order) - 1)
            return np.array(d.values, dtype=np.float64)[order][at]


def _mixture_quantile(d: LognormalMixture, u: Floats) -> Floats:
    """Invert the mixture's distribution function on a grid of 4,000 points."""
    from scipy.special import ndtr

    mu, sigma, weights = np.array(d.mu), np.array(d.sigma), np.array(d.weights) / sum(d.weights)
    grid = np.linspace(float((mu - 6 * sigma).min()), float((mu + 6 * sigma).max()), 4000)
    upto = (weights * ndtr((grid[:, None] - mu) / sigma)).sum(axis=1)
    return np.asarray(np.exp(np.interp(u, upto, grid)))


def draw_tokens(d: Distribution, rng: np.random.Generator, n: int, least: int = 1) -> Ints:
    """Return ``n`` independent token counts of at least ``least``."""
    return np.maximum(np.rint(draw(d, rng, n)), least).astype(np.int64)


def draw_pair(
    one: Distribution, other: Distribution, correlation: float, rng_of: Callable[[str], np.random.Generator], n: int
) -> tuple[Ints, Ints]:
    """Return ``n`` pairs of counts whose normal scores are correlated, from the streams ``input`` and ``output``."""
    if correlation == 0.0:
        return draw_tokens(one, rng_of("input"), n), draw_tokens(other, rng_of("output"), n)
    from scipy.special import ndtr

    first, own = rng_of("input").standard_normal(n), rng_of("output").standard_normal(n)
    second = correlation * first + np.sqrt(1.0 - correlation**2) * own
    return tokens_at(one, ndtr(first)), tokens_at(other, ndtr(second))


def _inverse(d: Distribution, rng: np.random.Generator, n: int) -> Floats:
    match d:
        case Fixed():
            return np.full(n, float(d.value))
        case Uniform():
            return d.low + (d.high - d.low) * rng.random(n)
        case Exponential():
            return rng.exponential(d.mean, n)
        case Quantiles():
            points = np.array(d.points)
            return np.asarray(np.interp(rng.random(n), points[:, 0], points[:, 1]))
        case LognormalMixture():
            return _mixture(d, rng, n)
        case Empirical():
            weights = np.array(d.weights or (1.0,) * len(d.values))
            edges = np.cumsum(weights) / weights.sum()
            at = np.searchsorted(edges, rng.random(n), side="right")
            return np.array(d.values, dtype=np.float64)[np.minimum(at, len(d.values) - 1)]


def _mixture(d: LognormalMixture, rng: np.random.Generator, n: int) -> Floats:
    edges = np.cumsum(d.weights) / sum(d.weights)
    part = np.minimum(np.searchsorted(edges, rng.random(n), side="right"), len(d.mu) - 1)
    mu, sigma = np.array(d.mu)[part], np.array(d.sigma)[part]
    values: Floats = np.exp(mu + sigma * rng.standard_normal(n))
    return values

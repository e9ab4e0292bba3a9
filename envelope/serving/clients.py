"""Clients of a shared service: who sends each request, and what kind of lengths that client has."""

from collections.abc import Callable

import numpy as np

from envelope.serving.processes import start_times
from envelope.serving.requests import Floats, Ints
from envelope.spec.workload import Arrivals, Clients

Streams = Callable[[str], np.random.Generator]


def client_starts(
    clients: Clients,
    arrivals: Arrivals,
    rate: float,
    begin_s: float,
    end_s: float,
    rng_of: Streams,
    weights: Floats,
) -> tuple[Floats, Ints]:
    """Return arrival times and the client of each request; clients' shares fall like a power of their rank."""
    shares = 1.0 / np.arange(1, clients.count + 1) ** clients.zipf
    shares /= shares.sum()
    if not clients.own_arrivals:
        times = start_times(arrivals, rate, begin_s, end_s, rng_of("arrivals"), weights)
        who = np.searchsorted(np.cumsum(shares), rng_of("clients").random(len(times)), side="right")
        return times, np.minimum(who, clients.count - 1).astype(np.int64)
    parts = [
        start_times(arrivals, rate * share, begin_s, end_s, rng_of(f"arrivals of client {i}"), weights)
        for i, share in enumerate(shares)
    ]
    times = np.concatenate(parts)
    who = np.repeat(np.arange(clients.count), [len(p) for p in parts])
    order = np.argsort(times, kind="stable")
    return times[order], who[order]


def client_scores(clients: Clients, who: Ints, rng_of: Streams) -> tuple[Floats, Floats]:
    """Return the probabilities at which prompt and answer lengths are read off their distributions.

    Each is uniform over all clients, so that the distributions stay what they are; a client's own part of the normal
    score makes its requests alike (a Gaussian copula with one factor per client).
    """
    from scipy.special import ndtr

    between, within = np.sqrt(clients.length_variance_frac), np.sqrt(1.0 - clients.length_variance_frac)
    own = rng_of("client scores").standard_normal((2, clients.count))
    r = clients.in_out_correlation_frac
    own[1] = r * own[0] + np.sqrt(1.0 - r * r) * own[1]
    noise = np.stack([rng_of("input").standard_normal(len(who)), rng_of("output").standard_normal(len(who))])
    scores = ndtr(between * own[:, who] + within * noise)
    return scores[0], scores[1]

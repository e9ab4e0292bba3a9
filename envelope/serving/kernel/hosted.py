"""The hosted API: the one door out of the building, rate limits, refusals with back-off, outages."""

import math

from envelope.serving.kernel.clock import count_one_gap
from envelope.serving.kernel.draws import uniform
from envelope.serving.kernel.heaps import push_event
from envelope.serving.kernel.layout import (
    EVENT_HOSTED_DONE,
    EVENT_HOSTED_TRY,
    F_FIRST,
    F_GAP,
    F_NORMAL,
    F_NORMAL_RATE,
    F_SIZE,
    G_BACKOFF_MAX_S,
    G_BACKOFF_S,
    G_BUCKET_TIME,
    G_CACHE_S,
    G_CONTEXT_S,
    G_OUTAGE,
    G_RETIRED,
    G_RPM_LEVEL,
    G_RPM_RATE,
    G_RPM_SIZE,
    G_TOKEN_MU,
    G_TOKEN_SIGMA,
    G_TPM_LEVEL,
    G_TPM_RATE,
    G_TPM_SIZE,
    G_TTFT_MU,
    G_TTFT_SIGMA,
    G_UNCACHED_S,
    H_HAS_HOSTED,
    H_HOSTED_MOST,
    H_HOSTED_RUNNING,
    H_MAX_RETRIES,
    H_OUTAGES,
    Q_ATTEMPTS,
    Q_CHAIN,
    Q_CLASS,
    Q_FOLLOWER,
    Q_GENERATED,
    Q_HOSTED_HIT,
    Q_INPUT,
    Q_LEFT,
    Q_OUTPUT,
    Q_SERVER,
    Q_SIZE,
    STATUS_DONE,
)
from envelope.serving.kernel.leave import done, may_enter
from envelope.serving.kernel.marks import kernel
from envelope.serving.kernel.types import Floats, Ints, Rows


@kernel
def refill(sx: Floats, t: float) -> None:
    """Refill the request and token buckets up to time ``t``."""
    spent = t - sx[G_BUCKET_TIME]
    sx[G_BUCKET_TIME] = t
    sx[G_RPM_LEVEL] = min(sx[G_RPM_SIZE], sx[G_RPM_LEVEL] + spent * sx[G_RPM_RATE])
    sx[G_TPM_LEVEL] = min(sx[G_TPM_SIZE], sx[G_TPM_LEVEL] + spent * sx[G_TPM_RATE])


@kernel
def out_of_service(st: Ints, sx: Floats, t: float) -> bool:
    """Return whether the hosted API is down at time ``t``: outages are sorted pairs of start and end."""
    low = 0
    high = st[H_OUTAGES]
    at = int(sx[G_OUTAGE])
    while low < high:
        middle = (low + high) // 2
        if sx[at + 2 * middle + 1] <= t:
            low = middle + 1
        else:
            high = middle
    return low < st[H_OUTAGES] and sx[at + 2 * low] <= t


@kernel
def try_hosted(st: Ints, sx: Floats, rq: Rows, rx: Floats, i: int, t: float) -> int:
    """Send request ``i`` to the hosted API at time ``t``.

    Returns 0 if privacy forbids it, 1 if it is served or will be tried again, 2 if it was given up.
    """
    q = i * Q_SIZE
    if st[H_HAS_HOSTED] == 0:
        return 2
    if not may_enter(st, rq, i, 0):
        return 0
    if t >= sx[G_RETIRED]:
        return 2
    rq[q + Q_ATTEMPTS] += 1
    rq[q + Q_LEFT] = 1
    refill(sx, t)
    tokens = float(rq[q + Q_INPUT] + rq[q + Q_OUTPUT])
    tokens = min(tokens, sx[G_TPM_SIZE])
    most = st[H_HOSTED_MOST]
    refused = out_of_service(st, sx, t) or (most > 0 and st[H_HOSTED_RUNNING] >= most)
    if not refused and sx[G_RPM_LEVEL] >= 1.0 and sx[G_TPM_LEVEL] >= tokens:
        sx[G_RPM_LEVEL] -= 1.0
        sx[G_TPM_LEVEL] -= tokens
        serve_hosted(st, sx, rq, rx, i, t)
        return 1
    if rq[q + Q_ATTEMPTS] > st[H_MAX_RETRIES]:
        return 2
    wait = sx[G_BACKOFF_S] * 2.0 ** (rq[q + Q_ATTEMPTS] - 1)
    wait = min(wait, sx[G_BACKOFF_MAX_S]) * (0.5 + 0.5 * uniform(rx, i, rq[q + Q_ATTEMPTS]))
    push_event(st, sx, t + wait, EVENT_HOSTED_TRY, i)
    return 1


@kernel
def serve_hosted(st: Ints, sx: Floats, rq: Rows, rx: Floats, i: int, t: float) -> None:
    """Draw the hosted latency of request ``i`` and schedule its end."""
    q = i * Q_SIZE
    f = i * F_SIZE
    tokens = rq[q + Q_INPUT]
    hit = min(rq[q + Q_HOSTED_HIT], tokens)
    ttft = math.exp(sx[G_TTFT_MU] + sx[G_TTFT_SIGMA] * rx[f + F_NORMAL])
    ttft += sx[G_UNCACHED_S] * (tokens - hit) + sx[G_CONTEXT_S] * tokens
    rate = math.exp(sx[G_TOKEN_MU] + sx[G_TOKEN_SIGMA] * rx[f + F_NORMAL_RATE])
    rx[f + F_FIRST] = t + ttft
    rq[q + Q_SERVER] = -1
    st[H_HOSTED_RUNNING] += 1
    push_event(st, sx, t + ttft + (rq[q + Q_OUTPUT] - 1) / rate, EVENT_HOSTED_DONE, i)


@kernel
def end_hosted(st: Ints, sx: Floats, rq: Rows, rx: Floats, i: int, t: float) -> None:
    """Finish request ``i`` that the hosted API served; its session's next call finds its prompt cached there."""
    q = i * Q_SIZE
    st[H_HOSTED_RUNNING] -= 1
    rq[q + Q_GENERATED] = rq[q + Q_OUTPUT]
    j = rq[q + Q_FOLLOWER]
    if rq[q + Q_OUTPUT] > 1:
        gap = (t - rx[i * F_SIZE + F_FIRST]) / (rq[q + Q_OUTPUT] - 1)
        count_one_gap(st, sx, rq[q + Q_CLASS], gap)
    if j >= 0 and rx[j * F_SIZE + F_GAP] <= sx[G_CACHE_S] and rq[q + Q_CHAIN] == rq[j * Q_SIZE + Q_CHAIN]:
        rq[j * Q_SIZE + Q_HOSTED_HIT] = rq[q + Q_INPUT]
    done(st, sx, rq, rx, i, t, STATUS_DONE)

"""The clock of the fleet: the next arrival, event or step end, until a given time."""

from envelope.serving.compiled import entry_point, kernel
from envelope.serving.kernel.blocks import retire
from envelope.serving.kernel.heaps import pop_event, push_event
from envelope.serving.kernel.hosted import end_hosted
from envelope.serving.kernel.layout import (
    EVENT_ARRIVE,
    EVENT_DECODE,
    EVENT_HOSTED_DONE,
    EVENT_HOSTED_TRY,
    EVENT_TICK,
    F_ARRIVAL,
    F_SIZE,
    FLAG_READY,
    G_HEAP,
    G_NOW,
    G_REPLICA,
    G_TICK_OUT,
    G_TICK_S,
    H_CHAIN_STRIDE,
    H_DECODE_POOL,
    H_DONE,
    H_EVENTS,
    H_FEEDBACK,
    H_HEAP,
    H_HOSTED_RUNNING,
    H_NEXT,
    H_ORDER,
    H_PARKED,
    H_PARKED_HEAD,
    H_PARKED_TAIL,
    H_REPLICAS,
    H_REQUESTS,
    H_STREAM,
    H_TICK,
    H_TICK_OUT,
    H_TICKS,
    KIND_DECODE,
    KIND_MIXED,
    NEVER,
    Q_FLAGS,
    Q_LINK,
    Q_SIZE,
    R_CACHE,
    R_CHAINS,
    R_KIND,
    R_RANKS,
    R_RUNNING,
    R_SIZE,
    R_UP,
    R_WAITING,
    TICK_INTS,
    X_BUSY,
    X_ENERGY,
    X_IDLE_W,
    X_POWER,
    X_SINCE,
    X_SIZE,
    X_START,
    X_TIME,
    X_UP_S,
)
from envelope.serving.kernel.policy import replica_at
from envelope.serving.kernel.ranks import blocks_held, step_replica
from envelope.serving.kernel.replica import empty_replica, release_queue
from envelope.serving.kernel.route import choose_replica, hosted_again, park, route, submit
from envelope.serving.kernel.types import Floats, Ints, Rows


@kernel
def next_outside(st: Ints, sx: Floats, rx: Floats) -> float:
    """Return the time of the next arrival or event."""
    t = NEVER
    k = st[H_NEXT]
    if k < st[H_STREAM]:
        t = rx[st[st[H_ORDER] + k] * F_SIZE + F_ARRIVAL]
    if st[H_EVENTS] > 0:
        t = min(t, sx[int(sx[G_HEAP])])
    return t


@kernel
def advance(st: Ints, sx: Floats, rq: Rows, rx: Floats, tb: Floats, t: float) -> bool:
    """Let every replica run up to time ``t``; returns False as soon as a step end may have made a new event."""
    n = st[H_REPLICAS]
    if st[H_FEEDBACK] == 0:
        for r in range(n):
            b, x = replica_at(st, sx, r)
            while sx[x + X_TIME] < t:
                step_replica(st, sx, rq, rx, tb, b, x)
        return True
    first = NEVER
    best = -1
    for r in range(n):
        x = int(sx[G_REPLICA]) + r * X_SIZE
        if sx[x + X_TIME] < first:
            first = sx[x + X_TIME]
            best = r
    if first >= t:
        return True
    b, x = replica_at(st, sx, best)
    step_replica(st, sx, rq, rx, tb, b, x)
    return False


@kernel
def handle(st: Ints, sx: Floats, rq: Rows, rx: Floats, tb: Floats, t: float) -> None:
    """Handle the arrival or event at time ``t``; events come before arrivals of the stream at the same time."""
    if st[H_EVENTS] == 0 or sx[int(sx[G_HEAP])] > t:
        i = st[st[H_ORDER] + st[H_NEXT]]
        st[H_NEXT] += 1
        route(st, sx, rq, rx, tb, i, t)
        return
    at = st[H_HEAP]
    kind = st[at]
    i = st[at + 1]
    pop_event(st, sx)
    if kind == EVENT_ARRIVE:
        route(st, sx, rq, rx, tb, i, t)
    elif kind == EVENT_HOSTED_TRY:
        hosted_again(st, sx, rq, rx, tb, i, t)
    elif kind == EVENT_HOSTED_DONE:
        end_hosted(st, sx, rq, rx, i, t)
    elif kind == EVENT_DECODE:
        hand_over(st, sx, rq, rx, tb, i, t)
    else:
        tick(st, sx, tb, t)


@kernel
def hand_over(st: Ints, sx: Floats, rq: Rows, rx: Floats, tb: Floats, i: int, t: float) -> None:
    """Give a request whose prompt was computed elsewhere to the decode pool."""
    r = choose_replica(st, rq, i, st[H_DECODE_POOL])
    if r < 0:
        park(st, rq, i)
    else:
        submit(st, sx, rq, rx, tb, i, r, t)


@kernel
def tick(st: Ints, sx: Floats, tb: Floats, t: float) -> None:
    """Sample queue, batch, blocks, hosted use and energy for the timeline."""
    k = st[H_TICK]
    if k >= st[H_TICKS]:
        return
    st[H_TICK] = k + 1
    at = st[H_TICK_OUT] + TICK_INTS * k
    energy = 0.0
    st[at] = st[H_PARKED]
    for r in range(st[H_REPLICAS]):
        b, x = replica_at(st, sx, r)
        st[at] += st[b + R_WAITING]
        st[at + 1] += st[b + R_RUNNING]
        st[at + 2] += blocks_held(st, sx, tb, b, x, t)
        energy += energy_until(st, sx, b, x, t)
    st[at + 3] = st[H_HOSTED_RUNNING]
    sx[int(sx[G_TICK_OUT]) + 2 * k] = t
    sx[int(sx[G_TICK_OUT]) + 2 * k + 1] = energy
    push_event(st, sx, t + sx[G_TICK_S], EVENT_TICK, -1)


@kernel
def energy_until(st: Ints, sx: Floats, b: int, x: int, t: float) -> float:
    """Return a replica's energy up to time ``t``, idle time included while it is up."""
    busy = sx[x + X_BUSY]
    energy = sx[x + X_ENERGY]
    if st[b + R_KIND] == KIND_MIXED or st[b + R_KIND] == KIND_DECODE:
        busy += t - sx[x + X_START]
        energy += (t - sx[x + X_START]) * sx[x + X_POWER]
    up = sx[x + X_UP_S]
    if sx[x + X_SINCE] >= 0.0:
        up += t - sx[x + X_SINCE]
    return energy + max(0.0, up - busy) * sx[x + X_IDLE_W]


@entry_point
def run_until(st: Ints, sx: Floats, rq: Rows, rx: Floats, tb: Floats, until: float) -> int:
    """Run the fleet until time ``until`` (everything that happens at it included)."""
    while st[H_DONE] < st[H_REQUESTS]:
        t = next_outside(st, sx, rx)
        if t > until:
            if not advance(st, sx, rq, rx, tb, min(t, until)):
                continue
            break
        if not advance(st, sx, rq, rx, tb, t):
            continue
        if t >= NEVER:
            break
        sx[G_NOW] = t
        handle(st, sx, rq, rx, tb, t)
    return st[H_DONE]


@entry_point
def set_up(st: Ints, sx: Floats, rq: Rows, rx: Floats, tb: Floats, r: int, t: float) -> None:
    """Bring replica ``r`` (its first rank) up at time ``t``; parked requests go to the router again."""
    b, x = replica_at(st, sx, r)
    if st[b + R_UP]:
        return
    for k in range(st[b + R_RANKS]):
        st[b + k * R_SIZE + R_UP] = 1
    i = st[H_PARKED_HEAD]
    st[H_PARKED_HEAD] = -1
    st[H_PARKED_TAIL] = -1
    st[H_PARKED] = 0
    while i >= 0:
        following = rq[i * Q_SIZE + Q_LINK]
        if rq[i * Q_SIZE + Q_FLAGS] & FLAG_READY:
            push_event(st, sx, t, EVENT_DECODE, i)
        else:
            push_event(st, sx, t, EVENT_ARRIVE, i)
        i = following


@entry_point
def set_down(st: Ints, sx: Floats, rq: Rows, rx: Floats, tb: Floats, r: int, t: float, at_once: int) -> None:
    """Take replica ``r`` out of service: ``at_once`` loses its batch, else it finishes what runs."""
    b, x = replica_at(st, sx, r)
    for k in range(st[b + R_RANKS]):
        st[b + k * R_SIZE + R_UP] = 0
        if at_once:
            empty_replica(st, sx, rq, rx, tb, b + k * R_SIZE, x + k * X_SIZE, t)
        else:
            release_queue(st, sx, rq, b + k * R_SIZE, t)


@entry_point
def set_power(st: Ints, sx: Floats, rq: Rows, rx: Floats, tb: Floats, r: int, t: float, on: int) -> None:
    """Count replica ``r`` as switched on (or off) from time ``t``."""
    b, first = replica_at(st, sx, r)
    for k in range(st[b + R_RANKS]):
        x = first + k * X_SIZE
        if on and sx[x + X_SINCE] < 0.0:
            sx[x + X_SINCE] = t
        if not on and sx[x + X_SINCE] >= 0.0:
            sx[x + X_UP_S] += t - sx[x + X_SINCE]
            sx[x + X_SINCE] = -1.0


@entry_point
def retire_dialogues(st: Ints, sx: Floats, rq: Rows, rx: Floats, tb: Floats, at: int, count: int) -> None:
    """Forget ended dialogues: ``count`` pairs from ``at`` on of a dialogue and the replica that served it (−1: any)."""
    for k in range(count):
        chain = st[at + 2 * k]
        only = st[at + 2 * k + 1]
        for r in range(st[H_REPLICAS]):
            b, _ = replica_at(st, sx, r)
            if st[b + R_CACHE] and (only < 0 or only == r):
                retire(st, b, st[b + R_CHAINS] + chain * st[H_CHAIN_STRIDE])

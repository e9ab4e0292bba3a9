"""The router: which replica, or the hosted API, a request goes to."""

from envelope.serving.compiled import kernel
from envelope.serving.kernel.heaps import enqueue, first_waiting
from envelope.serving.kernel.hosted import try_hosted
from envelope.serving.kernel.layout import (
    F_QUEUED,
    F_SIZE,
    FLAG_DEGRADED,
    FLAG_ESCALATED,
    FLAG_PARKED,
    FLAG_SPILLED,
    H_BALANCE,
    H_PARKED,
    H_PARKED_HEAD,
    H_PARKED_TAIL,
    H_PATH,
    H_REPLICA,
    H_REPLICAS,
    H_TURN,
    PER_SEAT,
    PREFIX_AFFINE,
    Q_ATTEMPTS,
    Q_FLAGS,
    Q_HOME,
    Q_LEFT,
    Q_LEVEL,
    Q_LINK,
    Q_PATH,
    Q_PATH_LEN,
    Q_SEAT,
    Q_SERVER,
    Q_SIZE,
    Q_STATUS,
    R_INSIDE,
    R_OUTSTANDING,
    R_POOL,
    R_SIZE,
    R_UP,
    ROUND_ROBIN,
    STATUS_DONE,
    STATUS_QUEUED,
    STATUS_REFUSED_HOSTED,
    STATUS_REFUSED_LENGTH,
    STATUS_REFUSED_PRIVATE,
)
from envelope.serving.kernel.leave import done, may_enter
from envelope.serving.kernel.policy import first_pool, fits, may_leave, replica_at, shares_pools, spills, wants_out
from envelope.serving.kernel.ranks import cut_run, wake
from envelope.serving.kernel.types import Floats, Ints, Rows


@kernel
def usable(st: Ints, rq: Rows, b: int, i: int, pool: int) -> bool:
    """Return whether a replica is up, in the pool, and takes request ``i``'s length and sensitivity."""
    if st[b + R_UP] == 0 or st[b + R_POOL] != pool:
        return False
    return may_enter(st, rq, i, st[b + R_INSIDE])


@kernel
def least_outstanding(st: Ints, rq: Rows, i: int, pool: int) -> int:
    """Return the usable replica with the fewest requests, or −1; ties go round."""
    n = st[H_REPLICAS]
    best = -1
    fewest = 0
    start = st[H_TURN] % n
    for k in range(n):
        r = (start + k) % n
        b = st[H_REPLICA] + r * R_SIZE
        if usable(st, rq, b, i, pool) and (best < 0 or st[b + R_OUTSTANDING] < fewest):
            best = r
            fewest = st[b + R_OUTSTANDING]
    if best >= 0:
        st[H_TURN] = best + 1
    return best


@kernel
def next_in_turn(st: Ints, rq: Rows, i: int, pool: int) -> int:
    """Return the next usable replica in turn, or −1."""
    n = st[H_REPLICAS]
    for k in range(n):
        r = (st[H_TURN] + k) % n
        if usable(st, rq, st[H_REPLICA] + r * R_SIZE, i, pool):
            st[H_TURN] = r + 1
            return r
    return -1


@kernel
def nth_of_pool(st: Ints, rq: Rows, i: int, pool: int, n: int) -> int:
    """Return the ``n``-th replica of the pool, counted round, if it is usable, else −1."""
    size = 0
    first = -1
    for r in range(st[H_REPLICAS]):
        if st[st[H_REPLICA] + r * R_SIZE + R_POOL] == pool:
            size += 1
            if first < 0:
                first = r
    if size == 0:
        return -1
    r = first + n % size
    return r if usable(st, rq, st[H_REPLICA] + r * R_SIZE, i, pool) else -1


@kernel
def affine(st: Ints, rq: Rows, i: int, pool: int) -> int:
    """Return the replica that probably holds the prompt's beginning, unless it is much busier than the others."""
    q = i * Q_SIZE
    best = least_outstanding(st, rq, i, pool)
    if best < 0:
        return best
    home = rq[q + Q_HOME]
    if home < 0 and rq[q + Q_PATH_LEN] > 1:
        home = nth_of_pool(st, rq, i, pool, st[st[H_PATH] + rq[q + Q_PATH] + 1])
    if home < 0:
        return best
    b = st[H_REPLICA] + home * R_SIZE
    fewest = st[st[H_REPLICA] + best * R_SIZE + R_OUTSTANDING]
    if usable(st, rq, b, i, pool) and st[b + R_OUTSTANDING] <= 2 * fewest + 8:
        return home
    return best


@kernel
def choose_replica(st: Ints, rq: Rows, i: int, pool: int) -> int:
    """Return the replica that takes request ``i``, or −1 if none of the pool can."""
    balance = st[H_BALANCE]
    if balance == ROUND_ROBIN:
        return next_in_turn(st, rq, i, pool)
    if balance == PER_SEAT:
        return nth_of_pool(st, rq, i, pool, rq[i * Q_SIZE + Q_SEAT])
    if balance == PREFIX_AFFINE:
        return affine(st, rq, i, pool)
    return least_outstanding(st, rq, i, pool)


@kernel
def submit(st: Ints, sx: Floats, rq: Rows, rx: Floats, tb: Floats, i: int, r: int, t: float) -> None:
    """Put request ``i`` into the queue of replica ``r``."""
    b, x = replica_at(st, sx, r)
    rq[i * Q_SIZE + Q_STATUS] = STATUS_QUEUED
    rq[i * Q_SIZE + Q_SERVER] = r
    rx[i * F_SIZE + F_QUEUED] = t
    if st[b + R_INSIDE] == 0:
        rq[i * Q_SIZE + Q_LEFT] = 1
    st[b + R_OUTSTANDING] += 1
    head = first_waiting(st, rq, b)
    if head < 0 or rq[i * Q_SIZE + Q_LEVEL] < rq[head * Q_SIZE + Q_LEVEL]:
        cut_run(st, sx, tb, b, x, t)
    enqueue(st, rq, b, i, False)
    wake(st, sx, b, x, t)


@kernel
def route(st: Ints, sx: Floats, rq: Rows, rx: Floats, tb: Floats, i: int, t: float) -> None:
    """Send a new (or returned) request ``i`` where the policy says and privacy allows."""
    q = i * Q_SIZE
    if wants_out(st, sx, rq, rx, i):
        answer = try_hosted(st, sx, rq, rx, i, t)
        if answer == 1:
            if spills(st):
                rq[q + Q_FLAGS] |= FLAG_SPILLED
            return
        if answer == 0:
            rq[q + Q_FLAGS] |= FLAG_DEGRADED
            if st[H_REPLICAS] == 0:
                done(st, sx, rq, rx, i, t, STATUS_REFUSED_PRIVATE)
                return
        elif st[H_REPLICAS] == 0:
            done(st, sx, rq, rx, i, t, STATUS_REFUSED_HOSTED)
            return
    route_inside(st, sx, rq, rx, tb, i, t)


@kernel
def route_inside(st: Ints, sx: Floats, rq: Rows, rx: Floats, tb: Floats, i: int, t: float) -> None:
    """Send request ``i`` to a replica; without one it waits, goes out if policy and privacy allow, or is refused."""
    pool = first_pool(st, rq, i)
    r = choose_replica(st, rq, i, pool)
    if r < 0 and shares_pools(st):
        r = choose_replica(st, rq, i, 1 - pool)
    if r >= 0 and fits(st, rq, i, r):
        submit(st, sx, rq, rx, tb, i, r, t)
        return
    if may_leave(st) and rq[i * Q_SIZE + Q_ATTEMPTS] == 0:
        answer = try_hosted(st, sx, rq, rx, i, t)
        if answer == 1:
            rq[i * Q_SIZE + Q_FLAGS] |= FLAG_SPILLED
            return
        if answer == 0:
            rq[i * Q_SIZE + Q_FLAGS] |= FLAG_DEGRADED
    if r >= 0:
        done(st, sx, rq, rx, i, t, STATUS_REFUSED_LENGTH)
    elif allowed_somewhere(st, rq, i):
        park(st, rq, i)
    else:
        done(st, sx, rq, rx, i, t, STATUS_REFUSED_PRIVATE)


@kernel
def allowed_somewhere(st: Ints, rq: Rows, i: int) -> bool:
    """Return whether any replica, up or down, may take request ``i``'s sensitivity."""
    for r in range(st[H_REPLICAS]):  # noqa: SIM110
        if may_enter(st, rq, i, st[st[H_REPLICA] + r * R_SIZE + R_INSIDE]):
            return True
    return False


@kernel
def park(st: Ints, rq: Rows, i: int) -> None:
    """Let request ``i`` wait until a replica comes up."""
    q = i * Q_SIZE
    rq[q + Q_FLAGS] |= FLAG_PARKED
    rq[q + Q_STATUS] = STATUS_QUEUED
    rq[q + Q_LINK] = -1
    tail = st[H_PARKED_TAIL]
    if tail >= 0:
        rq[tail * Q_SIZE + Q_LINK] = i
    else:
        st[H_PARKED_HEAD] = i
    st[H_PARKED_TAIL] = i
    st[H_PARKED] += 1


@kernel
def hosted_again(st: Ints, sx: Floats, rq: Rows, rx: Floats, tb: Floats, i: int, t: float) -> None:
    """Try the hosted API (again) for request ``i``; if it cannot, fall back to what there is inside."""
    q = i * Q_SIZE
    answer = try_hosted(st, sx, rq, rx, i, t)
    if answer == 1:
        return
    if rq[q + Q_FLAGS] & FLAG_ESCALATED:
        rq[q + Q_FLAGS] &= ~FLAG_ESCALATED
        rq[q + Q_FLAGS] |= FLAG_DEGRADED
        done(st, sx, rq, rx, i, t, STATUS_DONE)
    elif st[H_REPLICAS] == 0:
        done(st, sx, rq, rx, i, t, STATUS_REFUSED_HOSTED)
    else:
        route_inside(st, sx, rq, rx, tb, i, t)

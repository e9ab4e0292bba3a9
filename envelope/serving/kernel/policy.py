"""What each policy of the router means. Their numbers are the positions in ``spec.routing.POLICIES``."""

from envelope.serving.compiled import kernel
from envelope.serving.kernel.layout import (
    F_SIZE,
    F_UNIFORM,
    G_FAIL,
    G_REPLICA,
    G_WAIT_LIMIT,
    H_AFTER_FAILURE,
    H_LEAVE_LEVEL,
    H_LONG_TOKENS,
    H_POLICY,
    H_POOLS,
    H_REPLICA,
    H_REPLICAS,
    NEVER,
    Q_CLASS,
    Q_INPUT,
    Q_OUTPUT,
    Q_SENSITIVITY,
    Q_SIZE,
    R_BLOCK,
    R_BLOCKS,
    R_CHUNKED,
    R_DRAFT,
    R_FIXED,
    R_MAX_CONTEXT,
    R_RUNNING,
    R_SEQS,
    R_SIZE,
    R_TIER,
    R_UP,
    R_WAITING,
    X_GAP,
    X_SIZE,
)
from envelope.serving.kernel.types import Floats, Ints, Rows

LOCAL_ONLY = 0
HOSTED_ONLY = 1
OVERFLOW = 2
ESCALATE = 3
BY_SENSITIVITY = 4
LONG_CONTEXT = 5


@kernel
def replica_at(st: Ints, sx: Floats, r: int) -> tuple[int, int]:
    """Return the offsets of replica ``r`` in ``st`` and ``sx``."""
    return st[H_REPLICA] + r * R_SIZE, int(sx[G_REPLICA]) + r * X_SIZE


@kernel
def fits(st: Ints, rq: Rows, i: int, r: int) -> bool:
    """Return whether replica ``r`` can ever hold request ``i``: its context and its KV blocks."""
    b = st[H_REPLICA] + r * R_SIZE
    q = i * Q_SIZE
    tokens = rq[q + Q_INPUT] + rq[q + Q_OUTPUT]
    blocks = (tokens + st[b + R_DRAFT] + st[b + R_BLOCK] - 1) // st[b + R_BLOCK] + st[b + R_FIXED] + 1
    if st[b + R_CHUNKED] == 0 and tokens > st[b + R_MAX_CONTEXT]:
        return False
    return tokens <= st[b + R_MAX_CONTEXT] and blocks <= st[b + R_BLOCKS]


@kernel
def fails(st: Ints, sx: Floats, rq: Rows, rx: Floats, i: int, tier: int) -> bool:
    """Return whether a model of ``tier`` fails request ``i``: the same draw decides for every tier."""
    at = int(sx[G_FAIL]) + 3 * rq[i * Q_SIZE + Q_CLASS] + tier
    return rx[i * F_SIZE + F_UNIFORM] < sx[at]


@kernel
def expected_wait(st: Ints, sx: Floats, rq: Rows, i: int) -> float:
    """Return the wait that a newcomer must expect: queue length over the recent rate of completions."""
    best = NEVER
    for r in range(st[H_REPLICAS]):
        b, x = replica_at(st, sx, r)
        if st[b + R_UP] == 0 or not fits(st, rq, i, r):
            continue
        wait = 0.0
        if st[b + R_WAITING] > 0 or st[b + R_RUNNING] >= st[b + R_SEQS]:
            wait = (st[b + R_WAITING] + 1) * max(sx[x + X_GAP], 0.0)
        best = min(best, wait)
    return best


@kernel
def wants_out(st: Ints, sx: Floats, rq: Rows, rx: Floats, i: int) -> bool:
    """Return whether the policy would send request ``i`` to the hosted API now."""
    policy = st[H_POLICY]
    q = i * Q_SIZE
    if policy == HOSTED_ONLY:
        return True
    if policy == OVERFLOW:
        return expected_wait(st, sx, rq, i) > sx[G_WAIT_LIMIT]
    if policy == ESCALATE:
        return st[H_AFTER_FAILURE] == 0 and fails(st, sx, rq, rx, i, st[st[H_REPLICA] + R_TIER])
    if policy == BY_SENSITIVITY:
        return rq[q + Q_SENSITIVITY] <= st[H_LEAVE_LEVEL]
    if policy == LONG_CONTEXT and st[H_POOLS] < 2:
        return rq[q + Q_INPUT] > st[H_LONG_TOKENS]
    return False


@kernel
def first_pool(st: Ints, rq: Rows, i: int) -> int:
    """Return the pool that takes request ``i`` if it can."""
    return int(shares_pools(st) and rq[i * Q_SIZE + Q_INPUT] > st[H_LONG_TOKENS])


@kernel
def shares_pools(st: Ints) -> bool:
    """Return whether each of two pools takes what the other cannot."""
    return st[H_POLICY] == LONG_CONTEXT and st[H_POOLS] > 1


@kernel
def may_leave(st: Ints) -> bool:
    """Return whether a request that no replica holds goes out, as far as privacy allows."""
    return st[H_POLICY] != LOCAL_ONLY


@kernel
def spills(st: Ints) -> bool:
    """Return whether what goes out does so for want of room."""
    return st[H_POLICY] == OVERFLOW


@kernel
def escalates(st: Ints) -> bool:
    """Return whether a task that a replica failed goes out afterwards."""
    return st[H_POLICY] == ESCALATE

"""What happens when a request leaves a replica or the system, and who may enter where."""

from envelope.serving.kernel.heaps import push_event
from envelope.serving.kernel.layout import (
    E_OWNER,
    EVENT_ARRIVE,
    EVENT_DECODE,
    EVENT_HOSTED_TRY,
    F_ARRIVAL,
    F_FINISH,
    F_GAP,
    F_LOCAL_S,
    F_SIZE,
    FLAG_ESCALATED,
    FLAG_READY,
    G_END,
    G_TRANSFER_BASE_S,
    G_TRANSFER_S,
    H_DONE,
    H_LOADGEN,
    H_LOADGEN_END,
    H_PRIVATE_STAYS,
    H_REPLICA,
    PRIVATE,
    Q_FLAGS,
    Q_FOLLOWER,
    Q_GENERATED,
    Q_HOME,
    Q_INPUT,
    Q_OUTPUT,
    Q_RESTARTS,
    Q_SELF,
    Q_SENSITIVITY,
    Q_SERVER,
    Q_SIZE,
    Q_STATUS,
    R_OUTSTANDING,
    R_RESTARTED,
    R_ROLE,
    R_SIZE,
    R_TIER,
    R_TOKENS_OUT,
    ROLE_PREFILL,
    STATUS_CUT,
    STATUS_DONE,
    X_GAP,
    X_LAST_DONE,
)
from envelope.serving.kernel.marks import kernel
from envelope.serving.kernel.policy import escalates, fails
from envelope.serving.kernel.types import Floats, Ints, Rows


@kernel
def may_enter(st: Ints, rq: Rows, i: int, inside: int) -> bool:
    """Return whether request ``i`` may enter a place inside (1) or outside (0) the building.

    This is the only place that decides it: a replica takes requests, and the hosted API is called, after it alone.
    """
    return inside == 1 or st[H_PRIVATE_STAYS] == 0 or rq[i * Q_SIZE + Q_SENSITIVITY] < PRIVATE


@kernel
def done(st: Ints, sx: Floats, rq: Rows, rx: Floats, i: int, t: float, status: int) -> None:
    """End request ``i`` with ``status``; its session's next call or the load generator's next request follows.

    A session goes on after a call that was refused: each of its calls stands for itself.
    """
    q = i * Q_SIZE
    rx[i * F_SIZE + F_FINISH] = t
    rq[q + Q_STATUS] = status
    st[H_DONE] += 1
    j = rq[q + Q_FOLLOWER]
    if j >= 0:
        start = t + rx[j * F_SIZE + F_GAP]
        if start <= sx[G_END]:
            rx[j * F_SIZE + F_ARRIVAL] = start
            if status == STATUS_DONE:
                rq[j * Q_SIZE + Q_HOME] = rq[q + Q_SERVER]
            push_event(st, sx, start, EVENT_ARRIVE, j)
        while j >= 0 and start > sx[G_END]:
            rq[j * Q_SIZE + Q_STATUS] = STATUS_CUT
            st[H_DONE] += 1
            j = rq[j * Q_SIZE + Q_FOLLOWER]
    k = st[H_LOADGEN]
    if k >= 0 and k < st[H_LOADGEN_END]:
        st[H_LOADGEN] = k + 1
        # What the answer takes to reach the client, who then asks again.
        start = t + rx[k * F_SIZE + F_GAP]
        rx[k * F_SIZE + F_ARRIVAL] = start
        push_event(st, sx, start, EVENT_ARRIVE, k)


@kernel
def leave_replica(st: Ints, sx: Floats, rq: Rows, rx: Floats, b: int, x: int, i: int, t: float) -> None:
    """Note the end of request ``i`` on this replica and tell the fleet."""
    q = i * Q_SIZE
    r = (b - st[H_REPLICA]) // R_SIZE
    st[b + R_OUTSTANDING] -= 1
    gap = t - sx[x + X_LAST_DONE]
    sx[x + X_LAST_DONE] = t
    sx[x + X_GAP] = gap if sx[x + X_GAP] < 0 else 0.9 * sx[x + X_GAP] + 0.1 * gap
    rq[q + Q_SERVER] = r
    if st[b + R_ROLE] == ROLE_PREFILL and rq[q + Q_OUTPUT] > 1:
        wait = sx[G_TRANSFER_BASE_S] + sx[G_TRANSFER_S] * rq[q + Q_INPUT]
        rq[q + Q_FLAGS] |= FLAG_READY
        push_event(st, sx, t + wait, EVENT_DECODE, i)
        return
    st[b + R_TOKENS_OUT] += rq[q + Q_OUTPUT]
    if escalates(st) and fails(st, sx, rq, rx, i, st[b + R_TIER]):
        rx[i * F_SIZE + F_LOCAL_S] = t - rx[i * F_SIZE + F_ARRIVAL]
        push_event(st, sx, t, EVENT_HOSTED_TRY, i)
        rq[q + Q_FLAGS] |= FLAG_ESCALATED
        return
    done(st, sx, rq, rx, i, t, STATUS_DONE)


@kernel
def back_to_router(st: Ints, sx: Floats, rq: Rows, b: int, i: int, t: float, lost: bool) -> None:
    """Let request ``i`` arrive again; ``lost`` says that work on it was lost."""
    q = i * Q_SIZE
    e = rq[q + Q_SELF]
    if e >= 0:
        st[e + E_OWNER] = -1
        rq[q + Q_SELF] = -1
    st[b + R_OUTSTANDING] -= 1
    rq[q + Q_GENERATED] = 0
    rq[q + Q_HOME] = -1
    rq[q + Q_FLAGS] &= ~FLAG_READY
    if lost:
        rq[q + Q_RESTARTS] += 1
        st[b + R_RESTARTED] += 1
    push_event(st, sx, t, EVENT_ARRIVE, i)

"""Heaps and queues in flat arrays: events of the fleet, completions and waiting requests of a replica."""

from envelope.serving.kernel.layout import (
    A_RUNNING,
    A_SIZE,
    G_HEAP,
    H_EVENTS,
    H_HEAP,
    H_LEVELS,
    H_SEQ,
    Q_ADAPTER,
    Q_LEVEL,
    Q_LINK,
    Q_SIZE,
    R_ADAPTER,
    R_ADAPTERS,
    R_ADAPTERS_ON,
    R_HEAP,
    R_HEAPED,
    R_QUEUE,
    R_WAITING,
    S_ADMITTED,
    S_FINISH,
)
from envelope.serving.kernel.marks import kernel
from envelope.serving.kernel.types import Floats, Ints, Rows


@kernel
def event_before(st: Ints, sx: Floats, h: int, t: int, a: int, c: int) -> bool:
    """Return whether event ``a`` of the heap comes before event ``c``."""
    if sx[t + a] != sx[t + c]:
        return sx[t + a] < sx[t + c]
    return st[h + 3 * a + 2] < st[h + 3 * c + 2]


@kernel
def swap_events(st: Ints, sx: Floats, h: int, t: int, a: int, c: int) -> None:
    """Exchange two events of the heap."""
    sx[t + a], sx[t + c] = sx[t + c], sx[t + a]
    for k in range(3):
        st[h + 3 * a + k], st[h + 3 * c + k] = st[h + 3 * c + k], st[h + 3 * a + k]


@kernel
def push_event(st: Ints, sx: Floats, time: float, kind: int, i: int) -> None:
    """Schedule event ``kind`` for request ``i``."""
    h = st[H_HEAP]
    t = int(sx[G_HEAP])
    k = st[H_EVENTS]
    st[H_EVENTS] = k + 1
    sx[t + k] = time
    st[h + 3 * k] = kind
    st[h + 3 * k + 1] = i
    st[h + 3 * k + 2] = st[H_SEQ]
    st[H_SEQ] += 1
    while k > 0:
        up = (k - 1) // 2
        if not event_before(st, sx, h, t, k, up):
            break
        swap_events(st, sx, h, t, k, up)
        k = up


@kernel
def pop_event(st: Ints, sx: Floats) -> None:
    """Remove the earliest event; it stands behind the heap's new end until the next push."""
    h = st[H_HEAP]
    t = int(sx[G_HEAP])
    n = st[H_EVENTS] - 1
    st[H_EVENTS] = n
    swap_events(st, sx, h, t, 0, n)
    k = 0
    while True:
        low = 2 * k + 1
        if low >= n:
            return
        if low + 1 < n and event_before(st, sx, h, t, low + 1, low):
            low += 1
        if not event_before(st, sx, h, t, low, k):
            return
        swap_events(st, sx, h, t, k, low)
        k = low


@kernel
def ends_before(st: Ints, a: int, c: int) -> bool:
    """Return whether the sequence in slot ``a`` ends before the one in slot ``c`` (ties by admission)."""
    if st[a + S_FINISH] != st[c + S_FINISH]:
        return st[a + S_FINISH] < st[c + S_FINISH]
    return st[a + S_ADMITTED] < st[c + S_ADMITTED]


@kernel
def sift_up(st: Ints, h: int, k: int) -> None:
    """Move entry ``k`` of a completion heap up to its place."""
    while k > 0:
        up = (k - 1) // 2
        if not ends_before(st, st[h + k], st[h + up]):
            return
        st[h + k], st[h + up] = st[h + up], st[h + k]
        k = up


@kernel
def sift_down(st: Ints, h: int, n: int, k: int) -> None:
    """Move entry ``k`` of a completion heap of ``n`` entries down to its place."""
    while True:
        low = 2 * k + 1
        if low >= n:
            return
        if low + 1 < n and ends_before(st, st[h + low + 1], st[h + low]):
            low += 1
        if not ends_before(st, st[h + low], st[h + k]):
            return
        st[h + k], st[h + low] = st[h + low], st[h + k]
        k = low


@kernel
def push_finish(st: Ints, b: int, s: int) -> None:
    """Put the decoding slot ``s`` into its replica's completion heap."""
    n = st[b + R_HEAPED]
    st[st[b + R_HEAP] + n] = s
    st[b + R_HEAPED] = n + 1
    sift_up(st, st[b + R_HEAP], n)


@kernel
def remove_finish(st: Ints, b: int, s: int) -> None:
    """Take slot ``s`` out of the completion heap, wherever it stands."""
    h = st[b + R_HEAP]
    k = 0
    while st[h + k] != s:
        k += 1
    n = st[b + R_HEAPED] - 1
    st[b + R_HEAPED] = n
    if k < n:
        st[h + k] = st[h + n]
        sift_up(st, h, k)
        sift_down(st, h, n, k)


@kernel
def enqueue(st: Ints, rq: Rows, b: int, i: int, front: bool) -> None:
    """Put request ``i`` at the back (or the front) of its level's queue."""
    at = st[b + R_QUEUE] + 2 * rq[i * Q_SIZE + Q_LEVEL]
    head = st[at]
    tail = st[at + 1]
    st[b + R_WAITING] += 1
    rq[i * Q_SIZE + Q_LINK] = -1
    if head < 0:
        st[at] = i
        st[at + 1] = i
    elif front:
        rq[i * Q_SIZE + Q_LINK] = head
        st[at] = i
    else:
        rq[tail * Q_SIZE + Q_LINK] = i
        st[at + 1] = i


@kernel
def first_queued(st: Ints, b: int) -> int:
    """Return the first waiting request, or −1."""
    for level in range(st[H_LEVELS]):
        i = st[st[b + R_QUEUE] + 2 * level]
        if i >= 0:
            return i
    return -1


@kernel
def first_waiting(st: Ints, rq: Rows, b: int) -> int:
    """Return the first waiting request whose adapter has a place in the batch, or −1."""
    limit = st[b + R_ADAPTERS]
    if limit == 0 or st[b + R_ADAPTERS_ON] < limit:
        return first_queued(st, b)
    for level in range(st[H_LEVELS]):
        i = st[st[b + R_QUEUE] + 2 * level]
        while i >= 0:
            adapter = rq[i * Q_SIZE + Q_ADAPTER]
            if adapter < 0 or st[st[b + R_ADAPTER] + adapter * A_SIZE + A_RUNNING] > 0:
                return i
            i = rq[i * Q_SIZE + Q_LINK]
    return -1


@kernel
def dequeue(st: Ints, rq: Rows, b: int, i: int) -> None:
    """Remove request ``i`` from its level's queue."""
    at = st[b + R_QUEUE] + 2 * rq[i * Q_SIZE + Q_LEVEL]
    following = rq[i * Q_SIZE + Q_LINK]
    st[b + R_WAITING] -= 1
    before = -1
    j = st[at]
    while j != i:
        before = j
        j = rq[j * Q_SIZE + Q_LINK]
    if before < 0:
        st[at] = following
    else:
        rq[before * Q_SIZE + Q_LINK] = following
    if following < 0:
        st[at + 1] = before

"""Paged KV blocks with a prefix cache: who holds which blocks, which are cached, which go first.

Free blocks stand in one list per replica, the longest unused first, as in a paged engine with LRU eviction. A list
entry is a run of blocks with the same history: a shared node (system prompt, document), a session's context, or
private leftovers that nobody will ask for again. A held entry is not in the list.
"""

from envelope.serving.kernel.layout import (
    E_BLOCKS,
    E_HOLDERS,
    E_NEXT,
    E_OWNER,
    E_PREV,
    E_SIZE,
    H_CHAIN_STRIDE,
    H_NODE,
    H_PATH,
    H_SPARE,
    Q_CHAIN,
    Q_PATH,
    Q_PATH_LEN,
    Q_SELF,
    Q_SIZE,
    R_BLOCK,
    R_CACHE,
    R_CHAINS,
    R_FREE,
    R_HEAD,
    R_NODES,
    R_TAIL,
    S_BLOCKS,
    S_CHAIN,
    S_GIVES,
    S_NODES,
    S_SHARED,
    S_STATE,
    SLOT_FREE,
)
from envelope.serving.kernel.marks import kernel
from envelope.serving.kernel.types import Ints, Rows


@kernel
def unlink(st: Ints, b: int, e: int) -> None:
    """Take entry ``e`` out of the list of free blocks."""
    p = st[e + E_PREV]
    n = st[e + E_NEXT]
    if p >= 0:
        st[p + E_NEXT] = n
    else:
        st[b + R_HEAD] = n
    if n >= 0:
        st[n + E_PREV] = p
    else:
        st[b + R_TAIL] = p
    st[b + R_FREE] -= st[e + E_BLOCKS]


@kernel
def append(st: Ints, b: int, e: int) -> None:
    """Put entry ``e`` at the end of the list: its blocks are free now, and cached until taken."""
    t = st[b + R_TAIL]
    st[e + E_PREV] = t
    st[e + E_NEXT] = -1
    if t >= 0:
        st[t + E_NEXT] = e
    else:
        st[b + R_HEAD] = e
    st[b + R_TAIL] = e
    st[b + R_FREE] += st[e + E_BLOCKS]


@kernel
def spare_entry(st: Ints) -> int:
    """Return an unused private entry."""
    e = st[H_SPARE]
    n = st[e + E_NEXT]
    # One that was never used holds zeros: the next stands behind it.
    st[H_SPARE] = e + E_SIZE if n == 0 else n
    st[e + E_HOLDERS] = 0
    st[e + E_BLOCKS] = 0
    st[e + E_OWNER] = -1
    return e


@kernel
def give_spare(st: Ints, e: int) -> None:
    """Return a private entry to the unused ones."""
    st[e + E_BLOCKS] = 0
    st[e + E_NEXT] = st[H_SPARE]
    st[H_SPARE] = e


@kernel
def discard(st: Ints, b: int, count: int) -> None:
    """Free ``count`` blocks that nobody will ask for again."""
    if count <= 0:
        return
    if st[b + R_CACHE] == 0:
        st[b + R_FREE] += count
        return
    t = st[b + R_TAIL]
    if t >= 0 and st[t + E_OWNER] == -1:
        st[t + E_BLOCKS] += count
        st[b + R_FREE] += count
        return
    e = spare_entry(st)
    st[e + E_BLOCKS] = count
    append(st, b, e)


@kernel
def take(st: Ints, rq: Rows, b: int, count: int) -> None:
    """Allocate ``count`` free blocks, evicting the longest unused ones from the end of their run."""
    if st[b + R_CACHE] == 0:
        st[b + R_FREE] -= count
        return
    while count > 0:
        e = st[b + R_HEAD]
        have = st[e + E_BLOCKS]
        if have > count:
            st[e + E_BLOCKS] = have - count
            st[b + R_FREE] -= count
            return
        count -= have
        unlink(st, b, e)
        st[e + E_BLOCKS] = 0
        owner = st[e + E_OWNER]
        if owner > 0:
            rq[(owner - 1) * Q_SIZE + Q_SELF] = -1
        if owner != 0:
            give_spare(st, e)


@kernel
def hold(st: Ints, b: int, e: int) -> None:
    """Hold the cached blocks of entry ``e``."""
    if st[e + E_HOLDERS] == 0 and st[e + E_BLOCKS] > 0:
        unlink(st, b, e)
    st[e + E_HOLDERS] += 1


@kernel
def let_go(st: Ints, b: int, e: int) -> None:
    """Give up a hold on entry ``e``; the last one puts it back into the list."""
    st[e + E_HOLDERS] -= 1
    if st[e + E_HOLDERS] == 0 and st[e + E_BLOCKS] > 0:
        append(st, b, e)


@kernel
def node_entry(st: Ints, b: int, node: int) -> int:
    """Return the replica's cache entry of a shared node."""
    return st[b + R_NODES] + node * E_SIZE


@kernel
def node_blocks(st: Ints, b: int, node: int) -> int:
    """Return how many blocks a node has when all of it is cached."""
    at = st[H_NODE] + 2 * node
    return st[at + 1] // st[b + R_BLOCK] - st[at] // st[b + R_BLOCK]


@kernel
def own_entry(st: Ints, rq: Rows, b: int, q: int) -> int:
    """Return the entry of a request's own continuation: its session's, or what a preemption left, or −1."""
    chain = rq[q + Q_CHAIN]
    if chain >= 0:
        return st[b + R_CHAINS] + chain * st[H_CHAIN_STRIDE]
    return rq[q + Q_SELF]


@kernel
def cached_blocks(st: Ints, rq: Rows, b: int, q: int) -> tuple[int, int]:
    """Return how many leading blocks of a request's prompt are cached, and how many of those are free."""
    if st[b + R_CACHE] == 0:
        return 0, 0
    hit = 0
    free = 0
    path = st[H_PATH] + rq[q + Q_PATH]
    for k in range(rq[q + Q_PATH_LEN]):
        node = st[path + k]
        e = node_entry(st, b, node)
        have = st[e + E_BLOCKS]
        hit += have
        if st[e + E_HOLDERS] == 0:
            free += have
        if have < node_blocks(st, b, node):
            return hit, free
    e = own_entry(st, rq, b, q)
    if e >= 0 and st[e + E_HOLDERS] == 0:
        hit += st[e + E_BLOCKS]
        free += st[e + E_BLOCKS]
    return hit, free


@kernel
def hold_cached(st: Ints, rq: Rows, b: int, q: int, s: int) -> None:
    """Hold every cached leading block of a request's prompt for slot ``s``."""
    st[s + S_NODES] = 0
    st[s + S_CHAIN] = -1
    st[s + S_SHARED] = 0
    st[s + S_GIVES] = 1
    if st[b + R_CACHE] == 0:
        st[s + S_GIVES] = 0
        return
    path = st[H_PATH] + rq[q + Q_PATH]
    for k in range(rq[q + Q_PATH_LEN]):
        node = st[path + k]
        e = node_entry(st, b, node)
        if st[e + E_BLOCKS] == 0:
            return
        hold(st, b, e)
        st[s + S_NODES] = k + 1
        st[s + S_SHARED] += st[e + E_BLOCKS]
        if st[e + E_BLOCKS] < node_blocks(st, b, node):
            return
    e = own_entry(st, rq, b, q)
    if e >= 0 and st[e + E_BLOCKS] > 0 and st[e + E_HOLDERS] == 0:
        hold(st, b, e)
        st[s + S_CHAIN] = e
        st[s + S_SHARED] += st[e + E_BLOCKS]


@kernel
def extend(st: Ints, b: int, s: int, e: int, first: int, upto: int, limit: int) -> bool:
    """Move the slot's blocks up to block ``upto`` into entry ``e``, which begins at block ``first`` and has at
    most ``limit`` blocks. Returns whether the entry is full and the slot may go on to the next one.
    """
    start = st[s + S_SHARED]
    if start < first + st[e + E_BLOCKS]:
        st[s + S_GIVES] = 0
        return False
    more = min(upto - start, limit - st[e + E_BLOCKS])
    if more > 0:
        st[e + E_BLOCKS] += more
        st[s + S_SHARED] = start + more
        st[s + S_BLOCKS] -= more
    return st[e + E_BLOCKS] >= limit


@kernel
def publish(st: Ints, rq: Rows, b: int, q: int, s: int, upto: int) -> None:
    """Enter the full blocks that slot ``s`` has computed, up to ``upto``, into the cache."""
    if st[s + S_GIVES] == 0:
        return
    path = st[H_PATH] + rq[q + Q_PATH]
    k = max(st[s + S_NODES] - 1, 0)
    while k < rq[q + Q_PATH_LEN] and st[s + S_CHAIN] < 0:
        node = st[path + k]
        e = node_entry(st, b, node)
        if k >= st[s + S_NODES]:
            if st[s + S_SHARED] >= upto:
                return
            if st[e + E_BLOCKS] > 0 or st[e + E_HOLDERS] > 0:
                st[s + S_GIVES] = 0
                return
            st[e + E_HOLDERS] = 1
            st[s + S_NODES] = k + 1
        first = st[st[H_NODE] + 2 * node] // st[b + R_BLOCK]
        if not extend(st, b, s, e, first, upto, node_blocks(st, b, node)):
            return
        k += 1
    publish_own(st, rq, b, q, s, upto)


@kernel
def publish_own(st: Ints, rq: Rows, b: int, q: int, s: int, upto: int) -> None:
    """Enter the blocks beyond the shared nodes into the session's entry, if there is one."""
    e = st[s + S_CHAIN]
    if st[s + S_SHARED] >= upto:
        return
    if e < 0:
        if rq[q + Q_CHAIN] < 0:
            return
        e = own_entry(st, rq, b, q)
        if st[e + E_HOLDERS] > 0 or st[e + E_BLOCKS] > 0:
            st[s + S_GIVES] = 0
            return
        st[e + E_HOLDERS] = 1
        st[s + S_CHAIN] = e
    extend(st, b, s, e, st[s + S_SHARED] - st[e + E_BLOCKS], upto, 1 << 60)


@kernel
def keep_for_return(st: Ints, rq: Rows, b: int, i: int, s: int, full: int) -> None:
    """Keep the private full blocks of a preempted request cached under its own entry."""
    count = min(full - st[s + S_SHARED], st[s + S_BLOCKS])
    if count <= 0 or st[s + S_GIVES] == 0:
        return
    e = spare_entry(st)
    st[e + E_OWNER] = i + 1
    st[e + E_BLOCKS] = count
    st[e + E_HOLDERS] = 1
    st[s + S_BLOCKS] -= count
    st[s + S_SHARED] += count
    st[s + S_CHAIN] = e
    rq[i * Q_SIZE + Q_SELF] = e


@kernel
def forget_old(st: Ints, rq: Rows, q: int, held: int, comes_back: bool) -> None:
    """Turn what an earlier preemption left of a request into leftovers, unless it is of use again."""
    e = rq[q + Q_SELF]
    if e >= 0 and (e != held or not comes_back):
        st[e + E_OWNER] = -1
        rq[q + Q_SELF] = -1


@kernel
def release(st: Ints, rq: Rows, b: int, i: int, s: int, computed: int, comes_back: bool) -> None:
    """Free all blocks of slot ``s``, the last of its sequence first.

    ``computed`` is the number of tokens whose KV it holds; a preempted request (``comes_back``) may find what is
    left of its blocks later.
    Blocks of the answer enter the cache only here. Engines enter each as soon as it is full; that makes no difference,
    because nothing but the dialogue's next call asks for them, and that call waits for the answer.
    """
    q = i * Q_SIZE
    full = computed // st[b + R_BLOCK]
    forget_old(st, rq, q, st[s + S_CHAIN], comes_back)
    if st[b + R_CACHE]:
        publish(st, rq, b, q, s, full)
        if comes_back and st[s + S_CHAIN] < 0 and rq[q + Q_CHAIN] < 0:
            keep_for_return(st, rq, b, i, s, full)
    discard(st, b, st[s + S_BLOCKS])
    e = st[s + S_CHAIN]
    if e >= 0:
        let_go(st, b, e)
    path = st[H_PATH] + rq[q + Q_PATH]
    for k in range(st[s + S_NODES] - 1, -1, -1):
        let_go(st, b, node_entry(st, b, st[path + k]))
    st[s + S_STATE] = SLOT_FREE


@kernel
def retire(st: Ints, b: int, e: int) -> None:
    """Turn the cached blocks of entry ``e``, a dialogue that has ended, into leftovers where they stand in the list."""
    if st[e + E_BLOCKS] == 0:
        return
    s = spare_entry(st)
    p = st[e + E_PREV]
    n = st[e + E_NEXT]
    st[s + E_PREV] = p
    st[s + E_NEXT] = n
    st[s + E_BLOCKS] = st[e + E_BLOCKS]
    if p >= 0:
        st[p + E_NEXT] = s
    else:
        st[b + R_HEAD] = s
    if n >= 0:
        st[n + E_PREV] = s
    else:
        st[b + R_TAIL] = s
    st[e + E_BLOCKS] = 0

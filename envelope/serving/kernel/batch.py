"""Who is in the batch: admission, chunks of prefill, growth of the KV blocks and preemption."""

from envelope.serving.kernel.adapters import begin_use, end_use
from envelope.serving.kernel.blocks import cached_blocks, hold_cached, publish, release, take
from envelope.serving.kernel.clock import prefill_total
from envelope.serving.kernel.drafts import draft_blocks, draft_need, steps_to_end, take_drafts
from envelope.serving.kernel.heaps import dequeue, enqueue, first_waiting, push_finish, remove_finish
from envelope.serving.kernel.layout import (
    BLOCKED_ADAPTER,
    BLOCKED_BUDGET,
    BLOCKED_KV,
    BLOCKED_NOT,
    BLOCKED_SEQS,
    BLOCKED_STATIC,
    F_LAST,
    F_SIZE,
    FLAG_READY,
    P_PREFILL_TOKEN_S,
    Q_CLASS,
    Q_FLAGS,
    Q_GENERATED,
    Q_HIT,
    Q_INPUT,
    Q_LEVEL,
    Q_OUTPUT,
    Q_PREEMPTIONS,
    Q_SIZE,
    R_ADMITTED,
    R_BLOCK,
    R_BLOCKED,
    R_CHUNKED,
    R_CLASS,
    R_CURRENT,
    R_DECODES,
    R_DRAFT,
    R_FIXED,
    R_FREE,
    R_FRESH,
    R_HEAP,
    R_PEAK_RUNNING,
    R_PHASE,
    R_PREEMPTIONS,
    R_RUNNING,
    R_SEQS,
    R_SLOT,
    R_SLOTS_FREE,
    R_STATIC,
    R_STEP,
    R_TABLE,
    R_TOKENS_HIT,
    R_TOKENS_IN,
    R_WAITING,
    S_ADMITTED,
    S_BASE_STEP,
    S_BLOCKS,
    S_CONTEXT,
    S_DONE,
    S_DUPLICATE,
    S_FINISH,
    S_MADE,
    S_PHASE,
    S_REQUEST,
    S_SHARED,
    S_SIZE,
    S_STATE,
    S_TARGET,
    SLOT_DECODE,
    SLOT_FREE,
    SLOT_FRESH,
    SLOT_PREFILL,
    X_ATTENTION,
    X_CONTEXT,
)
from envelope.serving.kernel.marks import kernel
from envelope.serving.kernel.types import Floats, Ints, Rows


@kernel
def grown_blocks(st: Ints, s: int, b: int, steps: int) -> int:
    """Return the blocks that slot ``s`` has needed in its first ``steps`` decode steps."""
    block = st[b + R_BLOCK]
    c = st[s + S_PHASE]
    return (c + steps + block - 1) // block - (c + block - 1) // block


@kernel
def growth_need(st: Ints, b: int, steps: int) -> int:
    """Return the blocks that all decoding sequences need together in the next ``steps`` steps."""
    block = st[b + R_BLOCK]
    phase = st[b + R_PHASE]
    need = (steps // block) * st[b + R_DECODES]
    g = st[b + R_STEP]
    for j in range(steps % block):
        need += st[phase + (-(g + j)) % block]
    return need


@kernel
def steps_with_room(st: Ints, b: int, most: int) -> int:
    """Return how many decode steps, at most ``most``, the free blocks allow."""
    n = st[b + R_DECODES]
    free = st[b + R_FREE]
    if n == 0 or growth_need(st, b, most) <= free:
        return most
    block = st[b + R_BLOCK]
    steps = (free // n) * block
    free -= (free // n) * n
    g = st[b + R_STEP] + steps
    while steps < most:
        need = st[st[b + R_PHASE] + (-g) % block]
        if need > free:
            return steps
        free -= need
        steps += 1
        g += 1
    return most


@kernel
def made_now(st: Ints, b: int, s: int) -> int:
    """Return the tokens that slot ``s`` has produced since it began to decode."""
    if st[b + R_DRAFT] > 0:
        return st[s + S_MADE]
    return st[b + R_STEP] - st[s + S_BASE_STEP]


@kernel
def generated_now(st: Ints, rq: Rows, b: int, s: int) -> int:
    """Return the tokens that the sequence of slot ``s`` has produced so far."""
    done = rq[st[s + S_REQUEST] * Q_SIZE + Q_GENERATED]
    if st[s + S_STATE] == SLOT_DECODE:
        done += made_now(st, b, s)
    return done


@kernel
def begin_decode(st: Ints, sx: Floats, rq: Rows, rx: Floats, b: int, x: int, s: int, t: float) -> None:
    """Turn slot ``s``, whose prompt is in the KV cache, into a decoding one."""
    i = st[s + S_REQUEST]
    q = i * Q_SIZE
    context = st[s + S_TARGET]
    block = st[b + R_BLOCK]
    steps = rq[q + Q_OUTPUT] - rq[q + Q_GENERATED]
    if st[b + R_DRAFT] > 0:
        steps = steps_to_end(st, sx, rq, rx, b, x, i)
    st[s + S_STATE] = SLOT_DECODE
    st[s + S_MADE] = 0
    st[s + S_CONTEXT] = context
    st[s + S_BASE_STEP] = st[b + R_STEP]
    st[s + S_FINISH] = st[b + R_STEP] + steps
    st[s + S_PHASE] = context % block
    st[st[b + R_PHASE] + (st[s + S_PHASE] - st[b + R_STEP]) % block] += 1
    st[st[b + R_CLASS] + rq[q + Q_CLASS]] += 1
    sx[x + X_CONTEXT] += context
    st[b + R_DECODES] += 1
    push_finish(st, b, s)


@kernel
def end_decode(st: Ints, sx: Floats, rq: Rows, b: int, x: int, s: int) -> None:
    """Take slot ``s`` out of the decoding ones (not out of the completion heap)."""
    made = made_now(st, b, s)
    if st[b + R_DRAFT] == 0:
        st[s + S_BLOCKS] += grown_blocks(st, s, b, made)
    st[st[b + R_PHASE] + (st[s + S_PHASE] - st[s + S_BASE_STEP]) % st[b + R_BLOCK]] -= 1
    st[st[b + R_CLASS] + rq[st[s + S_REQUEST] * Q_SIZE + Q_CLASS]] -= 1
    sx[x + X_CONTEXT] -= st[s + S_CONTEXT] + made
    st[b + R_DECODES] -= 1
    if st[b + R_DECODES] == 0:
        sx[x + X_CONTEXT] = 0.0


@kernel
def free_slot(st: Ints, rq: Rows, b: int, s: int, computed: int, comes_back: bool) -> None:
    """Give back the blocks and the place of slot ``s``."""
    release(st, rq, b, st[s + S_REQUEST], s, computed, comes_back)
    end_use(st, rq, b, st[s + S_REQUEST])
    st[s + S_REQUEST] = st[b + R_SLOTS_FREE]
    st[b + R_SLOTS_FREE] = s
    st[b + R_RUNNING] -= 1


@kernel
def youngest(st: Ints, rq: Rows, b: int) -> int:
    """Return the running slot that is preempted first: lowest priority, then latest admitted."""
    best = -1
    for k in range(st[b + R_SEQS]):
        s = st[b + R_SLOT] + k * S_SIZE
        if st[s + S_STATE] == SLOT_FREE:
            continue
        if best < 0:
            best = s
            continue
        level = rq[st[s + S_REQUEST] * Q_SIZE + Q_LEVEL]
        worst = rq[st[best + S_REQUEST] * Q_SIZE + Q_LEVEL]
        if level > worst or (level == worst and st[s + S_ADMITTED] > st[best + S_ADMITTED]):
            best = s
    return best


@kernel
def evict_slot(st: Ints, sx: Floats, rq: Rows, rx: Floats, b: int, x: int, s: int, t: float) -> None:
    """Take slot ``s`` out of the batch; what it computed is lost unless its blocks stay cached."""
    i = st[s + S_REQUEST]
    q = i * Q_SIZE
    computed = st[s + S_DONE]
    if st[s + S_STATE] == SLOT_DECODE:
        tokens = generated_now(st, rq, b, s)
        computed = st[s + S_CONTEXT] + made_now(st, b, s)
        remove_finish(st, b, s)
        end_decode(st, sx, rq, b, x, s)
        rq[q + Q_GENERATED] = tokens
        rx[i * F_SIZE + F_LAST] = t
    if s == st[b + R_CURRENT]:
        st[b + R_CURRENT] = -1
    free_slot(st, rq, b, s, computed, True)


@kernel
def preempt(st: Ints, sx: Floats, rq: Rows, rx: Floats, b: int, x: int, s: int, t: float) -> None:
    """Send slot ``s`` back to the front of the queue; it will be recomputed."""
    i = st[s + S_REQUEST]
    evict_slot(st, sx, rq, rx, b, x, s, t)
    rq[i * Q_SIZE + Q_PREEMPTIONS] += 1
    rq[i * Q_SIZE + Q_FLAGS] &= ~FLAG_READY
    st[b + R_PREEMPTIONS] += 1
    enqueue(st, rq, b, i, True)


@kernel
def make_room(st: Ints, sx: Floats, rq: Rows, rx: Floats, b: int, x: int, t: float) -> int:
    """Preempt until every decoding sequence can take its next block, and take them; returns how many went."""
    gone = 0
    drafts = st[b + R_DRAFT] > 0
    while st[b + R_DECODES] > 0:
        need = draft_need(st, b) if drafts else growth_need(st, b, 1)
        if need <= st[b + R_FREE]:
            if drafts:
                take_drafts(st, rq, b)
            else:
                take(st, rq, b, need)
            return gone
        preempt(st, sx, rq, rx, b, x, youngest(st, rq, b), t)
        gone += 1
    return gone


@kernel
def compute_chunk(st: Ints, sx: Floats, rq: Rows, tb: Floats, b: int, x: int, s: int, tokens: int) -> bool:
    """Compute ``tokens`` more prompt tokens of slot ``s`` in the step; returns False if blocks are short."""
    i = st[s + S_REQUEST]
    q = i * Q_SIZE
    block = st[b + R_BLOCK]
    done = st[s + S_DONE]
    have = st[s + S_BLOCKS] + st[s + S_SHARED] - st[s + S_DUPLICATE]
    need = (done + tokens + block - 1) // block + st[b + R_FIXED] - have
    if need > st[b + R_FREE]:
        return False
    if need > 0:
        take(st, rq, b, need)
        st[s + S_BLOCKS] += need
    st[s + S_DONE] = done + tokens
    st[b + R_TOKENS_IN] += tokens
    publish(st, rq, b, q, s, (done + tokens) // block)
    p = st[b + R_TABLE]
    sx[x + X_ATTENTION] += prefill_total(tb, p, float(done + tokens)) - prefill_total(tb, p, float(done))
    sx[x + X_ATTENTION] += tb[p + P_PREFILL_TOKEN_S] * tokens
    return True


@kernel
def settle_chunk(st: Ints, b: int, s: int) -> None:
    """Note whether slot ``s`` has its whole prompt after this step or goes on with the next chunk."""
    if st[s + S_DONE] >= st[s + S_TARGET]:
        st[s + S_STATE] = SLOT_FRESH
        st[st[b + R_HEAP] + st[b + R_SEQS] + st[b + R_FRESH]] = s
        st[b + R_FRESH] += 1
        st[b + R_CURRENT] = -1
    else:
        st[b + R_CURRENT] = s


@kernel
def open_slot(st: Ints, sx: Floats, rq: Rows, b: int, x: int, i: int) -> int:
    """Give request ``i`` a slot and hold the cached beginning of its prompt."""
    q = i * Q_SIZE
    s = st[b + R_SLOTS_FREE]
    st[b + R_SLOTS_FREE] = st[s + S_REQUEST]
    st[s + S_REQUEST] = i
    st[s + S_BLOCKS] = 0
    st[s + S_STATE] = SLOT_PREFILL
    st[s + S_TARGET] = rq[q + Q_INPUT] + rq[q + Q_GENERATED]
    hold_cached(st, rq, b, q, s)
    begin_use(st, sx, rq, b, x, i)
    block = st[b + R_BLOCK]
    usable = min(st[s + S_SHARED], (st[s + S_TARGET] - 1) // block)
    st[s + S_DUPLICATE] = st[s + S_SHARED] - usable
    st[s + S_DONE] = usable * block
    st[s + S_ADMITTED] = st[b + R_ADMITTED]
    st[b + R_ADMITTED] += 1
    st[b + R_RUNNING] += 1
    st[b + R_PEAK_RUNNING] = max(st[b + R_PEAK_RUNNING], st[b + R_RUNNING])
    if rq[q + Q_GENERATED] == 0:
        rq[q + Q_HIT] = st[s + S_DONE]
        st[b + R_TOKENS_HIT] += st[s + S_DONE]
    return s


@kernel
def admission_need(st: Ints, rq: Rows, b: int, i: int, budget: int) -> tuple[int, int]:
    """Return the tokens of the first chunk of request ``i`` and the free blocks that it takes."""
    q = i * Q_SIZE
    block = st[b + R_BLOCK]
    target = rq[q + Q_INPUT] + rq[q + Q_GENERATED]
    hit, free_hit = cached_blocks(st, rq, b, q)
    usable = min(hit, (target - 1) // block)
    left = target - usable * block
    tokens = left if st[b + R_CHUNKED] == 0 else min(left, budget)
    blocks = (usable * block + tokens + block - 1) // block - usable
    return tokens, blocks + free_hit + st[b + R_FIXED]


@kernel
def take_first(st: Ints, rq: Rows, b: int, s: int) -> None:
    """Allocate what slot ``s``, which begins to decode while a step is put together, needs for that step."""
    if st[b + R_DRAFT] > 0:
        need = draft_blocks(st, b, s)
        st[s + S_BLOCKS] += need
    else:
        need = grown_blocks(st, s, b, 1)
    if need > 0:
        take(st, rq, b, need)


@kernel
def admit_ready(st: Ints, sx: Floats, rq: Rows, rx: Floats, b: int, x: int, i: int, t: float) -> bool:
    """Admit a request whose KV came from a prefill replica; returns False if blocks are short."""
    q = i * Q_SIZE
    block = st[b + R_BLOCK]
    target = rq[q + Q_INPUT]
    need = (target + 1 + st[b + R_DRAFT] + block - 1) // block + st[b + R_FIXED]
    if need > st[b + R_FREE]:
        return False
    dequeue(st, rq, b, i)
    s = open_slot(st, sx, rq, b, x, i)
    need = (target + block - 1) // block + st[b + R_FIXED] - st[s + S_SHARED]
    take(st, rq, b, need)
    st[s + S_BLOCKS] = need
    st[s + S_DUPLICATE] = 0
    st[s + S_TARGET] = target
    st[s + S_DONE] = target
    publish(st, rq, b, q, s, target // block)
    begin_decode(st, sx, rq, rx, b, x, s, t)
    if st[b + R_CHUNKED]:
        take_first(st, rq, b, s)
    return True


@kernel
def admit_waiting(
    st: Ints, sx: Floats, rq: Rows, rx: Floats, tb: Floats, b: int, x: int, t: float, budget: int, tokens: int
) -> int:
    """Admit waiting requests in order while tokens, places and blocks last; returns the step's prompt tokens."""
    st[b + R_BLOCKED] = BLOCKED_NOT
    if st[b + R_STATIC] and st[b + R_RUNNING] > 0:
        st[b + R_BLOCKED] = BLOCKED_STATIC
        return tokens
    while st[b + R_WAITING] > 0 and st[b + R_CURRENT] < 0:
        i = first_waiting(st, rq, b)
        if i < 0:
            st[b + R_BLOCKED] = BLOCKED_ADAPTER
            return tokens
        if st[b + R_RUNNING] >= st[b + R_SEQS]:
            st[b + R_BLOCKED] = BLOCKED_SEQS
            return tokens
        if budget - tokens <= 0:
            st[b + R_BLOCKED] = BLOCKED_BUDGET
            return tokens
        if rq[i * Q_SIZE + Q_FLAGS] & FLAG_READY:
            if not admit_ready(st, sx, rq, rx, b, x, i, t):
                st[b + R_BLOCKED] = BLOCKED_KV
                return tokens
            budget -= 1 + st[b + R_DRAFT]
            continue
        chunk, need = admission_need(st, rq, b, i, budget - tokens)
        if st[b + R_CHUNKED] == 0 and tokens > 0 and chunk > budget - tokens:
            st[b + R_BLOCKED] = BLOCKED_BUDGET
            return tokens
        if need > st[b + R_FREE]:
            st[b + R_BLOCKED] = BLOCKED_KV
            return tokens
        dequeue(st, rq, b, i)
        s = open_slot(st, sx, rq, b, x, i)
        compute_chunk(st, sx, rq, tb, b, x, s, chunk)
        settle_chunk(st, b, s)
        tokens += chunk
    if st[b + R_WAITING] > 0:
        st[b + R_BLOCKED] = BLOCKED_BUDGET
    return tokens

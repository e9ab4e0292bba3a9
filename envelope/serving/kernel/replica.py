"""One replica: putting a step together, letting many decode steps pass at once, and what a step's end brings."""

from envelope.serving.kernel.adapters import adapter_time, lose_adapters
from envelope.serving.kernel.batch import (
    admit_waiting,
    begin_decode,
    compute_chunk,
    end_decode,
    evict_slot,
    free_slot,
    growth_need,
    make_room,
    preempt,
    settle_chunk,
    steps_with_room,
)  # fmt: skip
from envelope.serving.kernel.blocks import discard, take
from envelope.serving.kernel.clock import count_one_gap, count_run, decode_sum, run_time, token_time
from envelope.serving.kernel.drafts import advance_drafts
from envelope.serving.kernel.heaps import dequeue, first_queued, sift_down
from envelope.serving.kernel.layout import (
    BLOCKED_PREEMPTED,
    F_FIRST,
    F_LAST,
    F_SIZE,
    KIND_DECODE,
    KIND_IDLE,
    KIND_MIXED,
    KIND_WAKE,
    NEVER,
    P_DECODE,
    P_LIMIT,
    P_MAX_SEQS,
    P_MAX_TOKENS,
    P_POWER,
    P_PREFILL_S,
    P_SAMPLED,
    P_STEP_S,
    Q_CLASS,
    Q_GENERATED,
    Q_INPUT,
    Q_OUTPUT,
    Q_SIZE,
    R_BLOCKED,
    R_BLOCKS,
    R_BUDGET,
    R_CHUNKED,
    R_CURRENT,
    R_DECODES,
    R_DRAFT,
    R_FREE,
    R_FRESH,
    R_HEAP,
    R_HEAPED,
    R_KIND,
    R_MOVING,
    R_PEAK_BLOCKS,
    R_PREFILL,
    R_ROLE,
    R_SEQS,
    R_SLOT,
    R_STEP,
    R_STEPS,
    R_TABLE,
    R_WAITING,
    ROLE_PREFILL,
    S_DONE,
    S_FINISH,
    S_REQUEST,
    S_SIZE,
    S_STATE,
    S_TARGET,
    SLOT_FREE,
    X_ATTENTION,
    X_BASE,
    X_BLOCKED,
    X_BOUND,
    X_BUSY,
    X_CONTEXT,
    X_ENERGY,
    X_LOADING,
    X_POWER,
    X_START,
    X_TIME,
)
from envelope.serving.kernel.leave import back_to_router, leave_replica
from envelope.serving.kernel.marks import kernel
from envelope.serving.kernel.types import Floats, Ints, Rows


@kernel
def schedule(st: Ints, sx: Floats, rq: Rows, rx: Floats, tb: Floats, b: int, x: int, t: float) -> None:
    """Put the next step together at time ``t``: decodes first, then the cut prompt, then waiting requests."""
    st[b + R_FRESH] = 0
    sx[x + X_ATTENTION] = 0.0
    sx[x + X_LOADING] = 0.0
    tokens = 0
    draft = 1 + st[b + R_DRAFT]
    if st[b + R_CHUNKED] == 0:
        tokens = admit_waiting(st, sx, rq, rx, tb, b, x, t, st[b + R_BUDGET], 0)
        if tokens > 0:
            start_step(st, sx, tb, b, x, t, tokens, 0)
            return
    gone = make_room(st, sx, rq, rx, b, x, t)
    if st[b + R_CHUNKED]:
        budget = st[b + R_BUDGET] - st[b + R_DECODES] * draft
        s = st[b + R_CURRENT]
        if s >= 0 and budget > 0:
            chunk = min(budget, st[s + S_TARGET] - st[s + S_DONE])
            if compute_chunk(st, sx, rq, tb, b, x, s, chunk):
                tokens = chunk
                settle_chunk(st, b, s)
            else:
                preempt(st, sx, rq, rx, b, x, s, t)
                gone += 1
        if gone == 0:
            tokens = admit_waiting(st, sx, rq, rx, tb, b, x, t, budget, tokens)
    if gone > 0:
        st[b + R_BLOCKED] = BLOCKED_PREEMPTED
    start_step(st, sx, tb, b, x, t, tokens, st[b + R_DECODES])


@kernel
def start_step(st: Ints, sx: Floats, tb: Floats, b: int, x: int, t: float, tokens: int, moving: int) -> None:
    """Begin a step of ``tokens`` prompt tokens and ``moving`` decodes, or a run of pure decode steps."""
    p = st[b + R_TABLE]
    sx[x + X_START] = t
    st[b + R_MOVING] = moving
    st[b + R_STEPS] = 1
    if tokens == 0 and moving == 0:
        st[b + R_KIND] = KIND_IDLE
        sx[x + X_TIME] = NEVER
        return
    m = moving * (1 + st[b + R_DRAFT]) + tokens
    sampled = min(moving + st[b + R_FRESH], int(tb[p + P_MAX_SEQS]))
    base = tb[p + P_STEP_S] + token_time(tb, p, m) + tb[int(tb[p + P_SAMPLED]) + sampled]
    base += tb[int(tb[p + P_DECODE]) + moving] + adapter_time(st, sx, b, x)
    top = min(m, int(tb[p + P_MAX_TOKENS]))
    sx[x + X_POWER] = tb[int(tb[p + P_POWER]) + top]
    st[b + R_PREFILL] = tokens
    sx[x + X_BASE] = base
    if tokens == 0:
        st[b + R_KIND] = KIND_DECODE
        left = st[st[st[b + R_HEAP]] + S_FINISH] - st[b + R_STEP]
        if st[b + R_BLOCKED] != BLOCKED_PREEMPTED and st[b + R_DRAFT] == 0 and sx[x + X_LOADING] == 0.0:
            st[b + R_STEPS] = 1 + steps_with_room_after(st, b, left - 1)
        sx[x + X_TIME] = t + run_time(st, sx, tb, b, x, st[b + R_STEPS])
        return
    st[b + R_KIND] = KIND_MIXED
    spent = base + tb[p + P_PREFILL_S] + sx[x + X_ATTENTION]
    if moving > 0:
        spent += moving * decode_sum(tb, p, moving, sx[x + X_CONTEXT] / moving + 1.0, 1)
    sx[x + X_TIME] = t + spent


@kernel
def steps_with_room_after(st: Ints, b: int, most: int) -> int:
    """Return how many steps beyond the first, whose blocks are taken, the free blocks allow."""
    st[b + R_STEP] += 1
    steps = steps_with_room(st, b, most)
    st[b + R_STEP] -= 1
    return steps


@kernel
def account(st: Ints, sx: Floats, tb: Floats, b: int, x: int, t: float) -> None:
    """Add the time since the segment's start to busy time, energy and what limited it."""
    spent = t - sx[x + X_START]
    if st[b + R_KIND] == KIND_IDLE or st[b + R_KIND] == KIND_WAKE:
        return
    p = st[b + R_TABLE]
    sx[x + X_BUSY] += spent
    sx[x + X_ENERGY] += spent * sx[x + X_POWER]
    m = st[b + R_MOVING] * (1 + st[b + R_DRAFT]) + st[b + R_PREFILL]
    top = min(m, int(tb[p + P_MAX_TOKENS]))
    sx[x + X_BOUND + int(tb[int(tb[p + P_LIMIT]) + top])] += spent
    if st[b + R_WAITING] > 0:
        sx[x + X_BLOCKED + st[b + R_BLOCKED]] += spent


@kernel
def finish_step(st: Ints, sx: Floats, rq: Rows, rx: Floats, tb: Floats, b: int, x: int) -> None:
    """End the segment under way: tokens come out, prompts turn into decodes, sequences end."""
    t = sx[x + X_TIME]
    steps = st[b + R_STEPS]
    account(st, sx, tb, b, x, t)
    moving = st[b + R_MOVING]
    if steps > 1:
        take_growth(st, rq, b, steps - 1)
    st[b + R_PEAK_BLOCKS] = max(st[b + R_PEAK_BLOCKS], st[b + R_BLOCKS] - st[b + R_FREE])
    if moving > 0:
        count_run(st, sx, tb, b, x, steps, t - sx[x + X_START])
        if st[b + R_DRAFT] > 0:
            advance_drafts(st, sx, rq, rx, b, x)
        else:
            sx[x + X_CONTEXT] += moving * steps
        st[b + R_STEP] += steps
        finish_decodes(st, sx, rq, rx, b, x, t)
    if st[b + R_KIND] == KIND_MIXED:
        finish_prompts(st, sx, rq, rx, b, x, t)
    st[b + R_KIND] = KIND_IDLE


@kernel
def take_growth(st: Ints, rq: Rows, b: int, steps: int) -> None:
    """Allocate the blocks of ``steps`` decode steps of all decoding sequences after the one under way."""
    need = growth_after_first(st, b, steps)
    if need > 0:
        take(st, rq, b, need)


@kernel
def growth_after_first(st: Ints, b: int, steps: int) -> int:
    """Return the blocks of ``steps`` decode steps after the first of the segment, whose blocks are taken."""
    st[b + R_STEP] += 1
    need = growth_need(st, b, steps)
    st[b + R_STEP] -= 1
    return need


@kernel
def finish_decodes(st: Ints, sx: Floats, rq: Rows, rx: Floats, b: int, x: int, t: float) -> None:
    """Let every sequence leave whose last token came with the steps just done."""
    h = st[b + R_HEAP]
    while st[b + R_HEAPED] > 0 and st[st[h] + S_FINISH] <= st[b + R_STEP]:
        s = st[h]
        n = st[b + R_HEAPED] - 1
        st[b + R_HEAPED] = n
        st[h] = st[h + n]
        sift_down(st, h, n, 0)
        i = st[s + S_REQUEST]
        end_decode(st, sx, rq, b, x, s)
        computed = rq[i * Q_SIZE + Q_INPUT] + rq[i * Q_SIZE + Q_OUTPUT] - 1
        free_slot(st, rq, b, s, computed, False)
        leave_replica(st, sx, rq, rx, b, x, i, t)


@kernel
def finish_prompts(st: Ints, sx: Floats, rq: Rows, rx: Floats, b: int, x: int, t: float) -> None:
    """Give every sequence whose prompt is complete its next token and let it decode or leave."""
    at = st[b + R_HEAP] + st[b + R_SEQS]
    for k in range(st[b + R_FRESH]):
        s = st[at + k]
        i = st[s + S_REQUEST]
        q = i * Q_SIZE
        f = i * F_SIZE
        if rq[q + Q_GENERATED] == 0:
            rx[f + F_FIRST] = t
        else:
            count_one_gap(st, sx, rq[q + Q_CLASS], t - rx[f + F_LAST])
        rq[q + Q_GENERATED] += 1
        rx[f + F_LAST] = t
        if rq[q + Q_GENERATED] >= rq[q + Q_OUTPUT] or st[b + R_ROLE] == ROLE_PREFILL:
            free_slot(st, rq, b, s, st[s + S_TARGET], False)
            leave_replica(st, sx, rq, rx, b, x, i, t)
        else:
            begin_decode(st, sx, rq, rx, b, x, s, t)
    st[b + R_FRESH] = 0


@kernel
def empty_replica(st: Ints, sx: Floats, rq: Rows, rx: Floats, tb: Floats, b: int, x: int, t: float) -> None:
    """Stop a replica at once: its step, batch and cache are lost. Its requests arrive at the router again."""
    account(st, sx, tb, b, x, t)
    serving = st[b + R_KIND] == KIND_MIXED or st[b + R_KIND] == KIND_DECODE
    if st[b + R_MOVING] > 0 and serving and st[b + R_DRAFT] == 0:
        discard(st, b, growth_need(st, b, 1))
    st[b + R_FRESH] = 0
    for k in range(st[b + R_SEQS]):
        s = st[b + R_SLOT] + k * S_SIZE
        if st[s + S_STATE] != SLOT_FREE:
            i = st[s + S_REQUEST]
            evict_slot(st, sx, rq, rx, b, x, s, t)
            back_to_router(st, sx, rq, b, i, t, True)
    release_queue(st, sx, rq, b, t)
    lose_adapters(st, b)
    count = st[b + R_FREE]
    take(st, rq, b, count)
    discard(st, b, count)
    st[b + R_KIND] = KIND_IDLE
    sx[x + X_TIME] = NEVER


@kernel
def release_queue(st: Ints, sx: Floats, rq: Rows, b: int, t: float) -> None:
    """Send all waiting requests of a replica back to the router."""
    while st[b + R_WAITING] > 0:
        i = first_queued(st, b)
        dequeue(st, rq, b, i)
        back_to_router(st, sx, rq, b, i, t, rq[i * Q_SIZE + Q_GENERATED] > 0)

"""One replica: putting a step together, letting many decode steps pass at once, and what a step's end brings."""

from envelope.serving.compiled import kernel
from envelope.serving.kernel.batch import (
    admit_waiting, begin_decode, compute_chunk, end_decode, evict_slot, free_slot, make_room, preempt, settle_chunk,
    steps_with_room,
)  # fmt: skip
from envelope.serving.kernel.blocks import discard, take
from envelope.serving.kernel.clock import count_one_gap, count_run, decode_sum, run_time, steps_until, token_time
from envelope.serving.kernel.heaps import dequeue, first_waiting, push_event, sift_down
from envelope.serving.kernel.layout import *  # noqa: F403


@kernel
def schedule(st, sx, rq, rx, tb, b, x, t):
    """Put the next step together at time ``t``: decodes first, then the cut prompt, then waiting requests."""
    st[b + R_FRESH] = 0
    sx[x + X_ATTENTION] = 0.0
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
    start_step(st, sx, tb, b, x, t, tokens, st[b + R_DECODES])


@kernel
def start_step(st, sx, tb, b, x, t, tokens, moving):
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
    base += tb[int(tb[p + P_DECODE]) + moving]
    top = min(m, int(tb[p + P_MAX_TOKENS]))
    sx[x + X_POWER] = tb[int(tb[p + P_POWER]) + top]
    st[b + R_PREFILL] = tokens
    sx[x + X_BASE] = base
    if tokens == 0:
        st[b + R_KIND] = KIND_DECODE
        left = st[st[st[b + R_HEAP]] + S_FINISH] - st[b + R_STEP]
        st[b + R_STEPS] = 1 + steps_with_room_after(st, b, left - 1)
        sx[x + X_TIME] = t + run_time(st, sx, tb, b, x, st[b + R_STEPS])
        return
    st[b + R_KIND] = KIND_MIXED
    spent = base + tb[p + P_PREFILL_S] + sx[x + X_ATTENTION]
    if moving > 0:
        spent += moving * decode_sum(tb, p, moving, sx[x + X_CONTEXT] / moving + 1.0, 1.0, 1)
    sx[x + X_TIME] = t + spent


@kernel
def steps_with_room_after(st, b, most):
    """Return how many steps beyond the first, whose blocks are taken, the free blocks allow."""
    st[b + R_STEP] += 1
    steps = steps_with_room(st, b, most)
    st[b + R_STEP] -= 1
    return steps


@kernel
def cut_run(st, sx, tb, b, x, t):
    """End a run of decode steps with the step that is under way at time ``t``, for a newcomer."""
    if st[b + R_KIND] != KIND_DECODE or st[b + R_STEPS] == 1:
        return
    if st[b + R_RUNNING] >= st[b + R_SEQS] or (st[b + R_STATIC] and st[b + R_RUNNING] > 0):
        return
    steps = steps_until(st, sx, tb, b, x, t)
    if steps < st[b + R_STEPS]:
        st[b + R_STEPS] = steps
        sx[x + X_TIME] = sx[x + X_START] + run_time(st, sx, tb, b, x, steps)


@kernel
def account(st, sx, tb, b, x, t):
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
def finish_step(st, sx, rq, rx, tb, b, x):
    """End the segment under way: tokens come out, prompts turn into decodes, sequences end."""
    t = sx[x + X_TIME]
    steps = st[b + R_STEPS]
    account(st, sx, tb, b, x, t)
    moving = st[b + R_MOVING]
    if moving > 0:
        count_run(st, sx, tb, b, x, steps, t - sx[x + X_START])
        if steps > 1:
            st[b + R_STEP] += 1
            take_growth(st, rq, b, steps - 1)
            st[b + R_STEP] -= 1
        st[b + R_STEP] += steps
        sx[x + X_CONTEXT] += moving * steps * sx[x + X_GROWTH]
        finish_decodes(st, sx, rq, rx, b, x, t)
    if st[b + R_KIND] == KIND_MIXED:
        finish_prompts(st, sx, rq, rx, b, x, t)
    st[b + R_PEAK_BLOCKS] = max(st[b + R_PEAK_BLOCKS], st[b + R_BLOCKS] - st[b + R_FREE])
    st[b + R_KIND] = KIND_IDLE


@kernel
def take_growth(st, rq, b, steps):
    """Allocate the blocks of ``steps`` decode steps of all decoding sequences."""
    stride = st[b + R_STRIDE]
    need = (steps // stride) * st[b + R_DECODES]
    g = st[b + R_STEP]
    for j in range(steps % stride):
        need += st[st[b + R_PHASE] + (-(g + j)) % stride]
    if need > 0:
        take(st, rq, b, need)


@kernel
def finish_decodes(st, sx, rq, rx, b, x, t):
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
def finish_prompts(st, sx, rq, rx, b, x, t):
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
def leave_replica(st, sx, rq, rx, b, x, i, t):
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
    if st[H_POLICY] == ESCALATE and fails(st, sx, rq, rx, i, st[b + R_TIER]):
        rx[i * F_SIZE + F_LOCAL_S] = t - rx[i * F_SIZE + F_ARRIVAL]
        push_event(st, sx, t, EVENT_HOSTED_TRY, i)
        rq[q + Q_FLAGS] |= FLAG_ESCALATED
        return
    done(st, sx, rq, rx, i, t, STATUS_DONE)


@kernel
def may_enter(st, rq, i, inside):
    """Return whether request ``i`` may enter a place inside (1) or outside (0) the building.

    This is the only place that decides it: a replica takes requests, and the hosted API is called, after it alone.
    """
    return inside == 1 or st[H_PRIVATE_STAYS] == 0 or rq[i * Q_SIZE + Q_SENSITIVITY] < PRIVATE


@kernel
def fails(st, sx, rq, rx, i, tier):
    """Return whether a model of ``tier`` fails request ``i``: the same draw decides for every tier."""
    at = int(sx[G_FAIL]) + 3 * rq[i * Q_SIZE + Q_CLASS] + tier
    return rx[i * F_SIZE + F_UNIFORM] < sx[at]


@kernel
def done(st, sx, rq, rx, i, t, status):
    """End request ``i`` with ``status``; its session's next call or the load generator's next request follows."""
    q = i * Q_SIZE
    rx[i * F_SIZE + F_FINISH] = t
    rq[q + Q_STATUS] = status
    st[H_DONE] += 1
    j = rq[q + Q_FOLLOWER]
    if j >= 0:
        start = t + rx[j * F_SIZE + F_GAP]
        if start <= sx[G_END] and status == STATUS_DONE:
            rx[j * F_SIZE + F_ARRIVAL] = start
            rq[j * Q_SIZE + Q_HOME] = rq[q + Q_SERVER]
            push_event(st, sx, start, EVENT_ARRIVE, j)
        while j >= 0 and (start > sx[G_END] or status != STATUS_DONE):
            rq[j * Q_SIZE + Q_STATUS] = STATUS_CUT
            st[H_DONE] += 1
            j = rq[j * Q_SIZE + Q_FOLLOWER]
    k = st[H_LOADGEN]
    if k >= 0 and k < st[H_REQUESTS]:
        st[H_LOADGEN] = k + 1
        rx[k * F_SIZE + F_ARRIVAL] = t
        push_event(st, sx, t, EVENT_ARRIVE, k)


@kernel
def step_replica(st, sx, rq, rx, tb, b, x):
    """End the segment under way and start the next one."""
    t = sx[x + X_TIME]
    if st[b + R_KIND] == KIND_WAKE:
        st[b + R_KIND] = KIND_IDLE
    else:
        finish_step(st, sx, rq, rx, tb, b, x)
    schedule(st, sx, rq, rx, tb, b, x, t)


@kernel
def wake(st, sx, b, x, t):
    """Let an idle replica look at its queue at time ``t``."""
    if st[b + R_KIND] == KIND_IDLE:
        st[b + R_KIND] = KIND_WAKE
        sx[x + X_TIME] = t


@kernel
def empty_replica(st, sx, rq, rx, tb, b, x, t):
    """Stop a replica at once: its step, batch and cache are lost. Its requests arrive at the router again."""
    account(st, sx, tb, b, x, t)
    st[b + R_FRESH] = 0
    for k in range(st[b + R_SEQS]):
        s = st[b + R_SLOT] + k * S_SIZE
        if st[s + S_STATE] != SLOT_FREE:
            i = st[s + S_REQUEST]
            evict_slot(st, sx, rq, rx, b, x, s, t)
            back_to_router(st, sx, rq, b, i, t, True)
    release_queue(st, sx, rq, b, t)
    count = st[b + R_FREE]
    take(st, rq, b, count)
    discard(st, b, count)
    st[b + R_KIND] = KIND_IDLE
    sx[x + X_TIME] = NEVER


@kernel
def release_queue(st, sx, rq, b, t):
    """Send all waiting requests of a replica back to the router."""
    while st[b + R_WAITING] > 0:
        i = first_waiting(st, b)
        dequeue(st, rq, b, i)
        back_to_router(st, sx, rq, b, i, t, rq[i * Q_SIZE + Q_GENERATED] > 0)


@kernel
def back_to_router(st, sx, rq, b, i, t, lost):
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

"""The clock of a replica: one scheduler, or several data-parallel ranks that step together because they share experts.

Each rank has a batch, a queue and KV blocks of its own; a step of all of them lasts as long as that of the slowest.
"""

from envelope.serving.kernel.clock import run_time
from envelope.serving.kernel.layout import (
    KIND_DECODE,
    KIND_IDLE,
    KIND_MIXED,
    KIND_WAKE,
    NEVER,
    R_BLOCKS,
    R_FREE,
    R_KIND,
    R_LEADER,
    R_RANKS,
    R_RUNNING,
    R_SEQS,
    R_SIZE,
    R_STATIC,
    R_STEPS,
    X_SIZE,
    X_START,
    X_TIME,
)
from envelope.serving.kernel.marks import kernel
from envelope.serving.kernel.replica import finish_step, growth_after_first, schedule
from envelope.serving.kernel.types import Floats, Ints, Rows


@kernel
def step_replica(st: Ints, sx: Floats, rq: Rows, rx: Floats, tb: Floats, b: int, x: int) -> None:
    """End the segment under way and start the next one, of all ranks."""
    t = sx[x + X_TIME]
    ranks = st[b + R_RANKS]
    for k in range(ranks):
        kind = st[b + k * R_SIZE + R_KIND]
        if kind == KIND_WAKE:
            st[b + k * R_SIZE + R_KIND] = KIND_IDLE
        elif kind != KIND_IDLE:
            sx[x + k * X_SIZE + X_TIME] = t
            finish_step(st, sx, rq, rx, tb, b + k * R_SIZE, x + k * X_SIZE)
    for k in range(ranks):
        schedule(st, sx, rq, rx, tb, b + k * R_SIZE, x + k * X_SIZE, t)
    if ranks > 1:
        join_ranks(st, sx, tb, b, x, t)


@kernel
def join_ranks(st: Ints, sx: Floats, tb: Floats, b: int, x: int, t: float) -> None:
    """Let all ranks end their segment together: as many steps as every rank allows, as long as the slowest takes."""
    steps = 1 << 40
    for k in range(st[b + R_RANKS]):
        kind = st[b + k * R_SIZE + R_KIND]
        if kind in (KIND_MIXED, KIND_DECODE):
            steps = min(steps, st[b + k * R_SIZE + R_STEPS])
    if steps == 1 << 40:
        return
    end = t
    for k in range(st[b + R_RANKS]):
        at = x + k * X_SIZE
        if st[b + k * R_SIZE + R_KIND] == KIND_MIXED:
            end = max(end, sx[at + X_TIME])
        sx[at + X_TIME] = NEVER
    set_steps(st, b, steps)
    sx[x + X_TIME] = max(end, t + ranks_time(st, sx, tb, b, x, steps))


@kernel
def set_steps(st: Ints, b: int, steps: int) -> None:
    """Set the steps of the segment of every rank that only decodes."""
    for k in range(st[b + R_RANKS]):
        if st[b + k * R_SIZE + R_KIND] == KIND_DECODE:
            st[b + k * R_SIZE + R_STEPS] = steps


@kernel
def ranks_time(st: Ints, sx: Floats, tb: Floats, b: int, x: int, steps: int) -> float:
    """Return the time of ``steps`` decode steps of the slowest rank."""
    slowest = 0.0
    for k in range(st[b + R_RANKS]):
        if st[b + k * R_SIZE + R_KIND] == KIND_DECODE:
            slowest = max(slowest, run_time(st, sx, tb, b + k * R_SIZE, x + k * X_SIZE, steps))
    return slowest


@kernel
def cut_run(st: Ints, sx: Floats, tb: Floats, b: int, x: int, t: float) -> None:
    """End a run of decode steps with the step that is under way at time ``t``, for a newcomer to rank ``b``."""
    if st[b + R_RUNNING] >= st[b + R_SEQS] or (st[b + R_STATIC] and st[b + R_RUNNING] > 0):
        return
    leader = st[b + R_LEADER]
    first = x - (b - leader) // R_SIZE * X_SIZE
    start = NEVER
    steps = 1
    for k in range(st[b + R_RANKS]):
        kind = st[leader + k * R_SIZE + R_KIND]
        if kind == KIND_MIXED:
            return
        if kind == KIND_DECODE:
            start = sx[first + k * X_SIZE + X_START]
            steps = st[leader + k * R_SIZE + R_STEPS]
    low = step_under_way(st, sx, tb, leader, first, start, steps, t)
    if low < steps:
        set_steps(st, leader, low)
        sx[first + X_TIME] = start + ranks_time(st, sx, tb, leader, first, low)


@kernel
def step_under_way(st: Ints, sx: Floats, tb: Floats, b: int, x: int, start: float, steps: int, t: float) -> int:
    """Return which of the ``steps`` decode steps begun at ``start`` is under way at time ``t``, counted from 1.

    A step that ends at ``t`` is still under way. ``b`` and ``x`` are those of the replica's first rank.
    """
    low = 1
    high = steps
    while low < high:
        middle = (low + high) // 2
        if start + ranks_time(st, sx, tb, b, x, middle) >= t:
            high = middle
        else:
            low = middle + 1
    return low


@kernel
def blocks_held(st: Ints, sx: Floats, tb: Floats, b: int, x: int, t: float) -> int:
    """Return the KV blocks that rank ``b`` holds at time ``t``, those taken within a run of decode steps included."""
    held = st[b + R_BLOCKS] - st[b + R_FREE]
    steps = st[b + R_STEPS]
    if st[b + R_KIND] != KIND_DECODE or steps == 1:
        return held
    leader = st[b + R_LEADER]
    first = x - (b - leader) // R_SIZE * X_SIZE
    return held + growth_after_first(st, b, step_under_way(st, sx, tb, leader, first, sx[x + X_START], steps, t) - 1)


@kernel
def wake(st: Ints, sx: Floats, b: int, x: int, t: float) -> None:
    """Let an idle replica look at its queue at time ``t``."""
    leader = st[b + R_LEADER]
    first = x - (b - leader) // R_SIZE * X_SIZE
    if sx[first + X_TIME] >= NEVER:
        st[leader + R_KIND] = KIND_WAKE
        sx[first + X_TIME] = t

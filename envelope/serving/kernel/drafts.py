"""Speculative decoding: each sequence's tokens per step are random, so that its steps pass one by one."""

from envelope.serving.kernel.blocks import take
from envelope.serving.kernel.draws import uniform
from envelope.serving.kernel.layout import (
    Q_GENERATED,
    Q_OUTPUT,
    Q_SIZE,
    R_BLOCK,
    R_DRAFT,
    R_FIXED,
    R_HEAP,
    R_HEAPED,
    S_BLOCKS,
    S_CONTEXT,
    S_DUPLICATE,
    S_MADE,
    S_REQUEST,
    S_SHARED,
    X_ACCEPTANCE,
    X_CONTEXT,
)
from envelope.serving.kernel.marks import kernel
from envelope.serving.kernel.types import Floats, Ints, Rows


@kernel
def step_tokens(st: Ints, sx: Floats, rq: Rows, rx: Floats, b: int, x: int, i: int, generated: int) -> int:
    """Return the tokens of the step after which request ``i`` has more than ``generated`` tokens.

    Drafts are accepted one after the other, each with the same probability, until the first that is not; the model
    itself adds one token.
    """
    u = uniform(rx, i, generated)
    a = sx[x + X_ACCEPTANCE]
    p = a
    tokens = 1
    while tokens <= st[b + R_DRAFT] and u < p:
        tokens += 1
        p *= a
    return min(tokens, rq[i * Q_SIZE + Q_OUTPUT] - generated)


@kernel
def steps_to_end(st: Ints, sx: Floats, rq: Rows, rx: Floats, b: int, x: int, i: int) -> int:
    """Return the decode steps that request ``i`` needs until its last token."""
    generated = rq[i * Q_SIZE + Q_GENERATED]
    steps = 0
    while generated < rq[i * Q_SIZE + Q_OUTPUT]:
        generated += step_tokens(st, sx, rq, rx, b, x, i, generated)
        steps += 1
    return steps


@kernel
def advance_drafts(st: Ints, sx: Floats, rq: Rows, rx: Floats, b: int, x: int) -> None:
    """Let every decoding sequence gain the tokens of one step."""
    for k in range(st[b + R_HEAPED]):
        s = st[st[b + R_HEAP] + k]
        i = st[s + S_REQUEST]
        tokens = step_tokens(st, sx, rq, rx, b, x, i, rq[i * Q_SIZE + Q_GENERATED] + st[s + S_MADE])
        st[s + S_MADE] += tokens
        sx[x + X_CONTEXT] += tokens


@kernel
def draft_blocks(st: Ints, b: int, s: int) -> int:
    """Return the blocks that slot ``s`` lacks for one step: room for one token and all drafts."""
    tokens = st[s + S_CONTEXT] + st[s + S_MADE] + 1 + st[b + R_DRAFT]
    have = st[s + S_BLOCKS] + st[s + S_SHARED] - st[s + S_DUPLICATE]
    return max(0, (tokens + st[b + R_BLOCK] - 1) // st[b + R_BLOCK] + st[b + R_FIXED] - have)


@kernel
def draft_need(st: Ints, b: int) -> int:
    """Return the blocks that all decoding sequences lack for one step."""
    need = 0
    for k in range(st[b + R_HEAPED]):
        need += draft_blocks(st, b, st[st[b + R_HEAP] + k])
    return need


@kernel
def take_drafts(st: Ints, rq: Rows, b: int) -> None:
    """Allocate those blocks."""
    for k in range(st[b + R_HEAPED]):
        s = st[st[b + R_HEAP] + k]
        need = draft_blocks(st, b, s)
        if need > 0:
            take(st, rq, b, need)
            st[s + S_BLOCKS] += need

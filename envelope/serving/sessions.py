"""The calls of sessions: each one's prompt continues the context of the one before."""

from collections.abc import Callable

import numpy as np

from envelope.serving.requests import Columns, Floats, Ints, Mask
from envelope.serving.sampling import draw, draw_pair, draw_tokens
from envelope.spec.workload import Session, TaskClass

SERVICE_S = 6.0
"""Time that a call is taken to last when the state of sessions at the start is worked out."""


def session_calls(
    task: TaskClass, starts: Floats, rng_of: Callable[[str], np.random.Generator], span_s: float
) -> Columns:
    """Return the calls of sessions that begin at ``starts`` (negative: before the simulation).

    Of a session begun earlier, only the calls that would come after time 0 are kept, if each call took
    ``SERVICE_S``; the first of them starts the session. Calls that could not start within the span are left out.
    """
    spec = task.session
    assert spec is not None
    assert task.output_tokens is not None
    counts, opening = _calls_and_openings(spec, rng_of, len(starts))
    total = int(counts.sum())
    session = np.repeat(np.arange(len(starts)), counts)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    turn = np.arange(total) - first[session]
    gaps = _gaps(spec, rng_of, turn)
    output = draw_tokens(task.output_tokens, rng_of("output"), total)
    appended = draw_tokens(spec.appended_tokens, rng_of("appended"), total)
    if spec.early_growth_calls > 0:
        appended = np.rint(appended * (1.0 + spec.early_growth_calls / np.maximum(turn, 1))).astype(np.int64)
    opening = np.maximum(opening, task.system_prompt_tokens + 1)
    limits = _limits(spec, rng_of, opening)
    after = spec.compacted_tokens
    compacted = (
        np.full(total, int(after)) if isinstance(after, float) else draw_tokens(after, rng_of("compacted"), total)
    )
    tokens, prefixes = _contexts(compacted, limits, counts, first, opening, appended, output)
    if spec.lost_prefix_frac > 0:
        lost = (turn > 0) & (rng_of("lost prefixes").random(total) < spec.lost_prefix_frac)
        prefixes = prefixes + np.cumsum(lost) - np.cumsum(lost)[first[session]]
    ideal = _ideal_times(starts, session, turn, gaps, first)
    keep = (ideal >= 0) & (ideal - SERVICE_S * turn < span_s)
    begins = keep & ((turn == 0) | ~np.concatenate([[False], keep[:-1]]))
    return _kept(keep, begins, session, tokens, output, gaps, ideal, prefixes)


def _calls_and_openings(
    spec: Session, rng_of: Callable[[str], np.random.Generator], sessions: int
) -> tuple[Ints, Ints]:
    """Return the number of calls of each session and its first prompt, correlated through their normal scores."""
    streams = {"input": "calls", "output": "first input"}
    return draw_pair(
        spec.calls,
        spec.first_input_tokens,
        spec.calls_first_correlation_frac,
        lambda name: rng_of(streams[name]),
        sessions,
    )


def _gaps(spec: Session, rng_of: Callable[[str], np.random.Generator], turn: Ints) -> Floats:
    """Return the pause before each call: after a tool, or after a person has read and typed."""
    n = len(turn)
    gaps = draw(spec.gap_s, rng_of("gaps"), n)
    if spec.user_gap_s is not None and spec.user_gap_frac > 0:
        person = rng_of("who").random(n) < spec.user_gap_frac
        gaps = np.where(person, draw(spec.user_gap_s, rng_of("user gaps"), n), gaps)
    return np.where(turn == 0, 0.0, gaps)


def _limits(spec: Session, rng_of: Callable[[str], np.random.Generator], opening: Ints) -> Floats:
    """Return the context at which each session is compacted; one that opens beyond it has a window that holds more."""
    rule = spec.max_context_tokens
    if rule is None:
        return np.full(len(opening), np.inf)
    drawn = np.full(len(opening), rule) if isinstance(rule, float) else draw(rule, rng_of("limits"), len(opening))
    limits: Floats = np.maximum(drawn, spec.resumed_room * opening)
    return limits


def _contexts(
    compacted: Ints, limits: Floats, counts: Ints, first: Ints, opening: Ints, appended: Ints, output: Ints
) -> tuple[Ints, Ints]:
    """Return each call's prompt length and the number of compactions before it, turn by turn for all sessions."""
    order = np.argsort(-counts, kind="stable")
    left, limits = counts[order], limits[order]
    alive = np.searchsorted(-left, -np.arange(int(counts.max(initial=0))), side="left")
    # Calls of one turn stand together, those of the longest sessions first, so that each turn is a slice.
    begins = np.concatenate([[0], np.cumsum(alive)])
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    session = np.repeat(np.arange(len(counts)), counts)
    place = begins[np.arange(len(appended)) - first[session]] + rank[session]
    grown, said, kept = (_moved(column, place) for column in (appended, output, compacted))
    tokens, compactions = np.zeros_like(grown), np.zeros_like(grown)
    now, done = opening[order], np.zeros(len(counts), dtype=np.int64)
    for turn, count in enumerate(alive.tolist()):
        at = slice(int(begins[turn]), int(begins[turn]) + count)
        now, done = now[:count], done[:count]
        if turn > 0:
            before = int(begins[turn - 1])
            now = now + said[before : before + count] + grown[at]
            over = now > limits[:count]
            now = np.where(over, np.minimum(now, kept[at]), now)
            done = done + over
        tokens[at], compactions[at] = now, done
    return tokens[place], compactions[place]


def _moved(column: Ints, place: Ints) -> Ints:
    """Return a column whose entry ``i`` stands at ``place[i]``."""
    found = np.empty_like(column)
    found[place] = column
    return found


def _ideal_times(starts: Floats, session: Ints, turn: Ints, gaps: Floats, first: Ints) -> Floats:
    """Return when each call would start if every call took ``SERVICE_S``."""
    if len(session) == 0:
        return np.zeros(0)
    run = np.cumsum(gaps + np.where(turn > 0, SERVICE_S, 0.0))
    ideal: Floats = starts[session] + run - run[first[session]]
    return ideal


def _kept(
    keep: Mask, begins: Mask, session: Ints, tokens: Ints, output: Ints, gaps: Floats, ideal: Floats, prefixes: Ints
) -> Columns:
    """Return the columns of the calls that are kept, with references among them."""
    where = np.flatnonzero(keep)
    begin = begins[where]
    n = len(where)
    same = np.zeros(n, dtype=np.bool_)
    same[:-1] = ~begin[1:]
    chain = _numbered(session[where] * (int(prefixes.max(initial=0)) + 1) + prefixes[where])
    return {
        "arrival_s": np.where(begin, ideal[where], 0.0),
        "input_tokens": tokens[where],
        "output_tokens": output[where],
        "follower": np.where(same, np.arange(1, n + 1), -1),
        "follows": ~begin,
        "gap_s": np.where(begin, 0.0, gaps[where]),
        "chain": chain,
        "session": _numbered(session[where]),
    }


def _numbered(values: Ints) -> Ints:
    """Return 0, 1 … for the different ones of values that never decrease: a cheaper ``numpy.unique``."""
    changes = np.diff(values, prepend=values[:1]) != 0
    return np.cumsum(changes, dtype=np.int64)

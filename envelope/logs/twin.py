"""A synthetic workload whose statistics match a trace."""

import math
from typing import Any

import numpy as np

from envelope.logs.describe import TraceDescription, describe, rank_correlation, session_steps
from envelope.serving.prefixes import reuse_frac, with_prefixes
from envelope.serving.requests import Floats, Ints, open_loop
from envelope.serving.trace import Trace
from envelope.spec.workload import Workload

POINTS = 101
"""Quantiles kept of each length distribution."""

_COMPACTED = 0.7
"""Prompt over the one before it below which a dialogue counts as compacted."""


def fit_twin(trace: Trace, description: TraceDescription | None = None, *, ident: str = "imported") -> Workload:
    """Return a workload that draws requests like those of ``trace``.

    Lengths become quantile tables, burstiness a Poisson, Gamma or on/off process, dated logs of a day or more a
    day-and-week curve, sessions closed-loop sessions, block hashes shared documents.
    """
    d = description or describe(trace)
    task: dict[str, Any] = {"id": ident, "output_tokens": quantiles(trace.output_tokens)}
    if trace.session is not None and d.sessions is not None and d.sessions.calls.mean > 1.2:
        task["session"] = _session(trace)
    else:
        task.update(_shared(trace))
        if "documents" not in task:
            task["in_out_correlation_frac"] = _score_correlation(trace.input_tokens, trace.output_tokens)
    return Workload.model_validate(
        {
            "tasks": [task],
            "requests_per_day": max(d.requests_per_day, 1e-6),
            "arrivals": _arrivals(d, trace),
            "note": f"fitted to {d.requests} requests read as {d.format}",
        }
    )


def quantiles(values: Ints | Floats) -> dict[str, Any]:
    """Return a quantile table of ``values``."""
    found = np.quantile(values, np.linspace(0.0, 1.0, POINTS))
    tail = {"0.995": float(np.quantile(values, 0.995)), "0.999": float(np.quantile(values, 0.999))}
    return {"kind": "quantiles", "values": [float(v) for v in found], "tail": tail}


def _score_correlation(a: Ints, b: Ints) -> float:
    """Return the correlation of normal scores that gives the rank correlation of two columns (Pearson, 1907)."""
    return round(2.0 * math.sin(math.pi / 6.0 * rank_correlation(a, b)), 3)


def _rate_noise(trace: Trace, curve: bool) -> float:
    """Return the variation of the rate from ten minutes to ten minutes beyond that of chance.

    A log whose day has a curve of its own is left out: its hours would count twice.
    """
    windows = int(trace.span_s // 600.0)
    if curve or windows < 5:
        return 0.0
    counts = np.bincount((trace.arrival_s // 600.0).astype(np.int64))[:windows]
    return float(min(math.sqrt(max(counts.var(ddof=1) - counts.mean(), 0.0)) / counts.mean(), 2.0))


def _arrivals(d: TraceDescription, trace: Trace) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": "poisson"}
    b = d.burstiness
    if b is not None and b.gap_cv > 3 and b.autocorrelation_1s > 0.3 and 0.02 < b.on_frac < 0.9 and b.off_s > 0:
        found = {"kind": "on_off", "on_s": b.on_s, "off_s": b.off_s}
    elif b is not None and b.gap_cv > 1.15:
        found = {"kind": "gamma", "cv": b.gap_cv}
    if found["kind"] != "on_off" and trace.session is None:
        noise = _rate_noise(trace, d.hour_weights is not None)
        found |= {"rate_noise_cv": round(noise, 3)} if noise > 0.05 else {}
    if d.hour_weights is not None:
        ratio = d.weekend_to_weekday_frac
        found["curve"] = {
            "weekday_hours": d.hour_weights,
            "weekend_hours": d.hour_weights,
            "weekend_to_weekday_frac": 1.0 if ratio is None else ratio,
        }
    return found


def _session(trace: Trace) -> dict[str, Any]:
    """Return a session whose calls, opening prompt, additions and gaps are those of the trace."""
    assert trace.session is not None
    rows = np.flatnonzero(trace.session >= 0)
    _, first, counts = np.unique(trace.session[rows], return_index=True, return_counts=True)
    gaps, appended = session_steps(trace)
    before, after = _compactions(trace)
    return {
        "calls": quantiles(counts),
        "first_input_tokens": quantiles(trace.input_tokens[rows[first]]),
        "calls_first_correlation_frac": _score_correlation(counts, trace.input_tokens[rows[first]]),
        "lost_prefix_frac": _lost_prefixes(trace),
        "appended_tokens": quantiles(appended) if len(appended) else {"kind": "fixed", "value": 1},
        "gap_s": quantiles(gaps) if len(gaps) else {"kind": "fixed", "value": 0},
        "max_context_tokens": _windows(trace, before),
        "compacted_tokens": quantiles(after) if len(after) else float(np.quantile(trace.input_tokens, 0.2)),
    }


def _lost_prefixes(trace: Trace) -> float:
    """Return the share of later calls of which the log's hashes reuse less than half although they are no shorter."""
    if trace.hash_ids is None or trace.session is None:
        return 0.0
    order = np.lexsort((np.arange(len(trace)), trace.session))
    lost = later = 0
    for a, b in zip(order[:-1], order[1:], strict=True):
        if trace.session[a] != trace.session[b] or trace.session[a] < 0:
            continue
        later += 1
        if trace.input_tokens[b] < _COMPACTED * trace.input_tokens[a]:
            continue
        before, now = trace.hash_ids[a], trace.hash_ids[b]
        same = next(
            (k for k, (x, y) in enumerate(zip(before, now, strict=False)) if x != y), min(len(before), len(now))
        )
        lost += same < 0.5 * len(before)
    return round(lost / max(later, 1), 4)


def _windows(trace: Trace, before: Ints) -> Any:
    """Return the contexts at which dialogues are compacted, and those of dialogues that went beyond without it."""
    if len(before) == 0:
        return float(trace.input_tokens.max())
    assert trace.session is not None
    known = trace.session >= 0
    most = np.zeros(int(trace.session.max()) + 1, dtype=np.int64)
    np.maximum.at(most, trace.session[known], trace.input_tokens[known])
    return quantiles(np.concatenate([before, most[most > np.quantile(before, 0.9)]]))


def _compactions(trace: Trace) -> tuple[Ints, Ints]:
    """Return the prompts before and after a client compacted a dialogue: the later one is much shorter."""
    assert trace.session is not None
    order = np.lexsort((np.arange(len(trace)), trace.session))
    session, tokens = trace.session[order], trace.input_tokens[order]
    shrunk = (session[1:] == session[:-1]) & (session[1:] >= 0) & (tokens[1:] < _COMPACTED * tokens[:-1])
    return tokens[:-1][shrunk], tokens[1:][shrunk]


def _shared(trace: Trace) -> dict[str, Any]:
    """Return prompt lengths, system prompt and documents that reuse as large a share of the prompts as the hashes do.

    A document is what a request has in common with some other one; the rest of its prompt is its own. Documents are
    equally popular, and as many as give the reuse of an unlimited cache.
    """
    whole = {"input_tokens": quantiles(trace.input_tokens)}
    if trace.hash_ids is None or trace.block_tokens == 0:
        return whole
    made = open_loop(trace.arrival_s, trace.input_tokens, trace.output_tokens)
    made = with_prefixes(made, [list(ids) for ids in trace.hash_ids], trace.block_tokens)
    depth = np.diff(made.path_start)
    if not depth.any():
        return whole
    uses = np.bincount(made.path, minlength=len(made.node_tokens))
    common = int(np.argmax(uses))
    system = int(made.node_tokens[common, 1]) if uses[common] > 0.9 * len(made) else 0
    ends = np.minimum(made.node_tokens[made.path[np.maximum(made.path_start[1:] - 1, 0)], 1], made.input_tokens)
    deep = (depth > 0) & (ends > system)
    if not deep.any():
        return {**whole, "system_prompt_tokens": system}
    hits = reuse_frac(made) * float(made.input_tokens.sum()) - system * (len(made) - 1)
    repeats = hits / float(np.mean(ends[deep] - system))
    rest = made.input_tokens[~deep]
    return {
        "input_tokens": quantiles(rest) if len(rest) else whole["input_tokens"],
        "system_prompt_tokens": system,
        "documents": {
            "count": _documents_with(int(deep.sum()), repeats),
            "tokens": quantiles(ends[deep] - system),
            "own_tokens": quantiles(np.maximum(made.input_tokens[deep] - ends[deep], 1)),
            "zipf": 0.0,
            "use_frac": float(np.mean(deep)),
        },
    }


def _documents_with(uses: int, repeats: float) -> int:
    """Return how many equally popular documents ``uses`` requests need so that ``repeats`` of them find theirs used.

    Of N documents ``N (1 − e^(−uses/N))`` are used at all, each for the first time once.
    """
    low, high = 1, max(10 * uses, 1)
    while low < high:
        middle = (low + high) // 2
        if uses - middle * -math.expm1(-uses / middle) <= repeats:
            high = middle
        else:
            low = middle + 1
    return low

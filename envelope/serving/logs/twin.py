"""A synthetic workload whose statistics match a trace."""

from typing import Any

import numpy as np

from envelope.serving.logs.describe import TraceDescription, describe, session_steps
from envelope.serving.logs.trace import Trace
from envelope.serving.prefixes import with_prefixes
from envelope.serving.requests import Floats, Ints, open_loop
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
        task["input_tokens"] = quantiles(trace.input_tokens)
        task.update(_shared(trace))
    return Workload.model_validate(
        {
            "tasks": [task],
            "requests_per_day": max(d.requests_per_day, 1e-6),
            "arrivals": _arrivals(d),
            "note": f"fitted to {d.requests} requests read as {d.format}",
        }
    )


def quantiles(values: Ints | Floats) -> dict[str, Any]:
    """Return a quantile table of ``values``."""
    found = np.quantile(values, np.linspace(0.0, 1.0, POINTS))
    tail = {"0.995": float(np.quantile(values, 0.995)), "0.999": float(np.quantile(values, 0.999))}
    return {"kind": "quantiles", "values": [float(v) for v in found], "tail": tail}


def _arrivals(d: TraceDescription) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": "poisson"}
    b = d.burstiness
    if b is not None and b.gap_cv > 3 and b.autocorrelation_1s > 0.3 and 0.02 < b.on_frac < 0.9 and b.off_s > 0:
        found = {"kind": "on_off", "on_s": b.on_s, "off_s": b.off_s}
    elif b is not None and b.gap_cv > 1.15:
        found = {"kind": "gamma", "cv": b.gap_cv}
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
        "appended_tokens": quantiles(appended) if len(appended) else {"kind": "fixed", "value": 1},
        "gap_s": quantiles(gaps) if len(gaps) else {"kind": "fixed", "value": 0},
        "max_context_tokens": _windows(trace, before),
        "compacted_tokens": float(np.median(after)) if len(after) else float(np.quantile(trace.input_tokens, 0.2)),
    }


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
    """Return system prompt and documents that reuse as large a share of the prompts as the hashes do."""
    if trace.hash_ids is None or trace.block_tokens == 0:
        return {}
    made = open_loop(trace.arrival_s, trace.input_tokens, trace.output_tokens)
    made = with_prefixes(made, [list(ids) for ids in trace.hash_ids], trace.block_tokens)
    depth = np.diff(made.path_start)
    if not depth.any():
        return {}
    uses = np.bincount(made.path, minlength=len(made.node_tokens))
    common = int(np.argmax(uses))
    system = int(made.node_tokens[common, 1]) if uses[common] > 0.9 * len(made) else 0
    ends = made.node_tokens[made.path[np.maximum(made.path_start[1:] - 1, 0)], 1]
    deep = (depth > 0) & (ends > system)
    if not deep.any():
        return {"system_prompt_tokens": system}
    leaves = np.unique(made.path[made.path_start[1:][deep] - 1])
    return {
        "system_prompt_tokens": system,
        "documents": {
            "count": max(1, min(len(leaves), 1_000_000)),
            "tokens": quantiles(ends[deep] - system),
            "zipf": 0.0,
            "use_frac": float(np.mean(deep)),
        },
    }

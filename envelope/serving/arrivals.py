"""From a workload to request columns. Every kind of draw has a random stream of its own, so that a change of one
thing leaves the draws of all others as they were (common random numbers).
"""

import zlib
from dataclasses import dataclass

import numpy as np

from envelope.errors import InputError, Problem
from envelope.serving.clients import client_scores, client_starts
from envelope.serving.processes import start_times
from envelope.serving.requests import ClassInfo, Columns, Floats, Ints, Requests
from envelope.serving.sampling import draw_tokens, tokens_at
from envelope.serving.sessions import session_calls
from envelope.spec.workload import SENSITIVITIES, TaskClass, Workload

HISTORY_S = 6 * 3600.0
"""Sessions that began up to this long before the start are under way when the simulation begins."""


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the week that is simulated."""

    start_s: float
    """Seconds since Monday 00:00."""
    span_s: float
    """Time over which requests start."""


@dataclass(slots=True)
class _Part:
    """Requests of one task class before they are merged."""

    columns: Columns
    documents: Ints
    """Document of each request, or −1."""


def window_of(workload: Workload, *, max_requests: int, whole_week: bool = False, share: float = 1.0) -> Window:
    """Return the busiest hour of the week (or the whole week), cut to about ``max_requests`` requests.

    A busiest hour with fewer than a tenth of that many is lengthened, up to one day around it at its own rate.
    """
    if whole_week:
        rate = workload.mean_rate_per_s * share
        return Window(0.0, min(7 * 86_400.0, max_requests / rate))
    rate = workload.peak_rate_per_s * share
    span = min(max(3600.0, 0.1 * max_requests / rate), 86_400.0)
    return Window(workload.peak_hour * 3600.0, min(span, max_requests / rate))


def stream(seed: int, *names: str) -> np.random.Generator:
    """Return the random stream of a seed and some names."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def generate(
    workload: Workload, *, seed: int, window: Window, share: float = 1.0, year: int = 0, flat: bool = True
) -> Requests:
    """Return the requests of a workload in a window.

    ``share`` thins the load (a part of the fleet is simulated), ``year`` applies the growth. ``flat`` keeps the
    window's first hour's rate throughout; otherwise the curve is followed.
    """
    if window.span_s <= 0:
        raise InputError(Problem("workload", "requests_per_day", workload.daily_requests, "gives no requests"))
    rate = workload.mean_rate_per_s * share * workload.rate_in_year(year)
    week = np.array(workload.hour_weights)
    first = int(window.start_s // 3600) % 168
    weights = np.array([week[first]]) if flat else np.roll(week, -first)
    parts: list[_Part] = []
    for task, part_of in zip(workload.tasks, workload.shares(), strict=True):
        make = _sessions if task.session else _singles
        parts.append(make(task, workload, seed, window, rate * part_of, weights))
    return _merged(workload, parts, seed, window)


def _singles(task: TaskClass, workload: Workload, seed: int, window: Window, rate: float, weights: Floats) -> _Part:
    """Return requests that have nothing to do with each other, but may share a document or a client."""
    assert task.input_tokens is not None
    assert task.output_tokens is not None
    if task.clients is None:
        rng = stream(seed, task.id, "arrivals")
        times = start_times(workload.arrivals, rate, 0.0, window.span_s, rng, weights)
        n = len(times)
        group = np.full(n, -1, dtype=np.int64)
        tokens = draw_tokens(task.input_tokens, stream(seed, task.id, "input"), n)
        output = draw_tokens(task.output_tokens, stream(seed, task.id, "output"), n)
    else:
        times, group = client_starts(
            task.clients, workload.arrivals, rate, window.span_s, lambda name: stream(seed, task.id, name), weights
        )
        n = len(times)
        scores = client_scores(task.clients, group, lambda name: stream(seed, task.id, name))
        tokens, output = tokens_at(task.input_tokens, scores[0]), tokens_at(task.output_tokens, scores[1])
    tokens = np.maximum(tokens, task.system_prompt_tokens + 1)
    documents = np.full(n, -1, dtype=np.int64)
    if task.documents is not None:
        documents = _documents(task, stream(seed, task.id, "documents"), n)
    columns: Columns = {
        "arrival_s": times,
        "input_tokens": tokens,
        "output_tokens": output,
        "follower": np.full(n, -1, dtype=np.int64),
        "follows": np.zeros(n, dtype=np.bool_),
        "gap_s": np.zeros(n),
        "chain": np.full(n, -1, dtype=np.int64),
        "session": np.arange(n, dtype=np.int64),
        "client": group,
    }
    return _Part(columns, documents)


def _documents(task: TaskClass, rng: np.random.Generator, n: int) -> Ints:
    """Return the document that each request begins with, popular ones more often (Zipf)."""
    spec = task.documents
    assert spec is not None
    weights = 1.0 / np.arange(1, spec.count + 1) ** spec.zipf
    edges = np.cumsum(weights) / weights.sum()
    chosen = np.minimum(np.searchsorted(edges, rng.random(n)), spec.count - 1)
    return np.where(rng.random(n) < spec.use_frac, chosen, -1).astype(np.int64)


def _sessions(task: TaskClass, workload: Workload, seed: int, window: Window, rate: float, weights: Floats) -> _Part:
    """Return the calls of sessions that run in the window, those begun before it included."""
    rng = stream(seed, task.id, "arrivals")
    starts = start_times(workload.arrivals, rate / task.mean_calls, 0.0, window.span_s + HISTORY_S, rng, weights)
    columns = session_calls(task, starts - HISTORY_S, lambda name: stream(seed, task.id, name), window.span_s)
    columns["client"] = np.full(len(columns["session"]), -1, dtype=np.int64)
    return _Part(columns, np.full(len(columns["input_tokens"]), -1, dtype=np.int64))


def _merged(workload: Workload, parts: list[_Part], seed: int, window: Window) -> Requests:
    """Join the classes' requests, shift their references and draw what is common to all."""
    sizes = [len(part.documents) for part in parts]
    if sum(sizes) == 0:
        raise InputError(Problem("workload", "requests_per_day", workload.daily_requests, "gives no requests"))
    offset = np.concatenate([[0], np.cumsum(sizes)])
    chains = sessions = 0
    for part, at in zip(parts, offset, strict=False):
        c = part.columns
        c["follower"] = np.where(c["follower"] >= 0, c["follower"] + at, -1)
        c["chain"] = np.where(c["chain"] >= 0, c["chain"] + chains, -1)
        c["session"] = c["session"] + sessions
        chains = max(chains, int(c["chain"].max(initial=-1)) + 1)
        sessions = max(sessions, int(c["session"].max(initial=-1)) + 1)
    joined = {name: np.concatenate([p.columns[name] for p in parts]) for name in parts[0].columns}
    task = np.repeat(np.arange(len(parts)), sizes)
    session, client = joined.pop("session").astype(np.int64), joined.pop("client").astype(np.int64)
    drawn = stream(seed, "seats").integers(0, workload.seats or 1_000_000, sessions)[session]
    path, path_start, nodes = _paths(workload, parts, seed, joined["input_tokens"], task)
    n = int(offset[-1])
    return Requests(
        **joined,  # type: ignore[arg-type]
        task=task,
        sensitivity=sensitivities(workload.tasks, seed, task, session),
        seat=np.where(client >= 0, client, drawn),
        path=path,
        path_start=path_start,
        node_tokens=nodes,
        uniform=stream(seed, "difficulty").random(n),
        normal=stream(seed, "hosted ttft").standard_normal(n),
        normal_rate=stream(seed, "hosted rate").standard_normal(n),
        classes=tuple(ClassInfo(t.id, t.slo, t.difficulty, t.priority, t.adapter) for t in workload.tasks),
        span_s=window.span_s,
    )


def sensitivities(tasks: tuple[TaskClass, ...], seed: int, task: Ints, session: Ints) -> Ints:
    """Return the sensitivity code of each request; all calls of a session have the same."""
    u = stream(seed, "sensitivity").random(int(session.max()) + 1)[session]
    out = np.zeros(len(task), dtype=np.int64)
    for k, t in enumerate(tasks):
        mix = [t.sensitivity_mix.get(s, 0.0) for s in SENSITIVITIES]
        here = task == k
        out[here] = np.minimum(np.searchsorted(np.cumsum(mix), u[here], side="right"), len(mix) - 1)
    return out


def _paths(workload: Workload, parts: list[_Part], seed: int, tokens: Ints, task: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the shared nodes of the requests: one per system prompt, one per document after it."""
    bounds: list[tuple[int, int]] = []
    first = np.full((len(tokens), 2), -1, dtype=np.int64)
    at = 0
    for t, part in zip(workload.tasks, parts, strict=True):
        rows = slice(at, at + len(part.documents))
        at += len(part.documents)
        if t.system_prompt_tokens > 0:
            first[rows, 0] = len(bounds)
            bounds.append((0, t.system_prompt_tokens))
        if t.documents is not None:
            lengths = draw_tokens(t.documents.tokens, stream(seed, t.id, "document lengths"), t.documents.count)
            base = len(bounds)
            bounds += [(t.system_prompt_tokens, t.system_prompt_tokens + int(x)) for x in lengths]
            first[rows, 1] = np.where(part.documents >= 0, part.documents + base, -1)
    nodes = np.array(bounds, dtype=np.int64).reshape(-1, 2)
    if len(nodes):
        longer = (first >= 0) & (nodes[first, 1] < tokens[:, None])
        first = np.where(longer, first, -1)
    has = first >= 0
    start = np.concatenate([[0], np.cumsum(has.sum(axis=1))]).astype(np.int64)
    return first[has], start, nodes

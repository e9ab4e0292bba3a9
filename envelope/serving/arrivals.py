"""From a workload to request columns. Every kind of draw has a random stream of its own, so that a change of one
thing leaves the draws of all others as they were (common random numbers).
"""

import math
import zlib
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache

import numpy as np

from envelope.errors import InputError, Problem
from envelope.serving.clients import client_scores, client_starts
from envelope.serving.processes import start_times
from envelope.serving.requests import (
    BLOCK_REQUESTS,
    ClassInfo,
    Columns,
    Floats,
    Ints,
    Requests,
    Stream,
    tokens_before,
)
from envelope.serving.sampling import draw_pair, draw_tokens, tokens_at
from envelope.serving.sessions import session_calls
from envelope.spec.workload import SENSITIVITIES, Arrivals, TaskClass, Workload

HISTORY_S = 6 * 3600.0
"""Sessions that began up to this long before the start are under way when the simulation begins."""


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the week that is simulated."""

    start_s: float
    """Seconds since Monday 00:00."""
    span_s: float
    """Time over which requests start."""


@dataclass(frozen=True, slots=True)
class _Draw:
    """What the requests of one block of the window are drawn from."""

    workload: Workload
    seed: int
    window: Window
    rate_per_s: float
    weights: Floats
    """Load by hour from the start of the window on, relative to the weekly mean."""
    begin_s: float
    end_s: float
    block: int = 0

    def rng(self, *names: str) -> np.random.Generator:
        """Return the random stream of this block with these names; the first block's are those of a whole window."""
        lasting = names[-1] in LASTING
        return stream(self.seed, *names, *([f"block {self.block}"] if self.block and not lasting else []))


LASTING = ("client scores", "document lengths")
"""Draws that all blocks share."""


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
    return _some(_draw(workload, seed, window, share, year, flat))


def drawn_stream(
    workload: Workload,
    *,
    seed: int,
    window: Window,
    share: float = 1.0,
    year: int = 0,
    flat: bool = True,
    block: int = BLOCK_REQUESTS,
) -> Stream:
    """Return the requests of a workload in a window as a stream of blocks of about ``block`` requests.

    The arrival processes of the blocks are independent of each other. Up to one and a half blocks are drawn at once
    and are those of ``generate``.
    """
    whole = _draw(workload, seed, window, share, year, flat)
    hours = np.arange(math.ceil(window.span_s / 3600)) % len(whole.weights)
    expected = whole.rate_per_s * float(whole.weights[hours].mean()) * window.span_s
    count = 1 if expected <= 1.5 * block else math.ceil(expected / block)
    edges = np.linspace(0.0, window.span_s, count + 1)
    parts = [replace(whole, begin_s=edges[i], end_s=edges[i + 1], block=i) for i in range(count)]
    later = ((float(part.begin_s), made) for part in parts[1:] if (made := _requests(part)) is not None)
    return Stream(_first(parts[0], expected), later, window.span_s, expected)


_KEPT_REQUESTS = 20_000
"""Loads of up to so many requests are kept: all candidates of a scenario meet the same arrivals."""


@dataclass(frozen=True, slots=True)
class _Load:
    """A load to draw, equal to another by what is drawn."""

    given: tuple[object, ...]
    draw: _Draw = field(compare=False)


def _first(d: _Draw, expected: float) -> Requests:
    """Return the requests of the first block."""
    if expected > _KEPT_REQUESTS:
        return _some(d)
    given = (d.workload.model_dump_json(), d.seed, d.window, d.rate_per_s, tuple(d.weights), d.end_s)
    return _kept(_Load(given, d))


@lru_cache(maxsize=24)
def _kept(load: _Load) -> Requests:
    found = _some(load.draw)
    for column in fields(found):
        value = getattr(found, column.name)
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Lengths:
    """Requests of one class by their lengths."""

    prompts: Ints
    answers: Ints
    before: Ints
    """Prompt of the call before in the same dialogue; 0 for one that begins it."""
    gap_s: Floats


def class_lengths(workload: Workload, task: TaskClass, *, seed: int, requests: int) -> Lengths:
    """Return the lengths of about so many requests of one class.

    Sessions are drawn whole.
    """
    alone = task.changed(share=1.0)
    work = workload.changed(tasks=(alone,), arrivals=Arrivals())
    d = _draw(work, seed, Window(0.0, requests / work.mean_rate_per_s), 1.0, 0, True)
    if task.session is None:
        columns = _singles(alone, d, d.rate_per_s).columns
    else:
        starts = np.zeros(max(1, round(requests / task.mean_calls)))
        columns = session_calls(alone, starts, lambda name: d.rng(alone.id, name), math.inf)
    names = ("input_tokens", "output_tokens", "follower", "chain")
    prompts, answers, follower, chain = (columns[name].astype(np.int64) for name in names)
    return Lengths(
        prompts, answers, tokens_before(follower, chain, prompts), np.asarray(columns["gap_s"], dtype=np.float64)
    )


def _draw(workload: Workload, seed: int, window: Window, share: float, year: int, flat: bool) -> _Draw:
    if window.span_s <= 0:
        raise InputError(Problem("workload", "requests_per_day", workload.daily_requests, "gives no requests"))
    rate = workload.mean_rate_per_s * share * workload.rate_in_year(year)
    week = np.array(workload.hour_weights)
    first = int(window.start_s // 3600) % 168
    weights = np.array([week[first]]) if flat else np.roll(week, -first)
    return _Draw(workload, seed, window, rate, weights, 0.0, window.span_s)


def _some(d: _Draw) -> Requests:
    made = _requests(d)
    if made is None:
        raise InputError(Problem("workload", "requests_per_day", d.workload.daily_requests, "gives no requests"))
    return made


def _requests(d: _Draw) -> Requests | None:
    parts = [
        (_sessions if task.session else _singles)(task, d, d.rate_per_s * share)
        for task, share in zip(d.workload.tasks, d.workload.shares(), strict=True)
    ]
    return _merged(d, parts)


def _singles(task: TaskClass, d: _Draw, rate: float) -> _Part:
    """Return requests that have nothing to do with each other, but may share a document or a client."""
    assert task.input_tokens is not None
    assert task.output_tokens is not None
    if task.clients is None:
        rng = d.rng(task.id, "arrivals")
        times = start_times(d.workload.arrivals, rate, d.begin_s, d.end_s, rng, d.weights)
        n = len(times)
        group = np.full(n, -1, dtype=np.int64)
        tokens, output = draw_pair(
            task.input_tokens, task.output_tokens, task.in_out_correlation_frac, lambda name: d.rng(task.id, name), n
        )
    else:
        times, group = client_starts(
            task.clients, d.workload.arrivals, rate, d.begin_s, d.end_s, lambda name: d.rng(task.id, name), d.weights
        )
        n = len(times)
        scores = client_scores(task.clients, group, lambda name: d.rng(task.id, name))
        tokens, output = tokens_at(task.input_tokens, scores[0]), tokens_at(task.output_tokens, scores[1])
    tokens = np.maximum(tokens, task.system_prompt_tokens + 1)
    documents = np.full(n, -1, dtype=np.int64)
    if task.documents is not None:
        documents = _documents(task, d.rng(task.id, "documents"), n)
        tokens = _with_own_tokens(task, d, documents, tokens)
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


def _document_lengths(task: TaskClass, d: _Draw) -> Ints:
    assert task.documents is not None
    return draw_tokens(task.documents.tokens, d.rng(task.id, "document lengths"), task.documents.count)


def _with_own_tokens(task: TaskClass, d: _Draw, documents: Ints, tokens: Ints) -> Ints:
    """Return the prompt lengths where those of requests with a document are its length and their own tokens."""
    spec = task.documents
    if spec is None or spec.own_tokens is None:
        return tokens
    own = draw_tokens(spec.own_tokens, d.rng(task.id, "own tokens"), len(tokens))
    whole = task.system_prompt_tokens + _document_lengths(task, d)[documents] + own
    return np.where(documents >= 0, whole, tokens)


def _sessions(task: TaskClass, d: _Draw, rate: float) -> _Part:
    """Return the calls of sessions that begin in the block, in the first one also of those begun before the window."""
    rng = d.rng(task.id, "arrivals")
    history = 0.0 if d.block else HISTORY_S
    # Time 0 of the process lies so many hours before the window.
    weights = np.roll(d.weights, round(history / 3600.0))
    starts = start_times(d.workload.arrivals, rate / task.mean_calls, d.begin_s, d.end_s + history, rng, weights)
    columns = session_calls(task, starts - history, lambda name: d.rng(task.id, name), d.window.span_s)
    columns["client"] = np.full(len(columns["session"]), -1, dtype=np.int64)
    return _Part(columns, np.full(len(columns["input_tokens"]), -1, dtype=np.int64))


def _merged(d: _Draw, parts: list[_Part]) -> Requests | None:
    """Join the classes' requests, shift their references and draw what is common to all."""
    workload, sizes = d.workload, [len(part.documents) for part in parts]
    if sum(sizes) == 0:
        return None
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
    drawn = d.rng("seats").integers(0, workload.seats or 1_000_000, sessions)[session]
    path, path_start, nodes = _paths(d, parts, joined["input_tokens"])
    n = int(offset[-1])
    return Requests(
        **joined,  # type: ignore[arg-type]
        task=task,
        sensitivity=sensitivities(workload.tasks, d.rng("sensitivity"), task, session),
        seat=np.where(client >= 0, client, drawn),
        path=path,
        path_start=path_start,
        node_tokens=nodes,
        uniform=d.rng("difficulty").random(n),
        normal=d.rng("hosted ttft").standard_normal(n),
        normal_rate=d.rng("hosted rate").standard_normal(n),
        classes=tuple(
            ClassInfo(t.id, t.slo, t.difficulty, t.priority, t.adapter, share, t.sensitivity_mix.get("private", 0.0))
            for t, share in zip(workload.tasks, workload.shares(), strict=True)
        ),
        span_s=d.window.span_s,
    )


def sensitivities(tasks: tuple[TaskClass, ...], rng: np.random.Generator, task: Ints, session: Ints) -> Ints:
    """Return the sensitivity code of each request; all calls of a session have the same."""
    u = rng.random(int(session.max()) + 1)[session]
    out = np.zeros(len(task), dtype=np.int64)
    for k, t in enumerate(tasks):
        mix = [t.sensitivity_mix.get(s, 0.0) for s in SENSITIVITIES]
        here = task == k
        out[here] = np.minimum(np.searchsorted(np.cumsum(mix), u[here], side="right"), len(mix) - 1)
    return out


def _paths(d: _Draw, parts: list[_Part], tokens: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the shared nodes of the requests: one per system prompt, one per document after it."""
    bounds: list[tuple[int, int]] = []
    first = np.full((len(tokens), 2), -1, dtype=np.int64)
    at = 0
    for t, part in zip(d.workload.tasks, parts, strict=True):
        rows = slice(at, at + len(part.documents))
        at += len(part.documents)
        if t.system_prompt_tokens > 0:
            first[rows, 0] = len(bounds)
            bounds.append((0, t.system_prompt_tokens))
        if t.documents is not None:
            base = len(bounds)
            bounds += [(t.system_prompt_tokens, t.system_prompt_tokens + int(x)) for x in _document_lengths(t, d)]
            first[rows, 1] = np.where(part.documents >= 0, part.documents + base, -1)
    nodes = np.array(bounds, dtype=np.int64).reshape(-1, 2)
    if len(nodes):
        longer = (first >= 0) & (nodes[first, 1] < tokens[:, None])
        first = np.where(longer, first, -1)
    has = first >= 0
    start = np.concatenate([[0], np.cumsum(has.sum(axis=1))]).astype(np.int64)
    return first[has], start, nodes

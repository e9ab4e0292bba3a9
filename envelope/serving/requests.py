"""Requests as columns: what arrives when, how long it is, what it shares with others and what follows it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envelope.errors import InputError, Problem
from envelope.spec.workload import Difficulty, Slo

Floats = NDArray[np.float64]
Ints = NDArray[np.signedinteger[Any]]
Mask = NDArray[np.bool_]
Columns = dict[str, Ints | Floats | Mask]


@dataclass(frozen=True, slots=True)
class ClassInfo:
    """What the simulation knows of a task class."""

    id: str = "all"
    slo: Slo = Slo()
    difficulty: Difficulty = Difficulty()
    priority: int = 0
    adapter: str | None = None
    """Adapter (LoRA) on the shared base model that the class's requests need."""
    share: float | None = None
    """Share of all requests that the workload means, whatever the draw gave; ``None`` where only the draw is known."""
    private_frac: float | None = None
    """Share of the class's requests that are private, likewise."""


def tokens_before(follower: Ints, chain: Ints, input_tokens: Ints) -> Ints:
    """Return the prompt tokens of the call that each continues in the same dialogue, 0 for one that begins it."""
    found = np.zeros(len(follower), dtype=np.int64)
    before = np.flatnonzero(follower >= 0)
    after = follower[before]
    same = (chain[before] == chain[after]) & (chain[before] >= 0)
    found[after] = np.where(same, np.minimum(input_tokens[before], input_tokens[after]), 0)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """Columns of equal length, one entry per request (call of a model)."""

    arrival_s: Floats
    """Arrival; for a call that follows another one it is not read."""
    input_tokens: Ints
    output_tokens: Ints
    task: Ints
    """Index into ``classes``."""
    sensitivity: Ints
    """Index into ``spec.workload.SENSITIVITIES``: 0 public, 1 internal, 2 private."""
    follower: Ints
    """Request that starts after this one has been answered, or −1."""
    follows: Mask
    """Whether the request starts only after another one."""
    gap_s: Floats
    """Time between the earlier answer and this request: of the same dialogue, or in a closed loop."""
    chain: Ints
    """Dialogue whose context this request continues (a prefix of the next one's prompt), or −1."""
    seat: Ints
    """User or client that sent it."""
    path: Ints
    """Shared nodes that prompts begin with, request by request."""
    path_start: Ints
    """[n + 1] where each request's nodes begin in ``path``."""
    node_tokens: Ints
    """[nodes, 2] first and last + 1 token of each shared node within the prompts that begin with it."""
    uniform: Floats
    """Draw that decides whether a model fails the task (common to all models)."""
    normal: Floats
    """Draw for the hosted time to first token."""
    normal_rate: Floats
    """Draw for the hosted token rate."""
    classes: tuple[ClassInfo, ...] = field(default=(ClassInfo(),))
    span_s: float = 0.0
    """Time over which requests start; follow-up calls that would start later are cut."""
    concurrency: int = 0
    """Closed-loop load generator: requests in flight; 0 is open loop."""

    def __len__(self) -> int:
        return len(self.input_tokens)

    @property
    def before_tokens(self) -> Ints:
        """Prompt tokens of the call before in the same dialogue, which a cache may hold; 0 for one that begins it."""
        return tokens_before(self.follower, self.chain, self.input_tokens)

    @property
    def chains(self) -> int:
        """Number of dialogues."""
        return int(self.chain.max()) + 1 if len(self) else 0


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Requests that are drawn block by block, as time goes on."""

    first: Requests
    later: Iterator[tuple[float, Requests]]
    """Later blocks and the time at or after which all of their requests arrive, in order."""
    span_s: float
    """Time over which requests start."""
    expected: float
    """Number of requests to expect in all."""


BLOCK_REQUESTS = 100_000
"""Requests that are drawn and loaded at once."""


def stream_of(requests: Requests, block: int = BLOCK_REQUESTS) -> Stream:
    """Return given requests as a stream, in blocks if none of them waits for another one."""
    n, span = len(requests), requests.span_s
    if n <= block or requests.follows.any() or requests.chains or not np.isfinite(span):
        return Stream(requests, iter(()), span if np.isfinite(span) else 0.0, n)
    order = np.argsort(requests.arrival_s, kind="stable")
    parts = [order[at : at + block] for at in range(0, n, block)]
    later = ((float(requests.arrival_s[rows[0]]), _rows(requests, rows)) for rows in parts[1:])
    return Stream(_rows(requests, parts[0]), later, span, n)


def _rows(requests: Requests, rows: Ints) -> Requests:
    """Return some requests, none of which follows another one."""
    each = (
        "arrival_s",
        "input_tokens",
        "output_tokens",
        "task",
        "sensitivity",
        "follower",
        "follows",
        "gap_s",
        "chain",
    )
    drawn = ("seat", "uniform", "normal", "normal_rate")
    lengths = np.diff(requests.path_start)[rows]
    start = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    places = np.repeat(requests.path_start[rows] - start[:-1], lengths) + np.arange(int(start[-1]))
    columns = {name: getattr(requests, name)[rows] for name in (*each, *drawn)}
    return replace_columns(requests, **columns, path=requests.path[places], path_start=start)


def open_loop(
    arrival_s: Floats,
    input_tokens: Ints,
    output_tokens: Ints,
    *,
    prompt_id: Ints | None = None,
    seed: int = 0,
    classes: tuple[ClassInfo, ...] = (ClassInfo(),),
    task: Ints | None = None,
    sensitivity: Ints | None = None,
) -> Requests:
    """Return requests that arrive at given times whatever the system does.

    Equal ``prompt_id`` means the same prompt, so that a prefix cache can find it; a negative one is like no other.
    """
    n = len(arrival_s)
    check_columns(arrival_s, input_tokens, output_tokens)
    path, start, nodes = _prompt_nodes(input_tokens, prompt_id)
    rng = np.random.default_rng([seed, 7])
    zero = np.zeros(n, dtype=np.int64)
    return Requests(
        arrival_s=np.asarray(arrival_s, dtype=np.float64),
        input_tokens=np.asarray(input_tokens, dtype=np.int64),
        output_tokens=np.asarray(output_tokens, dtype=np.int64),
        task=zero if task is None else task,
        sensitivity=zero + 1 if sensitivity is None else sensitivity,
        follower=zero - 1,
        follows=np.zeros(n, dtype=np.bool_),
        gap_s=np.zeros(n),
        chain=zero - 1,
        seat=np.arange(n, dtype=np.int64),
        path=path,
        path_start=start,
        node_tokens=nodes,
        uniform=rng.random(n),
        normal=rng.standard_normal(n),
        normal_rate=rng.standard_normal(n),
        classes=classes,
        span_s=float(np.max(arrival_s)) if n else 0.0,
    )


def closed_loop(
    input_tokens: Ints,
    output_tokens: Ints,
    *,
    concurrency: int,
    prompt_id: Ints | None = None,
    seed: int = 0,
) -> Requests:
    """Return the requests of a load generator that keeps ``concurrency`` of them in flight from time 0."""
    if concurrency < 1:
        raise InputError(Problem("concurrency", "", concurrency, "must be at least 1"))
    made = open_loop(np.zeros(len(input_tokens)), input_tokens, output_tokens, prompt_id=prompt_id, seed=seed)
    follows = np.arange(len(made)) >= concurrency
    return replace_columns(made, follows=follows, concurrency=concurrency, span_s=float("inf"))


def replace_columns(requests: Requests, **columns: object) -> Requests:
    """Return ``requests`` with some columns exchanged."""
    old = {name: getattr(requests, name) for name in Requests.__slots__}
    return Requests(**{**old, **columns})


def check_columns(arrival_s: Floats, input_tokens: Ints, output_tokens: Ints) -> None:
    """Raise ``InputError`` unless the columns are as long as each other, finite and positive."""
    if not len(arrival_s) == len(input_tokens) == len(output_tokens):
        raise InputError(Problem("requests", "", None, "columns differ in length"))
    if len(arrival_s) == 0:
        raise InputError(Problem("requests", "", None, "there are no requests"))
    checks = (
        ("arrival_s", arrival_s, 0.0),
        ("input_tokens", input_tokens, 1),
        ("output_tokens", output_tokens, 1),
    )
    problems = []
    for name, column, least in checks:
        bad = np.flatnonzero(~(np.isfinite(column) & (np.asarray(column) >= least)))
        if len(bad):
            value = column[bad[0]]
            rule = f"must be a number of at least {least} ({len(bad)} rows are not)"
            problems.append(Problem("requests", f"{name}[{bad[0]}]", value, rule))
    if problems:
        raise InputError(problems)


def _prompt_nodes(input_tokens: Ints, prompt_id: Ints | None) -> tuple[Ints, Ints, Ints]:
    """Return path, path starts and node bounds for prompts that are equal or have nothing in common."""
    n = len(input_tokens)
    none = np.zeros(0, dtype=np.int64)
    if prompt_id is None:
        return none, np.zeros(n + 1, dtype=np.int64), none.reshape(0, 2)
    known = prompt_id >= 0
    _, node = np.unique(prompt_id[known], return_inverse=True)
    count = int(node.max()) + 1 if len(node) else 0
    bounds = np.zeros((count, 2), dtype=np.int64)
    bounds[:, 1] = np.iinfo(np.int64).max
    np.minimum.at(bounds[:, 1], node, np.asarray(input_tokens)[known])
    start = np.concatenate([[0], np.cumsum(known)]).astype(np.int64)
    return node.astype(np.int64), start, bounds

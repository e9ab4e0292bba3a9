"""Closed-loop load on an endpoint at several concurrencies and prompt lengths, within a budget."""

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from envelope.errors import InputError, Problem
from envelope.provenance import Frozen
from envelope.sensors.endpoint_budget import Budget, Caps
from envelope.sensors.endpoint_client import Endpoint, Reply, ask
from envelope.spec.load import Reporter

_WORDS = (
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school", "state",
    "family", "student", "group", "country", "problem", "hand", "part", "place", "case", "week", "company",
    "system", "program", "question", "work", "number", "night", "point", "home", "water", "room", "mother",
)  # fmt: skip
"""Common words, each one token in most vocabularies."""
_TOKENS_PER_WORD = 1.5
"""Worst case reserved per word; the server's own count replaces it."""
_CHAT_TOKENS = 40
"""Reserved for the chat template around a prompt."""
_RETRIES = 3
_LONGEST_WAIT_S = 30.0
"""A request whose server asks for a longer wait is given up: asking again earlier would only be refused again."""
_MEANINGS = {
    401: "does not accept the key", 403: "does not allow this key or model", 404: "knows no such address or model",
}  # fmt: skip
"""Answers after which no other request can succeed."""


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What will be sent."""

    concurrencies: tuple[int, ...]
    prompt_tokens: tuple[int, ...]
    output_tokens: int
    requests_per_level: int
    """Per level at least this many, and never fewer than the concurrency."""

    def levels(self) -> list[tuple[int, int, int]]:
        """Return (concurrency, prompt tokens, requests) of each level, lightest first."""
        return [(c, p, max(self.requests_per_level, c)) for p in self.prompt_tokens for c in self.concurrencies]

    def worst_case(self) -> tuple[int, int, int]:
        """Return requests, input tokens and output tokens if every level runs in full, warm-up included."""
        levels = [(1, min(self.prompt_tokens), 1), *self.levels()]
        requests = sum(n for _, _, n in levels)
        return requests, sum(n * reserved_input(p) for _, p, n in levels), requests * self.output_tokens


def reserved_input(prompt_tokens: int) -> int:
    """Return the input tokens reserved for a prompt aimed at this length."""
    return int(prompt_tokens * _TOKENS_PER_WORD) + _CHAT_TOKENS


class Quantiles(Frozen):
    """Distribution of one time."""

    p50_s: float
    p90_s: float
    p99_s: float
    mean_s: float
    sigma_ln: float
    """Standard deviation of the logarithm."""
    count: int


class LevelResult(Frozen):
    """What one concurrency and prompt length gave."""

    concurrency: int
    prompt_tokens: int
    """Aimed at."""
    input_tokens_mean: float
    """By the server's count; what was aimed at if it does not count."""
    output_tokens_mean: float
    completed: int
    rate_limited: int
    """Answers 429, retries included."""
    dropped: int
    errors: int
    wall_s: float
    output_tokens_per_s: float
    """Of all requests together."""
    ttft: Quantiles | None = None
    itl: Quantiles | None = None
    """Gaps between pieces of text."""
    tpot: Quantiles | None = None
    """Per request."""


class EndpointResult(Frozen):
    """Result of a whole probe; holds neither key nor prompts."""

    url: str
    model: str
    date: str
    levels: tuple[LevelResult, ...]
    requests: int
    input_tokens: int
    output_tokens: int
    usd: float
    stopped_by: str = ""
    complete: bool = True
    limits: dict[str, str] = {}
    """Rate-limit headers of the server."""
    retry_after_s: float | None = None
    """Longest wait that the server asked for."""


def probe_endpoint(endpoint: Endpoint, plan: LoadPlan, caps: Caps, report: Reporter, *, date: str) -> EndpointResult:
    """Run the plan level by level until it is done, a cap is reached or Ctrl-C; what is done is returned."""
    endpoint.check()
    budget, levels, replies = Budget(caps), [], []
    complete = True
    work = plan.levels()
    try:
        # The first request of a server (connection, compilation) is not typical.
        replies += _level(endpoint, (1, min(plan.prompt_tokens), 1), plan.output_tokens, budget)[0]
        _check_first(endpoint, replies)
        for index, level in enumerate(work):
            report(index / len(work), f"{level[0]} at once, {level[1]} tokens")
            answered, wall = _level(endpoint, level, plan.output_tokens, budget)
            replies += answered
            if answered:
                levels.append(_summary(level, answered, wall))
            if budget.stopped_by:
                break
    except KeyboardInterrupt:
        complete = False
    report(1.0, "done")
    waits = [r.retry_after_s for r in replies if r.retry_after_s is not None]
    return EndpointResult(
        url=endpoint.url,
        model=endpoint.model,
        date=date,
        levels=tuple(levels),
        requests=budget.requests,
        input_tokens=round(budget.input_tokens),
        output_tokens=round(budget.output_tokens),
        usd=budget.usd,
        stopped_by=budget.stopped_by,
        complete=complete and not budget.stopped_by,
        limits=dict(pair for r in replies for pair in r.limits),
        retry_after_s=max(waits, default=None),
    )


def _check_first(endpoint: Endpoint, replies: Sequence[Reply]) -> None:
    """Raise ``InputError`` if the first answer shows that no request can succeed."""
    for reply in replies:
        reason = _MEANINGS.get(reply.status, "")
        if reply.outcome == "dropped" and reply.status == 0:
            reason = f"cannot be reached ({reply.detail})"
        if reason:
            raise InputError(Problem(endpoint.url, "", None, reason, "check --url, --model and --key-env"))


def prompt_of(words: int, seed: int) -> str:
    """Return a prompt of common words that starts differently for each seed, so that no prefix cache serves it."""
    chooser = random.Random(seed)
    text = " ".join(chooser.choice(_WORDS) for _ in range(max(words - 12, 1)))
    return f"{seed:x} {text}\nWrite a long story with these words."


def _level(
    endpoint: Endpoint, level: tuple[int, int, int], output_tokens: int, budget: Budget
) -> tuple[list[Reply], float]:
    """Send one level's requests from as many threads as its concurrency; return the replies and the time."""
    concurrency, prompt_tokens, requests = level
    stop = threading.Event()
    start = time.perf_counter()
    seeds = [hash((concurrency, prompt_tokens, i, time.time_ns())) & 0xFFFFFFFF for i in range(requests)]
    with ThreadPoolExecutor(concurrency) as pool:
        jobs = [pool.submit(_one, endpoint, prompt_tokens, output_tokens, budget, seed, stop) for seed in seeds]
        try:
            found = [reply for job in jobs for reply in job.result()]
        except KeyboardInterrupt:
            stop.set()
            raise
    return found, time.perf_counter() - start


def _one(
    endpoint: Endpoint, prompt_tokens: int, output_tokens: int, budget: Budget, seed: int, stop: threading.Event
) -> list[Reply]:
    """Send one request, waiting and repeating when the server asks for it; return every answer."""
    replies: list[Reply] = []
    reserved = (reserved_input(prompt_tokens), output_tokens)
    for attempt in range(_RETRIES + 1):
        if stop.is_set() or not budget.reserve(*reserved):
            break
        reply = ask(endpoint, prompt_of(prompt_tokens, seed + attempt), output_tokens, stop=stop)
        replies.append(reply)
        if reply.outcome == "ok":
            used = reply.input_tokens if reply.input_tokens is not None else reserved[0]
            budget.settle(reserved, (used, reply.output_tokens))
            break
        if reply.outcome != "rate_limited":
            break
        budget.settle(reserved, (0, 0))
        wait = reply.retry_after_s if reply.retry_after_s is not None else 0.5 * 2**attempt
        if wait > _LONGEST_WAIT_S or stop.wait(wait):
            break
    return replies


def _summary(level: tuple[int, int, int], replies: Sequence[Reply], wall_s: float) -> LevelResult:
    good = [r for r in replies if r.outcome == "ok"]
    inputs = [float(r.input_tokens) for r in good if r.input_tokens is not None] or [float(level[1])]
    outputs = [float(r.output_tokens) for r in good]
    counts = {o: sum(r.outcome == o for r in replies) for o in ("rate_limited", "dropped", "error")}
    return LevelResult(
        concurrency=level[0],
        prompt_tokens=level[1],
        input_tokens_mean=float(np.mean(inputs)),
        output_tokens_mean=float(np.mean(outputs)) if outputs else 0.0,
        completed=len(good),
        rate_limited=counts["rate_limited"],
        dropped=counts["dropped"],
        errors=counts["error"],
        wall_s=wall_s,
        output_tokens_per_s=sum(outputs) / wall_s,
        ttft=quantiles([r.ttft_s for r in good if r.ttft_s is not None]),
        itl=quantiles([gap for r in good for gap in r.gaps_s]),
        tpot=quantiles([r.tpot_s for r in good if r.tpot_s is not None]),
    )


def quantiles(values_s: Sequence[float]) -> Quantiles | None:
    """Return the distribution of some times, ``None`` without any."""
    if not values_s:
        return None
    array = np.array(values_s)
    p50, p90, p99 = np.quantile(array, [0.5, 0.9, 0.99])
    spread = float(np.log(np.maximum(array, 1e-6)).std()) if len(array) > 1 else 0.0
    return Quantiles(
        p50_s=float(p50), p90_s=float(p90), p99_s=float(p99), mean_s=float(array.mean()), sigma_ln=spread,
        count=len(array),
    )  # fmt: skip

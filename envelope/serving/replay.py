"""Replaying a trace request by request, and the closed-loop load generator of serving benchmarks."""

from pathlib import Path
from typing import Any

import numpy as np

from envelope.errors import InputError, Problem
from envelope.serving.fleet import Fleet, PoolConfig, ReplicaConfig, RouterPolicy
from envelope.serving.metrics import measure
from envelope.serving.request_table import RequestTable
from envelope.serving.requests import Floats, Ints, Requests, closed_loop, open_loop
from envelope.serving.run import Run, run_once
from envelope.serving.tally import Tally, class_result


def replay_trace(
    replica: ReplicaConfig,
    arrival_s: Floats,
    input_tokens: Ints,
    output_tokens: Ints,
    *,
    prompt_id: Ints | None = None,
    hash_ids: list[list[int]] | None = None,
    hash_block_tokens: int = 512,
    replicas: int = 1,
    ranks: int = 1,
    compiled: bool | None = None,
    table: Path | None = None,
) -> dict[str, Any]:
    """Return the latencies of a recorded trace served by ``replicas`` equal replicas.

    Requests arrive when the trace says, whatever the system does. Equal ``prompt_id`` is an equal prompt;
    ``hash_ids`` lists the prompt's blocks of ``hash_block_tokens`` tokens, so that equal leading ids are a shared
    prefix. Keys: ``requests``, ``completed``, ``duration_s``, ``output_tokens_per_s``, and ``ttft_s``, ``itl_s``,
    ``tpot_s``, ``e2e_s`` with mean, p50, p90, p95, p99.
    """
    order = np.argsort(np.asarray(arrival_s, dtype=np.float64), kind="stable")
    begin = float(np.asarray(arrival_s)[order[0]]) if len(order) else 0.0
    made = open_loop(
        np.asarray(arrival_s, dtype=np.float64)[order] - begin,
        np.asarray(input_tokens)[order],
        np.asarray(output_tokens)[order],
        prompt_id=None if prompt_id is None else np.asarray(prompt_id)[order],
    )
    if hash_ids is not None:
        from envelope.serving.prefixes import with_prefixes

        made = with_prefixes(made, [hash_ids[i] for i in order], hash_block_tokens)
    balance: Any = "prefix_affine" if replica.prefix_cache and replicas > 1 else "least_outstanding"
    return served(replica, made, replicas=replicas, ranks=ranks, balance=balance, compiled=compiled, table=table)


def load_test(
    replica: ReplicaConfig,
    *,
    concurrency: int,
    requests: int,
    input_tokens: int,
    output_tokens: int,
    range_ratio: float = 1.0,
    warmup: int = 0,
    seed: int = 0,
    replicas: int = 1,
    ranks: int = 1,
    compiled: bool | None = None,
    table: Path | None = None,
) -> dict[str, Any]:
    """Return the latencies that a closed-loop load generator sees.

    First ``warmup`` more requests of the same kind are served at the same concurrency and not counted: they leave
    warm caches behind, and an idle engine. (``vllm bench serve --num-warmups`` does the same with copies of its first
    prompt: ``vllm/benchmarks/serve.py``, ``benchmark``.) Then ``concurrency`` requests start at once and each one
    that ends starts the next, until ``requests`` have been served. Lengths are uniform integers in
    ``[range_ratio, 1]`` times the nominal ones; all prompts differ. Keys as in ``replay_trace``.
    """
    if not 0 < range_ratio <= 1:
        raise InputError(Problem("load_test", "range_ratio", range_ratio, "must be above 0 and at most 1"))
    if requests < 1 or input_tokens < 1 or output_tokens < 1:
        raise InputError(Problem("load_test", "", None, "requests, input and output must be at least 1"))
    rng = np.random.default_rng([seed, 5])
    inputs = _ranged(rng, input_tokens, range_ratio, requests)
    outputs = _ranged(rng, output_tokens, range_ratio, requests)
    made = closed_loop(inputs, outputs, concurrency=min(concurrency, requests), seed=seed)
    before = None
    if warmup > 0:
        lengths = (_ranged(rng, nominal, range_ratio, warmup) for nominal in (input_tokens, output_tokens))
        before = closed_loop(*lengths, concurrency=min(concurrency, warmup), seed=seed + 1)
    return served(replica, made, before=before, replicas=replicas, ranks=ranks, compiled=compiled, table=table)


def _ranged(rng: np.random.Generator, nominal: int, ratio: float, n: int) -> Ints:
    low = max(1, int(nominal * ratio))
    return rng.integers(low, nominal + 1, n)


def served(
    replica: ReplicaConfig,
    requests: Requests,
    *,
    before: Requests | None = None,
    replicas: int = 1,
    ranks: int = 1,
    balance: Any = "least_outstanding",
    compiled: bool | None = None,
    table: Path | None = None,
) -> dict[str, Any]:
    """Return the statistics of requests served by equal replicas, after those of ``before``, which do not count.

    ``table`` (``.csv`` or ``.parquet``) takes one row per request that counts.
    """
    pool = PoolConfig(replica=replica, replicas=replicas, ranks=ranks)
    fleet = Fleet(pools=(pool,), router=RouterPolicy(balance=balance))
    run = run_once(fleet, requests, before=before, compiled=compiled)
    if table is not None:
        with RequestTable(table, fleet, requests.classes) as rows:
            rows.add(measure(run))
    return statistics(run)


def statistics(run: Run) -> dict[str, Any]:
    """Return counts, rates and latency percentiles of the counted requests of a run as plain data."""
    m = measure(run)
    tally = Tally()
    tally.add(m, np.ones(len(m.task), dtype=np.bool_))
    duration = float(np.nanmax(m.arrival_s + m.e2e_s)) - float(m.arrival_s.min()) if m.done.any() else 0.0
    warm, final = run.warm, run.final
    result = class_result("all", tally, (final.gaps - warm.gaps).sum(axis=0), duration, float(m.solved.mean()))
    total = int(m.output_tokens[m.done].sum())
    hit, fresh = final.tokens_hit - warm.tokens_hit, final.tokens_in - warm.tokens_in
    out: dict[str, Any] = {
        "requests": result.offered,
        "completed": result.completed,
        "refused": result.refused_length,
        "duration_s": duration,
        "output_tokens_per_s": total / duration if duration > 0 else 0.0,
        "requests_per_s": result.completed / duration if duration > 0 else 0.0,
        "preemptions": int(m.preemptions.sum()),
        "prefix_hit_frac": hit / max(hit + fresh, 1),
        "energy_j": final.energy_j - warm.energy_j,
        "utilisation_frac": float((final.busy_s - warm.busy_s).sum() / max((final.up_s - warm.up_s).sum(), 1e-12)),
    }
    for name in ("ttft_s", "itl_s", "tpot_s", "e2e_s"):
        found = getattr(result, name)
        out[name] = None if found is None else found.model_dump()
    return out

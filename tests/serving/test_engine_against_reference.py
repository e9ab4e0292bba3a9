"""The fast engine against an engine that takes one step and one KV block at a time."""

import numpy as np
import pytest

from envelope.serving.compiled import available
from envelope.serving.fleet import Fleet, PoolConfig, ReplicaConfig, RouterPolicy
from envelope.serving.kernel import layout as k
from envelope.serving.prefixes import with_prefixes
from envelope.serving.requests import ClassInfo, Requests, closed_loop, open_loop, replace_columns
from envelope.serving.run import run_once

from .conftest import realistic_tables
from .reference import Reference
from .reference_fleet import run_alone, run_split, run_together

MODES = [False, pytest.param(True, marks=pytest.mark.skipif(not available(), reason="numba is not installed"))]


def drawn(seed: int, n: int = 250, rate: float = 12.0, longest: int = 900) -> Requests:
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(1 / rate, n))
    inputs = np.minimum(1 + rng.lognormal(5.0, 1.2, n), longest).astype(np.int64)
    outputs = np.minimum(1 + rng.lognormal(3.5, 1.0, n), 400).astype(np.int64)
    return open_loop(times, inputs, outputs, seed=seed)


def with_documents(requests: Requests, seed: int) -> Requests:
    """Give most prompts a system prompt and one of five documents after it."""
    rng = np.random.default_rng([seed, 1])
    nodes = np.array([(0, 100)] + [(100, 100 + 70 * (d + 1)) for d in range(5)])
    paths, start = [], [0]
    for tokens in requests.input_tokens:
        d = int(rng.integers(1, 6))
        if rng.random() < 0.8 and tokens > 101:
            paths.append(0)
            if tokens > nodes[d, 1]:
                paths.append(d)
        start.append(len(paths))
    return replace_columns(
        requests, path=np.array(paths, dtype=np.int64), path_start=np.array(start), node_tokens=nodes
    )


def with_sessions(seed: int, sessions: int = 30, calls: int = 6) -> Requests:
    """Dialogues whose prompts continue the context of the call before, behind a common system prompt."""
    rng = np.random.default_rng([seed, 2])
    n = sessions * calls
    outputs = rng.integers(1, 120, n)
    inputs = np.zeros(n, dtype=np.int64)
    for s in range(sessions):
        context = 130
        for c in range(calls):
            inputs[s * calls + c] = context = context + int(rng.integers(5, 150))
            context += int(outputs[s * calls + c])
    made = with_documents(drawn(seed, n), seed)
    turn = np.arange(n) % calls
    return replace_columns(
        made,
        arrival_s=np.repeat(rng.uniform(0, 20, sessions), calls),
        input_tokens=inputs,
        output_tokens=outputs,
        follower=np.where(turn < calls - 1, np.arange(1, n + 1), -1),
        follows=turn > 0,
        gap_s=rng.exponential(2.0, n),
        chain=np.arange(n) // calls,
        path=np.zeros(n, dtype=np.int64),
        path_start=np.arange(n + 1),
        span_s=300.0,
    )


def two_priorities(seed: int) -> Requests:
    made = drawn(seed)
    task = (np.arange(len(made)) % 3 == 0).astype(np.int64)
    return replace_columns(made, task=task, classes=(ClassInfo("urgent", priority=-1), ClassInfo("batch", priority=5)))


def five_adapters(seed: int) -> Requests:
    made = drawn(seed)
    classes = (ClassInfo("plain"), *(ClassInfo(f"c{i}", adapter=f"a{i}") for i in range(5)))
    return replace_columns(made, task=np.random.default_rng(seed).integers(0, 6, len(made)), classes=classes)


CASES = {
    "adapters": (dict(max_adapters=2, max_num_seqs=12), lambda s: five_adapters(s)),
    "adapters that are loaded": (
        dict(max_adapters=3, adapter_blocks=50, adapter_load_s=0.02, adapter_each_s=4e-4), lambda s: five_adapters(s),
    ),
    "any number of adapters": (dict(adapter_load_s=0.02, adapter_step_s=1e-3), lambda s: five_adapters(s)),
    "adapters and preemption": (dict(max_adapters=2, kv_blocks=120), lambda s: five_adapters(s)),
    "chunked prefill": (dict(), lambda s: drawn(s)),
    "small token budget": (dict(max_num_batched_tokens=64), lambda s: drawn(s, rate=5)),
    "whole prompts": (dict(chunked_prefill=False), lambda s: drawn(s)),
    "static batches": (dict(batching="static"), lambda s: drawn(s)),
    "single stream": (dict(batching="single"), lambda s: drawn(s, rate=1.0)),
    "preemption": (dict(kv_blocks=120), lambda s: drawn(s)),
    "preemption with cache": (dict(kv_blocks=120, prefix_cache=True), lambda s: drawn(s)),
    "fixed blocks": (dict(kv_blocks=200, fixed_blocks_per_seq=3), lambda s: drawn(s)),
    "priorities": (dict(max_num_seqs=6), lambda s: two_priorities(s)),
    "priorities and preemption": (dict(kv_blocks=130), lambda s: two_priorities(s)),
    "documents": (dict(kv_blocks=400, prefix_cache=True), lambda s: with_documents(drawn(s), s)),
    "documents, tight": (dict(kv_blocks=110, prefix_cache=True), lambda s: with_documents(drawn(s), s)),
    "sessions": (dict(kv_blocks=700, prefix_cache=True), lambda s: with_sessions(s)),
    "sessions, tight": (dict(kv_blocks=150, prefix_cache=True), lambda s: with_sessions(s)),
    "sessions without cache": (dict(kv_blocks=300), lambda s: with_sessions(s)),
    "drafts": (dict(draft_tokens=3, draft_acceptance_frac=0.7), lambda s: drawn(s)),
    "drafts and preemption": (dict(draft_tokens=5, draft_acceptance_frac=0.8, kv_blocks=120), lambda s: drawn(s)),
    "drafts, sessions": (
        dict(draft_tokens=2, draft_acceptance_frac=0.5, kv_blocks=150, prefix_cache=True), lambda s: with_sessions(s),
    ),
    "drafts, whole prompts": (
        dict(draft_tokens=20, draft_acceptance_frac=0.9, chunked_prefill=False, max_num_batched_tokens=900),
        lambda s: drawn(s),
    ),
    "load generator": (
        dict(),
        lambda s: closed_loop(drawn(s).input_tokens, drawn(s).output_tokens, concurrency=20, seed=s),
    ),
    "recorded hashes": (
        dict(kv_blocks=300, prefix_cache=True),
        lambda s: with_prefixes(
            replace_columns(drawn(s), input_tokens=64 + 37 * (np.arange(250) % 9)),
            [[0, 1 + i % 2, *(10 * (i % 9) + b for b in range(10, 14))] for i in range(250)], 64,
        ),
    ),
    "equal prompts": (
        dict(prefix_cache=True),
        lambda s: open_loop(
            drawn(s).arrival_s, 64 + 37 * (np.arange(250) % 9), drawn(s).output_tokens, prompt_id=np.arange(250) % 9
        ),
    ),
}  # fmt: skip


def config(**changes: object) -> ReplicaConfig:
    settings = dict(steps=realistic_tables(), max_num_seqs=32, max_num_batched_tokens=512, kv_blocks=4000)
    return ReplicaConfig(**{**settings, **changes})


@pytest.mark.parametrize("compiled", MODES, ids=lambda c: "compiled" if c else "plain")
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", list(CASES))
def test_every_request_has_the_times_of_the_step_by_step_engine(name: str, seed: int, compiled: bool) -> None:
    changes, make = CASES[name]
    replica, requests = config(**changes), make(seed)
    engine = Reference(replica, requests)
    oracle = run_together([engine], requests)[0]
    run = run_once(Fleet(pools=(PoolConfig(replica=replica),)), requests, compiled=compiled)
    np.testing.assert_array_equal(run.rq[:, k.Q_PREEMPTIONS], [s.preemptions for s in oracle])
    np.testing.assert_allclose(run.rx[:, k.F_FIRST], [s.first for s in oracle], rtol=1e-6)
    np.testing.assert_allclose(run.rx[:, k.F_FINISH], [s.finish for s in oracle], rtol=1e-6)
    np.testing.assert_array_equal(run.ticks[:, 2], held_at(run.tick_times[:, 0], [engine]))
    assert run.peaks[0, 1] == max(blocks for _, blocks in engine.held)


def held_at(times: np.ndarray, engines: list[Reference]) -> np.ndarray:
    """KV blocks that the step-by-step engines hold at some times, each step from its start on."""
    total = np.zeros(len(times), dtype=np.int64)
    for engine in engines:
        starts, blocks = (np.array(column) for column in zip((-1.0, 0), *engine.held, strict=True))
        total += blocks[np.searchsorted(starts, times, side="left") - 1].astype(np.int64)
    return total


SPLIT = {
    "chunked": (dict(), dict(), lambda s: drawn(s)),
    "whole prompts": (dict(chunked_prefill=False), dict(), lambda s: drawn(s)),
    "whole prompts on both": (dict(chunked_prefill=False), dict(chunked_prefill=False, kv_blocks=130), lambda s: drawn(s)),
    "preemption on the decode replica": (dict(), dict(kv_blocks=110), lambda s: drawn(s)),
    "prefix caches": (
        dict(prefix_cache=True, kv_blocks=150), dict(prefix_cache=True, kv_blocks=110), lambda s: with_documents(drawn(s), s),
    ),
    "priorities": (dict(max_num_seqs=2), dict(max_num_seqs=6), lambda s: two_priorities(s)),
    "drafts": (dict(), dict(draft_tokens=3, draft_acceptance_frac=0.7, kv_blocks=130), lambda s: drawn(s)),
    "drafts and caches": (
        dict(prefix_cache=True), dict(draft_tokens=3, draft_acceptance_frac=0.7, kv_blocks=130, prefix_cache=True),
        lambda s: with_documents(drawn(s), s),
    ),
    "adapters": (dict(max_adapters=2), dict(max_adapters=2, adapter_load_s=0.01), lambda s: five_adapters(s)),
}  # fmt: skip


@pytest.mark.parametrize("compiled", MODES, ids=lambda c: "compiled" if c else "plain")
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", list(SPLIT))
def test_split_prefill_and_decode_have_the_times_of_the_step_by_step_engines(
    name: str, seed: int, compiled: bool
) -> None:
    before, after, make = SPLIT[name]
    requests, base_s, per_token_s = make(seed), 0.02, 1e-5
    oracle, decode = run_split(config(**before), config(**after), requests, base_s, per_token_s)
    pools = (
        PoolConfig(replica=config(**before), role="prefill", name="p"),
        PoolConfig(replica=config(**after), role="decode", name="d"),
    )
    fleet = Fleet(pools=pools, kv_transfer_base_s=base_s, kv_transfer_s_per_token=per_token_s)
    run = run_once(fleet, requests, compiled=compiled)
    np.testing.assert_array_equal(run.rq[:, k.Q_PREEMPTIONS], [s.preemptions for s in oracle])
    np.testing.assert_allclose(run.rx[:, k.F_FIRST], [s.first for s in oracle], rtol=1e-6)
    np.testing.assert_allclose(run.rx[:, k.F_FINISH], [s.finish for s in oracle], rtol=1e-6)
    assert run.peaks[1, 1] == max(blocks for _, blocks in decode.held)
    assert (run.blocks_free == [config(**before).kv_blocks, config(**after).kv_blocks]).all()


def test_the_cases_do_preempt_and_do_hit_the_cache() -> None:
    run = run_once(Fleet(pools=(PoolConfig(replica=config(kv_blocks=120)),)), drawn(1))
    assert run.rq[:, k.Q_PREEMPTIONS].sum() > 10
    replica = config(kv_blocks=150, prefix_cache=True)
    run = run_once(Fleet(pools=(PoolConfig(replica=replica),)), with_sessions(1))
    assert 0.1 < run.final.tokens_hit / (run.final.tokens_hit + run.final.tokens_in) < 0.95


def test_round_robin_over_three_replicas_is_three_replicas_with_every_third_request() -> None:
    requests = drawn(5)
    replica = config()
    fleet = Fleet(pools=(PoolConfig(replica=replica, replicas=3),), router=RouterPolicy(balance="round_robin"))
    run = run_once(fleet, requests)
    for r in range(3):
        rows = np.arange(r, len(requests), 3)
        part = open_loop(requests.arrival_s[rows], requests.input_tokens[rows], requests.output_tokens[rows])
        oracle = run_alone(replica, part)
        np.testing.assert_allclose(run.rx[rows, k.F_FINISH], [s.finish for s in oracle], rtol=1e-6)


@pytest.mark.parametrize("compiled", MODES, ids=lambda c: "compiled" if c else "plain")
@pytest.mark.parametrize("name", ["chunked prefill", "preemption", "sessions", "documents, tight", "load generator"])
def test_ranks_that_share_experts_step_together(name: str, compiled: bool) -> None:
    changes, make = CASES[name]
    replica, requests = config(**changes), make(3)
    engines = [Reference(replica, requests) for _ in range(3)]
    ranks = run_together(engines, requests)
    fleet = Fleet(pools=(PoolConfig(replica=replica, ranks=3),), router=RouterPolicy(balance="round_robin"))
    run = run_once(fleet, requests, compiled=compiled)
    finish = [[s.finish for s in seqs] for seqs in ranks]
    first = [[s.first for s in seqs] for seqs in ranks]
    np.testing.assert_allclose(run.rx[:, k.F_FINISH], np.nanmax(finish, axis=0), rtol=1e-6)
    np.testing.assert_allclose(run.rx[:, k.F_FIRST], np.nanmax(first, axis=0), rtol=1e-6)
    np.testing.assert_array_equal(run.ticks[:, 2], held_at(run.tick_times[:, 0], engines))
    assert set(run.rq[:, k.Q_SERVER]) == {0, 1, 2}

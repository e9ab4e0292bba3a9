"""Requests and tokens are conserved: on recorded traces replayed whole, and when devices fail."""

from pathlib import Path

import numpy as np
import pytest

from envelope.logs import read_log, requests_of
from envelope.serving.fleet import Faults, Fleet, PoolConfig, ReplicaConfig
from envelope.serving.kernel import layout as k
from envelope.serving.prefixes import reuse_frac
from envelope.serving.requests import Requests
from envelope.serving.run import Run, run_once

from .conftest import realistic_tables
from .test_engine_against_reference import drawn, with_sessions

TRACES = Path(__file__).parents[3] / "shared" / "traces"
ROWS = {
    "azure_llm_2023_code.csv.gz": 8819,
    "azure_llm_2023_conv.csv.gz": 19_366,
    "burstgpt_1_first42.csv": 42,
    "mooncake_conversation_first6000.jsonl.gz": 6000,
    "mooncake_synthetic.jsonl.gz": 3993,
    "claude_code_weka_64sessions.jsonl.gz": None,
    "tracelab_example_rounds.jsonl.gz": None,
}
"""Requests that the file's own lines hold, failed ones included, where one line is one request."""


def fleet(*, replicas: int = 4, kv_blocks: int = 60_000, cache: bool = True, faults: Faults | None = None) -> Fleet:
    replica = ReplicaConfig(
        steps=realistic_tables(seqs=256, tokens=8192), max_num_seqs=256, max_num_batched_tokens=8192,
        kv_blocks=kv_blocks, prefix_cache=cache,
    )  # fmt: skip
    return Fleet(pools=(PoolConfig(replica=replica, replicas=replicas),), faults=faults)


def check_tokens(run: Run, requests: Requests) -> None:
    """Every prompt token was computed or found in the cache, every answer token was made, and again only if lost."""
    q = run.rq
    done = q[:, k.Q_STATUS] == k.STATUS_DONE
    assert run.final.tokens_out == requests.output_tokens[done].sum()
    offered = int(requests.input_tokens[done].sum())
    repeats = q[done, k.Q_PREEMPTIONS].astype(np.int64) + q[done, k.Q_RESTARTS]
    again = int((repeats * (requests.input_tokens + requests.output_tokens)[done]).sum())
    assert offered <= run.final.tokens_in + run.final.tokens_hit <= offered + again
    gaps = int((requests.output_tokens[done] - 1).sum())
    assert gaps <= run.final.gaps.sum() <= gaps + again
    assert (q[:, k.Q_HIT] <= q[:, k.Q_INPUT]).all()


@pytest.mark.skipif(not TRACES.is_dir(), reason="the sample traces are not beside the repository")
@pytest.mark.parametrize("name", list(ROWS))
def test_real_traces_are_replayed_whole(name: str) -> None:
    trace = read_log(TRACES / name)
    if ROWS[name] is not None:
        assert len(trace) + trace.failures == ROWS[name]
    requests = requests_of(trace)
    run = run_once(fleet(cache=trace.hash_ids is not None), requests)
    assert len(run.rq) == len(trace)
    assert (run.rq[:, k.Q_STATUS] == k.STATUS_DONE).all()
    assert run.final.tokens_out == trace.output_tokens.sum()
    check_tokens(run, requests)
    assert (run.blocks_free == 60_000).all()
    if trace.hash_ids is not None:
        assert 0 < run.rq[:, k.Q_HIT].sum() <= reuse_frac(requests) * trace.input_tokens.sum()


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("sessions", [False, True])
def test_tokens_are_conserved_while_devices_fail(cache: bool, sessions: bool) -> None:
    requests = with_sessions(4, 60, 5) if sessions else drawn(4, 400, 20.0)
    faults = Faults(device_mtbf_s=5.0, repair_s=2.0, reload_s=0.5, spares=1)
    run = run_once(fleet(replicas=3, kv_blocks=150, cache=cache, faults=faults), requests, compiled=False)
    assert run.rq[:, k.Q_RESTARTS].sum() > 0, "the case must lose work"
    assert (run.rq[:, k.Q_STATUS] == k.STATUS_DONE).all()
    check_tokens(run, requests)

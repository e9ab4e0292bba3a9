"""The preset of coding agents has the statistics of the sessions that it was fitted to."""

import numpy as np
import pytest

from envelope.serving.arrivals import Window, generate
from envelope.serving.fleet import Fleet, PoolConfig, ReplicaConfig
from envelope.serving.kernel import layout as k
from envelope.serving.requests import Requests
from envelope.serving.run import run_once
from envelope.spec.load import validate
from envelope.spec.workload import Workload

from .conftest import realistic_tables


def agents(per_day: float, days: float, **session: object) -> Requests:
    task = {"id": "agent", "preset": "coding-agent", "session": session}
    work = validate(Workload, {"tasks": [task], "requests_per_day": per_day}, "w")
    return generate(work, seed=3, window=Window(0.0, days * 86_400.0))


def test_calls_are_as_long_and_as_many_as_in_the_trace() -> None:
    """Claude Code sessions of kv-cache-tester@94f6046d: 677 sessions, 44,748 calls."""
    made = agents(20_000, 20)
    tokens = made.input_tokens
    assert len(made) / np.sum(~made.follows) == pytest.approx(65.1, rel=0.05)
    measured = {5: 29_917, 10: 41_412, 25: 64_348, 50: 99_158, 75: 133_580, 90: 194_010, 95: 302_230}
    for percent, length in measured.items():
        assert np.percentile(tokens, percent) == pytest.approx(length, rel=0.08 if percent in (5, 95) else 0.05)
    assert tokens.mean() == pytest.approx(116_710, rel=0.05)
    assert np.percentile(made.output_tokens, 50) == pytest.approx(218, rel=0.02)


@pytest.mark.parametrize(("context", "share"), [(16, 0.01), (32, 0.06), (64, 0.26), (128, 0.73)])
def test_as_many_calls_fit_a_context_as_in_the_trace(context: int, share: float) -> None:
    made = agents(20_000, 20)
    fits = np.mean(made.input_tokens + made.output_tokens <= context * 1024)
    assert fits == pytest.approx(share, abs=0.015)


def test_most_of_a_prompt_is_a_prefix_hit_if_the_cache_holds_it() -> None:
    """91 to 96 % of the prompt tokens hit in the trace: lower quartile of the sessions, and all calls together."""
    made = agents(3_000, 0.5)
    replica = ReplicaConfig(
        steps=realistic_tables(seqs=256, tokens=8192), max_num_seqs=256, max_num_batched_tokens=8192,
        kv_blocks=4_000_000, prefix_cache=True,
    )  # fmt: skip
    run = run_once(Fleet(pools=(PoolConfig(replica=replica),)), made)
    done = run.rq[:, k.Q_STATUS] == k.STATUS_DONE
    assert done.sum() > 800
    hits = run.rq[done, k.Q_HIT].sum() / made.input_tokens[done].sum()
    assert 0.91 < hits < 0.97


def test_the_next_call_waits_for_the_answer() -> None:
    made = agents(3_000, 0.3)
    replica = ReplicaConfig(
        steps=realistic_tables(seqs=64, tokens=8192), max_num_seqs=64, max_num_batched_tokens=8192, kv_blocks=4_000_000,
        prefix_cache=True,
    )  # fmt: skip
    run = run_once(Fleet(pools=(PoolConfig(replica=replica),)), made)
    first = np.flatnonzero((made.follower >= 0) & (run.rq[:, k.Q_STATUS] == k.STATUS_DONE))
    later = made.follower[first]
    begun = run.rq[later, k.Q_STATUS] == k.STATUS_DONE
    gap = run.rx[later[begun], k.F_ARRIVAL] - run.rx[first[begun], k.F_FINISH]
    np.testing.assert_allclose(gap, made.gap_s[later[begun]], rtol=1e-9, atol=1e-6)


def test_a_session_goes_on_after_a_call_that_is_too_long() -> None:
    """Each call stands for itself: none of a session's later calls vanishes, none is refused with the long one."""
    made = agents(3_000, 0.5)
    limit = 131_072
    replica = ReplicaConfig(
        steps=realistic_tables(seqs=256, tokens=8192), max_num_seqs=256, max_num_batched_tokens=8192,
        kv_blocks=4_000_000, prefix_cache=True, max_context_tokens=limit,
    )  # fmt: skip
    run = run_once(Fleet(pools=(PoolConfig(replica=replica),)), made)
    begun = np.isin(run.rq[:, k.Q_STATUS], (k.STATUS_DONE, k.STATUS_REFUSED_LENGTH))
    long = made.input_tokens + made.output_tokens > limit
    assert 0.15 < long[begun].mean() < 0.4
    np.testing.assert_array_equal(run.rq[begun, k.Q_STATUS] == k.STATUS_REFUSED_LENGTH, long[begun])
    after = made.follower[begun & long]
    after = after[after >= 0]
    assert begun[after].mean() > 0.9, "only the end of the window cuts"


def test_clients_are_heavy_tailed() -> None:
    task = {"id": "a", "preset": "chat", "clients": {"count": 200, "zipf": 1.1}}
    made = generate(
        validate(Workload, {"tasks": [task], "requests_per_day": 40_000}, "w"), seed=1, window=Window(0.0, 86_400.0)
    )
    counts = np.sort(np.bincount(made.seat))[::-1]
    # ServeGen: the busiest tenth of the clients sends 71–79 % of the requests.
    assert 0.6 < counts[:20].sum() / counts.sum() < 0.85
    # Lengths differ between clients by more than chance: variance of the clients' means over that of equal clients.
    log_tokens = np.log(made.input_tokens)
    busy = [log_tokens[made.seat == c] for c in range(200) if np.sum(made.seat == c) > 50]
    between = np.var([x.mean() for x in busy])
    assert between > 5 * np.mean([x.var() / len(x) for x in busy])

"""The hosted API: concurrency, back-off with jitter, cached prompts."""

import numpy as np
import pytest

from envelope.errors import InputError
from envelope.serving.fleet import Fleet, HostedConfig, RouterPolicy
from envelope.serving.kernel import layout as k
from envelope.serving.metrics import measure
from envelope.serving.requests import open_loop, replace_columns
from envelope.serving.run import Run, run_once
from envelope.serving.simulate import simulate


def hosted(**settings: object) -> Fleet:
    config = HostedConfig(**{"ttft_p50_s": 1.0, "tokens_per_s_p50": 10.0, "max_retries": 50, **settings})
    return Fleet(hosted=config, router=RouterPolicy(policy="hosted_only"))


def most_at_once(run: Run) -> int:
    """Most requests in the API at one time: from the last attempt, one TTFT before the first token, to the end."""
    begin, end = run.rx[:, k.F_FIRST] - 1.0, run.rx[:, k.F_FINISH]
    return max(int(((begin <= t) & (end > t)).sum()) for t in begin)


@pytest.mark.parametrize("most", [1, 3, 10])
def test_no_more_requests_are_served_at_once_than_allowed(most: int) -> None:
    requests = open_loop(np.linspace(0, 20, 200), np.full(200, 50), np.full(200, 11))
    run = run_once(hosted(max_concurrent=most), requests)
    assert (run.rq[:, k.Q_STATUS] == k.STATUS_DONE).all()
    assert most_at_once(run) == most
    free = run_once(hosted(), requests)
    assert most_at_once(free) > 15
    assert (free.rq[:, k.Q_ATTEMPTS] == 1).all()


def test_a_limit_of_none_at_once_is_refused() -> None:
    with pytest.raises(InputError, match="max_concurrent"):
        HostedConfig(ttft_p50_s=1.0, tokens_per_s_p50=1.0, max_concurrent=0)


def test_waits_double_up_to_a_limit_and_are_shortened_at_random() -> None:
    n = 400
    requests = open_loop(np.linspace(0.0, 1.0, n), np.full(n, 50), np.full(n, 11))
    run = run_once(hosted(outages_s=((0.0, 40.0),), backoff_s=1.0, backoff_max_s=8.0), requests)
    begun = run.rx[:, k.F_FIRST] - 1.0
    waited = begun - requests.arrival_s
    attempts = run.rq[:, k.Q_ATTEMPTS]
    whole = np.array([sum(min(2.0**j, 8.0) for j in range(a - 1)) for a in attempts])
    assert (begun >= 40.0).all()
    assert (waited <= whole).all()
    assert (waited >= 0.5 * whole).all()
    assert len(np.unique(waited)) == n, "no two clients come back at the same time"
    assert np.mean(waited / whole) == pytest.approx(0.75, abs=0.05)


def test_the_cache_discount_holds_for_as_long_as_the_cache_lives() -> None:
    n = 60
    made = open_loop(np.arange(n) * 10.0, np.where(np.arange(n) % 2, 300, 100), np.full(n, 2))
    turn = np.arange(n) % 2
    gaps = np.where(np.arange(n) < 30, 5.0, 500.0) * turn
    requests = replace_columns(
        made, follower=np.where(turn == 0, np.arange(n) + 1, -1), follows=turn == 1, chain=np.arange(n) // 2, gap_s=gaps,
        span_s=5000.0,
    )  # fmt: skip
    usage = simulate(hosted(cache_ttl_s=300.0), requests, warmup_frac=0.0).hosted
    assert usage.cached_input_tokens == 15 * 100
    assert usage.input_tokens == 30 * 400 - 15 * 100
    quick = measure(run_once(hosted(uncached_s_per_token=0.01), requests))
    late, soon = quick.ttft_s[quick.hosted_hit == 0], quick.ttft_s[quick.hosted_hit > 0]
    assert soon == pytest.approx(1.0 + 0.01 * 200)
    assert set(np.round(late, 6)) == {2.0, 4.0}


def test_tokens_per_minute_alone_limit_the_rate() -> None:
    """A full bucket of one minute's tokens is spent first; then each request waits for its own tokens."""
    n, tokens, tpm = 120, 100, 3000
    requests = open_loop(np.full(n, 0.0), np.full(n, tokens - 10), np.full(n, 10))
    run = run_once(hosted(tpm=tpm, max_retries=10_000, backoff_s=0.05, backoff_max_s=0.05), requests)
    assert (run.rq[:, k.Q_STATUS] == k.STATUS_DONE).all()
    begun = np.sort(run.rx[:, k.F_FIRST] - 1.0)
    burst = tpm // tokens
    assert (begun[:burst] < 1e-9).all()
    earliest = (np.arange(burst, n) + 1 - burst) * tokens * 60.0 / tpm
    late = begun[burst:] - earliest
    assert (late >= -1e-6).all(), "no request starts before its tokens are there"
    assert late.max() <= 0.1, "and none much later than a client's next try"
    free = run_once(hosted(), requests)
    assert (free.rx[:, k.F_FIRST] - 1.0 < 1e-9).all()

"""The engine as a textbook queue. Each mean must lie in the 99.9 % interval over independent seeds, whose half-width
is at most 5 % of it (STYLE.md).

A single-stream replica whose step takes no time but ``per_prefill_token_s`` per prompt token serves one request in
``input_tokens · s``; with one output token the E2E is the sojourn time of a classical server.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import t as student

from envelope.serving.fleet import Fleet, PoolConfig, ReplicaConfig, RouterPolicy
from envelope.serving.kernel import layout as k
from envelope.serving.requests import Requests, open_loop, replace_columns
from envelope.serving.run import Run, run_once
from envelope.spec.step import StepTables, constant_step

UNIT = 1e-5
"""Service time per prompt token: a mean of 1 s is 100,000 tokens, so that rounding to tokens does not matter."""

SEEDS = range(24)


def queue_server() -> ReplicaConfig:
    tables = constant_step(0.0, max_num_seqs=1, max_batched_tokens=10**3, per_prefill_token_s=UNIT)
    return ReplicaConfig(
        steps=tables, max_num_seqs=1, max_num_batched_tokens=10**8, kv_blocks=10**9, chunked_prefill=True
    )


def interval_of(values: list[float]) -> tuple[float, float]:
    """Mean and half-width of the 99.9 % interval."""
    n = len(values)
    half = student.ppf(0.9995, n - 1) * np.std(values, ddof=1) / math.sqrt(n)
    return float(np.mean(values)), float(half)


def assert_theory(values: list[float], theory: float) -> None:
    mean, half = interval_of(values)
    assert half <= 0.05 * theory, f"interval too wide: {half / theory:.3f}"
    assert abs(mean - theory) <= half, f"{mean:.4f} ± {half:.4f} against {theory:.4f}"


def requests_with(service_s: np.ndarray, rate: float, rng: np.random.Generator) -> Requests:
    n = len(service_s)
    times = np.cumsum(rng.exponential(1 / rate, n))
    tokens = np.maximum(1, np.rint(service_s / UNIT)).astype(np.int64)
    return open_loop(times, tokens, np.ones(n, dtype=np.int64))


def sojourns(draw: Callable[[np.random.Generator, int], np.ndarray], rate: float, servers: int, n: int) -> list[float]:
    out = []
    for seed in SEEDS:
        rng = np.random.default_rng([seed, 77])
        requests = requests_with(draw(rng, n), rate, rng)
        run = run_once(one_queue(servers), requests)
        out.append(float((run.rx[:, k.F_FINISH] - run.rx[:, k.F_ARRIVAL])[n // 10 :].mean()))
    return out


def one_queue(servers: int) -> Fleet:
    return Fleet(pools=(PoolConfig(replica=queue_server(), replicas=servers),), router=RouterPolicy())


SERVICES = {
    "M/M/1": (lambda rng, n: rng.exponential(1.0, n), 2.0),
    "M/D/1": (lambda rng, n: np.ones(n), 1.0),
    "M/E4/1": (lambda rng, n: rng.gamma(4.0, 0.25, n), 1.25),
    "M/H2/1": (lambda rng, n: np.where(rng.random(n) < 0.5, rng.exponential(0.4, n), rng.exponential(1.6, n)), 2.72),
}
"""Service distributions of mean 1 with their second moments."""


@pytest.mark.parametrize("rho", [0.5, 0.7])
@pytest.mark.parametrize("name", list(SERVICES))
def test_mean_sojourn_is_that_of_pollaczek_and_khinchine(name: str, rho: float) -> None:
    draw, second_moment = SERVICES[name]
    theory = 1.0 + rho * second_moment / (2.0 * (1.0 - rho))
    assert_theory(sojourns(draw, rho, 1, 20_000), theory)


def erlang_c(c: int, load: float) -> float:
    last = load**c / math.factorial(c) * c / (c - load)
    return last / (sum(load**j / math.factorial(j) for j in range(c)) + last)


def batch_server(c: int) -> ReplicaConfig:
    """A replica with ``c`` places whose decode step takes 1 ms whatever the batch: ``c`` servers with one queue."""
    tables = constant_step(1e-3, max_num_seqs=c, max_batched_tokens=10**4)
    return ReplicaConfig(steps=tables, max_num_seqs=c, max_num_batched_tokens=10**4, kv_blocks=10**9)


@pytest.mark.parametrize(("c", "rho"), [(2, 0.7), (8, 0.8)])
def test_a_batch_with_c_places_is_an_mmc_queue(c: int, rho: float) -> None:
    """Service is geometric in steps of 1 ms with mean 1 s: exponential to within a thousandth."""
    n = 20_000
    waits = []
    for seed in SEEDS:
        rng = np.random.default_rng([seed, 78])
        times = np.cumsum(rng.exponential(1.0 / (c * rho), n))
        steps = np.maximum(1, np.rint(rng.exponential(1000.0, n))).astype(np.int64)
        run = run_once(
            Fleet(pools=(PoolConfig(replica=batch_server(c)),)), open_loop(times, np.ones(n, dtype=np.int64), steps)
        )
        waits.append(float((run.rx[:, k.F_FINISH] - run.rx[:, k.F_ARRIVAL])[n // 10 :].mean()))
    theory = 1.0 + erlang_c(c, c * rho) / (c * (1.0 - rho))
    assert_theory(waits, theory)


def sharing_tables() -> StepTables:
    """A step whose time is proportional to the number of sequences: every sequence gets an equal share."""
    n = np.arange(401)
    tables = constant_step(0.0, max_num_seqs=400, max_batched_tokens=4000)
    return StepTables(**{**{f: getattr(tables, f) for f in StepTables.__slots__}, "sampled_s": 1e-3 * n})


def test_a_step_proportional_to_the_batch_is_processor_sharing() -> None:
    """M/G/1-PS: mean sojourn 1/(1 − ρ) whatever the distribution of the work, and x/(1 − ρ) given the work x."""
    n, rho = 12_000, 0.6
    config = ReplicaConfig(steps=sharing_tables(), max_num_seqs=400, max_num_batched_tokens=4000, kv_blocks=10**9)
    means, slopes = [], []
    for seed in SEEDS:
        rng = np.random.default_rng([seed, 79])
        work = np.maximum(1, np.rint(rng.lognormal(5.0, 1.0, n))).astype(np.int64)
        mean = float(work.mean()) * 1e-3
        times = np.cumsum(rng.exponential(mean / rho, n))
        run = run_once(Fleet(pools=(PoolConfig(replica=config),)), open_loop(times, np.ones(n, dtype=np.int64), work))
        sojourn = (run.rx[:, k.F_FINISH] - run.rx[:, k.F_ARRIVAL])[n // 10 :]
        means.append(float(sojourn.mean()) / mean)
        long = work[n // 10 :] > 400
        slopes.append(float((sojourn[long] / (1e-3 * work[n // 10 :][long])).mean()))
    assert_theory(means, 1.0 / (1.0 - rho))
    assert_theory(slopes, 1.0 / (1.0 - rho))


def in_system(run: Run, at: np.ndarray) -> np.ndarray:
    arrived = np.sort(run.rx[:, k.F_ARRIVAL])
    gone = np.sort(run.rx[:, k.F_FINISH])
    return np.searchsorted(arrived, at, side="right") - np.searchsorted(gone, at, side="right")


def test_littles_law_holds_between_timeline_and_latencies() -> None:
    """L = λ·W: the timeline's samples of queue and batch against the requests' own times."""
    ratios = []
    for seed in SEEDS:
        rng = np.random.default_rng([seed, 80])
        n = 6_000
        requests = open_loop(np.cumsum(rng.exponential(0.1, n)), rng.integers(1, 500, n), rng.integers(1, 100, n))
        tables = constant_step(0.01, per_prefill_token_s=1e-5)
        config = ReplicaConfig(steps=tables, max_num_seqs=8, max_num_batched_tokens=512, kv_blocks=10**6)
        run = run_once(Fleet(pools=(PoolConfig(replica=config),)), requests)
        inside = run.ticks[:, 0] + run.ticks[:, 1]
        np.testing.assert_array_equal(inside[:-1], in_system(run, run.tick_times[:-1, 0]))
        sojourn = run.rx[:, k.F_FINISH] - run.rx[:, k.F_ARRIVAL]
        ratios.append(float(inside.mean()) / (n / requests.span_s * float(sojourn.mean())))
    assert_theory(ratios, 1.0)


def test_utilisation_is_the_offered_load() -> None:
    shares = []
    for seed in SEEDS:
        rng = np.random.default_rng([seed, 81])
        requests = requests_with(rng.exponential(1.0, 5000), 0.6, rng)
        run = run_once(one_queue(1), requests)
        shares.append(float(run.final.busy_s[0]) / run.final.time_s)
    assert_theory(shares, 0.6)


def test_priority_queue_is_cobhams() -> None:
    """Non-preemptive M/M/1 with two classes (Cobham, 1954): W_high = W0 / (1 − ρ1), W_low = W_high / (1 − ρ)."""
    from envelope.serving.requests import ClassInfo

    rho1, rho2 = 0.3, 0.4
    high, low = [], []
    for seed in SEEDS:
        rng = np.random.default_rng([seed, 82])
        n = 25_000
        made = requests_with(rng.exponential(1.0, n), rho1 + rho2, rng)
        task = (rng.random(n) > rho1 / (rho1 + rho2)).astype(np.int64)
        made = replace_columns(made, task=task, classes=(ClassInfo("high", priority=0), ClassInfo("low", priority=1)))
        run = run_once(one_queue(1), made)
        sojourn = run.rx[:, k.F_FINISH] - run.rx[:, k.F_ARRIVAL]
        high.append(float(sojourn[task == 0][n // 20 :].mean()))
        low.append(float(sojourn[task == 1][n // 20 :].mean()))
    waiting = (rho1 + rho2) * 1.0
    assert_theory(high, 1.0 + waiting / (1 - rho1))
    assert_theory(low, 1.0 + waiting / ((1 - rho1) * (1 - rho1 - rho2)))

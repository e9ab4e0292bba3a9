"""How many requests per CPU-second the serving simulation handles, and how much memory it takes.

Run ``python benchmarks/bench_serving.py``; figures of other machines compare by the ratio to the loop at the top,
which measures this machine's Python.
"""

import resource
import sys
import time
from collections.abc import Callable

import numpy as np

from envelope.serving.arrivals import Window, generate
from envelope.serving.compiled import available
from envelope.serving.fleet import Fleet, HostedConfig, PoolConfig, ReplicaConfig, RouterPolicy
from envelope.serving.requests import Requests
from envelope.serving.run import run_once
from envelope.serving.simulate import simulate
from envelope.serving.warm import prepare
from envelope.spec.load import validate
from envelope.spec.step import StepTables
from envelope.spec.workload import Workload


def tables(seqs: int = 256, tokens: int = 8192) -> StepTables:
    """Step times like those of an 8-billion-parameter model on an H100."""
    n, m = np.arange(seqs + 1), np.arange(tokens + 1)
    knots = np.array([0.0, 1024.0, 8192.0, 65536.0])
    return StepTables(
        token_s=np.where(m > 0, np.maximum(5.5e-3, m * 2.4e-5), 0.0),
        sampled_s=2e-4 + 4e-6 * n,
        step_overhead_s=1e-3,
        decode_base_s=np.where(n > 0, 1e-4, 0.0),
        context_knots_tokens=knots,
        decode_slope_s_per_token=np.tile(4.5e-8 * np.array([1.0, 1.0, 0.9, 0.9]), (seqs + 1, 1)),
        prefill_base_s=3e-4,
        prefill_token_s=1e-6,
        prefill_slope_s_per_token=np.full(4, 2e-11),
        request_overhead_s=5e-3,
        idle_w=120.0,
        step_w=120.0 + 480.0 * (1 - np.exp(-m / 64)),
        bound=np.where(m < 230, 1, 0).astype(np.int8),
    )


def mixed_work(rate_per_s: float) -> Workload:
    """Completions, chats, tutoring and document dialogues with shared prompts: what a company's fleet sees."""
    tasks = [
        {"id": "completion", "preset": "code-completion", "share": 5},
        {"id": "chat", "preset": "chat", "share": 3},
        {"id": "schema", "preset": "schema-questions", "share": 1},
        {"id": "tutor", "preset": "tutoring", "share": 1},
    ]
    return validate(Workload, {"tasks": tasks, "requests_per_day": rate_per_s * 86_400}, "bench")


def mix(rate_per_s: float, n: int, seed: int = 1) -> Requests:
    """Return about ``n`` requests of that work."""
    return generate(mixed_work(rate_per_s), seed=seed, window=Window(0.0, n / rate_per_s))


def replica(cache: bool) -> ReplicaConfig:
    return ReplicaConfig(
        steps=tables(), max_num_seqs=256, max_num_batched_tokens=8192, kv_blocks=27_000, prefix_cache=cache
    )


def fleet(replicas: int, cache: bool) -> Fleet:
    return Fleet(
        pools=(PoolConfig(replica=replica(cache), replicas=replicas),),
        router=RouterPolicy(balance="prefix_affine" if cache else "least_outstanding"),
    )


def cpu_s(action: Callable[[], object]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


def best(action: Callable[[], object], times: int = 3) -> float:
    return min(cpu_s(action) for _ in range(times))


def machine_unit_s() -> float:
    """CPU time of a million turns of an empty-handed Python loop."""
    return best(lambda: sum(i * i for i in range(1_000_000)))


def report(name: str, requests: int, seconds: float, unit: float) -> None:
    rate = requests / seconds
    print(f"{name:58s} {seconds:7.2f} s  {rate:10,.0f} req/CPU-s  {rate * unit:8,.0f} per loop unit")


def main() -> None:
    unit = machine_unit_s()
    print(f"loop unit {unit * 1e3:.0f} ms; numba {'found' if available() else 'missing: plain mode'}")
    if available():
        print(f"kernel ready after {cpu_s(prepare):.1f} s (about 17 s the first time, under 1 s from disk)")
    for name, replicas, cache, rate, n in (
        ("4 replicas, chunked prefill, paged KV, prefix cache", 4, True, 40.0, 200_000),
        ("1 replica, chunked prefill, paged KV", 1, False, 10.0, 200_000),
    ):
        requests = mix(rate, n)
        run = run_once(fleet(replicas, cache), requests)
        hit, fresh = run.final.tokens_hit, run.final.tokens_in
        busy = float(run.ended.busy_s.sum() / run.ended.up_s.sum())
        print(
            f"-- {len(requests):,} requests, mean input {requests.input_tokens.mean():,.0f} and output "
            f"{requests.output_tokens.mean():,.0f} tokens, busy {busy:.0%}, prefix hits {hit / (hit + fresh):.0%}"
        )
        for compiled in (True, False) if available() else (False,):
            part = requests if compiled else mix(rate, 10_000)
            spent = best(lambda part=part, r=replicas, c=cache, m=compiled: run_once(fleet(r, c), part, compiled=m))
            report(f"{name} ({'compiled' if compiled else 'plain'})", len(part), spent, unit)
    tasks = [{"id": "chat", "preset": "chat"}, {"id": "completion", "preset": "code-completion", "share": 4}]
    work = validate(Workload, {"tasks": tasks, "requests_per_day": 3_000_000}, "bench")
    hybrid = Fleet(
        pools=(PoolConfig(replica=replica(True), replicas=4),),
        hosted=HostedConfig(ttft_p50_s=1.0, tokens_per_s_p50=60.0),
        router=RouterPolicy(policy="overflow", overflow_wait_s=1.0, balance="prefix_affine"),
    )
    spent = best(lambda: simulate(hybrid, work, max_requests=20_000))
    report("scenario of 20,000 requests: draw, serve, statistics", 20_000, spent, unit)
    before = peak_mib()
    for n in (1_000_000, 2_000_000):
        window = Window(0.0, n / 40.0)
        spent = cpu_s(lambda w=window, n=n: simulate(fleet(4, True), mixed_work(40.0), max_requests=n, window=w))
        report(f"{n:,} requests drawn, served, with statistics", n, spent, unit)
        print(f"peak memory {peak_mib():,.0f} MiB ({before:,.0f} MiB before)")


def peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()

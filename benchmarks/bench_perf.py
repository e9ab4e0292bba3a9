"""Speed of the performance model: compiling a deployment, one step, one estimate. ``make bench`` runs it.

Each figure stands beside a plain Python loop of the same run, so that other machines compare.
"""

import itertools
import time
from collections.abc import Callable

from envelope.perf.replica import resolve
from envelope.perf.steady import Loop, step_s
from envelope.perf.step import _compile, compile_step
from envelope.plan.deployment.estimate import estimate

MODELS = ("llama-3.1-8b", "llama-3.3-70b", "gpt-oss-120b", "deepseek-v3", "qwen3-32b")
DEVICES = ("nvidia-h100-sxm-80gb", "nvidia-h200-sxm-141gb", "nvidia-b200-sxm-180gb", "nvidia-l40s-48gb")


def seconds(work: Callable[[], object], times: int) -> float:
    """Return CPU seconds per call, the best of three rounds."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        for _ in range(times):
            work()
        best = min(best, (time.process_time() - start) / times)
    return best


def lookup() -> Callable[[], float]:
    """Return the step time as the simulation evaluates it: four lookups and a few products."""
    t = compile_step(resolve(model="llama-3.1-8b", hardware="nvidia-h100-sxm-80gb"))
    token, sampled, base = t.token_s.tolist(), t.sampled_s.tolist(), t.decode_base_s.tolist()
    slope = t.decode_slope_s_per_token[:, 0].tolist()
    overhead = t.step_overhead_s

    def step() -> float:
        return overhead + token[32] + sampled[32] + base[32] + slope[32] * 40_000

    return step


def main() -> None:
    """Measure and print."""
    turn = seconds(lambda: sum(range(1000)), 2000)
    replica = resolve(model="llama-3.3-70b", hardware="nvidia-h100-sxm-80gb")
    tables, loop = compile_step(replica), Loop(1024, 256, 32.0)
    queries = [
        {"model": m, "hardware": d, "count": n, "tp": n, "concurrency": 16}
        for m, d, n in itertools.product(MODELS, DEVICES, (1, 8))
    ]
    for query in queries:
        estimate(**query)
    rows = [
        ("one step from compiled tables", seconds(lookup(), 20_000), "10 µs"),
        (
            "the same with interpolation (estimate's steady state)",
            seconds(lambda: step_s(tables, loop, 31.4, 1200.0), 2000),
            "",
        ),
        ("compiling a deployment", seconds(lambda: _compile(replica), 20), ""),
        (
            "one estimate, deployment known",
            seconds(lambda: [estimate(**q) for q in queries], 1) / len(queries),
            "3.3 ms",
        ),
    ]
    print(f"{'performance model':<56}{'CPU time':>12}{'/ 1000-turn loop':>18}{'target':>10}")
    for name, took, target in rows:
        print(f"{name:<56}{took * 1e6:>9.2f} µs{took / turn:>18.3f}{target:>10}")


if __name__ == "__main__":
    main()

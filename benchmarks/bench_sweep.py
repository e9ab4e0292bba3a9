"""Sweeps: scenarios of 20,000 routed requests per second of wall time, and how two workers scale against one.

``python benchmarks/bench_sweep.py [RUNS]`` prints one line per number of workers; the first run warms the machine code.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from envelope.plan.case.scenarios import load_scenario
from envelope.plan.sweep.run import sweep
from envelope.serving.warm import prepare

TUTOR = load_scenario("math-tutor").replace(
    {"candidates.own-qwen3-32b.pools.0.replicas": 4, "simulation.max_requests": 20_000, "workload.seats": 60_000}
)


def seconds(runs: int, workers: int) -> tuple[float, float, int, int]:
    """Return wall time, processor time of all processes, simulated requests and bytes on disk of a sweep."""
    folder = Path(tempfile.mkdtemp())
    rates = [3.0 + 6.0 * i / runs for i in range(runs)]
    start, used = time.perf_counter(), sum(os.times()[:4])
    axis = {"workload.requests_per_seat_day": rates}
    found = sweep(TUTOR, set=axis, only=["own-qwen3-32b"], seeds=1, workers=workers, out=folder)
    taken, cpu = time.perf_counter() - start, sum(os.times()[:4]) - used
    requests = sum(row.requests_simulated or 0 for row in found.rows())
    size = (folder / "journal.jsonl").stat().st_size
    shutil.rmtree(folder)
    return taken, cpu, requests, size


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    prepare()
    took, cpu = {}, {}
    for workers in (1, 2):
        # What starting the workers takes is paid once, however many runs follow.
        begin, begin_cpu, _, _ = seconds(2 * workers, workers)
        all_s, all_cpu, requests, size = seconds(runs + 2 * workers, workers)
        took[workers], cpu[workers] = all_s - begin, all_cpu - begin_cpu
        each = runs + 2 * workers
        print(f"{workers} workers: {runs} runs of {requests / each:,.0f} requests in {took[workers]:.1f} s", end=" ")
        print(f"after a start of {begin:.1f} s: {took[workers] / runs * 1e3:.0f} ms a run", end=", ")
        print(f"{cpu[workers] / runs * 1e3:.0f} ms of processor time, {size / each:,.0f} bytes a row")
    print(f"scaling efficiency from 1 to 2 workers: {took[1] / took[2] / 2:.0%} of wall time", end=", ")
    print(f"{cpu[1] / cpu[2]:.0%} of processor time (what wall time shows on idle cores)")
    print(f"1,000 runs with 2 workers: {took[2] / runs * 1000 / 60:.1f} min")


if __name__ == "__main__":
    main()

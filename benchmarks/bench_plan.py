"""Time of maps, sizing and comparisons as a user waits for them: python benchmarks/bench_plan.py [maps|size|compare].

Each is a new process, with imports and the loading of the kernel's machine code, which must have been compiled before.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MAP_LIMIT_S, SIZE_LIMIT_S = 10.0, 60.0
_MAPS = (
    ("coding-assistant", "requests_per_day", "hard_share"),
    ("coding-assistant", "private_share", "context"),
    ("coding-assistant", "seats", "api_price"),
    ("math-tutor", "requests_per_day", "hard_share"),
    ("math-tutor", "private_share", "context"),
    ("math-tutor", "requests_per_day", "api_price"),
)
_SIZE = (
    "coding-assistant", "--models", "llama-3.3-70b,qwen3-32b,gpt-oss-120b,deepseek-v4-flash",
    "--hardware", "nvidia-h100-sxm-80gb,nvidia-h200-sxm-141gb,nvidia-l40s-48gb", "--weights", "native,fp8",
    "--kv", "bf16,fp8", "--tp", "1,2,4,8", "--replicas", "1,2,4,6,8,12", "--acquire", "purchase",
)  # fmt: skip


def timed(*arguments: str) -> tuple[float, float, dict[str, object]]:
    """Return the wall time and the CPU time of a command, in seconds, and what it answered."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryFile() as out:
        done = subprocess.run([sys.executable, "-m", "envelope", *arguments, "--json"], stdout=out, check=False)
        wall_s, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        out.seek(0)
        answer: dict[str, object] = json.loads(out.read()) if done.returncode in {0, 3} else {}
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall_s, cpu_s, answer


def main(wanted: str) -> None:
    """Time what is asked for and say whether the limits are kept."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    if wanted in {"", "maps"}:
        for name, x, y in _MAPS:
            wall_s, cpu_s, answer = timed("frontier", name, "--x", x, "--y", y)
            kept = "kept" if wall_s < MAP_LIMIT_S else "missed"
            print(f"map of {name}, {x} × {y}: {wall_s:.1f} s, CPU {cpu_s:.1f} s, {answer['simulations']} simulations; "
                  f"limit {MAP_LIMIT_S:g} s {kept}")  # fmt: skip
    if wanted in {"", "size"}:
        wall_s, cpu_s, answer = timed("size", *_SIZE)
        kept = "kept" if wall_s < SIZE_LIMIT_S else "missed"
        simulated = answer["simulated"]
        count = len(simulated) if isinstance(simulated, list) else 0
        done = f"{answer['configurations']} configurations, {count} simulated, gap {answer['optimality_gap_frac']}"
        print(f"size of {done}: {wall_s:.1f} s, CPU {cpu_s:.1f} s; limit {SIZE_LIMIT_S:g} s {kept}")
    if wanted in {"", "compare"}:
        for path in sorted(Path("scenarios").glob("*.yaml")):
            wall_s, cpu_s, _ = timed("compare", path.stem)
            print(f"compare {path.stem}, with fixes: {wall_s:.1f} s, CPU {cpu_s:.1f} s")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")

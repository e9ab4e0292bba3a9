"""The same question asked of an installed llama.cpp: ``llama-bench`` beside the estimator's prediction.

The prediction uses the engine's own constants (kernel rates per core and format), not the ONNX Runtime tables of the
probe; the machine's profile gives memory bandwidth, peaks and cores.
"""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from envelope.errors import EnvelopeError, InputError, Problem
from envelope.perf.replica import ReplicaSpec, resolve
from envelope.perf.steady import context_s, prefill_attention_s
from envelope.perf.step import compile_step
from envelope.spec.hardware import HardwareProfile
from envelope.validation.local import LocalRow

PROMPTS = (128, 512, 2048)
DEPTHS = (0, 2048)
_GENERATED = 32
_TIMEOUT_S = 1800.0


def run_llama_bench(
    program: Path, gguf: Path, *, threads: int, repetitions: int = 5, prompts: Sequence[int] = PROMPTS
) -> list[dict[str, Any]]:
    """Run ``llama-bench`` on the CPU and return its JSON records.

    Raises ``InputError`` for a missing file and ``EnvelopeError`` if the program fails.
    """
    missing = [
        Problem("command line", flag, str(path), "no such file")
        for flag, path in (("--llama-bench", program), ("--gguf", gguf))
        if not path.is_file()
    ]
    if missing:
        raise InputError(missing)
    command = [
        str(program), "-m", str(gguf), "-p", ",".join(map(str, prompts)), "-n", str(_GENERATED),
        "-d", ",".join(map(str, DEPTHS)), "-t", str(threads), "-r", str(repetitions), "-ngl", "0", "-o", "json",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvelopeError(f"{program} did not run: {error}") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EnvelopeError(f"{program} failed with status {done.returncode}: {last}")
    return parse_llama_bench(done.stdout, str(program))


def parse_llama_bench(text: str, name: str) -> list[dict[str, Any]]:
    """Return the records in the program's JSON output."""
    try:
        records = json.loads(text)
    except ValueError as error:
        raise EnvelopeError(f"{name} gave no JSON: {error}") from None
    if not isinstance(records, list) or not all(isinstance(r, dict) and "avg_ts" in r for r in records):
        raise EnvelopeError(f"{name} gave JSON without results")
    return records


def compare_llama_bench(
    records: Sequence[dict[str, Any]], hardware: HardwareProfile, model: str, weights: str
) -> list[LocalRow]:
    """Return each record beside its prediction: seconds per token of decode, seconds per prompt of prefill."""
    replica = resolve(
        model=model, hardware=hardware, engine="llama.cpp", weights=weights, kv="f16", file="command line"
    )
    sparse = replica.model.moe is not None
    rows = []
    for record in records:
        depth, prompt = int(record.get("n_depth", 0)), int(record.get("n_prompt", 0))
        if prompt and int(record.get("n_gen", 0)):
            continue
        per_s = [float(v) for v in record.get("samples_ts") or [record["avg_ts"]]]
        tokens = prompt or 1
        best = max(per_s)
        rows.append(
            LocalRow(
                decoder=replica.model.id, number_format=weights, phase="prefill" if prompt else "decode", batch=1,
                new_tokens=tokens, depth_tokens=depth, predicted_s=_predicted_s(replica, prompt, depth),
                measured_s=tokens / best, spread_frac=best / sorted(per_s)[len(per_s) // 2] - 1.0, noise_frac=0.0,
                experts=sparse,
            )
        )  # fmt: skip
    return rows


def _predicted_s(replica: ReplicaSpec, prompt: int, depth: int) -> float:
    """Return one decoded token after ``depth``, or a whole prompt in chunks of the engine's batch."""
    tables = compile_step(replica)
    if not prompt:
        context = depth + _GENERATED / 2.0
        fixed = tables.step_overhead_s + float(tables.token_s[1] + tables.sampled_s[1])
        return fixed + context_s(tables, 1.0, context)
    total, start = 0.0, depth
    while start < depth + prompt:
        chunk = min(replica.max_num_batched_tokens, depth + prompt - start)
        total += tables.step_overhead_s + float(tables.token_s[chunk]) + tables.prefill_base_s
        total += prefill_attention_s(tables, float(start), float(start + chunk))
        start += chunk
    return total

"""The same question asked of an installed llama.cpp: ``llama-bench`` beside the estimator's prediction.

The prediction uses the engine's own constants, not the ONNX Runtime tables of the probe: the kernel rates measured of
this very llama.cpp where the profile has them, else those of the processor's family in the catalog.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envelope.errors import EnvelopeError
from envelope.perf.replica import ReplicaSpec, resolve
from envelope.sensors.decoder_shape import (
    GRANITE_MOE,
    LLAMA_1B,
    QWEN_HALF_B,
    DecoderShape,
    decode_s,
    model_record,
    prefill_s,
)
from envelope.sensors.llama_bench import BenchTest, LlamaBench, typical_s
from envelope.sensors.random_gguf import random_gguf
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import Reporter
from envelope.spec.model import Model
from envelope.validation.local_score import LocalRow


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """Which files run, and at which points."""

    decoders: tuple[tuple[DecoderShape, str], ...]
    test: BenchTest


FULL_BENCH = BenchPlan(
    decoders=(
        (LLAMA_1B, "q4_0"), (LLAMA_1B, "q4_k_m"), (LLAMA_1B, "q8_0"), (LLAMA_1B, "f16"), (QWEN_HALF_B, "q4_0"),
        (QWEN_HALF_B, "q8_0"), (QWEN_HALF_B, "f16"), (GRANITE_MOE, "q4_0"), (GRANITE_MOE, "q4_k_m"),
        (GRANITE_MOE, "q8_0"),
    ),
    test=BenchTest(prompts=(128, 512, 2048), depths=(0, 2048), prompt_repeats=3, decode_repeats=8),
)  # fmt: skip
QUICK_BENCH = BenchPlan(
    decoders=((LLAMA_1B, "q4_0"), (LLAMA_1B, "q4_k_m"), (QWEN_HALF_B, "q8_0"), (QWEN_HALF_B, "f16"),
              (GRANITE_MOE, "q4_k_m")),
    test=BenchTest(prompts=(128,), depths=(0, 512), prompt_repeats=3, decode_repeats=6),
)  # fmt: skip


def random_weight_rows(
    bench: LlamaBench, hardware: HardwareProfile, plan: BenchPlan, report: Reporter
) -> tuple[list[LocalRow], list[str]]:
    """Write each decoder as a random-weight file, run it, and return the runs beside their predictions.

    One file at a time lies in the temporary folder. The second list names what did not run, and why.
    """
    rows: list[LocalRow] = []
    skipped: list[str] = []
    for index, (shape, key) in enumerate(plan.decoders):
        report(index / len(plan.decoders), f"llama.cpp {shape.name} {key}")
        with tempfile.TemporaryDirectory(prefix="envelope-gguf-") as folder:
            path = Path(folder) / f"{shape.name}-{key}.gguf"
            try:
                random_gguf(shape, key, path)
                records = bench.records(path, plan.test)
            except EnvelopeError as error:
                skipped.append(f"llama.cpp {shape.name} {key}: {error}")
                continue
            rows += compare_llama_bench(records, hardware, model_record(shape), key)
    report(1.0, "done")
    return rows, skipped


def compare_llama_bench(
    records: Sequence[dict[str, Any]], hardware: HardwareProfile, model: str | Model, weights: str
) -> list[LocalRow]:
    """Return each record beside its prediction: seconds per token of decode, seconds per prompt of prefill."""
    where = "command line"
    replica = resolve(model=model, hardware=hardware, engine="llama.cpp", weights=weights, kv="f16", file=where)
    tests = [r for r in records if not (int(r.get("n_prompt", 0)) and int(r.get("n_gen", 0)))]
    return [_row(record, replica, weights) for record in tests]


def _row(record: dict[str, Any], replica: ReplicaSpec, weights: str) -> LocalRow:
    depth, prompt = int(record.get("n_depth", 0)), int(record.get("n_prompt", 0))
    per_s = sorted(float(v) for v in record.get("samples_ts") or [record["avg_ts"]])
    middle = depth + int(record.get("n_gen", 0)) / 2.0
    return LocalRow(
        runner="llama.cpp",
        decoder=replica.model.id,
        number_format=weights,
        phase="prefill" if prompt else "decode",
        batch=1,
        new_tokens=prompt or 1,
        depth_tokens=depth,
        predicted_s=prefill_s(replica, prompt, depth) if prompt else decode_s(replica, 1, middle),
        measured_s=typical_s(record),
        spread_frac=per_s[-1] / per_s[len(per_s) // 2] - 1.0 if len(per_s) > 1 else None,
        noise_frac=float(record.get("noise_frac", 0.0)),
        experts=replica.model.moe is not None,
    )

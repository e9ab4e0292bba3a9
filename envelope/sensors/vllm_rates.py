"""Rates of an installed vLLM's matrix products on this processor, timed by the interpreter that it is installed in.

Which kernel multiplies depends on the processor: oneDNN's where it has 16-bit units (AVX-512 BF16, AMX), else PyTorch's
own, which multiplies bfloat16 element by element and gains nothing from a batch. No other runtime tells that.
"""

import datetime
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from envelope.errors import EnvelopeError
from envelope.provenance import Evidence
from envelope.sensors.conditions import cpu_clock, noise_between, usable_cpus
from envelope.sensors.gemm import ChainTime
from envelope.sensors.roofline_fit import gemm_curve
from envelope.sensors.tables import Fit
from envelope.sensors.timing import of_times
from envelope.spec.hardware import EfficiencyCurve, HardwareProfile

ENGINE: Final = "vllm-cpu"
"""Engine id under which the constants are stored."""
_SCRIPT: Final = Path(__file__).with_name("vllm_ops.py")
_ROWS = (1, 4, 16, 64, 256)
_SHAPES = ((256, 1024), (512, 512), (1024, 1024), (1024, 2816), (2816, 1024))
_K_HALVES = (0.0, 16.0, 32.0, 64.0, 96.0, 128.0, 192.0, 256.0, 384.0)
_COLD_BYTES = 64e6
_BUDGET_S = 0.4
_TIMEOUT_S = 600.0
KEYS: Final = {"bfloat16": "bf16", "float32": "fp32", "float16": "fp16"}
"""vLLM's names of number types → compute keys of the catalog."""
_BYTES: Final = {"bfloat16": 2.0, "float32": 4.0, "float16": 2.0}


def default_threads() -> int:
    """Return the threads of a vLLM that is told nothing: the cores less the one that it reserves for its front end.

    ``VLLM_CPU_OMP_THREADS_BIND`` names them otherwise, such as ``0-3,8``.
    """
    bound, cores = os.environ.get("VLLM_CPU_OMP_THREADS_BIND", "auto"), len(usable_cpus())
    if bound in ("auto", "all", "nobind"):
        return max(cores - (bound == "auto"), 1)
    ranges = (part.partition("-") for part in bound.split(","))
    return sum(int(last) - int(first) + 1 if last else 1 for first, _, last in ranges)


@dataclass(frozen=True, slots=True)
class VllmProgram:
    """An installed ``vllm`` and the threads that its workers get on the processor."""

    program: Path
    threads: int

    def interpreter(self) -> Path:
        """Return the Python that the program runs in, from its first line.

        Raises ``EnvelopeError`` if the program is no script.
        """
        try:
            first = self.program.open("rb").readline(4096).decode("utf-8", errors="replace").strip()
        except OSError as error:
            raise EnvelopeError(f"{self.program} cannot be read: {error.strerror}") from None
        path = Path(first.removeprefix("#!").strip().split(" ")[0]) if first.startswith("#!") else None
        if path is None or not path.is_file():
            raise EnvelopeError(f"{self.program} is no Python script, so its matrix products cannot be timed")
        return path


def with_vllm_rates(profile: HardwareProfile, vllm: VllmProgram, dtype: str) -> HardwareProfile:
    """Return the profile with the constants of vLLM's products in ``dtype``, marked measured.

    Raises ``EnvelopeError`` if its interpreter does not run them.
    """
    clock = cpu_clock()
    records = _records(vllm, dtype)
    noise = noise_between(clock, cpu_clock())
    share = noise.foreign_frac + noise.steal_frac if noise else 0.0
    times = [
        ChainTime(r["rows"], ((r["k"], r["n"]),) * r["count"], of_times(list(r["times_s"]), share)) for r in records
    ]
    key = KEYS[dtype]
    peak = "fp32" if "fp32" in profile.peak_flop_per_s else next(iter(profile.peak_flop_per_s))
    # Shares of the peak of all cores: threads that are left to the front end multiply nothing.
    part = profile.peak_flop_per_s[peak] * vllm.threads / (profile.units or vllm.threads)
    fit = _fit(times, _BYTES[dtype], part, profile.device_memory.bandwidth_bytes_per_s)
    curve = EfficiencyCurve(
        op="gemm", number_format=key, engine=ENGINE, form="gemm", peak=peak,
        constants={name: float(f"{value:.5g}") for name, value in fit.constants.items()},
        error_median_frac=round(fit.error_median_frac or 0.0, 4), rows=fit.rows, spread_frac=round(fit.spread_frac, 4),
        evidence=Evidence.MEASURED, source=f"products of {vllm.program.name} on {vllm.threads} threads, timed here",
        date=datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    )  # fmt: skip
    kept = [c for c in profile.efficiency if (c.op, c.number_format, c.engine) != ("gemm", key, ENGINE)]
    return profile.changed(efficiency=(*kept, curve))


def _fit(times: Sequence[ChainTime], stored: float, peak_flop_per_s: float, bandwidth_bytes_per_s: float) -> Fit:
    """Return the constants with the ``k_half`` that leaves the smallest error: what an output costs by itself."""
    fits = [
        (half, gemm_curve(times, stored, peak_flop_per_s, bandwidth_bytes_per_s, k_half=half)) for half in _K_HALVES
    ]
    half, best = min(fits, key=lambda pair: pair[1].error_median_frac or 0.0)
    return Fit({**best.constants, "k_half": half}, best.error_median_frac, best.rows, best.spread_frac)


def _records(vllm: VllmProgram, dtype: str) -> list[dict[str, Any]]:
    command = [
        str(vllm.interpreter()), str(_SCRIPT), dtype, _joined(_ROWS), ",".join(f"{k}x{n}" for k, n in _SHAPES),
        str(_COLD_BYTES), str(_BUDGET_S),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": str(vllm.threads), "VLLM_LOGGING_LEVEL": "ERROR"}
    environment.pop("PYTHONPATH", None)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, env=environment
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvelopeError(f"{command[0]} did not run: {error}") from None
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EnvelopeError(f"vLLM's products could not be timed: {last}")
    return list(json.loads(lines[-1]))


def _joined(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))

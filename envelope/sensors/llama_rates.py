"""Kernel rates of an installed llama.cpp: small random-weight files timed by ``llama-bench``, one per number format.

The files have few layers and sizes of their own, so that what is learned from them predicts other models. Each constant
is the one with which the estimator gives back the measured time.
"""

import datetime
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from scipy.optimize import brentq

from envelope.perf.replica import ReplicaSpec, resolve
from envelope.provenance import Evidence
from envelope.sensors.attention import HeadShape
from envelope.sensors.decoder_shape import DecoderShape, decode_s, model_record, prefill_s
from envelope.sensors.experts import ExpertShape
from envelope.sensors.llama_bench import GENERATED, BenchTest, LlamaBench, typical_s
from envelope.sensors.random_gguf import random_gguf
from envelope.spec.hardware import EfficiencyCurve, HardwareProfile
from envelope.spec.load import Reporter

ENGINE: Final = "llama.cpp"
_DENSE = DecoderShape("dense-probe", 4, 2048, HeadShape(32, 8, 64), 5632, 2048)
_NARROW = DecoderShape("narrow-probe", 8, 768, HeadShape(12, 4, 64), 2048, 2048)
"""What each output costs beside its multiplications (norms, rotation, gates, sums over lanes) shows in small models."""
_SPARSE = DecoderShape("sparse-probe", 4, 1024, HeadShape(16, 4, 64), 768, 2048, ExpertShape(16, 4, 1024, 768))
_FORMATS = ("f16", "q8_0", "q6_k", "q4_0", "q4_k_m")
_SPARSE_FORMATS = ("q8_0", "q4_0", "q4_k_m")
_TURNS = 3
"""Times that every file is visited, all others in between: a virtual machine on a shared host is faster and slower by a
third for seconds at a time, which is as long as one file takes."""
_FEW = 8
"""Rows of a small batch: between one row, which reads weights, and many, which multiply, the two may add up or hide
each other. A prompt of so many tokens runs the products of a step of as many sequences."""
_SHORT = BenchTest(prompts=(_FEW, 128), depths=(0,), prompt_repeats=3, decode_repeats=6)
_LONG = BenchTest(prompts=(_FEW, 128, 2048), depths=(0, 2048), prompt_repeats=2, decode_repeats=6)
"""Attention shows at long contexts; it is the same in every weight format, so one format tells it."""
_PROMPT = BenchTest(prompts=(128,), depths=(), prompt_repeats=3, decode_repeats=0)
_BOUNDS = {"eff_c": (1e-4, 1.0), "eff_b": (1e-4, 1.0), "k_half": (0.0, 8192.0), "p": (1.0, 8.0)}
_ROUNDS = 8
"""Constants that show in the same prompts are found one after the other; a round leaves a third of the error."""
_WIDE_UNIT, _QUANTISED_UNIT = "fp32", "int8"
"""Matrix units that shares refer to: llama.cpp multiplies block formats by 8-bit activations, beyond the fp32 peak."""
_START: dict[str, dict[str, float]] = {
    "gemm": {"t0_s": 3e-6, "eff_c": 0.5, "eff_b": 0.8, "p": 4.0, "k_half": 0.0},
    "moe": {"t0_s": 2e-5, "eff_c": 0.3, "eff_b": 0.7, "p": 3.0},
    "decode_attention": {"t0_s": 5e-6, "eff_c": 0.05, "eff_b": 1.0, "pair_s": 0.0, "p": 4.0},
    "prefill_attention": {"t0_s": 1e-5, "eff_c": 0.2, "eff_b": 0.4},
}
_FORMS = {"decode_attention": "attention_decode", "prefill_attention": "attention_prefill"}


def with_llama_rates(
    profile: HardwareProfile, bench: LlamaBench, report: Reporter, *, formats: Sequence[str] = ()
) -> HardwareProfile:
    """Return the profile with the constants of this ``llama-bench``'s kernels, marked measured.

    ``formats`` are the weight formats of dense models to time, of which the first tells attention too; empty times
    every format, and experts. Raises ``EnvelopeError`` if the program fails.
    """
    dense, sparse = (tuple(dict.fromkeys(formats)), ()) if formats else (_FORMATS, _SPARSE_FORMATS)
    rates = _Rates(profile, bench, dense[0], _in_turns(bench, dense, sparse, report))
    for key in dense:
        rates.learn(_DENSE, key)
    for key in sparse:
        rates.learn(_SPARSE, key)
    report(1.0, "done")
    return rates.profile


_Times = dict[tuple[str, int], "_Measured"]
"""What was measured of one file, by phase and length."""


def _in_turns(
    bench: LlamaBench, dense: Sequence[str], sparse: Sequence[str], report: Reporter
) -> dict[tuple[str, str], _Times]:
    """Return what each file gave, by shape and format: the median of the turns' medians."""
    files = [
        *((_DENSE, key, _LONG if key == dense[0] else _SHORT) for key in dense),
        *((_NARROW, key, _PROMPT) for key in dense),
        *((_SPARSE, key, _SHORT) for key in sparse),
    ]
    found: dict[tuple[str, str], list[_Times]] = {}
    for turn in range(_TURNS):
        for index, (shape, key, test) in enumerate(files):
            report((turn + index / len(files)) / _TURNS, f"llama.cpp {shape.name} {key}")
            with tempfile.TemporaryDirectory(prefix="envelope-gguf-") as folder:
                path = Path(folder) / "probe.gguf"
                random_gguf(shape, key, path)
                found.setdefault((shape.name, key), []).append(dict(_measured(bench.records(path, test))))
    return {name: {point: _typical([t[point] for t in turns]) for point in turns[0]} for name, turns in found.items()}


def _typical(turns: "Sequence[_Measured]") -> "_Measured":
    typical, best = statistics.median(t.typical_s for t in turns), min(t.best_s for t in turns)
    return replace(turns[0], typical_s=typical, best_s=best)


@dataclass(slots=True)
class _Rates:
    """A profile that gains constants; what was learned first holds while the rest is learned."""

    profile: HardwareProfile
    bench: LlamaBench
    first: str
    """Format whose long runs tell attention."""
    found: dict[tuple[str, str], _Times]

    def learn(self, shape: DecoderShape, key: str) -> None:
        long = shape is _DENSE and key == self.first
        times = self.found[shape.name, key]
        op = "moe" if shape.experts else "gemm"
        narrow = self.found[_NARROW.name, key] if op == "gemm" else None
        if long:
            # From rough constants of everything to those of each, twice: the parts hardly touch each other.
            for name, number_format in ((op, key), ("decode_attention", "any"), ("prefill_attention", "any")):
                self._store(name, number_format, _START[name])
        else:
            self._store(op, key, _START[op])
        for _ in range(_ROUNDS if narrow else 1):
            self._solve(shape, key, op, "eff_b", times["decode", 0])
            self._solve(shape, key, op, "eff_c", times["prefill", 128])
            if narrow:
                self._solve(shape, key, op, "p", times["prefill", _FEW])
                self._solve(_NARROW, key, op, "k_half", narrow["prefill", 128])
            if long:
                self._solve(shape, key, "decode_attention", "eff_c", times["decode", 2048])
                self._solve(shape, key, "prefill_attention", "eff_c", times["prefill", 2048])

    def _solve(self, shape: DecoderShape, key: str, op: str, constant: str, measured: "_Measured") -> None:
        """Set one constant so that the estimator gives the measured time, as far as its bounds reach."""
        number_format = key if op in ("gemm", "moe") else "any"
        curve = next(
            c for c in self.profile.efficiency if (c.op, c.number_format, c.engine) == (op, number_format, ENGINE)
        )

        def excess_s(value: float) -> float:
            self._store(op, number_format, {**curve.constants, constant: value}, measured.spread_frac)
            return measured.predicted_s(self._replica(shape, key)) - measured.typical_s

        low, high = _BOUNDS[constant]
        at_low, at_high = excess_s(low), excess_s(high)
        if at_low * at_high < 0:
            excess_s(float(brentq(excess_s, low, high, rtol=1e-3)))
        else:
            # Slower than the slowest or faster than the fastest value that makes sense.
            excess_s(low if abs(at_low) < abs(at_high) else high)

    def _replica(self, shape: DecoderShape, key: str) -> ReplicaSpec:
        return resolve(model=model_record(shape), hardware=self.profile, engine=ENGINE, weights=key, kv="f16")

    def _store(self, op: Any, number_format: str, constants: dict[str, float], spread_frac: float = 0.0) -> None:
        kept = [c for c in self.profile.efficiency if _name(c) != (op, number_format, ENGINE)]
        rounded = {name: float(f"{value:.5g}") for name, value in constants.items()}
        curve = EfficiencyCurve(
            op=op, number_format=number_format, engine=ENGINE, form=_FORMS.get(op, op), constants=rounded,
            peak=_WIDE_UNIT if number_format in ("f16", "any") else _QUANTISED_UNIT,
            spread_frac=round(spread_frac, 4), evidence=Evidence.MEASURED,
            source=f"envelope probe with {self.bench.program.name} on {self.bench.threads} threads",
            date=datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        )  # fmt: skip
        self.profile = self.profile.changed(efficiency=(*kept, curve))


def _name(curve: EfficiencyCurve) -> tuple[str, str, str]:
    return curve.op, curve.number_format, curve.engine


@dataclass(frozen=True, slots=True)
class _Measured:
    """One point of ``llama-bench`` and how the estimator predicts it."""

    typical_s: float
    best_s: float
    predicted_s: Callable[[ReplicaSpec], float]

    @property
    def spread_frac(self) -> float:
        """(typical − best) / best."""
        return self.typical_s / self.best_s - 1.0


def _measured(records: list[dict[str, Any]]) -> Iterator[tuple[tuple[str, int], _Measured]]:
    for record in records:
        prompt, depth = int(record["n_prompt"]), int(record.get("n_depth", 0))
        typical = typical_s(record)
        best = (prompt or 1) / max(float(v) for v in record["samples_ts"])
        if prompt:
            yield ("prefill", prompt), _Measured(typical, best, lambda r, n=prompt: prefill_s(r, n, 0))  # type: ignore[misc]
        else:
            middle = depth + GENERATED / 2.0
            yield ("decode", depth), _Measured(typical, best, lambda r, d=middle: decode_s(r, 1, d))  # type: ignore[misc]

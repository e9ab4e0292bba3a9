"""From timed chains of operators to the tables of ``envelope.perf.cpu_probe``, with residuals."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from envelope.perf import cpu_probe
from envelope.sensors.attention import AttentionTime
from envelope.sensors.elementwise import ElementwiseTime
from envelope.sensors.experts import ExpertTime
from envelope.sensors.gemm import ChainTime
from envelope.sensors.onnx_graph import Array
from envelope.sensors.timing import QUIET_FRAC, Sample, median_spread

_LONG_ENOUGH = 64
"""Shortest context whose reading time can be told from the cost per head."""
_LONG_CHUNK = 512
"""Shortest context in prefill whose pairs can be told from the cost per row."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Constants with what a reader needs to judge them."""

    constants: dict[str, float]
    error_median_frac: float | None
    """Median of |predicted − measured| / measured; ``None`` where the table passes through every point."""
    rows: int
    spread_frac: float


def _fit(constants: dict[str, float], pairs: Iterable[tuple[float, float]], samples: Sequence[Sample]) -> Fit:
    """Return a fit scored on (predicted, measured) pairs, if there are any."""
    errors = [abs(predicted - measured) / measured for predicted, measured in pairs]
    error = statistics.median(errors) if errors else None
    return Fit(constants, error, len(samples), median_spread(samples))


def _solve(rows: Sequence[Sequence[float]], times_s: Sequence[float], samples: Sequence[Sample]) -> Array:
    """Return the non-negative x that minimises the sum of squared relative errors of rows · x against the times.

    Columns are scaled to equal norms first: their natural sizes differ by fifteen orders of magnitude. Times that
    stayed disturbed count a tenth.
    """
    weight = np.array([1.0 if s.noise_frac <= QUIET_FRAC else 0.1 for s in samples])
    matrix = np.asarray(rows, dtype=np.float64) * (weight / np.asarray(times_s))[:, None]
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0] = 1.0
    solution, _ = nnls(matrix / scale, weight)
    return np.asarray(solution / scale)


def linear_table(times: Sequence[ChainTime]) -> Fit:
    """Return the constants of ``linear_s`` from chains of several shapes at several numbers of rows."""
    rows = sorted({t.rows for t in times})
    matrix = []
    for t in times:
        moved = float(t.rows * sum(k + n for k, n in t.shapes))
        matrix.append([float(len(t.shapes)), moved, *(t.weights if t.rows == m else 0.0 for m in rows)])
    solution = _solve(matrix, [t.sample.median_s for t in times], [t.sample for t in times])
    constants = {"t0_s": float(solution[0]), "activation_s": float(solution[1])}
    for index, m in enumerate(rows):
        constants[f"weight_s_{m}"] = max(float(solution[2 + index]), 1e-15)

    def predicted(t: ChainTime) -> float:
        return sum(cpu_probe.linear_s(constants, t.rows, n, k) for k, n in t.shapes)

    return _fit(constants, ((predicted(t), t.sample.median_s) for t in times), [t.sample for t in times])


def decode_attention_table(times: Sequence[AttentionTime]) -> Fit:
    """Return the constants of ``decode_attention_s`` for every head width among the times."""
    constants: dict[str, float] = {}
    for width in sorted({t.shape.head_dim for t in times}):
        constants.update(_decode_width(width, [t for t in times if t.shape.head_dim == width]))

    def predicted(t: AttentionTime) -> float:
        s = t.shape
        return cpu_probe.decode_attention_s(constants, t.batch, t.cached + 1, s.heads, s.kv_heads, s.head_dim)

    return _fit(constants, ((predicted(t), t.layer_s) for t in times), [t.sample for t in times])


def _decode_width(width: int, times: Sequence[AttentionTime]) -> dict[str, float]:
    # The shortest contexts tell the cost per head; too little is read there to give a rate of their own.
    contexts = [c for c in sorted({t.cached + 1 for t in times}) if c >= _LONG_ENOUGH] or [1]
    sharing = len({t.shape.kv_heads for t in times}) > 1
    matrix = []
    for t in times:
        heads, context = float(t.batch * t.shape.heads), max(t.cached + 1, contexts[0])
        reads = [heads * (t.cached + 1) * width if context == c else 0.0 for c in contexts]
        # Without several ways of sharing the cache, reading it cannot be told from the work of a head.
        cache = float(t.batch * t.shape.kv_heads * (t.cached + 1) * width) if sharing else 0.0
        matrix.append([1.0, heads, cache, *reads])
    solution = _solve(matrix, [t.layer_s for t in times], [t.sample for t in times])
    constants = {f"t0_s_{width}": float(solution[0]), f"head_s_{width}": float(solution[1])}
    constants[f"cache_s_{width}"] = float(solution[2])
    for index, context in enumerate(contexts):
        constants[f"read_s_{width}_{context}"] = max(float(solution[3 + index]), 1e-16)
    return constants


def prefill_attention_table(times: Sequence[AttentionTime]) -> Fit:
    """Return the constants of ``prefill_attention_s`` for every head width among the times."""
    # A launch is too short to be told from the work of the shortest chunk.
    constants = {"t0_s": min(5e-6, min(t.layer_s for t in times) / 2)}
    for width in sorted({t.shape.head_dim for t in times}):
        own = [t for t in times if t.shape.head_dim == width]
        constants.update(_prefill_width(width, own, constants["t0_s"]))

    def predicted(t: AttentionTime) -> float:
        return cpu_probe.prefill_attention_s(constants, t.new, t.cached, t.shape.heads, t.shape.head_dim)

    return _fit(constants, ((predicted(t), t.layer_s) for t in times), [t.sample for t in times])


def _prefill_width(width: int, times: Sequence[AttentionTime], launch_s: float) -> dict[str, float]:
    # Short chunks tell the work of a row; too few pairs are in them to give a rate of their own.
    totals = sorted({t.cached + t.new for t in times})
    contexts = [c for c in totals if c >= _LONG_CHUNK] or totals[-1:]
    matrix = []
    for t in times:
        pairs = t.shape.heads * width * t.new * (t.cached + (t.new + 1.0) / 2.0)
        nearest = min(contexts, key=lambda c: abs(c - t.cached - t.new))
        matrix.append([float(t.shape.heads * t.new), *(pairs if c == nearest else 0.0 for c in contexts)])
    solution = _solve(matrix, [max(t.layer_s - launch_s, 1e-9) for t in times], [t.sample for t in times])
    constants = {f"row_s_{width}": float(solution[0])}
    for index, context in enumerate(contexts):
        constants[f"causal_s_{width}_{context}"] = max(float(solution[1 + index]), 1e-16)
    return constants


def experts_table(times: Sequence[ExpertTime]) -> Fit:
    """Return the constants of ``experts_s``; the abscissa is the mean number of rows of an expert in use."""
    constants: dict[str, float] = {}
    for t in times:
        rows = t.tokens * t.shape.top_k / t.touched
        constants[f"weight_s_{rows:.4g}"] = t.layer_s / (t.touched * t.shape.weights)

    return _fit(constants, [], [t.sample for t in times])


def elementwise_table(times: Sequence[ElementwiseTime], call: Sample) -> Fit:
    """Return the constants of ``elementwise_s``, and the price of one call of the runtime as ``call_s``."""
    constants: dict[str, float] = {"call_s": call.median_s}
    for kind in sorted({t.kind for t in times}):
        own = sorted((t for t in times if t.kind == kind), key=lambda t: t.elements)
        per_element = min(t.operator_s / t.elements for t in own)
        launch = max(own[0].operator_s - own[0].elements * per_element, 0.0)
        constants[f"{kind}_t0_s"] = launch
        for t in own:
            constants[f"{kind}_element_s_{int(t.elements)}"] = max((t.operator_s - launch) / t.elements, 1e-14)

    return _fit(constants, [], [t.sample for t in times])

"""Matrix products by number format and number of rows: how fast weights are read and multiplied.

Chains of products of several shapes are timed, whose weights together exceed the cache several times,
so that every run reads them from memory as a decoder does. Times of one operator follow by least squares.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from envelope.sensors.onnx_graph import MICROSOFT, Graph, Weights
from envelope.sensors.timing import Effort, Sample, timed_in_turns

BLOCK = 32
"""Weights that share one scale in MatMulNBits (the finest common choice, as in Q4_0)."""
FULL_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
QUICK_ROWS = (1, 4, 8, 32, 128, 512)
SMALL, SQUARE, WIDE, NARROW = (1024, 1024), (2048, 2048), (2048, 5632), (2048, 256)
"""Widths (d, f) of a pair d → f → d: a small model's, attention output, feed-forward, grouped keys and values. With
one d for all, launch, activations and weights could not be told apart: d + f and d·f would grow in step."""
FULL_PAIRS, QUICK_PAIRS = (SMALL, SQUARE, WIDE, NARROW), (SMALL, WIDE, NARROW)
_TIERS = ((0, math.inf), (128, 48e6), (512, 8e6))
"""(rows, weights): from that many rows on a chain has at most so many weights, which keeps runs short. Up to a few
hundred rows reading the weights from memory still shows; beyond, arithmetic takes the time."""

AddLinear = Callable[[Graph, Weights, str, int, int], str]


@dataclass(frozen=True, slots=True)
class LinearFormat:
    """One way in which ONNX Runtime multiplies by stored weights."""

    key: str
    """Name under which efficiency curves are stored (``fp32``, ``int8``, ``int8_wo``, ``int4_wo``)."""
    bytes_per_weight: float
    """Stored bytes per weight, scales included."""
    add: AddLinear
    """Adds y = x W of ``k`` to ``n`` columns to a graph and returns y."""
    text: str


def _add_float(graph: Graph, weights: Weights, x: str, k: int, n: int) -> str:
    return graph.node("MatMul", [x, graph.weight(weights.floats(k, n))])


def _add_dynamic_int8(graph: Graph, weights: Weights, x: str, k: int, n: int) -> str:
    codes = graph.weight(weights.codes(k, n, dtype=np.int8))
    scales = graph.weight(weights.scales(1.0 / (70.0 * math.sqrt(k)), n))
    zeros = graph.weight(np.zeros(n, dtype=np.int8))
    return graph.node("DynamicQuantizeMatMul", [x, codes, scales, zeros], domain=MICROSOFT)


def _add_blocks(bits: int, accuracy_level: int) -> AddLinear:
    def add(graph: Graph, weights: Weights, x: str, k: int, n: int) -> str:
        blocks = k // BLOCK
        codes = graph.weight(weights.codes(n, blocks, BLOCK * bits // 8))
        spread = 2.0**bits / math.sqrt(12.0)
        scales = graph.weight(weights.scales(1.0 / (spread * math.sqrt(k)), n * blocks))
        return graph.node(
            "MatMulNBits", [x, codes, scales], domain=MICROSOFT,
            K=k, N=n, bits=bits, block_size=BLOCK, accuracy_level=accuracy_level,
        )  # fmt: skip

    return add


FORMATS = {
    f.key: f
    for f in (
        LinearFormat("fp32", 4.0, _add_float, "float32 MatMul"),
        LinearFormat("int8", 1.0, _add_dynamic_int8, "8-bit weights and activations, DynamicQuantizeMatMul"),
        LinearFormat("int8_wo", 1.0 + 4.0 / BLOCK, _add_blocks(8, 4), "MatMulNBits 8 bits, accuracy level 4"),
        LinearFormat("int4_wo", 0.5 + 4.0 / BLOCK, _add_blocks(4, 4), "MatMulNBits 4 bits, accuracy level 4"),
        LinearFormat("int4_wo_f32", 0.5 + 4.0 / BLOCK, _add_blocks(4, 1), "MatMulNBits 4 bits, accuracy level 1"),
    )
}
"""Formats by key. Accuracy level 4 multiplies in int8, level 1 in float32."""


@dataclass(frozen=True, slots=True)
class ChainTime:
    """One chain of products timed at one number of rows."""

    rows: int
    shapes: tuple[tuple[int, int], ...]
    """(k, n) of each product in the chain."""
    sample: Sample

    @property
    def weights(self) -> float:
        """Number of weights in the chain."""
        return float(sum(k * n for k, n in self.shapes))

    @property
    def flop_per_s(self) -> float:
        """Rate of multiplications and additions at the best time: no more is to be had."""
        return 2.0 * self.rows * self.weights / self.sample.best_s


def chain_times(
    number_format: LinearFormat,
    rows: Sequence[int],
    threads: int,
    cold_bytes: float,
    *,
    pairs: Sequence[tuple[int, int]] = FULL_PAIRS,
    effort: Effort,
) -> Iterator[ChainTime]:
    """Yield the time of each chain at each number of rows; small numbers of rows read ``cold_bytes`` of weights."""
    for pair in pairs:
        for tier, weights in _tiers(rows, cold_bytes / number_format.bytes_per_weight):
            yield from _chain(number_format, pair, tier, weights, threads, effort)


def _tiers(rows: Sequence[int], cold_weights: float) -> Iterator[tuple[list[int], float]]:
    ends = [*(first for first, _ in _TIERS[1:]), math.inf]
    for (first, most), end in zip(_TIERS, ends, strict=True):
        tier = [m for m in rows if first <= m < end]
        if tier:
            yield tier, min(most, cold_weights)


def _chain(
    number_format: LinearFormat,
    pair: tuple[int, int],
    rows: list[int],
    weights: float,
    threads: int,
    effort: Effort,
) -> Iterator[ChainTime]:
    outer, inner = pair
    count = max(1, round(weights / (2 * outer * inner)))
    source, graph = Weights(), Graph()
    x = graph.input("x", ["rows", outer])
    for _ in range(count):
        x = number_format.add(graph, source, number_format.add(graph, source, x, outer, inner), inner, outer)
    graph.output(x, ["rows", outer])
    session = graph.session(threads)
    samples = timed_in_turns([session.bind({"x": source.floats(m, outer)}) for m in rows], effort)
    for m, sample in zip(rows, samples, strict=True):
        yield ChainTime(m, ((outer, inner), (inner, outer)) * count, sample)

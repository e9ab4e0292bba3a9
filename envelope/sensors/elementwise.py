"""Operators that neither multiply matrices nor attend: normalisation, gated activation, and the price of a call."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from envelope.sensors.onnx_graph import MICROSOFT, Graph, Weights
from envelope.sensors.timing import Effort, Sample, timed, timed_in_turns

KINDS = ("norm", "gate")
FULL_ROWS = (1, 8, 64, 512, 2048)
QUICK_ROWS = (1, 32, 512)
_WIDTH = 2048
_COUNT = 16


@dataclass(frozen=True, slots=True)
class ElementwiseTime:
    """One kind of operator over one number of elements."""

    kind: str
    elements: float
    sample: Sample
    count: int
    """Operators in the timed graph."""

    @property
    def operator_s(self) -> float:
        """Typical time of one operator."""
        return self.sample.median_s / self.count


def add_norm(graph: Graph, source: Weights, x: str, skip: str, hidden: int) -> tuple[str, str]:
    """Add RMS normalisation of x + skip; return the normalised values and the sum."""
    gamma = graph.weight(1.0 + source.scales(1e-2, hidden))
    out = graph.node("SkipSimplifiedLayerNormalization", [x, skip, gamma], outputs=4, domain=MICROSOFT, epsilon=1e-6)
    return out, f"{out}_3"


def add_gate(graph: Graph, gate: str, up: str) -> str:
    """Add SiLU(gate) · up, as two operators (sigmoid and its product are fused by the runtime)."""
    silu = graph.node("QuickGelu", [gate], domain=MICROSOFT, alpha=1.0)
    return graph.node("Mul", [silu, up])


def elementwise_times(rows: Sequence[int], threads: int, effort: Effort) -> Iterator[ElementwiseTime]:
    """Yield the time of each kind for each number of rows of 2,048 elements."""
    for kind in KINDS:
        graph, source = Graph(), Weights()
        x = graph.input("x", [1, "rows", _WIDTH])
        last, total = x, x
        for _ in range(_COUNT):
            if kind == "norm":
                last, total = add_norm(graph, source, last, total, _WIDTH)
            else:
                last = add_gate(graph, last, x)
        graph.output(last, [1, "rows", _WIDTH])
        session = graph.session(threads)
        runs = [session.bind({"x": np.full((1, m, _WIDTH), 0.5, dtype=np.float32)}) for m in rows]
        for m, sample in zip(rows, timed_in_turns(runs, effort), strict=True):
            yield ElementwiseTime(kind, float(m * _WIDTH), sample, _COUNT)


def call_time(threads: int, effort: Effort) -> Sample:
    """Return the time of running a graph that does next to nothing: the price of one call of the runtime."""
    graph = Graph()
    x = graph.input("x", [1])
    graph.output(graph.node("Neg", [x]), [1])
    run = graph.session(threads).bind({"x": np.zeros(1, dtype=np.float32)})
    return timed(run, effort, warm_up=5)

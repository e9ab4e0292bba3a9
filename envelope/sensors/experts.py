"""Routed experts of one layer: float32 (MoE) and block-quantised (QMoE), by number of tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np

from envelope.sensors.gemm import BLOCK
from envelope.sensors.onnx_graph import MICROSOFT, Array, Graph, Weights
from envelope.sensors.timing import Effort, Sample, timed_in_turns

ROUTES = 4
"""Routings that take turns, so that not the same experts lie in the cache each time."""


@dataclass(frozen=True, slots=True)
class ExpertShape:
    """One layer of routed experts; each has gate, up and down matrices."""

    experts: int
    top_k: int
    hidden: int
    ffn: int

    @property
    def weights(self) -> float:
        """Weights of one expert."""
        return 3.0 * self.hidden * self.ffn


REFERENCE = ExpertShape(16, 4, 1024, 768)
FULL_TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 512)
QUICK_TOKENS = (1, 4, 16, 128)
EXPERT_FORMATS = {"fp32": 4.0, "int8_wo": 1.0 + 4.0 / BLOCK, "int4_wo": 0.5 + 4.0 / BLOCK}
"""Bytes per weight of the formats that experts are timed in."""


@dataclass(frozen=True, slots=True)
class ExpertTime:
    """One number of tokens through one layer."""

    shape: ExpertShape
    tokens: int
    touched: float
    """Mean number of distinct experts per layer over the routings that took turns."""
    sample: Sample
    layers: int

    @property
    def layer_s(self) -> float:
        """Typical time of one layer."""
        return self.sample.median_s / self.layers


def add_experts(graph: Graph, source: Weights, x: str, router: str, shape: ExpertShape, key: str) -> str:
    """Add one layer of experts to a graph and return its output; ``router`` are the logits per expert."""
    e, h, f = shape.experts, shape.hidden, shape.ffn
    common: dict[str, Any] = {
        "k": shape.top_k,
        "activation_type": "swiglu",
        "swiglu_fusion": 1,
        "normalize_routing_weights": 1,
    }
    if key == "fp32":
        up, down = source.floats(e, h, 2 * f), source.floats(e, f, h)
        names = [graph.weight(up.reshape(e, 2 * f, h)), "", graph.weight(down.reshape(e, h, f)), ""]
        return graph.node("MoE", [x, router, *names], domain=MICROSOFT, **common)
    bits = {"int4_wo": 4, "int8_wo": 8}[key]
    inputs = [x, router]
    for n, k in ((2 * f, h), (h, f)):
        inputs.append(graph.weight(source.codes(e, n, k * bits // 8)))
        scale = np.sqrt(12.0 / k) / 2.0**bits
        inputs += [graph.weight(source.scales(scale, e, n, k // BLOCK)), ""]
    return graph.node(
        "QMoE", inputs, domain=MICROSOFT, expert_weight_bits=bits, block_size=BLOCK, accuracy_level=4, **common
    )


def touched_experts(logits: Array, top_k: int) -> int:
    """Return how many different experts the top-k of these router logits [tokens, experts] choose."""
    chosen = np.argpartition(logits, -top_k, axis=1)[:, -top_k:]
    return int(np.unique(chosen).size)


def expert_times(
    key: str,
    tokens: Sequence[int],
    threads: int,
    cold_bytes: float,
    *,
    shape: ExpertShape = REFERENCE,
    effort: Effort,
) -> Iterator[ExpertTime]:
    """Yield the time of one layer for each number of tokens, with uniformly random routing."""
    per_layer = shape.experts * shape.weights * EXPERT_FORMATS[key]
    layers = int(np.clip(cold_bytes / per_layer, 1, 24))
    source, graph = Weights(), Graph()
    x = graph.input("x", ["tokens", shape.hidden])
    routers = [graph.input(f"router_{i}", ["tokens", shape.experts]) for i in range(layers)]
    for router in routers:
        x = add_experts(graph, source, x, router, shape, key)
    graph.output(x, ["tokens", shape.hidden])
    session = graph.session(threads)
    random = np.random.default_rng(1)
    runs, touched = [], []
    for count in tokens:
        bound, seen = [], []
        for _ in range(ROUTES):
            logits = {r: random.standard_normal((count, shape.experts), dtype=np.float32) for r in routers}
            seen += [touched_experts(v, shape.top_k) for v in logits.values()]
            bound.append(session.bind({"x": source.floats(count, shape.hidden), **logits}))
        turn = cycle(bound)
        runs.append(lambda t=turn: next(t)())
        touched.append(float(np.mean(seen)))
    for count, mean, sample in zip(tokens, touched, timed_in_turns(runs, effort), strict=True):
        yield ExpertTime(shape, count, mean, sample, layers)

"""Decoders of true architecture with random weights, built in ONNX and run on this machine.

Speed does not depend on what the weights hold, so a random decoder runs as fast as the trained model. Token
embedding is left out (one row is read per token); everything else of a step is there.
"""

from dataclasses import dataclass

import numpy as np

from envelope.sensors.attention import add_attention, add_length_inputs, length_values
from envelope.sensors.decoder_shape import DecoderShape
from envelope.sensors.elementwise import add_gate, add_norm
from envelope.sensors.experts import add_experts
from envelope.sensors.gemm import FORMATS
from envelope.sensors.onnx_graph import Bound, Graph, Session, Weights, io_value

_OWN_ROUTING = np.float32(1e-6)
"""Share of the router's own logits that is kept beside random ones of size 1: next to nothing.

Random ones far above the decoder's own would do as well, but the runtime skips experts whose weight is nought.
"""


@dataclass(frozen=True, slots=True)
class Decoder:
    """A loaded decoder."""

    shape: DecoderShape
    capacity: int
    session: Session

    def step(self, batch: int, new: int, depth: int) -> Bound:
        """Return one step of ``new`` tokens for each of ``batch`` sequences that hold ``depth`` tokens already."""
        shape = self.shape
        random = np.random.default_rng(0)
        inputs: dict[str, object] = {
            "x": 0.1 * random.standard_normal((batch, new, shape.hidden), dtype=np.float32),
            "last": np.array([new - 1], dtype=np.int64),
            **length_values(batch, depth + new),
        }
        if shape.experts is not None:
            for layer in range(shape.layers):
                inputs[f"router_{layer}"] = random.standard_normal(
                    (batch * new, shape.experts.experts), dtype=np.float32
                )
        outputs: dict[str, object] = {}
        block = random.standard_normal(1 << 18, dtype=np.float32)
        for layer in range(shape.layers):
            for side in ("k", "v"):
                # Keys of unit size keep the scores in the range of a trained model's; constant ones would leave
                # all but one probability denormal, and arithmetic on those takes several times as long.
                size = (batch, shape.heads.kv_heads, self.capacity, shape.heads.head_dim)
                cache = io_value(np.resize(block, size))
                inputs[f"past_{side}_{layer}"] = outputs[f"present_{side}_{layer}"] = cache
        return self.session.bind(inputs, outputs)


def build(shape: DecoderShape, key: str, capacity: int, threads: int) -> Decoder:
    """Return a decoder with random weights in a format; ``capacity`` is the longest context it can hold."""
    graph, source = Graph(), Weights()
    x = graph.input("x", ["batch", "new", shape.hidden])
    last = graph.input("last", [1], np.int64)
    shared = add_length_inputs(graph, capacity, shape.heads.head_dim)
    total = x
    branch = graph.node("Mul", [x, graph.weight(np.zeros(1, dtype=np.float32))])
    for layer in range(shape.layers):
        normed, total = add_norm(graph, source, branch, total, shape.hidden)
        branch = _attention(graph, source, normed, shape, key, layer, capacity, shared)
        normed, total = add_norm(graph, source, branch, total, shape.hidden)
        branch = _feed_forward(graph, source, normed, shape, key, layer)
    normed, _ = add_norm(graph, source, branch, total, shape.hidden)
    picked = graph.node("Gather", [normed, last], axis=1)
    logits = FORMATS[key].add(graph, source, picked, shape.hidden, shape.vocab)
    graph.output(logits, ["batch", 1, shape.vocab])
    return Decoder(shape, capacity, graph.session(threads))


def _attention(
    graph: Graph, source: Weights, x: str, shape: DecoderShape, key: str, layer: int, capacity: int,
    shared: tuple[str, str, str, str],
) -> str:  # fmt: skip
    *inward, outward = shape.attention_linears
    qkv = [FORMATS[key].add(graph, source, x, k, n) for k, n in inward]
    attended = add_attention(graph, layer, shape.heads, qkv, capacity, shared)
    return FORMATS[key].add(graph, source, attended, *outward)


def _feed_forward(graph: Graph, source: Weights, x: str, shape: DecoderShape, key: str, layer: int) -> str:
    linear = FORMATS[key].add
    if shape.experts is None:
        (gate, up, down) = shape.ffn_linears
        return linear(
            graph, source, add_gate(graph, linear(graph, source, x, *gate), linear(graph, source, x, *up)), *down
        )
    # The router stays in float32, as engines keep it.
    router = FORMATS["fp32"].add(graph, source, x, shape.hidden, shape.experts.experts)
    flat = graph.node("Reshape", [router, graph.constant(np.array([-1, shape.experts.experts], dtype=np.int64))])
    # Trained routers spread their tokens; those of a random decoder grow alike from layer to layer and would all go to
    # the same few experts.
    own = graph.node("Mul", [flat, graph.constant(np.array(_OWN_ROUTING))])
    spread = graph.node("Add", [own, graph.input(f"router_{layer}", ["tokens", shape.experts.experts])])
    return add_experts(graph, source, x, spread, shape.experts, key)

"""Decoders of true architecture with random weights, built in ONNX and run on this machine.

Speed does not depend on what the weights hold, so a random decoder runs as fast as the trained model. Token
embedding is left out (one row is read per token); everything else of a step is there.
"""

from dataclasses import dataclass

import numpy as np

from envelope.probe.attention import HeadShape, add_attention, add_length_inputs, length_values
from envelope.probe.elementwise import add_gate, add_norm
from envelope.probe.experts import EXPERT_FORMATS, ExpertShape, add_experts
from envelope.probe.gemm import FORMATS
from envelope.probe.onnx_graph import Bound, Graph, Session, Weights, io_value


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """Architecture of a Llama-shaped decoder; ``experts`` replaces the dense feed-forward."""

    name: str
    layers: int
    hidden: int
    heads: HeadShape
    ffn: int
    vocab: int
    experts: ExpertShape | None = None

    @property
    def attention_linears(self) -> tuple[tuple[int, int], ...]:
        """(k, n) of the products around attention in one layer: query, key, value, output."""
        q, kv = self.heads.heads * self.heads.head_dim, self.heads.kv_heads * self.heads.head_dim
        return ((self.hidden, q), (self.hidden, kv), (self.hidden, kv), (q, self.hidden))

    @property
    def ffn_linears(self) -> tuple[tuple[int, int], ...]:
        """(k, n) of the dense feed-forward (gate, up, down), or of the router of a sparse layer."""
        if self.experts is not None:
            return ((self.hidden, self.experts.experts),)
        return ((self.hidden, self.ffn), (self.hidden, self.ffn), (self.ffn, self.hidden))

    @property
    def linear_weights(self) -> float:
        """Weights outside routed experts, head included."""
        per_layer = sum(k * n for k, n in (*self.attention_linears, *self.ffn_linears))
        return float(self.layers * per_layer + self.hidden * self.vocab)

    @property
    def expert_weights(self) -> float:
        """Weights of all routed experts."""
        return self.layers * self.experts.experts * self.experts.weights if self.experts else 0.0

    def weight_bytes(self, key: str) -> float:
        """Bytes of all weights in a format."""
        expert = self.expert_weights * EXPERT_FORMATS.get(key, 0.0)
        return self.linear_weights * FORMATS[key].bytes_per_weight + expert


QWEN_HALF_B = DecoderShape("qwen2.5-0.5b", 24, 896, HeadShape(14, 2, 64), 4864, 151_936)
"""Architecture of Qwen2.5-0.5B (https://huggingface.co/Qwen/Qwen2.5-0.5B, config.json) without its QKV bias."""
LLAMA_1B = DecoderShape("llama-3.2-1b", 16, 2048, HeadShape(32, 8, 64), 8192, 128_256)
"""Architecture of Llama-3.2-1B (https://huggingface.co/meta-llama/Llama-3.2-1B, config.json)."""
GRANITE_MOE = DecoderShape(
    "granite-3.0-1b-a400m", 24, 1024, HeadShape(16, 8, 64), 512, 49_152, ExpertShape(32, 8, 1024, 512)
)
"""Architecture of Granite-3.0-1B-A400M (https://huggingface.co/ibm-granite/granite-3.0-1b-a400m-base)."""


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
        branch = _feed_forward(graph, source, normed, shape, key)
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


def _feed_forward(graph: Graph, source: Weights, x: str, shape: DecoderShape, key: str) -> str:
    linear = FORMATS[key].add
    if shape.experts is None:
        (gate, up, down) = shape.ffn_linears
        return linear(
            graph, source, add_gate(graph, linear(graph, source, x, *gate), linear(graph, source, x, *up)), *down
        )
    # The router stays in float32, as engines keep it.
    router = FORMATS["fp32"].add(graph, source, x, shape.hidden, shape.experts.experts)
    flat = graph.node("Reshape", [router, graph.constant(np.array([-1, shape.experts.experts], dtype=np.int64))])
    return add_experts(graph, source, x, flat, shape.experts, key)

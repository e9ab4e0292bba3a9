"""Attention of one layer by batch, context and head width: GroupQueryAttention with a KV cache shared in place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from envelope.sensors.onnx_graph import Array, Graph, Session, io_value
from envelope.sensors.timing import TURNS, Effort, Sample, joined, of_one_turn, timed

_ELEMENT_BYTES = 4.0


@dataclass(frozen=True, slots=True)
class HeadShape:
    """Heads of one attention layer."""

    heads: int
    kv_heads: int
    head_dim: int

    def cache_bytes(self, batch: int, context: int) -> float:
        """Bytes of keys and values of one layer in float32."""
        return 2.0 * batch * self.kv_heads * context * self.head_dim * _ELEMENT_BYTES


NARROW_HEADS, WIDE_HEADS = HeadShape(16, 4, 64), HeadShape(16, 4, 128)
"""The two head widths in use; heads are independent, so 16 stand for any number."""
UNSHARED_HEADS = HeadShape(16, 16, 64)
"""Every head with a cache of its own: tells the cost of reading the cache from the work of a head."""


@dataclass(frozen=True, slots=True)
class AttentionTime:
    """Attention of one layer: ``new`` tokens of each of ``batch`` sequences after ``cached`` ones."""

    shape: HeadShape
    batch: int
    new: int
    cached: int
    sample: Sample
    layers: int

    @property
    def layer_s(self) -> float:
        """Typical time of one layer."""
        return self.sample.median_s / self.layers

    @property
    def flop_per_s(self) -> float:
        """Rate over the full rectangle of new and context tokens, 4 · heads · width FLOP per pair."""
        pairs = self.batch * self.new * (self.cached + self.new)
        return 4.0 * self.shape.heads * self.shape.head_dim * pairs / self.layer_s


def rotary_tables(positions: int, head_dim: int) -> tuple[Array, Array]:
    """Return cosines and sines of rotary embedding, [positions, head_dim/2], base 10,000."""
    frequency = 10_000.0 ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    angle = np.arange(positions)[:, None] * frequency[None, :]
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def add_attention(
    graph: Graph, layer: int, shape: HeadShape, inputs: Sequence[str], capacity: int, shared: Sequence[str]
) -> str:
    """Add one GroupQueryAttention with its cache as graph inputs and outputs; return the attended values.

    ``inputs`` are query, key and value; ``shared`` are cosine table, sine table, lengths and total length.
    """
    cos, sin, lengths, total = shared
    cache_shape: list[int | str] = ["batch", shape.kv_heads, capacity, shape.head_dim]
    past = [graph.input(f"past_{side}_{layer}", cache_shape) for side in ("k", "v")]
    present = [graph.output(f"present_{side}_{layer}", cache_shape) for side in ("k", "v")]
    out = f"attended_{layer}"
    graph.named_node(
        "GroupQueryAttention", [*inputs, *past, lengths, total, cos, sin], [out, *present],
        num_heads=shape.heads, kv_num_heads=shape.kv_heads, do_rotary=1,
    )  # fmt: skip
    return out


def add_length_inputs(graph: Graph, capacity: int, head_dim: int) -> tuple[str, str, str, str]:
    """Add what all layers share: rotary tables, length of each sequence less one, longest length."""
    cos, sin = rotary_tables(capacity, head_dim)
    lengths = graph.input("lengths", ["batch"], np.int32)
    total = graph.input("total", [], np.int32)
    return graph.weight(cos), graph.weight(sin), lengths, total


def length_values(batch: int, total: int) -> dict[str, Array]:
    """Return the inputs of ``add_length_inputs`` for sequences of ``total`` tokens, new ones included."""
    return {"lengths": np.full(batch, total - 1, dtype=np.int32), "total": np.array(total, dtype=np.int32)}


def _session(shape: HeadShape, layers: int, capacity: int, threads: int) -> Session:
    graph = Graph()
    q = graph.input("q", ["batch", "new", shape.heads * shape.head_dim])
    k, v = (graph.input(name, ["batch", "new", shape.kv_heads * shape.head_dim]) for name in ("k", "v"))
    shared = add_length_inputs(graph, capacity, shape.head_dim)
    for layer in range(layers):
        out = add_attention(graph, layer, shape, (q, k, v), capacity, shared)
        graph.output(out, ["batch", "new", shape.heads * shape.head_dim])
    return graph.session(threads)


def attention_time(
    shape: HeadShape, batch: int, new: int, cached: int, threads: int, *, layers: int, effort: Effort
) -> AttentionTime:
    """Return the time of one layer of attention with caches of ``layers`` layers in use (so that none stays cached)."""
    capacity = cached + new
    session = _session(shape, layers, capacity, threads)
    random = np.random.default_rng(0)

    def values(heads: int) -> Array:
        return random.standard_normal((batch, new, heads * shape.head_dim), dtype=np.float32)

    inputs: dict[str, object] = {"q": values(shape.heads), "k": values(shape.kv_heads), "v": values(shape.kv_heads)}
    inputs.update(length_values(batch, capacity))
    outputs = {}
    block = random.standard_normal(1 << 18, dtype=np.float32)
    for layer in range(layers):
        for side in ("k", "v"):
            cache = io_value(np.resize(block, (batch, shape.kv_heads, capacity, shape.head_dim)))
            inputs[f"past_{side}_{layer}"] = outputs[f"present_{side}_{layer}"] = cache
    sample = timed(session.bind(inputs, outputs), effort)
    return AttentionTime(shape, batch, new, cached, sample, layers)


def decode_times(
    shape: HeadShape,
    batches: Sequence[int],
    contexts: Sequence[int],
    threads: int,
    cold_bytes: float,
    effort: Effort,
) -> Iterator[AttentionTime]:
    """Yield one decoded token per sequence for every batch and context, on caches that exceed the processor's."""
    points = []
    for batch in batches:
        for context in contexts:
            layers = int(np.clip(cold_bytes / shape.cache_bytes(batch, context), 1, 48))
            points.append((batch, 1, context - 1, layers))
    yield from _in_turns(shape, points, threads, effort)


def prefill_times(
    shape: HeadShape,
    chunks: Sequence[tuple[int, int]],
    threads: int,
    effort: Effort,
) -> Iterator[AttentionTime]:
    """Yield chunks of (new, cached) tokens of one sequence."""
    yield from _in_turns(shape, [(1, new, cached, 1) for new, cached in chunks], threads, effort)


def _in_turns(
    shape: HeadShape, points: Sequence[tuple[int, int, int, int]], threads: int, effort: Effort
) -> Iterator[AttentionTime]:
    """Yield the time at each (batch, new, cached, layers); graphs are built anew each turn, so that one fits memory."""
    part = of_one_turn(effort)
    turns = [
        [attention_time(shape, b, new, c, threads, layers=layers, effort=part) for b, new, c, layers in points]
        for _ in range(TURNS)
    ]
    for same in zip(*turns, strict=True):
        yield replace(same[0], sample=joined([t.sample for t in same]))

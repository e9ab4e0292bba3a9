"""Decoders by their shape: sizes, the model record that the estimator reads, and its prediction of one step."""

from dataclasses import dataclass
from functools import cache

from envelope.perf.replica import ReplicaSpec
from envelope.perf.steady import context_s, prefill_attention_s
from envelope.perf.step import compile_step
from envelope.provenance import Evidence, Source
from envelope.sensors.attention import HeadShape
from envelope.sensors.experts import EXPERT_FORMATS, ExpertShape
from envelope.sensors.gemm import FORMATS
from envelope.spec.model import Blocks, DenseFfn, GroupedAttention, Layer, Model, Moe


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


@cache
def model_record(shape: DecoderShape) -> Model:
    """Return the record of a decoder of this architecture, head and embedding in one."""
    heads, experts = shape.heads, shape.experts
    return Model(
        id=shape.name,
        name=f"{shape.name}, random weights",
        family="llama",
        developer="none",
        release_date=None,
        licence="unknown",
        hidden=shape.hidden,
        vocab=shape.vocab,
        tie_embeddings=True,
        max_context_tokens=1 << 17,
        attention={
            "full": GroupedAttention(
                kind="gqa", heads=heads.heads, kv_heads=heads.kv_heads, qk_dim=heads.head_dim, v_dim=heads.head_dim
            )
        },
        dense_ffn=None if experts else DenseFfn(width=shape.ffn),
        moe=Moe(experts=experts.experts, top_k=experts.top_k, expert_width=experts.ffn) if experts else None,
        layer_pattern=(
            Blocks(repeat=shape.layers, block=(Layer(attention="full", ffn="moe" if experts else "dense"),)),
        ),
        sources={
            "default": Source(source="shape of the decoder that was run", date="2026-11", evidence=Evidence.ASSUMED)
        },
    )


def decode_s(replica: ReplicaSpec, batch: int, depth: float) -> float:
    """Return the predicted step of ``batch`` sequences that decode one token each at ``depth`` tokens."""
    tables = compile_step(replica)
    fixed = tables.step_overhead_s + float(tables.token_s[batch] + tables.sampled_s[batch])
    return fixed + context_s(tables, float(batch), depth)


def prefill_s(replica: ReplicaSpec, new: int, depth: int) -> float:
    """Return the predicted time of a prompt of ``new`` tokens after ``depth``, in chunks of the engine's batch."""
    tables, total, start = compile_step(replica), 0.0, depth
    while start < depth + new:
        chunk = min(replica.max_num_batched_tokens, depth + new - start)
        total += tables.step_overhead_s + float(tables.token_s[chunk]) + tables.prefill_base_s
        total += prefill_attention_s(tables, float(start), float(start + chunk))
        start += chunk
    return total

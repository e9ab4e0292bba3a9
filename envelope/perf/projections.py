"""Attention layers as operators: the projections around each kind of attention, and the attention itself."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from envelope.perf.operators import Attention, Indexer, Linear
from envelope.spec import model as spec

STATE_BYTES = 4
"""Bytes per element of a recurrent state (fp32)."""
CONV_BYTES = 2
"""Bytes per element of kept convolution inputs (bf16)."""


@dataclass(frozen=True, slots=True)
class Layers:
    """Operators of some equal layers (or of one half of them)."""

    linears: tuple[Linear, ...]
    attention: Attention | None = None
    vectors: Mapping[str, int] = field(default_factory=dict)
    """Parameters by tensor class that enter no product, of all the layers together."""


def attention_layers(item: spec.AttentionSpec, hidden: int, layers: int) -> Layers:
    """Return the operators of ``layers`` layers of one kind of attention."""
    match item:
        case spec.GroupedAttention():
            return _grouped(item, hidden, layers)
        case spec.LatentAttention():
            return _latent(item, hidden, layers)
        case spec.CompressedAttention():
            return _compressed(item, hidden, layers)
        case spec.GatedDeltaNet():
            return _gated_deltanet(item, hidden, layers)
        case spec.Mamba1():
            return _mamba1(item, hidden, layers)
        case spec.Mamba2():
            return _mamba2(item, hidden, layers)


def _grouped(a: spec.GroupedAttention, hidden: int, layers: int) -> Layers:
    """Fused QKV and output projections; Ainslie and others: GQA (arXiv 2305.13245)."""
    query = a.heads * a.qk_dim
    key_value = a.kv_heads * (a.qk_dim + (0 if a.value_from_key else a.v_dim)) if a.own_kv else 0
    wide = query * (2 if a.output_gate else 1) + key_value
    matrices = 1 + ((1 if a.value_from_key else 2) if a.own_kv else 0)
    norm = {"none": 0, "head": a.qk_dim, "full": query}[a.qk_norm]
    if a.own_kv:
        norm += {"none": 0, "head": a.qk_dim, "full": a.kv_heads * a.qk_dim}[a.qk_norm]
    bias = (wide if a.qkv_bias else 0) + (hidden if a.o_bias else 0)
    linears = [
        Linear("qkv", "attention", wide, hidden, layers, split="column", matrices=matrices),
        Linear("attention_out", "attention", hidden, a.heads * a.v_dim, layers, split="row"),
    ]
    if a.indexer is not None:
        scored = (a.indexer.heads + 1) * a.indexer.head_dim
        linears.append(Linear("indexer_query_key", "indexer", scored, hidden, layers))
        norm += 2 * a.indexer.head_dim
    return Layers(
        tuple(linears),
        Attention(
            kind="dsa" if a.kind == "gqa_sparse" else a.kind,
            layers=layers,
            heads=a.heads,
            kv_heads=a.kv_heads,
            qk_dim=a.qk_dim,
            v_dim=a.v_dim,
            kv_elems_per_token=a.kv_heads * (a.qk_dim + a.v_dim),
            window_tokens=a.window_tokens,
            topk_tokens=a.topk_tokens,
            indexer=_indexer(a.indexer),
            stores_kv=a.own_kv,
        ),
        {"norm": layers * (norm + (a.heads if a.sinks else 0)), "attention": layers * bias},
    )


def _latent(a: spec.LatentAttention, hidden: int, layers: int) -> Layers:
    """Down- and up-projections of multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, equations 9–19).

    The key-value up-projection costs the same whether it expands the latents of new tokens (prefill) or is
    absorbed into queries and outputs (decode).
    """
    qk = a.qk_nope_dim + a.qk_rope_dim
    latent = a.kv_lora_rank + a.qk_rope_dim
    down = (a.q_lora_rank or 0) + latent
    query_in = a.q_lora_rank or hidden
    linears = [
        Linear("latent_down", "attention", down, hidden, layers, matrices=2 if a.q_lora_rank else 1),
        Linear("query_up", "attention", a.heads * qk, query_in, layers, split="column"),
        Linear(
            "key_value_up", "attention", a.heads * (a.qk_nope_dim + a.v_dim), a.kv_lora_rank, layers, split="column"
        ),
        Linear("attention_out", "attention", hidden, a.heads * a.v_dim, layers, split="row"),
    ]
    vectors = Counter({"norm": layers * ((a.q_lora_rank or 0) + a.kv_lora_rank)})
    if a.indexer is not None:
        linears += _indexer_linears(a.indexer, query_in, hidden, layers)
        linears.append(Linear("indexer_key", "indexer", a.indexer.head_dim, hidden, layers))
        vectors["norm"] += layers * 2 * a.indexer.head_dim
    attention = Attention(
        kind=a.kind,
        layers=layers,
        heads=a.heads,
        kv_heads=1,
        qk_dim=qk,
        v_dim=a.v_dim,
        kv_elems_per_token=latent,
        topk_tokens=a.topk_tokens,
        indexer=_indexer(a.indexer),
        latent=(a.kv_lora_rank, a.qk_rope_dim),
        rope_elems=a.qk_rope_dim,
    )
    return Layers(tuple(linears), attention, vectors)


def _indexer_linears(index: spec.Indexer, query_in: int, hidden: int, layers: int) -> list[Linear]:
    return [
        Linear("indexer_query", "indexer", index.heads * index.head_dim, query_in, layers),
        Linear("indexer_weights", "indexer", index.heads, hidden, layers),
    ]


def _indexer(index: spec.Indexer | None) -> Indexer | None:
    return Indexer(index.heads, index.head_dim, index.head_dim) if index is not None else None


def _compressed(a: spec.CompressedAttention, hidden: int, layers: int) -> Layers:
    """DeepSeek-V4 attention: low-rank query, shared key-value vector, grouped low-rank output, pooled entries.

    Shapes follow transformers 5.23, ``models/deepseek_v4``: ratio-4 layers pool overlapping pairs of blocks, so
    their pooling projections are twice as wide, and their indexer pools keys of its own.
    """
    query = a.heads * a.head_dim
    linears = [
        Linear("latent_down", "attention", a.q_lora_rank + a.head_dim, hidden, layers, matrices=2),
        Linear("query_up", "attention", query, a.q_lora_rank, layers, split="column"),
        Linear("output_down", "attention", a.o_groups * a.o_lora_rank, query // a.o_groups, layers, split="column"),
        Linear("output_up", "attention", hidden, a.o_groups * a.o_lora_rank, layers, split="row"),
    ]
    vectors = Counter({"norm": layers * (a.q_lora_rank + a.head_dim + (a.heads if a.sinks else 0))})
    if a.compress_ratio is not None:
        overlap = 2 if a.kind == "csa" else 1
        pooled = [("attention", "pool", a.head_dim)]
        if a.indexer is not None:
            linears += _indexer_linears(a.indexer, a.q_lora_rank, hidden, layers)
            pooled.append(("indexer", "indexer_pool", a.indexer.head_dim))
        for part, name, dim in pooled:
            linears.append(Linear(name, part, 2 * overlap * dim, hidden, layers))
            vectors[part] += layers * a.compress_ratio * overlap * dim
            vectors["norm"] += layers * dim
    return Layers(tuple(linears), _compressed_attention(a, layers), vectors)


def _compressed_attention(a: spec.CompressedAttention, layers: int) -> Attention:
    return Attention(
        kind="window" if a.kind == "latent_window" else a.kind,
        layers=layers,
        heads=a.heads,
        kv_heads=1,
        qk_dim=a.head_dim,
        v_dim=a.head_dim,
        kv_elems_per_token=a.head_dim,
        window_tokens=a.window_tokens,
        stride=a.compress_ratio or 1,
        topk_tokens=a.topk_entries,
        indexer=_indexer(a.indexer),
        rope_elems=a.qk_rope_dim,
    )


def _gated_deltanet(a: spec.GatedDeltaNet, hidden: int, layers: int) -> Layers:
    """Gated delta rule (Yang, Kautz, Hatamizadeh: Gated Delta Networks, arXiv 2412.06464).

    Per value head and token the k × v state is read with the key, corrected by a rank-1 update and read with the
    query: 6·k·v FLOPs.
    """
    key, value = a.k_heads * a.k_dim, a.v_heads * a.v_dim
    conv = 2 * key + value
    state = a.v_heads * a.k_dim * a.v_dim
    return Layers(
        (
            Linear("linear_in", "linear_attention", conv + value, hidden, layers, split="column"),
            Linear("linear_gates", "linear_attention", 2 * a.v_heads, hidden, layers, split="column"),
            Linear("linear_out", "linear_attention", hidden, value, layers, split="row"),
        ),
        Attention(
            kind="linear",
            layers=layers,
            heads=a.v_heads,
            kv_heads=a.k_heads,
            qk_dim=a.k_dim,
            v_dim=a.v_dim,
            kv_elems_per_token=0,
            state_bytes_per_seq=STATE_BYTES * state + CONV_BYTES * conv * (a.conv_tokens - 1),
            conv_width=conv,
            conv_kept_tokens=a.conv_tokens - 1,
            state_flop_per_token=6 * state,
        ),
        {"linear_attention": layers * (conv * a.conv_tokens + 2 * a.v_heads), "norm": layers * a.v_dim},
    )


def _mamba1(a: spec.Mamba1, hidden: int, layers: int) -> Layers:
    """Selective state space (Gu and Dao: Mamba, arXiv 2312.00752); norms inside as in Jamba (arXiv 2403.19887).

    Per channel and token the state is decayed, increased and read: 4·state FLOPs to first order.
    """
    state, given = a.inner * a.state_dim, a.dt_rank + 2 * a.state_dim
    return Layers(
        (
            Linear("linear_in", "linear_attention", 2 * a.inner, hidden, layers, split="column", matrices=2),
            Linear("linear_gates", "linear_attention", given, a.inner, layers, split="row", matrices=3),
            Linear("linear_gates", "linear_attention", a.inner, a.dt_rank, layers, split="column"),
            Linear("linear_out", "linear_attention", hidden, a.inner, layers, split="row"),
        ),
        Attention(
            kind="linear",
            layers=layers,
            heads=a.inner,
            kv_heads=a.inner,
            qk_dim=a.state_dim,
            v_dim=1,
            kv_elems_per_token=0,
            state_bytes_per_seq=STATE_BYTES * state + CONV_BYTES * a.inner * a.conv_tokens,
            state_flop_per_token=4 * state,
        ),
        {
            "linear_attention": layers * (a.inner * (a.conv_tokens + 1) + state + 2 * a.inner),
            "norm": layers * (given if a.inner_norms else 0),
        },
    )


def _mamba2(a: spec.Mamba2, hidden: int, layers: int) -> Layers:
    """Selective state space (Dao and Gu: Transformers are SSMs, arXiv 2405.21060).

    Per head and token the state is decayed, increased by an outer product and read: 4·state·head_dim FLOPs to
    first order.
    """
    inner, group = a.heads * a.head_dim, a.groups * a.state_dim
    conv = inner + 2 * group
    state = a.heads * a.head_dim * a.state_dim
    return Layers(
        (
            Linear("linear_in", "linear_attention", inner + conv + a.heads, hidden, layers, split="column"),
            Linear("linear_out", "linear_attention", hidden, inner, layers, split="row"),
        ),
        Attention(
            kind="linear",
            layers=layers,
            heads=a.heads,
            kv_heads=a.groups,
            qk_dim=a.state_dim,
            v_dim=a.head_dim,
            kv_elems_per_token=0,
            state_bytes_per_seq=STATE_BYTES * state + CONV_BYTES * conv * (a.conv_tokens - 1),
            conv_width=conv,
            conv_kept_tokens=a.conv_tokens - 1,
            state_flop_per_token=4 * state,
        ),
        {"linear_attention": layers * (conv * (a.conv_tokens + 1) + 3 * a.heads), "norm": layers * inner},
    )

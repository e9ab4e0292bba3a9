"""The matrices of a model under the names that checkpoints give them, with their sizes, layer by layer."""

from collections.abc import Iterator
from dataclasses import dataclass

from envelope.spec.model import (
    AttentionSpec,
    CompressedAttention,
    GatedDeltaNet,
    GroupedAttention,
    Indexer,
    LatentAttention,
    Layer,
    Mamba1,
    Mamba2,
    Model,
    Moe,
)

_ATTENTION = ("self_attn", "attn", "attention", "self_attention", "mixer")
_FFN = ("mlp", "feed_forward", "ffn", "mixer")
_MOE = ("mlp", "block_sparse_moe", "moe", "ffn", "feed_forward", "mixer")
_FUSED_QKV = ("qkv_proj", "query_key_value", "Wqkv", "c_attn", "qkv")
_GATE = ("gate_proj", "gate_up_proj", "w1")
_UP = ("up_proj", "gate_up_proj", "w3", "fc1", "c_fc")
_DOWN = ("down_proj", "w2", "fc2", "c_proj")


@dataclass(frozen=True, slots=True)
class Matrix:
    """One matrix (or the same one of all experts) of a layer."""

    part: str
    """Tensor class."""
    projection: str
    """Product of ``spec.number_format.PROJECTIONS`` that multiplies it; the tensor class where it has no own entry."""
    params: int
    names: tuple[str, ...]
    """Names that checkpoints use for it, within the layer; one of them is its own."""


def _named(containers: tuple[str, ...], *leaves: str) -> tuple[str, ...]:
    return tuple(f"{container}.{leaf}" for container in containers for leaf in leaves)


def matrices_of(model: Model, layer: Layer) -> list[Matrix]:
    """Return the matrices of one layer; norms, biases, tables and convolutions are none."""
    found: list[Matrix] = []
    if layer.attention is not None:
        found += _attention(model.attention[layer.attention], model.hidden)
    if layer.ffn in ("dense", "dense_and_moe") and model.dense_ffn is not None:
        width = layer.ffn_width or model.dense_ffn.width
        found += _network("dense_ffn", "ffn", _FFN, width * model.hidden, model.dense_ffn.matrices)
    if layer.ffn in ("moe", "dense_and_moe") and model.moe is not None:
        # Beside a dense network (Gemma 4) the experts do not stand under its name.
        found += _moe(model.moe, model.hidden, ("moe", "") if layer.ffn == "dense_and_moe" else _MOE)
    return found


def head_of(model: Model) -> Matrix:
    """Return the output head."""
    return Matrix("lm_head", "lm_head", model.vocab * model.hidden, ("lm_head", "head", "output"))


def _network(part: str, prefix: str, where: tuple[str, ...], params: int, matrices: int) -> Iterator[Matrix]:
    if matrices == 3:
        yield Matrix(part, f"{prefix}_in", params, _named(where, *_GATE))
    yield Matrix(part, f"{prefix}_in", params, _named(where, *_UP))
    yield Matrix(part, f"{prefix}_out", params, _named(where, *_DOWN))


def _moe(moe: Moe, hidden: int, where: tuple[str, ...]) -> Iterator[Matrix]:
    def inside(*names: str) -> tuple[str, ...]:
        return tuple(f"{container}.{name}".lstrip(".") for container in where for name in names)

    each = moe.experts * (moe.latent_dim or hidden) * moe.expert_width
    leaves = [_UP, _DOWN] if moe.matrices == 2 else [_GATE, _UP, _DOWN]
    for leaf in leaves:
        # One expert stands for all: no published list treats them differently.
        yield Matrix("routed_experts", "routed_experts", each, _named(inside("experts", "experts.0"), *leaf))
    yield Matrix("router", "router", moe.experts * hidden, inside("gate", "router", "router.proj", "gate.wg"))
    if moe.shared_width:
        shared = inside("shared_experts", "shared_expert", "shared_mlp", "share_expert")
        yield from _network("shared_experts", "shared", shared, moe.shared_width * hidden, moe.matrices)
    if moe.latent_dim is not None:
        yield Matrix("shared_experts", "expert_down", moe.latent_dim * hidden, inside("fc1_latent_proj"))
        yield Matrix("shared_experts", "expert_up", moe.latent_dim * hidden, inside("fc2_latent_proj"))


def _attention(item: AttentionSpec, hidden: int) -> Iterator[Matrix]:
    match item:
        case GroupedAttention():
            yield from _grouped(item, hidden)
        case LatentAttention():
            yield from _latent(item, hidden)
        case CompressedAttention():
            yield from _compressed(item, hidden)
        case GatedDeltaNet():
            key, value = item.k_heads * item.k_dim, item.v_heads * item.v_dim
            yield from _recurrent(hidden, {
                ("in_proj_qkv", "in_proj_qkvz"): ("linear_in", 2 * key + value),
                ("in_proj_z", "in_proj_qkvz"): ("linear_in", value),
                ("in_proj_b", "in_proj_a", "in_proj_ba"): ("linear_gates", 2 * item.v_heads),
                ("out_proj",): ("linear_out", value),
            }, ("linear_attn",))  # fmt: skip
        case Mamba1():
            given = item.dt_rank + 2 * item.state_dim
            where = ("mamba", "mixer")
            yield Matrix("linear_attention", "linear_in", 2 * item.inner * hidden, _named(where, "in_proj"))
            yield Matrix("linear_attention", "linear_gates", given * item.inner, _named(where, "x_proj"))
            yield Matrix("linear_attention", "linear_gates", item.inner * item.dt_rank, _named(where, "dt_proj"))
            yield Matrix("linear_attention", "linear_out", item.inner * hidden, _named(where, "out_proj"))
        case Mamba2():
            inner = item.heads * item.head_dim
            conv = inner + 2 * item.groups * item.state_dim
            yield from _recurrent(hidden, {
                ("in_proj",): ("linear_in", inner + conv + item.heads), ("out_proj",): ("linear_out", inner),
            }, ("mixer", "mamba"))  # fmt: skip


def _recurrent(hidden: int, leaves: dict[tuple[str, ...], tuple[str, int]], where: tuple[str, ...]) -> Iterator[Matrix]:
    for names, (projection, width) in leaves.items():
        yield Matrix("linear_attention", projection, width * hidden, _named(where, *names))


def _grouped(a: GroupedAttention, hidden: int) -> Iterator[Matrix]:
    widths = {"q": a.heads * a.qk_dim * (2 if a.output_gate else 1)}
    if a.own_kv:
        widths["k"] = a.kv_heads * a.qk_dim
        if not a.value_from_key:
            widths["v"] = a.kv_heads * a.v_dim
    for name, width in widths.items():
        yield Matrix("attention", "qkv", width * hidden, _named(_ATTENTION, f"{name}_proj", f"w{name}", *_FUSED_QKV))
    out = _named(_ATTENTION, "o_proj", "dense", "wo", "out_proj", "c_proj")
    yield Matrix("attention", "attention_out", a.heads * a.v_dim * hidden, out)
    if a.indexer is not None:
        query, key = a.indexer.heads * a.indexer.head_dim, a.indexer.head_dim
        for name, width in (("index_q_proj", query), ("index_k_proj", key)):
            yield Matrix("indexer", "indexer_query_key", width * hidden, _named(_ATTENTION, name))


def _latent(a: LatentAttention, hidden: int) -> Iterator[Matrix]:
    query_in, fused = a.q_lora_rank or hidden, "fused_qkv_a_proj_with_mqa"
    latent = (a.kv_lora_rank + a.qk_rope_dim) * hidden
    if a.q_lora_rank is not None:
        yield Matrix("attention", "latent_down", a.q_lora_rank * hidden, _named(_ATTENTION, "q_a_proj", fused))
    yield Matrix("attention", "latent_down", latent, _named(_ATTENTION, "kv_a_proj_with_mqa", fused))
    query = a.heads * (a.qk_nope_dim + a.qk_rope_dim) * query_in
    yield Matrix("attention", "query_up", query, _named(_ATTENTION, "q_b_proj" if a.q_lora_rank else "q_proj"))
    up = a.heads * (a.qk_nope_dim + a.v_dim) * a.kv_lora_rank
    yield Matrix("attention", "key_value_up", up, _named(_ATTENTION, "kv_b_proj"))
    yield Matrix("attention", "attention_out", hidden * a.heads * a.v_dim, _named(_ATTENTION, "o_proj"))
    if a.indexer is not None:
        yield from _indexer(a.indexer, query_in, hidden)
        key = _named(_ATTENTION, "indexer.wk")
        yield Matrix("indexer", "indexer_key", a.indexer.head_dim * hidden, key)


def _indexer(index: Indexer, query_in: int, hidden: int) -> Iterator[Matrix]:
    query = index.heads * index.head_dim * query_in
    yield Matrix("indexer", "indexer_query", query, _named(_ATTENTION, "indexer.wq_b"))
    weights = _named(_ATTENTION, "indexer.weights_proj", "indexers_proj")
    yield Matrix("indexer", "indexer_weights", index.heads * hidden, weights)


def _compressed(a: CompressedAttention, hidden: int) -> Iterator[Matrix]:
    """DeepSeek-V4, whose checkpoints name the matrices ``attn.wq_a``, ``attn.wkv`` and so on."""
    query, rank = a.heads * a.head_dim, a.o_groups * a.o_lora_rank
    for leaf, projection, params in (
        ("wq_a", "latent_down", a.q_lora_rank * hidden), ("wkv", "latent_down", a.head_dim * hidden),
        ("wq_b", "query_up", query * a.q_lora_rank), ("wo_a", "output_down", rank * query // a.o_groups),
        ("wo_b", "output_up", rank * hidden),
    ):  # fmt: skip
        yield Matrix("attention", projection, params, _named(_ATTENTION, leaf))
    if a.compress_ratio is None:
        return
    overlap = 2 if a.kind == "csa" else 1
    for leaf in ("compressor.wkv", "compressor.wgate"):
        yield Matrix("attention", "pool", overlap * a.head_dim * hidden, _named(_ATTENTION, leaf))
    if a.indexer is not None:
        yield from _indexer(a.indexer, a.q_lora_rank, hidden)
        for leaf in ("indexer.compressor.wkv", "indexer.compressor.wgate"):
            pooled = overlap * a.indexer.head_dim * hidden
            yield Matrix("indexer", "indexer_pool", pooled, _named(_ATTENTION, leaf))

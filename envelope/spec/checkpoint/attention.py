"""What attends in each layer, from a configuration's fields."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import ValidationError

from envelope.spec.checkpoint.fields import Fields
from envelope.spec.checkpoint.nas import nas_blocks
from envelope.spec.checkpoint.resolve import Resolved
from envelope.spec.model import (
    AttentionSpec,
    CompressedAttention,
    GatedDeltaNet,
    GroupedAttention,
    Indexer,
    LatentAttention,
    Mamba1,
    Mamba2,
)

_KINDS = {
    "full_attention": "full", "attention": "full", "full": "full", "*": "full", "global": "full",
    "sliding_attention": "window", "sliding_window": "window", "window": "window", "chunked_attention": "chunk",
    "linear_attention": "linear", "mamba": "mamba", "mamba2": "mamba", "M": "mamba",
    "moe": "none", "mlp": "none", "E": "none", "-": "none",
}  # fmt: skip
"""Names of kinds of layers in configurations → ours. ``none`` is a layer that only feeds forward."""


_GROUPED: dict[str, Literal["gqa", "window", "chunk", "gqa_sparse"]] = {
    "full": "gqa", "window": "window", "chunk": "chunk", "sparse": "gqa_sparse", "cross": "window",
}  # fmt: skip
"""Names of grouped-query layers → their kinds; attention to an image's fixed number of tokens is as a window's."""


@dataclass(frozen=True, slots=True)
class Attends:
    """Attention of every layer: a name per layer (``None`` without attention) and what the names mean."""

    names: list[str | None]
    kinds: dict[str, AttentionSpec]


def attention_of(fields: Fields, known: Resolved, layers: int) -> Attends:
    """Return what attends in each of ``layers`` layers; what is wrong is collected in ``fields``."""
    try:
        if fields.has("compress_ratios"):
            return _compressed(fields, layers)
        if fields.has("kv_lora_rank"):
            return _latent(fields, known, layers)
        if fields.has("block_configs"):
            return _nas(fields, known, layers)
        return _grouped(fields, known, layers)
    except ValidationError as error:
        for each in error.errors():
            fields.wrong(".".join(str(part) for part in each["loc"]) or "attention", None, str(each["msg"]))
        return Attends([None] * layers, {})


def _latent(fields: Fields, known: Resolved, layers: int) -> Attends:
    """Multi-head latent attention; ``index_topk`` makes it sparse, ``indexer_types`` says who reuses a choice."""
    spec = LatentAttention(
        kind="mla",
        heads=fields.required("num_attention_heads"),
        q_lora_rank=fields.count("q_lora_rank"),
        kv_lora_rank=fields.required("kv_lora_rank"),
        qk_nope_dim=fields.required("qk_nope_head_dim"),
        qk_rope_dim=fields.required("qk_rope_head_dim"),
        v_dim=fields.required("v_head_dim"),
    )
    if fields.has("linear_attn_config"):
        fields.wrong("linear_attn_config", None, "Kimi delta attention cannot be described by the catalog yet")
    topk = fields.count("index_topk")
    if topk is None:
        return Attends(["latent"] * layers, {"latent": spec})
    index = Indexer(heads=fields.required("index_n_heads"), head_dim=fields.required("index_head_dim"))
    own = LatentAttention(**spec.model_dump() | {"kind": "dsa", "topk_tokens": topk, "indexer": index})
    reused = LatentAttention(**own.model_dump() | {"indexer": None})
    types = fields.sequence("indexer_types", length=layers) or ["full"] * layers
    names: list[str | None] = ["sparse_reused" if t == "shared" else "sparse" for t in types[:layers]]
    return _used(names, {"sparse": own, "sparse_reused": reused})


def _compressed(fields: Fields, layers: int) -> Attends:
    """DeepSeek-V4: the ratio of each layer says whether and how the distant past is pooled."""
    shared: dict[str, Any] = {
        "heads": fields.required("num_attention_heads"),
        "head_dim": fields.required("head_dim"),
        "qk_rope_dim": fields.required("qk_rope_head_dim"),
        "q_lora_rank": fields.required("q_lora_rank"),
        "o_lora_rank": fields.required("o_lora_rank"),
        "o_groups": fields.required("o_groups"),
        "window_tokens": fields.required("sliding_window"),
    }
    index = Indexer(heads=fields.required("index_n_heads"), head_dim=fields.required("index_head_dim"))
    topk = fields.required("index_topk")
    kinds: dict[str, AttentionSpec] = {}
    names: list[str | None] = []
    ratios = fields.sequence("compress_ratios", length=layers) or []
    for ratio in ratios:
        if isinstance(ratio, bool) or not isinstance(ratio, int) or not 0 <= ratio <= 4096:
            fields.wrong("compress_ratios", ratio, "must be whole numbers from 0 to 4096")
            break
        name = "window" if ratio == 0 else f"pooled_{ratio}"
        names.append(name)
        if ratio == 0:
            kinds[name] = CompressedAttention(kind="latent_window", **shared)
        elif ratio <= 16:
            # Short pools are many, so an indexer chooses among them (CSA); long ones are few and all read (HCA).
            kinds[name] = CompressedAttention(
                kind="csa", compress_ratio=ratio, topk_entries=topk, indexer=index, **shared
            )
        else:
            kinds[name] = CompressedAttention(kind="hca", compress_ratio=ratio, **shared)
    # Ratios beyond the layers are those of multi-token prediction, whose kind must be known too.
    return Attends(names[:layers], kinds)


def _grouped(fields: Fields, known: Resolved, layers: int) -> Attends:
    """Grouped-query attention, with windows, chunks and recurrent layers where the pattern says so."""
    pattern = layer_kinds(fields, known, layers)
    shared_kv = fields.count("num_kv_shared_layers", least=0, most=layers) or 0
    kinds: dict[str, AttentionSpec] = {}
    names: list[str | None] = []
    for index, kind in enumerate(pattern):
        if kind == "none":
            names.append(None)
            continue
        reads_earlier = index >= layers - shared_kv and kind in ("full", "window")
        name = f"{kind}_shared" if reads_earlier else kind
        if name not in kinds:
            spec = _spec_of(fields, known, kind)
            kinds[name] = (
                GroupedAttention(**spec.model_dump() | {"own_kv": False})
                if reads_earlier and isinstance(spec, GroupedAttention)
                else spec
            )
        names.append(name)
    return Attends(names, kinds)


def _nas(fields: Fields, known: Resolved, layers: int) -> Attends:
    """Layers whose key heads differ, some without attention (Nemotron-NAS)."""
    blocks = nas_blocks(fields, layers) or []
    kinds: dict[str, AttentionSpec] = {}
    names: list[str | None] = []
    for block in blocks:
        name = f"full_{block.kv_heads}" if block.kv_heads else None
        names.append(name)
        if name is not None and name not in kinds:
            plain = _heads(fields, known, "full")
            kinds[name] = GroupedAttention(**plain.model_dump() | {"kv_heads": block.kv_heads})
    return Attends(names, kinds)


def layer_kinds(fields: Fields, known: Resolved, layers: int) -> list[str]:
    """Return ``full``, ``window``, ``chunk``, ``sparse``, ``linear``, ``mamba`` or ``none`` for each layer."""
    named = _named_kinds(fields, layers)
    if named is not None:
        return named
    period = fields.count("attn_layer_period")
    if period is not None:
        # Jamba: the others are Mamba layers of the first kind.
        offset = fields.count("attn_layer_offset", least=0) or 0
        return ["full" if i % period == offset else "mamba1" for i in range(layers)]
    crossing = fields.sequence("cross_attention_layers")
    if crossing is not None:
        return ["cross" if i in crossing else "full" for i in range(layers)]
    sparse = fields.inner("sparse_attention_config")
    if sparse is not None and sparse.flag("use_sparse_attention") is not False:
        chosen = sparse.sequence("sparse_attention_freq", length=layers) or [1] * layers
        return ["sparse" if on else "full" for on in chosen[:layers]]
    interval = fields.count("full_attention_interval")
    if interval is not None:
        return ["full" if (i + 1) % interval == 0 else "linear" for i in range(layers)]
    return _windowed_kinds(fields, known, layers)


def _named_kinds(fields: Fields, layers: int) -> list[str] | None:
    """Return the kinds that the configuration lists layer by layer, or ``None`` if it lists none."""
    pattern = fields.text("hybrid_override_pattern")
    types = fields.sequence("layer_types", "layers_block_type", length=layers)
    raw: list[Any] | None = list(pattern) if pattern is not None else types
    if raw is None:
        flags = fields.sequence("hybrid_layer_pattern", length=layers)
        return ["window" if on else "full" for on in flags[:layers]] if flags is not None else None
    if pattern is not None and len(pattern) < layers:
        fields.wrong("hybrid_override_pattern", pattern, f"has {len(pattern)} letters for {layers} layers")
        return ["full"] * layers
    unknown = sorted({str(t) for t in raw if not isinstance(t, str) or t not in _KINDS})
    if unknown:
        where = "hybrid_override_pattern" if pattern is not None else "layer_types"
        fields.wrong(where, ", ".join(unknown), "kind of layer that the catalog cannot describe yet")
        return ["full"] * layers
    # Granite and Nemotron-H call their Mamba layers linear attention.
    linear = (
        "mamba"
        if fields.has("mamba_n_heads", "mamba_num_heads") and not fields.has("linear_num_value_heads")
        else "linear"
    )
    return [linear if _KINDS[t] == "linear" else _KINDS[t] for t in raw[:layers]]


def _windowed_kinds(fields: Fields, known: Resolved, layers: int) -> list[str]:
    """Return the kinds where only a window or chunk is given and the pattern comes from a period."""
    kind = "chunk" if fields.has("attention_chunk_size") else "window"
    limited = kind == "chunk" or (fields.has("sliding_window") and fields.flag("use_sliding_window") is not False)
    if not limited:
        return ["full"] * layers
    if fields.flag("use_sliding_window"):
        # Qwen2 and 3: the layers from ``max_window_layers`` on.
        first = fields.count("max_window_layers", least=0) or 0
        return ["window" if i >= first else "full" for i in range(layers)]
    every = known.full_attention_every(fields, kind)
    return ["full" if every and (i + 1) % every == 0 else kind for i in range(layers)]


def _spec_of(fields: Fields, known: Resolved, kind: str) -> AttentionSpec:
    if kind == "linear":
        return GatedDeltaNet(
            kind="gated_deltanet",
            k_heads=fields.required("linear_num_key_heads"),
            v_heads=fields.required("linear_num_value_heads"),
            k_dim=fields.required("linear_key_head_dim"),
            v_dim=fields.required("linear_value_head_dim"),
            conv_tokens=fields.required("linear_conv_kernel_dim"),
        )
    if kind == "mamba1":
        return Mamba1(
            kind="mamba1",
            inner=fields.required("mamba_expand") * fields.required("hidden_size"),
            state_dim=fields.required("mamba_d_state"),
            dt_rank=fields.required("mamba_dt_rank"),
            conv_tokens=fields.required("mamba_d_conv"),
            inner_norms=True,
        )
    if kind == "mamba":
        return Mamba2(
            kind="mamba2",
            heads=fields.required("mamba_num_heads", "mamba_n_heads"),
            head_dim=fields.required("mamba_head_dim", "mamba_d_head"),
            state_dim=fields.required("ssm_state_size", "mamba_d_state"),
            groups=fields.required("n_groups", "mamba_n_groups"),
            conv_tokens=fields.required("conv_kernel", "mamba_d_conv"),
        )
    return _heads(fields, known, kind)


@dataclass(frozen=True, slots=True)
class _Shape:
    heads: int
    kv_heads: int
    qk_dim: int
    v_dim: int


def _shape(fields: Fields, kind: str) -> _Shape:
    """Return heads and widths; windows (MiMo-V2) and global layers (Gemma 4) may have their own."""
    heads = fields.required("num_attention_heads", "n_head", "n_heads")
    shared = fields.flag("multi_query") and not fields.flag("new_decoder_architecture")
    kv_heads = (
        1
        if shared
        else fields.count("num_key_value_heads", "num_kv_heads", "n_kv_heads", "num_attention_groups") or heads
    )
    width = fields.required("hidden_size", "n_embd", "d_model")
    qk_dim = fields.count("head_dim", "attention_head_dim", "kv_channels") or max(width // heads, 1)
    plain = _Shape(heads, kv_heads, qk_dim, fields.count("v_head_dim") or qk_dim)
    if kind == "window" and fields.has("swa_head_dim", "swa_num_key_value_heads"):
        own = fields.count("swa_head_dim") or qk_dim
        return _Shape(
            fields.count("swa_num_attention_heads") or heads,
            fields.count("swa_num_key_value_heads") or kv_heads,
            own,
            fields.count("swa_v_head_dim") or own,
        )
    other = fields.inner("attention_other_setting") if kind == "window" else None
    if other is not None:
        # Step 3.5 and later
        windowed = other.count("num_attention_heads") or heads
        return _Shape(windowed, other.count("num_attention_groups") or kv_heads, qk_dim, qk_dim)
    if kind == "full" and fields.has("global_head_dim"):
        own = fields.count("global_head_dim") or qk_dim
        return _Shape(heads, fields.count("num_global_key_value_heads") or kv_heads, own, own)
    return plain


def _heads(fields: Fields, known: Resolved, kind: str) -> GroupedAttention:
    shape = _shape(fields, kind)
    if shape.heads % shape.kv_heads:
        fields.wrong("num_key_value_heads", shape.kv_heads, f"must divide the {shape.heads} heads")
        shape = replace(shape, kv_heads=shape.heads)
    sinks = known.flag("sinks")
    own_sinks = fields.flag("add_swa_attention_sink_bias" if kind == "window" else "add_full_attention_sink_bias")
    window = None
    if kind == "cross":
        window = fields.required("cross_attention_tokens")
    elif kind in ("window", "chunk"):
        window = fields.required("attention_chunk_size" if kind == "chunk" else "sliding_window", "sliding_window_size")
    topk, index = _sparse(fields) if kind == "sparse" else (None, None)
    return GroupedAttention(
        kind=_GROUPED[kind],
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        qk_dim=shape.qk_dim,
        v_dim=shape.v_dim,
        window_tokens=window,
        qkv_bias=known.flag("qkv_bias"),
        o_bias=known.flag("o_bias"),
        qk_norm="head" if kind == "cross" else known.qk_norm(),
        sinks=sinks if own_sinks is None else own_sinks,
        output_gate=known.flag("output_gate"),
        value_from_key=kind == "full" and fields.flag("attention_k_eq_v") is True,
        topk_tokens=topk,
        indexer=index,
    )


def _sparse(fields: Fields) -> tuple[int | None, Indexer | None]:
    """Return tokens read and indexer of block-sparse attention (MiniMax-M3): chosen blocks × their length."""
    sparse = fields.inner("sparse_attention_config")
    if sparse is None:
        return None, None
    tokens = sparse.required("sparse_topk_blocks") * sparse.required("sparse_block_size")
    index = Indexer(heads=sparse.required("sparse_num_index_heads"), head_dim=sparse.required("sparse_index_dim"))
    return tokens, index


def _used(names: list[str | None], kinds: dict[str, AttentionSpec]) -> Attends:
    return Attends(names, {name: spec for name, spec in kinds.items() if name in names})

"""A model from the header of a GGUF file: metadata in the terms of ``config.json``, the rest from the tensors."""

import re
from collections.abc import Mapping
from typing import Any

from envelope.errors import InputError, Problem
from envelope.provenance import Source
from envelope.spec.checkpoint.architecture import Traits
from envelope.spec.checkpoint.config_json import Imported, Naming, find_architecture, model_from_config
from envelope.spec.checkpoint.ggml_types import format_of, stored_bytes
from envelope.spec.checkpoint.gguf_header import GgufHeader, Tensor

_KEYS = {
    "embedding_length": "hidden_size", "context_length": "max_position_embeddings",
    "attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads",
    "attention.sliding_window": "sliding_window", "attention.q_lora_rank": "q_lora_rank",
    "attention.kv_lora_rank": "kv_lora_rank", "rope.dimension_count": "qk_rope_head_dim",
    "attention.indexer.head_count": "index_n_heads", "attention.indexer.key_length": "index_head_dim",
    "attention.indexer.top_k": "index_topk", "attention.shared_kv_layers": "num_kv_shared_layers",
    "expert_count": "num_experts", "expert_used_count": "num_experts_per_tok",
    "nextn_predict_layers": "num_nextn_predict_layers", "full_attention_interval": "full_attention_interval",
    "embedding_length_per_layer_input": "hidden_size_per_layer_input", "moe_latent_size": "moe_latent_size",
    "attention.chunk_size": "attention_chunk_size",
}  # fmt: skip
"""Metadata key after the architecture's name → field of ``config.json``."""
_PARTS = (
    ("embed", r"token_embd|per_layer_token_embd"),
    ("lm_head", r"output\.weight|output\.bias"),
    ("norm", r".*norm\.(weight|bias)|.*attn_sinks\.weight"),
    ("indexer", r"blk\.\d+\.indexer"),
    ("router", r"blk\.\d+\.(ffn_gate_inp|exp_probs_b)"),
    ("shared_experts", r"blk\.\d+\.ffn_\w+_shexp"),
    ("routed_experts", r"blk\.\d+\.ffn_\w+_exps"),
    ("dense_ffn", r"blk\.\d+\.ffn_"),
    ("linear_attention", r"blk\.\d+\.ssm_"),
    ("attention", r"blk\.\d+\.attn_"),
)
"""Tensor class → pattern at the beginning of a tensor's name; the first that fits counts."""
_FOREIGN = r"blk\.\d+\.(altup|laurel|time_mix|channel_mix|shortconv|attn_rot|cross_attn|kda|ssm_f_a)"
"""Tensors of structures that the catalog cannot describe."""
_UNCOUNTED = r"rope_freqs|rope_factors|mm\.|v\.|a\."
"""Tensors that are no weights of the language model."""


def model_from_gguf(header: GgufHeader, file: str, naming: Naming, *, source: Source) -> Imported:
    """Return the model that a GGUF header describes; its parameters are counted from the tensors' shapes too.

    Raises ``InputError`` for files without a language model and for what the catalog cannot describe.
    """
    type_name = header.metadata.get("general.architecture")
    if not isinstance(type_name, str) or not header.tensors:
        raise InputError(Problem(file, "general.architecture", type_name, "must name the architecture of a model"))
    foreign = sorted({m[1] for t in header.tensors if (m := re.match(_FOREIGN, t.name))})
    if foreign:
        raise InputError(Problem(file, foreign[0], None, "tensors of this kind cannot be described by the catalog yet"))
    own = {
        key.removeprefix(f"{type_name}."): value
        for key, value in header.metadata.items()
        if key.startswith(f"{type_name}.")
    }
    shapes = {t.name: t.dims for t in header.tensors}
    config = _config(own, shapes, file)
    config["model_type"] = type_name if find_architecture(type_name, file) else f"gguf:{type_name}"
    formats, notes = _formats(header.tensors)
    native, by_part = formats
    named = Naming(
        id=naming.id, licence=naming.licence, name=naming.name, developer=naming.developer, like=naming.like,
        weights=naming.weights or native, traits=naming.traits,
    )  # fmt: skip
    found = model_from_config(config, file, named, source=source, tensors=_traits(config, shapes))
    model = found.model.changed(format_by_part=by_part)
    counted = sum(t.elements for t in header.tensors if not re.match(_UNCOUNTED, t.name))
    return Imported(model, type_name, (*found.assumptions, *notes), (), counted)


def tensor_bytes(header: GgufHeader) -> float | None:
    """Return the bytes of all tensors' data, or ``None`` if a type is unknown."""
    sizes = [stored_bytes(t) for t in header.tensors]
    return None if any(s is None for s in sizes) else sum(s for s in sizes if s is not None)


def _config(own: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], file: str) -> dict[str, Any]:
    """Return the header as fields of ``config.json``."""
    config = {ours: own[key] for key, ours in _KEYS.items() if own.get(key) is not None}
    blocks, drafts = own.get("block_count"), own.get("nextn_predict_layers", 0)
    if not isinstance(blocks, int) or not isinstance(drafts, int) or not 0 < blocks - drafts <= 1000:
        raise InputError(Problem(file, "block_count", blocks, "must be a whole number of layers up to 1,000"))
    layers = blocks - drafts
    config["num_hidden_layers"] = layers
    for name in ("num_attention_heads", "num_key_value_heads"):
        config[name] = _one_of(config.get(name), name, file)
    if (embedding := shapes.get("token_embd.weight")) is not None:
        config["vocab_size"] = embedding[-1]
    config |= _head_widths(own, config)
    config |= _layer_kinds(own, shapes, layers)
    config |= _feed_forward(shapes, layers)
    return {name: value for name, value in config.items() if value is not None}


def _one_of(value: object, name: str, file: str) -> object:
    """Return the one count of a list over layers; zeros stand for layers without attention."""
    if not isinstance(value, list):
        return value
    counts = {v for v in value if v}
    if len(counts) == 1:
        return next(iter(counts))
    raise InputError(Problem(file, name, None, "differs between layers, which cannot be described by the catalog yet"))


def _head_widths(own: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the widths of heads; files of latent attention give those of the absorbed and of the plain form."""
    key, value = own.get("attention.key_length"), own.get("attention.value_length")
    if "kv_lora_rank" not in config:
        return {
            "head_dim": key, "v_head_dim": value, "swa_head_dim": own.get("attention.key_length_swa"),
            "swa_v_head_dim": own.get("attention.value_length_swa"),
        }  # fmt: skip
    key, rope = own.get("attention.key_length_mla", key), config.get("qk_rope_head_dim")
    nope = key - rope if isinstance(key, int) and isinstance(rope, int) else None
    return {"qk_nope_head_dim": nope, "v_head_dim": own.get("attention.value_length_mla", value)}


def _layer_kinds(own: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], layers: int) -> dict[str, Any]:
    """Return the kind of each layer: recurrent by its tensors, windowed by the listed pattern."""
    found: dict[str, Any] = {}
    recurrent = _layers_with(shapes, r"ssm_\w+", layers)
    attends = _layers_with(shapes, r"attn_(q|qkv|q_a|kv_a_mqa)", layers)
    pattern = own.get("attention.sliding_window_pattern")
    if any(recurrent) or not all(attends):
        gated = any("ssm_ba" in name or "ssm_beta" in name or "ssm_alpha" in name for name in shapes)
        kind = "linear_attention" if gated else "mamba"
        found["layer_types"] = [
            kind if r else "full_attention" if a else "mlp" for r, a in zip(recurrent, attends, strict=True)
        ]
        found |= _recurrent(own, gated) if any(recurrent) else {}
    elif isinstance(pattern, list) and len(pattern) >= layers:
        found["layer_types"] = ["sliding_attention" if on else "full_attention" for on in pattern[:layers]]
    elif isinstance(pattern, int) and not isinstance(pattern, bool):
        found["sliding_window_pattern"] = pattern
    return found


def _recurrent(own: Mapping[str, Any], gated: bool) -> dict[str, Any]:
    inner, state, heads = (own.get(f"ssm.{name}") for name in ("inner_size", "state_size", "time_step_rank"))
    width = inner // heads if isinstance(inner, int) and isinstance(heads, int) and heads > 0 else None
    groups, kernel = own.get("ssm.group_count"), own.get("ssm.conv_kernel")
    if gated:
        return {
            "linear_num_key_heads": groups, "linear_num_value_heads": heads, "linear_key_head_dim": state,
            "linear_value_head_dim": width, "linear_conv_kernel_dim": kernel,
        }  # fmt: skip
    return {
        "mamba_num_heads": heads, "mamba_head_dim": width, "ssm_state_size": state, "n_groups": groups,
        "conv_kernel": kernel,
    }  # fmt: skip


def _feed_forward(shapes: Mapping[str, tuple[int, ...]], layers: int) -> dict[str, Any]:
    """Return which layers have experts and how wide the networks are, from the shapes of their tensors."""
    widths, routed = [], []
    found: dict[str, Any] = {}
    for i in range(layers):
        dense = shapes.get(f"blk.{i}.ffn_down.weight")
        widths.append(dense[0] if dense else None)
        experts = shapes.get(f"blk.{i}.ffn_down_exps.weight")
        routed.append(experts is not None)
        if experts is not None:
            found["moe_intermediate_size"] = experts[0]
        if (shared := shapes.get(f"blk.{i}.ffn_down_shexp.weight")) is not None:
            found["shared_expert_intermediate_size"] = shared[0]
    known = [w for w in widths if w]
    if known:
        found["intermediate_size"] = [w or known[0] for w in widths]
    if any(r and w for r, w in zip(routed, widths, strict=True)):
        found["enable_moe_block"] = True
    elif any(routed) and all(r or w for r, w in zip(routed, widths, strict=True)):
        found["mlp_layer_types"] = ["sparse" if r else "dense" for r in routed]
    elif any(routed) or None in widths:
        # Layers without any network, as in Nemotron-H, are named one by one.
        found["layers_block_type"] = [
            "moe" if r else "mlp" if w else "none" for r, w in zip(routed, widths, strict=True)
        ]
    return found


def _layers_with(shapes: Mapping[str, tuple[int, ...]], pattern: str, layers: int) -> list[bool]:
    """Return for each layer whether it has a tensor of that name."""
    matches = (re.match(rf"blk\.(\d{{1,4}})\.{pattern}(\.|$)", name) for name in shapes)
    found = {int(m[1]) for m in matches if m is not None}
    return [i in found for i in range(layers)]


def _traits(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> Traits:
    """Return what the tensors decide, which is everything but the pattern of windows."""

    def any_block(*names: str) -> bool:
        return any(re.fullmatch(rf"blk\.\d+\.({'|'.join(names)})", name) is not None for name in shapes)

    attending = next(
        (n.split(".")[1] for n in shapes if re.fullmatch(r"blk\.\d+\.attn_(q|qkv|q_a|q_b)\.weight", n)), "0"
    )
    norms = ("attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm", "post_ffn_norm", "attn_post_norm",
             "ffn_post_norm")  # fmt: skip
    around = sum(f"blk.{attending}.{name}.weight" in shapes for name in norms)
    heads, width = config.get("num_attention_heads"), config.get("head_dim")
    query = shapes.get(f"blk.{attending}.attn_q.weight")
    gated = query is not None and isinstance(heads, int) and isinstance(width, int) and query[-1] == 2 * heads * width
    up, down = (shapes.get(f"blk.{attending}.ffn_{n}.weight") for n in ("up", "down"))
    fused = up is not None and down is not None and up[-1] == 2 * down[0]
    return Traits(
        tie_embeddings="output.weight" not in shapes,
        qkv_bias=any_block(r"attn_q\.bias", r"attn_qkv\.bias"),
        o_bias=any_block(r"attn_output\.bias"),
        qk_norm=_qk_norm(shapes, heads),
        sinks=any_block(r"attn_sinks\.weight"),
        output_gate=gated,
        ffn_matrices=3
        if fused or any_block(r"ffn_gate\.weight", r"ffn_gate_exps\.weight", r"ffn_gate_up_exps\.weight")
        else 2,
        ffn_bias=any_block(r"ffn_up\.bias"),
        router_bias=any_block(r"exp_probs_b\.bias", r"ffn_gate_inp\.bias"),
        expert_bias=any_block(r"ffn_up_exps\.bias"),
        shared_gate=any_block(r"ffn_gate_inp_shexp\.weight"),
        norms_per_sublayer=2 if around >= 4 else 1,
        norm_bias=any_block(r"attn_norm\.bias"),
        lm_head_bias="output.bias" in shapes,
    )


def _qk_norm(shapes: Mapping[str, tuple[int, ...]], heads: object) -> str:
    norm = next((dims for name, dims in shapes.items() if re.fullmatch(r"blk\.\d+\.attn_q_norm\.weight", name)), None)
    query = next((dims for name, dims in shapes.items() if re.fullmatch(r"blk\.\d+\.attn_q\.weight", name)), None)
    if norm is None:
        return "none"
    whole = norm[0] if len(norm) == 1 else norm[0] * norm[1]
    return "full" if query is not None and whole == query[-1] and heads != 1 else "head"


def _formats(tensors: tuple[Tensor, ...]) -> tuple[tuple[str | None, dict[str, str]], list[str]]:
    """Return the format of the largest tensor class, those of the others, and what is only near."""
    groups: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        part = next((p for p, pattern in _PARTS if re.match(pattern, tensor.name)), None)
        if part is not None:
            groups.setdefault(part, []).append(tensor)
    found = {part: f for part, group in groups.items() if (f := format_of(group)) is not None}
    if not found:
        return (None, {}), ["the tensors' types are unknown; weights taken as bf16"]
    if "lm_head" not in found and "embed" in found:
        found["lm_head"] = found["embed"]  # a tied embedding counts as the head
    largest = max((p for p in found if p in groups), key=lambda p: sum(t.elements for t in groups[p]))
    near = sorted(f"{part} as {name}" for part, (name, exact) in found.items() if not exact)
    notes = [f"mixtures stand for the format with the nearest bits per weight: {', '.join(near)}"] if near else []
    return (found[largest][0], {part: name for part, (name, _) in found.items()}), notes

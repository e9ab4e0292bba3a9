"""What the names of a checkpoint's tensors show: biases, norms, sinks, a tied head."""

import struct
from collections.abc import Collection
from pathlib import Path
from typing import Any

from envelope.errors import InputError, Problem
from envelope.spec.checkpoint.architecture import Traits
from envelope.spec.checkpoint.fields import MAX_JSON_BYTES, parse_json, read_json

_SHOWS = {
    "qkv_bias": ("self_attn.q_proj.bias", "self_attn.qkv_proj.bias", "self_attn.query_key_value.bias"),
    "o_bias": ("self_attn.o_proj.bias", "self_attn.dense.bias"),
    "sinks": ("self_attn.sinks", "self_attn.attention_sink_bias"),
    "ffn_bias": ("mlp.up_proj.bias", "mlp.gate_up_proj.bias", "mlp.fc1.bias", "mlp.c_fc.bias"),
    "router_bias": ("mlp.gate.e_score_correction_bias", "mlp.gate.bias", "mlp.router.bias",
                    "block_sparse_moe.e_score_correction_bias"),
    "expert_bias": ("mlp.experts.gate_up_proj_bias", "experts.0.up_proj.bias"),
    "shared_gate": ("mlp.shared_expert_gate.weight",),
    "norm_bias": ("input_layernorm.bias",),
    "lm_head_bias": ("lm_head.bias",),
}  # fmt: skip
"""Trait → endings of tensor names, each of which shows it."""
_SOFT = ("self_attn.q_norm.weight", "self_attn.q_layernorm.weight", "self_attn.query_layernorm.weight")


def traits_beside(config: Path) -> tuple[Traits, str]:
    """Return what the weights beside ``config`` show, and the name of the file read; empty where there are none.

    Reads only ``model.safetensors.index.json`` or the header of ``model.safetensors``.
    """
    index = config.with_name("model.safetensors.index.json")
    if index.is_file():
        names = read_json(index).get("weight_map")
        if not isinstance(names, dict):
            raise InputError(Problem(str(index), "weight_map", None, "must be an object of tensor names"))
        return traits_shown(names), index.name
    single = config.with_name("model.safetensors")
    if single.is_file():
        return traits_shown(safetensors_header(single)), single.name
    return Traits(), ""


def safetensors_header(path: Path) -> dict[str, Any]:
    """Return the header of a safetensors file: eight bytes of length, then JSON."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= MAX_JSON_BYTES or length > path.stat().st_size - 8:
                raise InputError(Problem(str(path), "", None, f"is not safetensors: header of {length:,} bytes"))
            text = file.read(length).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(Problem(str(path), "", None, f"cannot be read: {error}")) from None
    return parse_json(text, str(path))


def traits_shown(names: Collection[str]) -> Traits:
    """Return the traits that tensor names in Hugging Face's spelling decide.

    Whether queries are normalised per head or over all heads is a question of shape, and stays open if they are;
    so does the number of norms around a layer. Nothing is concluded from names that are none of a decoder's.
    """
    if not any("self_attn." in name for name in names):
        return Traits()
    shown: dict[str, Any] = {trait: any(name.endswith(ends) for name in names) for trait, ends in _SHOWS.items()}
    if not any(name.endswith(_SOFT) for name in names):
        shown["qk_norm"] = "none"
    gated = any(name.endswith(("mlp.gate_proj.weight", "mlp.gate_up_proj.weight")) for name in names)
    plain = any(name.endswith(("mlp.up_proj.weight", "mlp.fc1.weight", "mlp.c_fc.weight")) for name in names)
    if gated or plain:
        shown["ffn_matrices"] = 3 if gated else 2
    shown["norms_per_sublayer"] = 2 if any("pre_feedforward_layernorm" in n for n in names) else None
    return Traits(**shown)

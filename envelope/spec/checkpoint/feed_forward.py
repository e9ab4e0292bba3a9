"""What feeds forward in each layer, from a configuration's fields."""

import re
from dataclasses import dataclass
from typing import Any

from envelope.spec.checkpoint.architecture import Architecture
from envelope.spec.checkpoint.fields import Fields
from envelope.spec.checkpoint.nas import nas_blocks
from envelope.spec.checkpoint.resolve import Resolved
from envelope.spec.model import DenseFfn, Ffn, Moe

_EXPERTS = ("n_routed_experts", "num_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")
_SOUNDS_ROUTED = re.compile(r"(^|_)(num|n)_.*experts?$|experts?_per_tok|moe_intermediate_size")
"""Fields that only a mixture of experts has, under names that may be new."""
_TOP_K = (
    "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts", "moe_top_k", "moe_topk",
    "moe_k",
)  # fmt: skip
_DENSE_WIDTH = ("dense_intermediate_size", "intermediate_size_mlp", "intermediate_size", "n_inner")
_WIDTH = ("moe_intermediate_size", "expert_intermediate_size", "intermediate_size")


@dataclass(frozen=True, slots=True)
class FeedsForward:
    """Feed-forward network of every layer, and the shapes of both kinds."""

    kinds: list[Ffn]
    widths: list[int | None]
    """Width of each layer's dense network where it differs from ``dense.width``."""
    dense: DenseFfn | None
    moe: Moe | None


def feed_forward_of(fields: Fields, known: Resolved, layers: int) -> FeedsForward:
    """Return what feeds forward in each of ``layers`` layers; what is wrong is collected in ``fields``."""
    has_experts = (fields.count(*_EXPERTS, least=0) or 0) > 1 and fields.flag("enable_moe_block") is not False
    if not fields.has(*_EXPERTS):
        _refuse_unknown_experts(fields)
    kinds = _kinds(fields, layers, has_experts)
    uses_moe = any(kind in ("moe", "dense_and_moe") for kind in kinds)
    uses_dense = any(kind in ("dense", "dense_and_moe") for kind in kinds)
    widths = _dense_widths(fields, known, layers) if uses_dense else []
    dense = None
    if uses_dense:
        matrices = 3 if known.number("ffn_matrices", 3) == 3 else 2
        width = max({w for w in widths if w}, key=widths.count)
        dense = DenseFfn(width=width, matrices=matrices, bias=known.flag("ffn_bias"))
    own = [w if dense and k != "none" and w != dense.width else None for k, w in zip(kinds, widths, strict=False)]
    return FeedsForward(kinds, own or [None] * layers, dense, _moe(fields, known) if uses_moe else None)


def _refuse_unknown_experts(fields: Fields) -> None:
    """Collect a problem for a file that speaks of experts without a count that is understood."""
    for name in fields.names():
        value = fields.get(name)[1] if _SOUNDS_ROUTED.search(name) else None
        if isinstance(value, int | list) and not isinstance(value, bool) and value not in (0, 1, []):
            rule = f"speaks of experts, but none of {', '.join(_EXPERTS)} counts them"
            fields.wrong(name, value, rule, "rename the field that counts the routed experts of a layer")
            return


def _dense_widths(fields: Fields, known: Resolved, layers: int) -> list[int]:
    blocks = nas_blocks(fields, layers)
    if blocks:
        return [block.ffn_width for block in blocks]
    name, value = fields.get(*_DENSE_WIDTH)
    if isinstance(value, list):
        found = fields.sequence(name, length=layers) or []
        if all(isinstance(w, int) and not isinstance(w, bool) and 0 < w < 2**31 for w in found[:layers]):
            return [*found[:layers]] or [1] * layers
        fields.wrong(name, None, "must list whole numbers above 0")
        return [1] * layers
    if value is None and known.model_type in ("falcon", "gpt2", "gptj", "gpt_neo"):
        width = fields.count("ffn_hidden_size") or 4 * fields.required("hidden_size", "n_embd")
    else:
        width = fields.required(*_DENSE_WIDTH)
    if not fields.flag("use_double_wide_mlp"):
        return [width] * layers
    # Gemma 4 E2B: layers that reuse keys and values have networks twice as wide.
    shared = fields.count("num_kv_shared_layers", least=0, most=layers) or 0
    return [width * (2 if i >= layers - shared else 1) for i in range(layers)]


def _kinds(fields: Fields, layers: int, has_experts: bool) -> list[Ffn]:
    """Return the kind of each layer: listed, or by the first dense ones, a period or exceptions."""
    blocks = nas_blocks(fields, layers)
    if blocks:
        return ["dense" if block.ffn_width else "none" for block in blocks]
    pattern = fields.text("hybrid_override_pattern")
    named = list(pattern) if pattern is not None else fields.sequence("layers_block_type", length=layers)
    if named is not None and any(n in ("E", "-", "moe", "mlp") for n in named):
        by_name: dict[Any, Ffn] = {"E": "moe", "moe": "moe", "-": "dense", "mlp": "dense"}
        return [by_name.get(n, "none") for n in named[:layers]]
    if not has_experts:
        return ["dense"] * layers
    if fields.flag("enable_moe_block"):
        return ["dense_and_moe"] * layers
    types = fields.sequence("mlp_layer_types", length=layers)
    if types is not None:
        return ["dense" if t == "dense" else "moe" for t in types[:layers]]
    routed = _routed_layers(fields, layers)
    return ["moe" if i in routed else "dense" for i in range(layers)]


def _routed_layers(fields: Fields, layers: int) -> set[int]:
    """Return the layers with experts."""
    listed = _listed(fields, layers)
    if listed is not None:
        return listed
    period = fields.count("expert_layer_period")
    if period is not None:
        # Jamba
        return {i for i in range(layers) if i % period == (fields.count("expert_layer_offset", least=0) or 0)}
    first = fields.count("first_k_dense_replace", "moe_layer_start_index", least=0) or 0
    step = fields.count("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_interval") or 1
    _, freq = fields.get("moe_layer_freq")
    if isinstance(freq, int) and not isinstance(freq, bool) and freq > 1:
        found = {i for i in range(first, layers) if i % freq == 0}
    else:
        found = {i for i in range(first, layers) if (i + 1) % step == 0}
    without = fields.sequence("mlp_only_layers") or []
    return found - {i for i in without if isinstance(i, int)}


def _listed(fields: Fields, layers: int) -> set[int] | None:
    """Return the layers with experts where the configuration lists them, else ``None``."""
    _, freq = fields.get("moe_layer_freq")
    if isinstance(freq, list):
        on = fields.sequence("moe_layer_freq", length=layers) or []
        return {i for i, flag in enumerate(on[:layers]) if flag}
    chosen = fields.sequence("moe_layers")
    if chosen is not None:
        return {i for i in chosen if isinstance(i, int)}
    text = fields.text("moe_layers_enum")
    return {int(i) for i in text.split(",") if i.strip().isdigit()} if text is not None else None


def _moe(fields: Fields, known: Resolved) -> Moe:
    name, value = fields.get(*_WIDTH)
    if isinstance(value, list) and value and all(v == value[0] for v in value):
        width = value[0] if isinstance(value[0], int) else 1
    else:
        width = fields.required(*_WIDTH)
    experts, top_k = fields.required(*_EXPERTS), fields.required(*_TOP_K)
    if top_k > experts:
        fields.wrong(_TOP_K[0], top_k, f"is more than the {experts} experts")
        top_k = experts
    shared = _shared_width(fields, known.architecture, width)
    return Moe(
        experts=experts,
        top_k=top_k,
        expert_width=width,
        matrices=2 if known.number("ffn_matrices", 3) == 2 else 3,
        shared_width=shared,
        shared_gate=shared > 0 and known.flag("shared_gate"),
        router_bias=known.flag("router_bias"),
        expert_bias=known.flag("expert_bias"),
        latent_dim=fields.count("moe_latent_size", "routed_expert_hidden_size"),
        routing=fields.text("scoring_func", "moe_router_activation_func") or "",
    )


def _shared_width(fields: Fields, architecture: Architecture | None, width: int) -> int:
    """Return the width of all shared experts together."""
    stated = (
        "shared_expert_intermediate_size", "shared_intermediate_size", "share_expert_dim", "share_expert_dims",
    )  # fmt: skip
    whole = fields.count(*stated, least=0)
    counted = ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts")
    count = fields.count(*counted, least=0, most=1024)
    each = fields.count("moe_shared_expert_intermediate_size", least=0)
    if each is not None:
        return each * (1 if count is None else count)
    if whole is not None:
        return whole
    if count is None and architecture is not None:
        count = architecture.shared_experts
    return (count or 0) * width

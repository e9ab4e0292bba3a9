"""Number format of a checkpoint's weights, from its ``quantization_config`` or ``dtype``."""

import re
from dataclasses import dataclass

from envelope.spec.checkpoint.fields import Fields

_DTYPE = {"bfloat16": "bf16", "float16": "f16", "half": "f16", "float32": "f32", "float": "f32"}
_PARTS = (
    ("attention", r"self_attn|attention"),
    ("shared_experts", r"shared_expert"),
    ("router", r"(mlp|block_sparse_moe|mixer)\.(gate|router)$|\.router"),
    ("linear_attention", r"linear_attn|mixer\.(in|out|conv)"),
    ("dense_ffn", r"mlp\.\(gate|mlp\.(gate|up|down)_proj|mlp\*?$|feed_forward"),
    ("lm_head", r"lm_head"),
    ("embed", r"embed_tokens"),
)
"""Tensor class → pattern in the names of modules that a quantisation leaves out."""


@dataclass(frozen=True, slots=True)
class Formats:
    """Format of most weights, and of the parts that differ."""

    native: str
    by_part: dict[str, str]
    said: bool
    """Whether the file says it; otherwise bf16 is assumed."""


def formats_of(fields: Fields, outer: Fields, layers: int, *, given: str | None = None) -> Formats:
    """Return the formats; ``outer`` is the whole file where ``fields`` is its text part, ``given`` the user's word."""
    if given is not None:
        return Formats(given, {}, True)
    name = fields.text("torch_dtype", "dtype") or outer.text("torch_dtype", "dtype")
    wide = _DTYPE.get((name or "").removeprefix("torch."), "bf16")
    quantised = next((q for f in (fields, outer) if (q := f.inner(*_QUANTISED)) is not None), None)
    if quantised is None:
        return Formats(wide, {}, name is not None)
    native = _quantised_format(quantised)
    if native is None:
        known = "fp8, mxfp4, gptq, awq, bitsandbytes, compressed-tensors, modelopt, MLX"
        quantised.wrong(
            "quant_method",
            quantised.text("quant_method"),
            "way of quantising is unknown",
            f"known: {known}; or say --weights FORMAT",
        )
        return Formats(wide, {}, True)
    if fields.text("expert_dtype") == "fp4":
        return Formats("fp4-ue8m0-g32", {}, True)
    return Formats(native, _kept_wide(quantised, wide, layers), True)


_QUANTISED = ("quantization_config", "compression_config", "quantization")


def _quantised_format(q: Fields) -> str | None:
    """Return the format id of a quantisation, or ``None`` for an unknown one."""
    method = (q.text("quant_method") or "").lower().replace("_", "-")
    bits = q.count("bits", "num_bits", "w_bit", most=64)
    if method == "fp8":
        return "fp8-block" if q.has("weight_block_size") else "fp8"
    if method in ("gptq", "awq"):
        return {4: f"{method}-int4", 8: "int8-wo"}.get(bits or 4)
    if method == "bitsandbytes":
        return "bnb-nf4" if q.flag("load_in_4bit") else "int8-wo" if q.flag("load_in_8bit") else None
    if method == "mxfp4":
        return "mxfp4"
    if method == "modelopt" or q.has("quant_algo"):
        algo = (q.text("quant_algo") or "").lower()
        return {"nvfp4": "nvfp4", "fp8": "fp8", "mxfp8": "mxfp8"}.get(algo) or _grouped(q)
    if method == "compressed-tensors":
        return _grouped(q)
    if not method and bits is not None and q.has("group_size"):
        return f"mlx-{bits}bit" if bits in (3, 4, 6, 8) else None
    return None


def _grouped(q: Fields) -> str | None:
    """Return the format of the group of weights with the fewest bits (compressed-tensors, modelopt).

    Where groups differ, the narrowest holds the experts or the feed-forward networks, which are most of the model.
    """
    groups = q.inner("config_groups")
    named = (groups.inner(name) for name in groups.names()) if groups is not None else ()
    found = [(g, w) for g in named if g is not None and (w := g.inner("weights")) is not None]
    if not found:
        return None
    group, weights = min(found, key=lambda pair: pair[1].count("num_bits", most=64) or 64)
    bits, kind = weights.count("num_bits", most=64), weights.text("type")
    packed = q.text("format") or group.text("format") or ""
    if kind == "float" and bits == 4:
        return "mxfp4" if "mxfp4" in packed or weights.count("group_size") == 32 else "nvfp4"
    if kind == "float" and bits == 8:
        return "fp8-block" if weights.text("strategy") == "block" else "fp8"
    if kind == "int" and bits == 4:
        return "int4-g32" if weights.count("group_size") == 32 else "gptq-int4"
    if kind == "int" and bits == 8:
        return "int8" if group.has("input_activations") else "int8-wo"
    return None


def _kept_wide(q: Fields, wide: str, layers: int) -> dict[str, str]:
    """Return the parts that the list of modules left alone covers in at least half of the layers."""
    names = q.sequence("modules_to_not_convert", "ignore", "exclude_modules") or []
    texts = [re.sub(r"^re:", "", n).replace("\\", "") for n in names if isinstance(n, str)][:100_000]
    kept: dict[str, str] = {}
    for part, pattern in _PARTS:
        found = [t for t in texts if len(t) < 500 and re.search(pattern, t)]
        numbered = {m[1] for t in found if (m := re.search(r"layers\.(\d+)\.", t))}
        # An entry with a layer's number stands for that layer alone, one without for all of them.
        everywhere = any(not re.search(r"layers\.\d+\.", t) for t in found)
        if part == "attention":
            numbered = {m[1] for t in found if (m := re.search(r"layers\.(\d+)\.self_attn\*?$", t))}
        if everywhere or len(numbered) * 2 >= max(layers, 1):
            kept[part] = wide
    return kept

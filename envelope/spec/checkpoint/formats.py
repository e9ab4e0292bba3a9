"""How a checkpoint's weights are quantised, from its ``quantization_config`` or ``dtype``."""

from collections.abc import Iterator
from dataclasses import dataclass

from envelope.spec.checkpoint.fields import Fields

_DTYPE = {"bfloat16": "bf16", "float16": "f16", "half": "f16", "float32": "f32", "float": "f32"}
_QUANTISED = ("quantization_config", "compression_config", "quantization")
_KEPT = ("modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers", "exclude", "llm_int8_skip_modules")
_KNOWN = "fp8, fbgemm_fp8, mxfp4, gptq, awq, auto-round, bitsandbytes, compressed-tensors, modelopt, quark, MLX"
_ALGORITHMS = {
    "nvfp4": "nvfp4", "nvfp4_awq": "nvfp4", "w4a16_nvfp4": "nvfp4-wo", "mxfp8": "mxfp8", "mxfp4": "mxfp4",
    "fp8": "fp8", "fp8_per_channel_per_token": "fp8", "fp8_pb_wo": "fp8-block", "fp8_pb_real": "fp8-block",
    "w4a8_awq": "w4a8", "w4a16_awq": "awq-int4", "w4a16": "awq-int4", "w8a16": "int8-wo",
    "w8a8_sq_per_channel": "int8",
}  # fmt: skip
"""``quant_algo`` of NVIDIA's Model Optimizer → format id."""
_QUARK = {"fp4": "mxfp4", "fp8_e4m3": "fp8", "int8": "int8", "int4": "awq-int4"}
"""``dtype`` of AMD's Quark → format id."""


@dataclass(frozen=True, slots=True)
class Quantisation:
    """What a checkpoint says of its weights: a main format, and which modules stand in others."""

    main: str
    """Format id of the quantised matrices; of the narrowest group where there are several."""
    wide: str
    """Format id of what is left alone."""
    everywhere: bool = True
    """Whether every matrix that is not named stands in ``main``; else it is left alone."""
    kept: tuple[str, ...] = ()
    """Names, wildcards or ``re:`` expressions of the modules that are left alone."""
    assigned: tuple[tuple[str, str], ...] = ()
    """Names (likewise) of modules with a format of their own, and its id."""
    said: bool = True
    """Whether the file says it; otherwise bf16 is assumed."""


def quantisation_of(fields: Fields, outer: Fields, *, given: str | None = None) -> Quantisation:
    """Return how the weights are stored; ``outer`` is the whole file where ``fields`` is its text part.

    ``given`` is the user's word, which comes before the file's. A way of quantising that is not known is collected
    as a problem.
    """
    name = fields.text("torch_dtype", "dtype") or outer.text("torch_dtype", "dtype")
    wide = _DTYPE.get((name or "").removeprefix("torch."), "bf16")
    if given is not None:
        return Quantisation(given, wide)
    quantised = next((q for f in (fields, outer) if (q := f.inner(*_QUANTISED)) is not None), None)
    if quantised is None:
        return Quantisation(wide, wide, said=name is not None)
    if "quantization" in quantised.names():
        quantised = quantised.inner("quantization") or quantised
    found = _by_method(quantised, wide, experts_fp4=fields.text("expert_dtype") == "fp4")
    if found is None:
        rule = "way of quantising is unknown"
        quantised.wrong(
            "quant_method", quantised.text("quant_method"), rule, f"known: {_KNOWN}; or say --weights FORMAT"
        )
        return Quantisation(wide, wide)
    return found


def _by_method(q: Fields, wide: str, *, experts_fp4: bool) -> Quantisation | None:
    method = (q.text("quant_method") or "").lower().replace("_", "-")
    if q.has("moe_quant_algo"):
        return _experts_requantised(q, wide)
    if experts_fp4:
        return Quantisation("fp4-ue8m0-g32", wide)
    listed = q.inner("quantized_layers")
    if listed is not None:
        return _layer_by_layer(listed, wide)
    if method == "compressed-tensors" or (method in ("modelopt", "") and q.has("config_groups")):
        return _by_group(q, wide)
    if method == "quark":
        return _quark(q, wide)
    main = _plain(q, method)
    return None if main is None else Quantisation(main, wide, kept=_kept(q), assigned=tuple(_overrides(q)))


def _plain(q: Fields, method: str) -> str | None:
    """Return the format id of a method that treats all modules alike, or ``None`` for an unknown one."""
    bits = q.count("bits", "num_bits", "w_bit", most=64)
    if method in ("fp8", "fbgemm-fp8"):
        return "fp8-block" if q.has("weight_block_size") else "fp8"
    if method in ("gptq", "awq", "auto-round"):
        return {4: "awq-int4" if method == "awq" else "gptq-int4", 8: "int8-wo"}.get(bits or 4)
    if method == "bitsandbytes":
        return "bnb-nf4" if q.flag("load_in_4bit") else "int8-wo" if q.flag("load_in_8bit") else None
    if method in ("mxfp4", "mxfp8"):
        return method
    if method == "modelopt" or q.has("quant_algo"):
        return _ALGORITHMS.get((q.text("quant_algo") or "").lower())
    if not method and bits is not None and q.has("group_size"):
        return f"mlx-{bits}bit" if bits in (3, 4, 6, 8) else None
    return None


def _experts_requantised(q: Fields, wide: str) -> Quantisation | None:
    """Experts that Model Optimizer re-quantised in a checkpoint whose other layers stay as they were (DeepSeek-V4)."""
    experts = _ALGORITHMS.get((q.text("moe_quant_algo") or "").lower())
    rest = _plain(q, (q.text("quant_method") or "").lower())
    if experts is None or rest is None:
        return None
    listed = q.inner("quantized_layers")
    names = listed.names() if listed is not None else ["*.experts"]
    return Quantisation(experts, rest, everywhere=False, assigned=tuple((name, experts) for name in names))


def _layer_by_layer(listed: Fields, wide: str) -> Quantisation | None:
    """Model Optimizer's ``MIXED_PRECISION``: each quantised module is named with its algorithm."""
    assigned = []
    for name in listed.names():
        layer = listed.inner(name)
        algorithm = (layer.text("quant_algo") or "").lower() if layer is not None else ""
        if algorithm not in _ALGORITHMS:
            return None
        assigned.append((name, _ALGORITHMS[algorithm]))
    narrow = [main for main in ("nvfp4", "nvfp4-wo", "mxfp4", "awq-int4", "w4a8") if main in dict(assigned).values()]
    main = narrow[0] if narrow else assigned[0][1] if assigned else None
    return None if main is None else Quantisation(main, wide, everywhere=False, assigned=tuple(assigned))


def _by_group(q: Fields, wide: str) -> Quantisation | None:
    """Groups of modules with a scheme each (compressed-tensors, Model Optimizer); ``Linear`` means all modules.

    Where groups differ, the narrowest holds the experts or the feed-forward networks, which are most of the model.
    """
    groups = q.inner("config_groups")
    found: list[tuple[int, str, list[str]]] = []
    for name in groups.names() if groups is not None else ():
        group = groups.inner(name) if groups is not None else None
        weights = group.inner("weights") if group is not None else None
        if group is None or weights is None:
            continue
        number_format = _scheme(group, weights, q.text("format") or group.text("format") or "")
        if number_format is None:
            return None
        targets = [t for t in group.sequence("targets") or ["Linear"] if isinstance(t, str)]
        found.append((weights.count("num_bits", most=64) or 64, number_format, targets))
    if not found:
        return None
    main = min(found, key=lambda each: each[0])[1]
    general = next((f for _, f, targets in found if "Linear" in targets), None)
    named = [(t, f) for _, f, targets in found for t in targets if t != "Linear"]
    if general is not None and general != main:
        named.append(("re:.*", general))
    return Quantisation(main, wide, everywhere=general is not None, kept=_kept(q), assigned=tuple(named))


def _scheme(group: Fields, weights: Fields, packed: str) -> str | None:
    """Return the format id of one group's weights."""
    bits, kind = weights.count("num_bits", most=64), weights.text("type")
    activations = group.inner("input_activations")
    if kind == "float" and bits == 4:
        if "mxfp4" in packed or weights.count("group_size") == 32:
            return "mxfp4"
        return "nvfp4" if activations is not None else "nvfp4-wo"
    if kind == "float" and bits == 8:
        return "fp8-block" if weights.text("strategy") == "block" else "fp8"
    if kind == "int" and bits == 4:
        if activations is not None and activations.text("type") == "float":
            return "w4a8"
        return "int4-g32" if weights.count("group_size") == 32 else "gptq-int4"
    if kind == "int" and bits == 8:
        return "int8" if activations is not None else "int8-wo"
    return None


def _quark(q: Fields, wide: str) -> Quantisation | None:
    """AMD's Quark: one scheme for all modules, others by name."""

    def format_in(config: Fields | None) -> str | None:
        weight = config.inner("weight") if config is not None else None
        return _QUARK.get(weight.text("dtype") or "") if weight is not None else None

    main = format_in(q.inner("global_quant_config"))
    layers = q.inner("layer_quant_config")
    named = ((name, format_in(layers.inner(name))) for name in layers.names()) if layers is not None else ()
    assigned = tuple((name, f) for name, f in named if f is not None)
    return None if main is None else Quantisation(main, wide, kept=_kept(q), assigned=assigned)


def _kept(q: Fields) -> tuple[str, ...]:
    """Return the modules that a configuration leaves alone; GPTQModel writes them as ``-:`` expressions."""
    names = [n for n in q.sequence(*_KEPT) or [] if isinstance(n, str)]
    dynamic = q.inner("dynamic")
    names += [f"re:{n[2:]}" for n in (dynamic.names() if dynamic is not None else ()) if n.startswith("-:")]
    # MLX gives each module that it leaves alone the value ``false``.
    names += [n for n in q.names() if "." in n and q.get(n)[1] is False]
    return tuple(names)


def _overrides(q: Fields) -> Iterator[tuple[str, str]]:
    """Yield modules with bits of their own (MLX writes them beside the general ones)."""
    for name in q.names():
        own = q.get(name)[1]
        if "." in name and isinstance(own, dict) and own.get("bits") in (3, 4, 6, 8):
            yield name, f"mlx-{own['bits']}bit"

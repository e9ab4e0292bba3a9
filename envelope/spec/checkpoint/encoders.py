"""Parameters of the encoders of images that stand in a checkpoint beside the language model."""

from collections.abc import Callable
from dataclasses import dataclass

from envelope.spec.checkpoint.fields import Fields


@dataclass(frozen=True, slots=True)
class Encoders:
    """Parameters of encoders and projectors, and what could not be counted."""

    params: int = 0
    notes: tuple[str, ...] = ()


def encoder_params(outer: Fields, hidden: int) -> Encoders:
    """Return the parameters of a configuration's encoders and projectors into ``hidden``, the text model's width.

    Shapes follow transformers 5.24, whose own counts they give for the published towers. What is unknown is said
    and counts as nothing.
    """
    params, notes = 0, []
    vision = outer.inner("vision_config")
    if vision is not None and vision.names():
        counted = _vision(vision, outer, hidden)
        params += counted or 0
        notes += ["the encoder of images is of a kind that is not known, and not counted"] if counted is None else []
    audio = outer.inner("audio_config")
    if audio is not None and (audio.text("model_type") or "").startswith("gemma4_unified"):
        params += audio.required("audio_embed_dim") * hidden
    elif audio is not None and audio.names():
        notes.append("the encoder of sound is not counted")
    return Encoders(params, tuple(notes))


def _vision(vision: Fields, outer: Fields, hidden: int) -> int | None:
    kind = vision.text("model_type") or outer.text("model_type") or ""
    if not vision.has("model_type") and vision.has("vt_hidden_size"):
        kind = "moonvit"
    count = next((count for known, count in _KINDS.items() if kind.startswith(known)), None)
    problems = len(vision.problems)
    found = count(vision, outer, hidden) if count is not None else None
    if len(vision.problems) > problems:
        del vision.problems[problems:]  # a tower that leaves its shape unsaid is none that is counted
        return None
    return found


def _pixels(v: Fields, *, frames: bool = False) -> int:
    channels = v.count("in_channels", "in_chans", "num_channels") or 3
    patch = v.required("patch_size", "spatial_patch_size")
    return channels * patch**2 * ((v.count("temporal_patch_size") or 1) if frames else 1)


def _encoder(layers: int, width: int, inner: int) -> int:
    """Return the parameters of plain transformer layers: four projections, two matrices, two norms, all with bias."""
    return layers * (4 * (width**2 + width) + 2 * width * inner + inner + width + 4 * width)


def _qwen3(v: Fields, _outer: Fields, hidden: int) -> int:
    """Qwen3-VL and Qwen3.5: learned positions, mergers of four patches, deep ones among them."""
    width, inner = v.required("hidden_size"), v.required("intermediate_size")
    merged = v.count("spatial_merge_size") or 2
    wide, out = width * merged**2, v.count("out_hidden_size") or hidden
    merger = wide**2 + wide + wide * out + out
    deep = len(v.sequence("deepstack_visual_indexes") or [])
    patches = _pixels(v, frames=True) * width + width + v.required("num_position_embeddings") * width
    layers = _encoder(v.required("depth"), width, inner)
    return patches + layers + 2 * width + merger + deep * (merger + 2 * wide)


def _qwen2_5(v: Fields, _outer: Fields, hidden: int) -> int:
    """Qwen2.5-VL and EXAONE 4.5: gated networks, normalised without bias, keys perhaps shared by groups."""
    width, inner = v.required("hidden_size"), v.required("intermediate_size")
    merged = v.count("spatial_merge_size") or 2
    heads = v.required("num_heads")
    keys = width // heads * (v.count("num_key_value_heads") or heads)
    layer = (width + 2 * keys) * (width + 1) + width**2 + width + 3 * width * inner + 2 * inner + width + 2 * width
    wide, out = width * merged**2, v.count("out_hidden_size") or hidden
    merger = width + wide**2 + wide + wide * out + out
    return _pixels(v, frames=True) * width + v.required("depth") * layer + merger


def _siglip(v: Fields, _outer: Fields, hidden: int) -> int:
    """SigLIP with Gemma 3's projector."""
    width = v.required("hidden_size")
    positions = (v.required("image_size") // v.required("patch_size")) ** 2
    layers = _encoder(v.required("num_hidden_layers"), width, v.required("intermediate_size"))
    return _pixels(v) * width + width + positions * width + layers + 2 * width + width * hidden + width


def _pixtral(v: Fields, outer: Fields, hidden: int) -> int:
    """Pixtral with the patch merger of Mistral Small 3.1 and later: no biases."""
    width, inner = v.required("hidden_size"), v.required("intermediate_size")
    merge = outer.count("spatial_merge_size") or v.count("spatial_merge_size") or 2
    layers = v.required("num_hidden_layers") * (4 * width**2 + 3 * width * inner + 2 * width)
    projector = width + (merge * width) ** 2 + width * hidden + hidden**2
    return _pixels(v) * width + width + layers + projector


def _llama4(v: Fields, _outer: Fields, hidden: int) -> int:
    """Llama 4: a class token, pixels shuffled into a quarter of the tokens, an adapter of two matrices."""
    width, inner = v.required("hidden_size"), v.required("intermediate_size")
    positions = (v.required("image_size") // v.required("patch_size")) ** 2 + 1
    between, out = v.required("projector_input_dim"), v.required("projector_output_dim")
    layers = _encoder(v.required("num_hidden_layers"), width, inner)
    ends = _pixels(v) * width + width + positions * width + 4 * width
    return ends + layers + inner * between + between * out + v.required("vision_output_dim") * hidden


def _gemma4(v: Fields, _outer: Fields, hidden: int) -> int:
    """Gemma 4: two tables of positions, four norms a layer and two a head, one projection."""
    width, inner = v.required("hidden_size"), v.required("intermediate_size")
    head = v.count("head_dim") or width // v.required("num_attention_heads")
    layer = 4 * width**2 + 3 * width * inner + 4 * width + 2 * head
    tables = 2 * v.required("position_embedding_size") * width
    return _pixels(v) * width + tables + v.required("num_hidden_layers") * layer + width * hidden


def _gemma4_unified(v: Fields, _outer: Fields, hidden: int) -> int:
    """Gemma 4 12B: patches embedded by one matrix between two norms, two tables of positions, one projection."""
    width, patch = v.required("mm_embed_dim"), 3 * v.required("model_patch_size") ** 2
    embedded = 2 * patch + patch * width + width + 2 * width
    return embedded + 2 * v.required("mm_posemb_size") * width + 2 * width + width * hidden


def _moonvit(v: Fields, _outer: Fields, hidden: int) -> int:
    """MoonViT of Kimi K2.5 with its patch merger."""
    width = v.required("vt_hidden_size")
    positions = v.required("init_pos_emb_height") * v.required("init_pos_emb_width")
    layers = _encoder(v.required("vt_num_hidden_layers"), width, v.required("vt_intermediate_size"))
    wide, out = 4 * width, v.count("text_hidden_size") or hidden
    projector = 2 * width + wide**2 + wide + wide * out + out
    return _pixels(v) * width + width + positions * width + layers + 2 * width + projector


def _clip(v: Fields, outer: Fields, hidden: int) -> int:
    """The tower of MiniMax-M3, a projector and a merger of four patches."""
    width, mid = v.required("hidden_size"), outer.count("projector_hidden_size") or hidden
    compression = v.inner("img_token_compression_config")
    frames = (compression.count("temporal_patch_size") if compression is not None else None) or 1
    merge = (compression.count("spatial_merge_size") if compression is not None else None) or 1
    layers = _encoder(v.required("num_hidden_layers"), width, v.required("intermediate_size"))
    projector = width * mid + mid + mid * hidden + hidden
    merger = merge**2 * hidden * mid + mid + mid * hidden + hidden if merge > 1 else 0
    return _pixels(v) * frames * width + 2 * width + layers + projector + merger


def _mllama(v: Fields, _outer: Fields, hidden: int) -> int:
    """Llama 3.2 Vision: local and gated global layers, positions by tile, several layers' outputs joined."""
    width, inner = v.required("hidden_size"), v.required("intermediate_size")
    tiles, ratios = v.count("max_num_tiles") or 4, len(v.sequence("supported_aspect_ratios") or [0] * 8) + 1
    spots = (v.required("image_size") // (v.count("patch_size") or 14)) ** 2 + 1
    local, gated = v.required("num_hidden_layers"), v.count("num_global_layers") or 8
    layer = 4 * width**2 + 2 * width * inner + inner + width + 4 * width
    positions = spots * width + 1 + ratios * tiles * spots * width
    by_tile = 2 * (ratios * tiles * width + 1)
    joined = v.count("vision_output_dim") or width * (1 + len(v.sequence("intermediate_layers_indices") or [0] * 5))
    patch = 3 * (v.count("patch_size") or 14) ** 2 * width
    tower = patch + width + positions + by_tile + 4 * width + local * layer + gated * (layer + 2)
    return tower + joined * hidden + hidden


def cross_attention_tokens(outer: Fields) -> int:
    """Return the tokens of an image that cross-attention layers read: every tile with its class token."""
    vision = outer.inner("vision_config")
    if vision is None:
        return 1
    patch = vision.count("patch_size") or 14
    spots = ((vision.count("image_size") or 560) // patch) ** 2 + 1
    return spots * (vision.count("max_num_tiles") or 4)


_KINDS: dict[str, Callable[[Fields, Fields, int], int | None]] = {
    "qwen3_vl": _qwen3, "qwen3_5": _qwen3, "qwen3_6": _qwen3, "qwen2_5_vl": _qwen2_5, "exaone4_5": _qwen2_5,
    "siglip_vision_model": _siglip, "pixtral": _pixtral, "llama4": _llama4, "gemma4_unified": _gemma4_unified,
    "gemma4": _gemma4, "moonvit": _moonvit, "kimi_k25": _moonvit, "clip_vision_model": _clip, "mllama": _mllama,
}  # fmt: skip
"""Beginning of the tower's ``model_type`` → how its parameters are counted; the first that fits counts."""

"""A model from Hugging Face's ``config.json``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from envelope.errors import InputError, Problem
from envelope.provenance import Evidence, Source
from envelope.spec.checkpoint.architecture import Architecture, Traits
from envelope.spec.checkpoint.attention import attention_of
from envelope.spec.checkpoint.encoders import cross_attention_tokens, encoder_params
from envelope.spec.checkpoint.feed_forward import FeedsForward, feed_forward_of
from envelope.spec.checkpoint.fields import MAX_LAYERS, Fields
from envelope.spec.checkpoint.formats import Quantisation, quantisation_of
from envelope.spec.checkpoint.parts import format_by_part
from envelope.spec.checkpoint.pattern import blocks_of
from envelope.spec.checkpoint.resolve import Resolved
from envelope.spec.load import load_all
from envelope.spec.model import Layer, Model

_TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")
"""Fields that hold the language model of a model with other senses."""
_IGNORED = {
    "_name_or_path", "architectures", "attention_bias", "attention_chunk_size", "attention_dropout",
    "attn_logit_softcapping", "attn_output_gate", "audio_config", "auto_map", "aux_loss_alpha", "bos_token_id",
    "chunk_size", "chunk_size_feed_forward", "compress_rope_theta", "embd_pdrop", "eos_token_id", "ep_size", "expand",
    "final_logit_softcapping", "first_k_dense_replace", "full_attention_interval", "hc_sinkhorn_iters",
    "index_share_for_mtp_iteration", "time_step_rank", "head_dim",
    "hidden_act", "hidden_activation", "hidden_dropout", "id2label", "index_skip_topk_offset", "index_topk_freq",
    "indexer_rope_interleave", "initial_context_length", "initializer_range", "intermediate_size", "label2id",
    "layer_norm_eps", "layer_norm_epsilon", "layer_types", "mamba_expand", "max_length", "max_window_layers",
    "model_type", "n_group", "no_rope_layers", "norm_topk_prob", "num_beam_groups", "num_beams", "num_hash_layers",
    "num_key_value_heads", "num_logits_to_keep", "num_return_sequences", "original_max_position_embeddings",
    "output_router_logits", "pad_token_id", "parallel_attn", "partial_rotary_factor", "pretraining_tp", "qk_head_dim",
    "query_pre_attn_scalar", "rescale_prenorm_residual", "resid_pdrop", "return_dict", "rms_norm_eps",
    "rope_interleave", "rope_theta", "rotary_dim", "routed_scaling_factor", "router_aux_loss_coef", "seq_aux",
    "swa_rope_theta", "tf_legacy_loss", "time_step_limit", "tokenizer_class", "top_k", "topk_group", "topk_method",
    "torch_dtype", "transformers_version", "use_cache", "use_conv_bias", "use_gemma_norm", "use_mamba_kernels",
    "use_parallel_residual", "vision_config", "vocab_size_per_layer_input",
}  # fmt: skip
"""Fields that change neither parameters nor work."""
_FOREIGN = {
    "is_encoder_decoder": "encoder-decoder models", "altup_num_inputs": "alternating updates (Gemma 3n)",
    "attn_res_block_size": "attention over residuals", "conv_L_cache": "short convolutions (LFM2)",
    "rwkv_version": "RWKV", "ssm_cfg": "Mamba",
}  # fmt: skip
"""Fields of structures that the catalog cannot describe → what they are."""


_DRAFTS = re.compile(r"eagle|dflash|dspark|medusa|speculator|draft|nextn|(^|_)mtp", re.IGNORECASE)
_DRAFT_FIELDS = ("draft_vocab_size", "eagle_config", "dflash_config", "speculators_config", "medusa_num_heads")
"""What names, or fields, of draft heads for speculative decoding have in common."""


@dataclass(frozen=True, slots=True)
class Naming:
    """What the user says about a model beside its architecture."""

    id: str
    licence: str = "licence-not-read"
    name: str = ""
    developer: str = ""
    like: str | None = None
    """Architecture whose conventions hold, where the file's own type is unknown."""
    weights: str | None = None
    """Format of the weights where the file does not say it."""
    traits: Traits = field(default_factory=Traits)


@dataclass(frozen=True, slots=True)
class Imported:
    """A model read from a checkpoint, and what a person should look at before relying on it."""

    model: Model
    model_type: str
    assumptions: tuple[str, ...]
    """What was taken for granted, in words."""
    unread: tuple[str, ...]
    """Fields of the file that nothing here understands."""
    params_in_file: int | None = None
    """Parameters counted from the tensors' shapes, where the file holds them."""


def model_from_config(
    data: Mapping[str, Any], file: str, naming: Naming, *, source: Source, tensors: Traits | None = None
) -> Imported:
    """Return the model that a configuration describes.

    ``tensors`` is what the weights show beyond it. Raises ``InputError`` with everything that is missing, wrong,
    unsupported or undecided; a type that is not known decides nothing.
    """
    outer = Fields(data, file)
    text = next((f for name in _TEXT_PARTS if (f := outer.inner(name)) is not None), None)
    model_type = (text or outer).text("model_type") or outer.text("model_type") or ""
    architecture = find_architecture(naming.like or model_type, file, asked=naming.like is not None)
    merged = {k: v for k, v in data.items() if k == "tie_word_embeddings"} | (text or outer).without_null()
    if text is not None and text.has("cross_attention_layers"):
        merged["cross_attention_tokens"] = cross_attention_tokens(outer)
    fields = Fields(merged, file, defaults=architecture.defaults if architecture else None)
    fields.problems = outer.problems
    known = Resolved(fields, architecture, tensors or Traits(), naming.traits, model_type)
    _refuse(fields, architecture)
    _refuse_drafts(fields, outer, model_type)
    layers = _layer_count(fields)
    fields.raise_problems()
    quantised = quantisation_of(fields, outer, given=naming.weights)
    encoders = encoder_params(outer, fields.count("hidden_size", "n_embd", "d_model") or 1)
    draft = _draft(fields, known, layers) | {"native_format": quantised.main, "encoder_params": encoders.params}
    known.complain()
    fields.raise_problems()
    model = _build(draft, file, naming, architecture, source)
    if naming.weights is None:
        model = model.changed(format_by_part=format_by_part(model, quantised))
    ignored = _IGNORED | {n for n in merged if n.endswith(("_token_id", "_dropout", "_eps", "_token_index"))}
    unread = tuple(name for name in fields.unread() if name not in ignored and _matters(merged[name]))
    return Imported(model, model_type, (*_assumptions(fields, known, quantised, draft), *encoders.notes), unread)


def find_architecture(name: str, file: str, *, asked: bool = False) -> Architecture | None:
    """Return the conventions of a ``model_type`` or GGUF architecture, or ``None`` if it is not known.

    With ``asked``, a person named it, and an unknown name raises ``InputError``.
    """
    records = load_all(Architecture, "architectures")
    for record in records:
        if name and name in (record.id, *record.aliases, *record.gguf):
            return record
    if asked:
        raise InputError(Problem(file, "--like", name, f"unknown; known: {', '.join(r.id for r in records)}"))
    return None


def _matters(value: object) -> bool:
    """Return whether an unread value could describe structure: a count, a list, an object or a yes."""
    if isinstance(value, bool):
        return value
    return (isinstance(value, int) and value > 1) or (isinstance(value, list | dict) and bool(value))


def _refuse(fields: Fields, architecture: Architecture | None) -> None:
    """Collect a problem for every structure that the catalog cannot describe."""
    if architecture is not None and architecture.unsupported:
        fields.wrong("model_type", architecture.id, architecture.unsupported)
    kinds = fields.sequence("attn_type_list") or []
    if any(kind != 1 for kind in kinds):
        fields.wrong("attn_type_list", None, "lightning attention cannot be described by the catalog yet")
    for name, meaning in _FOREIGN.items():
        value = fields.get(name)[1]
        if value not in (None, False, 0, [], {}):
            fields.wrong(name, None, f"{meaning} cannot be described by the catalog yet")


def _refuse_drafts(fields: Fields, outer: Fields, model_type: str) -> None:
    """Collect a problem for the head of a draft model, which is none to serve by itself."""
    named = [n for n in outer.sequence("architectures") or [] if isinstance(n, str)]
    telling = next((n for n in (*named, model_type) if _DRAFTS.search(n)), None)
    field = next((name for name in _DRAFT_FIELDS if outer.has(name) or fields.has(name)), None)
    if telling is not None or field is not None:
        rule = "is a draft head for speculative decoding, not a model by itself"
        remedy = "import the model that it drafts for, and set draft_tokens and draft_acceptance_frac of its pool"
        fields.wrong("architectures" if telling else field or "", telling, rule, remedy)


def _layer_count(fields: Fields) -> int:
    names = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
    listed = fields.sequence("layers_block_type")
    if listed is not None and not fields.has(*names):
        return min(len(listed), MAX_LAYERS) or 1
    return fields.required(*names, most=MAX_LAYERS)


def _draft(fields: Fields, known: Resolved, layers: int) -> dict[str, Any]:
    """Return everything that goes into the model, by field; what is wrong is collected in ``fields``."""
    attends = attention_of(fields, known, layers)
    feeds = feed_forward_of(fields, known, layers)
    return {
        "hidden": fields.required("hidden_size", "n_embd", "d_model"),
        "vocab": fields.required("vocab_size", "padded_vocab_size"),
        "tie_embeddings": known.flag("tie_embeddings"),
        "max_context_tokens": _context(fields, known.architecture),
        "attention": attends.kinds,
        "feeds": feeds,
        "layers": _layers(attends.names, feeds, layers),
        "mtp": _mtp(fields, known.architecture, attends.names, feeds),
        "norms_per_sublayer": known.number("norms_per_sublayer", 1),
        "norm_bias": known.flag("norm_bias"),
        "lm_head_bias": known.flag("lm_head_bias"),
        "residual_streams": fields.count("hc_mult", most=64) or 1,
        "per_layer_embedding_dim": fields.count("hidden_size_per_layer_input", least=0) or None,
    }


def _layers(names: list[str | None], feeds: FeedsForward, layers: int) -> list[Layer]:
    if len(names) < layers:
        return []
    return [
        Layer(attention=name, ffn=kind, ffn_width=width)
        for name, kind, width in zip(names, feeds.kinds, feeds.widths, strict=False)
    ]


def _context(fields: Fields, architecture: Architecture | None) -> int:
    """Return the longest context, with what a rope scaling adds to it.

    YaRN names the length that it starts from; linear and dynamic scaling multiply the length in the file, which
    some types (Gemma 3) give already multiplied. Llama 3 and LongRoPE lengths are final.
    """
    stated = fields.required("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
    rope = fields.inner("rope_scaling", "rope_parameters")
    if rope is None:
        return stated
    kind = rope.text("rope_type", "type") or ""
    _, factor = rope.get("factor")
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 <= factor <= 10_000:
        return stated
    start = rope.count("original_max_position_embeddings")
    if kind == "yarn" and start is not None:
        return max(round(start * factor), stated)
    included = architecture is not None and architecture.context_includes_scaling
    return stated if included or kind not in ("linear", "dynamic") else round(stated * factor)


def _mtp(
    fields: Fields, architecture: Architecture | None, names: list[str | None], feeds: FeedsForward
) -> dict[str, Any] | None:
    """Return the multi-token-prediction layers; they look like the last layer that attends."""
    counted = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers")
    count = fields.count(*counted, least=0, most=64)
    if count is None and architecture is not None:
        count = architecture.mtp_layers
    attends = [i for i, name in enumerate(names) if name is not None]
    if not count or not attends:
        return None
    last = attends[-1]
    ratios = fields.get("compress_ratios")[1]
    # DeepSeek-V4 lists the MTP layer after the others.
    name = "window" if isinstance(ratios, list) and ratios[len(names) :] == [0] else names[last]
    return {"layers": count, "attention": name, "ffn": feeds.kinds[last]}


def _build(
    draft: dict[str, Any], file: str, naming: Naming, architecture: Architecture | None, source: Source
) -> Model:
    feeds: FeedsForward = draft["feeds"]
    plain = ("feeds", "layers")
    assumed = Source(source="not in the imported file", date=source.date, evidence=Evidence.ASSUMED)
    try:
        return Model(
            id=naming.id,
            name=naming.name or naming.id,
            family=architecture.id if architecture else "unknown",
            developer=naming.developer or "unknown",
            release_date=None,
            licence=naming.licence,
            modalities=("text", "image") if draft["encoder_params"] else ("text",),
            native_kv_format=architecture.native_kv_format if architecture else "bf16",
            dense_ffn=feeds.dense,
            moe=feeds.moe,
            layer_pattern=blocks_of(draft["layers"]),
            sources={"default": source, "licence": assumed},
            **{name: value for name, value in draft.items() if name not in plain},
        )
    except ValidationError as error:
        problems = [
            Problem(file, ".".join(str(p) for p in e["loc"]), None, str(e["msg"]).removeprefix("Value error, "))
            for e in error.errors()
        ]
        raise InputError(problems) from None


def _assumptions(fields: Fields, known: Resolved, quantised: Quantisation, draft: dict[str, Any]) -> tuple[str, ...]:
    found = []
    by_type = sorted(name for name, origin in known.origin.items() if origin.startswith("type "))
    if by_type and known.architecture is not None:
        found.append(f"by the conventions of type {known.architecture.id}: {', '.join(by_type)}")
    if fields.defaulted and known.architecture is not None:
        left_out = ", ".join(sorted(fields.defaulted))
        found.append(f"left out, so the defaults of type {known.architecture.id}: {left_out}")
    if not quantised.said:
        found.append("the file names no number format; weights taken as bf16")
    if fields.has("cross_attention_layers"):
        found.append("attention to images is taken as a window of the tokens of one image of the largest size")
    if draft["mtp"] is not None and known.architecture is not None and known.architecture.mtp_layers:
        found.append("a multi-token-prediction layer, which this type's checkpoints carry without saying so")
    return tuple(found)


def ident_of(path: Path, data: Mapping[str, Any]) -> str:
    """Return an id for a model from its repository's name, or from the folder that the file lies in."""
    named = data.get("_name_or_path")
    text = named if isinstance(named, str) and named.strip("./") else path.resolve().parent.name
    return slug(text.rstrip("/").rsplit("/", 1)[-1])


def slug(text: str) -> str:
    """Return a text as an id: lower case, digits, dots and dashes.

    >>> slug("Llama 3.1 8B Instruct!")
    'llama-3.1-8b-instruct'
    """
    kept = "".join(c if c.isascii() and (c.isalnum() or c == ".") else "-" for c in text.lower())
    return "-".join(part for part in kept.split("-") if part.strip(".")).strip(".") or "imported-model"

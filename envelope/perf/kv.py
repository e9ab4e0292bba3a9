"""KV cache and recurrent state: bytes that one sequence occupies."""

from functools import lru_cache
from typing import Literal

from envelope.perf.layers import operators
from envelope.perf.operators import Attention
from envelope.spec.model import Model
from envelope.spec.number_format import NumberFormat


def entry_bytes(attention: Attention, kv: NumberFormat) -> float:
    """Return the bytes of one cached entry of one layer, its indexer key included.

    Mixed formats keep the rotary elements of a latent wide (``kv.kv_rope_bits``) and may store the indexer's
    keys in a format of their own (``kv.kv_indexer_bits``).
    """
    return latent_entry_bytes(attention, kv) + indexer_entry_bytes(attention, kv)


def latent_entry_bytes(attention: Attention, kv: NumberFormat) -> float:
    """Return the bytes of one cached entry of one layer without its indexer key."""
    wide = attention.rope_elems if kv.kv_rope_bits is not None else 0
    narrow = attention.kv_elems_per_token - wide
    return (narrow * kv.bits_per_weight + wide * (kv.kv_rope_bits or 0.0)) / 8


def indexer_entry_bytes(attention: Attention, kv: NumberFormat) -> float:
    """Return the bytes of the key that a layer's indexer caches of one entry; 0 without an indexer."""
    if attention.indexer is None:
        return 0.0
    return attention.indexer.elems_per_token * (kv.kv_indexer_bits or kv.bits_per_weight) / 8


def cache_kind(model: Model) -> Literal["dense", "moe", "window", "hybrid", "latent"]:
    """Return the kind of a model's cache: of latents, with recurrent layers, with windows; else by its experts."""
    kinds = {a.kind for a in operators(model).attentions}
    if kinds & {"mla", "dsa", "csa", "hca"}:
        return "latent"
    if "linear" in kinds:
        return "hybrid"
    if kinds & {"window", "chunk"}:
        return "window"
    return "moe" if model.moe is not None else "dense"


def kv_bytes_per_token(model: Model, kv: NumberFormat) -> float:
    """Return the bytes by which one sequence's cache grows per token at long context.

    Windows and chunks that are full grow no more; compressed layers grow by one entry per ``stride`` tokens;
    layers that share an earlier layer's cache and recurrent layers do not grow.
    """
    return sum(a.layers * entry_bytes(a, kv) / a.stride for a in _growing(model))


def kv_bytes(model: Model, context_tokens: float, kv: NumberFormat) -> float:
    """Return the bytes that one sequence of ``context_tokens`` occupies: growth, windows and recurrent state.

    Windows are evicted, as vLLM, SGLang and TensorRT-LLM do for models that alternate them with full attention.
    """
    total = kv_bytes_per_token(model, kv) * context_tokens
    for attention in operators(model).attentions:
        if attention.window_tokens is not None and attention.stores_kv:
            kept = min(context_tokens, attention.window_tokens)
            total += attention.layers * kept * latent_entry_bytes(attention, kv)
    return total + state_bytes(model)


@lru_cache(maxsize=1024)
def state_bytes(model: Model) -> int:
    """Return the bytes of recurrent state of one sequence; it does not depend on the context."""
    return sum(a.layers * a.state_bytes_per_seq for a in operators(model).attentions)


@lru_cache(maxsize=1024)
def _growing(model: Model) -> tuple[Attention, ...]:
    """Return the attentions whose cache grows without end."""
    fixed = ("window", "chunk", "linear")
    return tuple(a for a in operators(model).attentions if a.stores_kv and a.kind not in fixed)

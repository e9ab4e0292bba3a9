"""What one device keeps of each cached layer: bytes per entry, windows and states, as the engine lays them out."""

import math
from dataclasses import dataclass

from envelope.perf.kv import indexer_entry_bytes, latent_entry_bytes
from envelope.perf.memory.offload import offload_fracs
from envelope.perf.operators import Attention
from envelope.perf.projections import CONV_BYTES
from envelope.perf.replica import ReplicaSpec
from envelope.perf.work import mtp_operators, operators
from envelope.spec.number_format import NumberFormat

FIXED = ("window", "chunk", "linear")
"""Kinds of attention whose cache stops growing."""


@dataclass(frozen=True, slots=True)
class CachedLayers:
    """Equal layers as one device of one data-parallel rank caches them."""

    attention: Attention
    layers: float
    """On one device; not whole where pipeline stages or offloading cut unevenly."""
    entry_bytes: float
    """One entry without an indexer's key, on one device."""
    indexer_bytes: float
    """The key of one entry that its indexer caches; 0 without one."""
    state_bytes: float
    """Recurrent state of one sequence in one layer, on one device."""

    @property
    def grows(self) -> bool:
        """Whether every token of a long context adds to it."""
        return self.attention.kind not in FIXED

    @property
    def growth_bytes(self) -> float:
        """Bytes that one more token of a long context adds, all its layers together."""
        if not self.grows:
            return 0.0
        return self.layers * (self.entry_bytes + self.indexer_bytes) / self.attention.stride

    @property
    def window_tokens(self) -> int:
        """Tokens that are kept uncompressed and no longer; 0 where everything grows."""
        return self.attention.window_tokens or 0

    def kept_bytes(self, tokens: float) -> float:
        """Return the bytes of ``tokens`` kept uncompressed, all its layers together."""
        return self.layers * self.entry_bytes * tokens


def cached_layers(replica: ReplicaSpec, layers_frac: float) -> tuple[CachedLayers, ...]:
    """Return what one device of a pipeline stage caches of each kind of layer, MTP layers included where they draft.

    ``layers_frac`` is the stage's share of the model's layers.
    """
    found = list(operators(replica.model).attentions)
    draft = mtp_operators(replica.model) if replica.settings.draft_tokens else None
    found += draft.attentions if draft is not None else ()
    share = (1.0 - offload_fracs(replica)[0]) * layers_frac
    return tuple(_layer(replica, a, share) for a in found if a.stores_kv or a.kind == "linear")


def _layer(replica: ReplicaSpec, attention: Attention, share: float) -> CachedLayers:
    rules, tp, kv = replica.rules, replica.parallelism.tp, kv_format(replica, attention)
    expanded = attention.latent is not None and not rules.caches_latents
    entry: float
    heads: int
    if expanded:  # values are padded to the width of keys
        entry, indexer, heads = attention.heads * 2 * attention.qk_dim * kv.bits_per_weight / 8, 0.0, attention.heads
    else:
        entry, indexer = latent_entry_bytes(attention, kv), indexer_entry_bytes(attention, kv)
        if attention.latent:
            entry *= math.ceil(attention.kv_elems_per_token / rules.latent_multiple) * rules.latent_multiple
            entry /= attention.kv_elems_per_token
        heads = 1 if attention.latent else attention.kv_heads
    grows = attention.kind not in FIXED
    ranks = replica.parallelism.dcp if grows else 1
    state: float = attention.state_bytes_per_seq - CONV_BYTES * attention.conv_width * attention.conv_kept_tokens
    kept = attention.conv_kept_tokens + replica.settings.draft_tokens  # drafts may be taken back
    state += rules.conv_element_bytes * attention.conv_width * kept
    return CachedLayers(
        attention=attention,
        layers=attention.layers * share,
        entry_bytes=entry / min(tp, heads) / ranks,
        indexer_bytes=indexer / ranks,
        state_bytes=state / min(tp, attention.heads),
    )


def kv_format(replica: ReplicaSpec, attention: Attention) -> NumberFormat:
    """Return the format in which the engine caches these layers: ``fp8`` means another layout for sparse latents."""
    compressed_window = attention.kind == "window" and attention.rope_elems > 0
    kind = "latent_window" if compressed_window else attention.kind
    wanted = replica.rules.latent_fp8.get(kind)
    return replica.formats[wanted] if wanted and replica.kv.id == "fp8" else replica.kv

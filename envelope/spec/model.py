"""Open-weight models: the architecture from which work, memory and parameters are computed, and their terms."""

from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from envelope.provenance import DateText, Frozen, Sourced
from envelope.spec.number_format import PARTS, PROJECTIONS

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]
PartFormats = dict[str, str | dict[str, Share]]
"""Tensor class, or projection, → its format; or format → share of its weights, the rest being in the main format.
A projection's entry counts before that of its class."""


class Indexer(Frozen):
    """Lightning indexer: a small attention whose scores choose the tokens that the large one reads."""

    heads: Count
    head_dim: Count


class GroupedAttention(Frozen):
    """Attention whose queries share keys and values by groups; ``kv_heads = heads`` is plain multi-head."""

    kind: Literal["gqa", "window", "chunk", "gqa_sparse"]
    """``gqa`` sees every token, ``window`` the last ``window_tokens``, ``chunk`` its own block of that length,
    ``gqa_sparse`` the ``topk_tokens`` that its indexer chooses (MiniMax-M3)."""
    heads: Count
    kv_heads: Count
    qk_dim: Count
    """Width of one query or key head."""
    v_dim: Count
    """Width of one value head."""
    window_tokens: Count | None = None
    """Tokens of the window or chunk; required by these kinds, absent in ``gqa``."""
    qkv_bias: bool = False
    o_bias: bool = False
    qk_norm: Literal["none", "head", "full"] = "none"
    """Normalisation of queries and keys, per head or over all heads at once."""
    sinks: bool = False
    """Learned attention sinks, one per head."""
    output_gate: bool = False
    """Query projection twice as wide: the second half gates the output (Qwen3-Next and later)."""
    value_from_key: bool = False
    """Values come out of the key projection (Gemma 4); both are still cached."""
    own_kv: bool = True
    """``False`` where the layer reads keys and values of an earlier layer and stores none (Gemma 4 E2B, E4B)."""
    topk_tokens: Count | None = None
    """Tokens that attention reads at most (``gqa_sparse``)."""
    indexer: Indexer | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads={self.kv_heads} must divide heads={self.heads}")
        if (self.kind in ("window", "chunk")) != (self.window_tokens is not None):
            raise ValueError("window_tokens belongs to kinds 'window' and 'chunk', which require it")
        if (self.kind == "gqa_sparse") != (self.indexer is not None and self.topk_tokens is not None):
            raise ValueError("indexer and topk_tokens belong to kind 'gqa_sparse', which requires them")
        return self


class LatentAttention(Frozen):
    """Multi-head latent attention, dense (``mla``) or reading selected tokens only (``dsa``)."""

    kind: Literal["mla", "dsa"]
    heads: Count
    q_lora_rank: Count | None = None
    """Rank of the compressed query; ``None`` projects queries directly."""
    kv_lora_rank: Count
    """Width of the cached latent that stands for keys and values."""
    qk_nope_dim: Count
    qk_rope_dim: Count
    v_dim: Count
    topk_tokens: Count | None = None
    """Tokens that attention reads at most (``dsa`` only)."""
    indexer: Indexer | None = None
    """``None`` in a ``dsa`` layer that reuses an earlier layer's choice (GLM-5.2)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.kind == "dsa") != (self.topk_tokens is not None):
            raise ValueError("topk_tokens belongs to kind 'dsa', which requires it")
        if self.indexer is not None and self.kind == "mla":
            raise ValueError("indexer belongs to kind 'dsa'")
        return self


class CompressedAttention(Frozen):
    """DeepSeek-V4 attention: one shared key-value vector, a window, and pooled entries of the distant past."""

    kind: Literal["csa", "hca", "latent_window"]
    """``csa`` chooses pooled entries by an indexer, ``hca`` reads all of them, ``latent_window`` has none."""
    heads: Count
    head_dim: Count
    """Width of the shared key-value vector, RoPE part included."""
    qk_rope_dim: Count
    q_lora_rank: Count
    o_lora_rank: Count
    o_groups: Count
    window_tokens: Count
    compress_ratio: Count | None = None
    """Tokens pooled into one entry."""
    topk_entries: Count | None = None
    """Pooled entries that attention reads at most (``csa``)."""
    indexer: Indexer | None = None
    sinks: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.kind == "latent_window") != (self.compress_ratio is None):
            raise ValueError("compress_ratio belongs to kinds 'csa' and 'hca', which require it")
        if (self.kind == "csa") != (self.indexer is not None and self.topk_entries is not None):
            raise ValueError("indexer and topk_entries belong to kind 'csa', which requires them")
        return self


class GatedDeltaNet(Frozen):
    """Linear attention with a recurrent state per value head (Qwen3-Next, Qwen3.5)."""

    kind: Literal["gated_deltanet"]
    k_heads: Count
    v_heads: Count
    k_dim: Count
    v_dim: Count
    conv_tokens: Count


class Mamba1(Frozen):
    """Selective state-space layer of the first kind, whose channels have a state each (Jamba)."""

    kind: Literal["mamba1"]
    inner: Count
    """Channels."""
    state_dim: Count
    dt_rank: Count
    """Rank of the projection that gives each channel its time step."""
    conv_tokens: Count
    inner_norms: bool = False
    """Normalisations of time step, input and output matrices (Jamba)."""


class Mamba2(Frozen):
    """Selective state-space layer (Nemotron-H and later)."""

    kind: Literal["mamba2"]
    heads: Count
    head_dim: Count
    state_dim: Count
    groups: Count
    conv_tokens: Count


AttentionSpec = Annotated[
    GroupedAttention | LatentAttention | CompressedAttention | GatedDeltaNet | Mamba1 | Mamba2,
    Field(discriminator="kind"),
]


class DenseFfn(Frozen):
    """Feed-forward network that every token passes whole."""

    width: Count
    matrices: Literal[2, 3] = 3
    """3 with a gate (SwiGLU, GeGLU), 2 without."""
    bias: bool = False


class Moe(Frozen):
    """Mixture of experts; all experts of a layer have one shape."""

    experts: Count
    top_k: Count
    expert_width: Count
    matrices: Literal[2, 3] = 3
    shared_width: int = Field(default=0, ge=0)
    """Width of all shared experts together; 0 for none."""
    shared_gate: bool = False
    """A learned scalar gate on the shared expert (Qwen)."""
    router_bias: bool = False
    expert_bias: bool = False
    latent_dim: Count | None = None
    """Width in which the routed experts work when a shared projection narrows the hidden state first."""
    routing: str = ""
    """How experts are chosen, in words."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.top_k > self.experts:
            raise ValueError(f"top_k={self.top_k} is larger than experts={self.experts}")
        return self


Ffn = Literal["dense", "moe", "dense_and_moe", "none"]


class Layer(Frozen):
    """One layer of a block: what attends and what feeds forward."""

    attention: str | None
    """Name of an entry of ``attention``; ``None`` for a layer without."""
    ffn: Ffn
    ffn_width: Count | None = None
    """Width of this layer's dense network where it differs from ``dense_ffn.width``."""


class Blocks(Frozen):
    """A sequence of layers that repeats."""

    repeat: Count
    block: tuple[Layer, ...] = Field(min_length=1)


class Mtp(Frozen):
    """Multi-token prediction: extra layers that draft tokens and share embedding and head with the model."""

    layers: Count
    attention: str
    ffn: Ffn


class Edition(Frozen):
    """A published checkpoint that re-quantises the model."""

    format: str
    """Number format of what it quantises."""
    format_by_part: PartFormats = Field(default_factory=dict)
    """What it keeps wider, or quantises otherwise, than the format by itself would: as its list of ignored modules
    says, layer by layer."""
    note: str = ""


class Model(Sourced):
    """An open-weight model. Counts of parameters are published ones; ``perf`` computes its own."""

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    """Foreign names that mean this model: repositories, tags, names in published measurements."""
    family: str
    developer: str
    release_date: DateText | None
    revision: str | None = None
    """Pinned revision of the weights' repository; ``None`` where no one has pinned one."""
    licence: str
    """Id of the licence; members of one family differ."""
    modalities: tuple[Literal["text", "image", "video", "audio"], ...] = ("text",)
    params_total: float | None = Field(default=None, gt=0)
    """Published number of parameters."""
    params_active: float | None = Field(default=None, gt=0)
    """Published number of parameters that one token passes; ``None`` for dense models."""
    encoder_params: float = Field(default=0.0, ge=0)
    """Parameters of image, video and audio encoders and of their projectors in the checkpoint; engines load them with
    the language model, whose counts leave them out."""
    encoder_format: str = "bf16"
    """Number format in which the encoders stand in every edition."""
    params_total_includes_encoder: bool = False
    params_total_includes_mtp: bool = False
    hidden: Count
    vocab: Count
    tie_embeddings: bool
    max_context_tokens: Count
    native_format: str = "bf16"
    """Number format in which most weights ship."""
    format_by_part: PartFormats = Field(default_factory=dict)
    """Formats where the checkpoint mixes them."""
    editions: dict[str, Edition] = Field(default_factory=dict)
    """Published re-quantised checkpoints by repository (by a plain name where none is known); of several in one
    format, naming the format means the first."""
    native_kv_format: str = "bf16"
    """Number format in which its reference engine keeps the KV cache."""
    attention: dict[str, AttentionSpec]
    """Attention kinds by a name that ``layer_pattern`` refers to."""
    dense_ffn: DenseFfn | None = None
    moe: Moe | None = None
    layer_pattern: tuple[Blocks, ...] = Field(min_length=1)
    mtp: Mtp | None = None
    norms_per_sublayer: Literal[1, 2] = 1
    """Normalisations around each attention or feed-forward network (2: before and after)."""
    norm_bias: bool = False
    residual_streams: Count = 1
    """Parallel residual streams (hyper-connections of DeepSeek-V4)."""
    per_layer_embedding_dim: Count | None = None
    """Width of the embedding looked up anew for every layer (Gemma 4 E2B, E4B)."""
    lm_head_bias: bool = False
    note: str = ""

    def __hash__(self) -> int:
        """Hash by id, so that what is computed from a model can be cached; equality compares every field."""
        return hash(self.id)

    @cached_property
    def layer_counts(self) -> dict[Layer, int]:
        """How many layers there are of each kind, in order of first appearance."""
        counts: dict[Layer, int] = {}
        for blocks in self.layer_pattern:
            for layer in blocks.block:
                counts[layer] = counts.get(layer, 0) + blocks.repeat
        return counts

    @property
    def layers(self) -> int:
        """Number of layers."""
        return sum(self.layer_counts.values())

    @model_validator(mode="after")
    def _parts_known(self) -> Self:
        for said in (self.format_by_part, *(edition.format_by_part for edition in self.editions.values())):
            unknown = sorted(set(said) - set(PARTS) - set(PROJECTIONS))
            if unknown:
                known = ", ".join((*PARTS, *PROJECTIONS))
                raise ValueError(f"formats for unknown parts: {', '.join(unknown)}; parts: {known}")
            over = sorted(name for name, e in said.items() if isinstance(e, dict) and sum(e.values()) > 1 + 1e-9)
            if over:
                raise ValueError(f"shares of formats sum to more than 1: {', '.join(over)}")
        return self

    @model_validator(mode="after")
    def _layers_defined(self) -> Self:
        layers = [layer for blocks in self.layer_pattern for layer in blocks.block]
        attentions = {layer.attention for layer in layers} | ({self.mtp.attention} if self.mtp else set())
        missing = sorted(str(a) for a in attentions - {None} - set(self.attention))
        if missing:
            raise ValueError(f"layer_pattern names attention that is not defined: {', '.join(missing)}")
        ffns = {layer.ffn for layer in layers} | ({self.mtp.ffn} if self.mtp else set())
        if ffns & {"moe", "dense_and_moe"} and self.moe is None:
            raise ValueError("layer_pattern has moe layers, but moe is not given")
        if ffns & {"dense", "dense_and_moe"} and self.dense_ffn is None:
            raise ValueError("layer_pattern has dense layers, but dense_ffn is not given")
        return self

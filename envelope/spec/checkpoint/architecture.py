"""Conventions of model architectures: what a ``model_type`` implies and the checkpoint's metadata does not say."""

from typing import Annotated, Any, Literal

from pydantic import Field

from envelope.provenance import Frozen, Sourced


class Traits(Frozen):
    """Properties of a model that decide parameters and work but are often left unsaid; ``None`` is unknown."""

    tie_embeddings: bool | None = None
    """Whether the output head is the embedding."""
    qkv_bias: bool | None = None
    """Biases on the query, key and value projections."""
    o_bias: bool | None = None
    """A bias on the attention output projection."""
    qk_norm: Literal["none", "head", "full"] | None = None
    """Normalisation of queries and keys: none, per head, or over all heads at once."""
    sinks: bool | None = None
    """Learned attention sinks."""
    output_gate: bool | None = None
    """Query projection twice as wide, whose second half gates the output."""
    ffn_matrices: Literal[2, 3] | None = None
    """3 with a gate (SwiGLU, GeGLU), 2 without."""
    ffn_bias: bool | None = None
    """Biases in the dense feed-forward network."""
    router_bias: bool | None = None
    """A bias or correction per expert in the router."""
    expert_bias: bool | None = None
    """Biases in the experts."""
    shared_gate: bool | None = None
    """A learned gate on the shared expert."""
    norms_per_sublayer: Literal[1, 2] | None = None
    """Normalisations around each attention or feed-forward network."""
    norm_bias: bool | None = None
    """Biases in the normalisations."""
    lm_head_bias: bool | None = None
    """A bias in the output head."""
    full_attention_every: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Every n-th layer sees all tokens where a window or chunk is given; 0 none of them, 1 all."""


class Architecture(Sourced):
    """What a ``model_type`` of Hugging Face, or an architecture of GGUF, implies."""

    id: str
    """``model_type``."""
    aliases: tuple[str, ...] = ()
    """Other ``model_type`` values of the same structure."""
    gguf: tuple[str, ...] = ()
    """Names of ``general.architecture`` in GGUF."""
    traits: Traits
    """What holds for every model of this type."""
    switches: dict[str, str] = Field(default_factory=dict)
    """Trait → field of the configuration that turns it on; absent means off."""
    defaults: dict[str, Any] = Field(default_factory=dict)
    """Fields that published configurations leave out, with the value that the reference code then takes."""
    shared_experts: int | None = Field(default=None, ge=0)
    """Shared experts of a routed expert's width where no field counts them."""
    mtp_layers: int = Field(default=0, ge=0)
    """Multi-token-prediction layers in the weights where no field counts them."""
    context_includes_scaling: bool = False
    """Whether the context length in the configuration already contains a linear rope scaling."""
    native_kv_format: str = "bf16"
    """Number format in which the reference engine keeps the KV cache."""
    unsupported: str = ""
    """Why models of this type cannot be imported; empty if they can."""
    note: str = ""

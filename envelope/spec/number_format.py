"""Number formats: what a weight, an activation and a KV-cache entry occupy and which unit multiplies them."""

from pydantic import Field

from envelope.provenance import Sourced

PARTS = (
    "embed", "lm_head", "attention", "dense_ffn", "routed_experts", "shared_experts",
    "router", "indexer", "linear_attention", "norm", "other",
)  # fmt: skip
"""Tensor classes that may have a number format of their own."""
PROJECTIONS = {
    "qkv": "attention", "attention_out": "attention", "latent_down": "attention", "query_up": "attention",
    "key_value_up": "attention", "output_down": "attention", "output_up": "attention", "pool": "attention",
    "indexer_query_key": "indexer", "indexer_query": "indexer", "indexer_weights": "indexer", "indexer_key": "indexer",
    "indexer_pool": "indexer", "linear_in": "linear_attention", "linear_gates": "linear_attention",
    "linear_out": "linear_attention", "ffn_in": "dense_ffn", "ffn_out": "dense_ffn", "shared_in": "shared_experts",
    "shared_out": "shared_experts", "expert_down": "shared_experts", "expert_up": "shared_experts",
}  # fmt: skip
"""Matrix products of a layer that a checkpoint may keep in a format of their own → their tensor class."""


class NumberFormat(Sourced):
    """One way of storing weights (and computing with them)."""

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    """Foreign names that resolve to this format, such as ``FP8`` or ``Q4_K - Medium``."""
    family: str
    """``float``, ``int``, ``microscaling``, ``gguf`` or ``onnx``."""
    bits_per_weight: float = Field(gt=0, le=64)
    """Stored bits per weight, scales and zero points included."""
    compute: str
    """Key of ``HardwareProfile.peak_flop_per_s`` for the matrix unit that multiplies it, such as ``bf16`` or
    ``fp8``; weight-only formats compute in a wider format than they store."""
    activation_bits: float = Field(default=16, gt=0)
    """Bits per activation element that the matrix unit reads."""
    quantizes_activations: bool = False
    """Whether activations are quantised on the fly (costs a pass over them)."""
    wide_parts: dict[str, str] = Field(default_factory=dict)
    """Tensor class → format id of the parts that stay wider, such as ``{embed: bf16, lm_head: bf16}``."""
    moe_wide_parts: dict[str, str] = Field(default_factory=dict)
    """As ``wide_parts``, in addition, for models with routed experts."""
    families: tuple[str, ...] = ()
    """Families of models that alone are published in it; empty where tools quantise any model so."""
    kv: bool = False
    """Whether engines offer it as a KV-cache format."""
    kv_rope_bits: float | None = Field(default=None, gt=0)
    """Bits of the rotary elements of a cached latent where a KV format keeps them wider."""
    kv_indexer_bits: float | None = Field(default=None, gt=0)
    """Bits per element of the indexer's cached keys where they differ."""
    weights: bool = True
    """Whether it is offered as a weight format."""
    note: str = ""

    @property
    def bytes_per_weight(self) -> float:
        """Stored bytes per weight, scales included."""
        return self.bits_per_weight / 8

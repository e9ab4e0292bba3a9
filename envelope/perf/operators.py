"""The operators that one forward pass consists of: shapes and counts, no times and no number formats."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Split = Literal["column", "row", "none"]
Tokens = Literal["all", "sampled"]


@dataclass(frozen=True, slots=True)
class Linear:
    """Matrix product ``y[m, n] = x[m, k] · W[k, n]``, done once in each of ``layers`` layers."""

    name: str
    part: str
    """Tensor class, one of ``spec.number_format.PARTS``."""
    n: int
    k: int
    layers: int
    tokens: Tokens = "all"
    """``sampled``: only for tokens whose logits are needed."""
    split: Split = "none"
    """How tensor parallelism cuts it: by output (``column``), by input (``row``), or not at all."""
    matrices: int = 1
    """Matrices of the checkpoint that the product does at once, such as query, key and value; each has its adapter."""

    @property
    def params(self) -> int:
        """Weights of all its layers."""
        return self.n * self.k * self.layers


@dataclass(frozen=True, slots=True)
class Experts:
    """Routed experts of one kind of MoE layer."""

    n_routed: int
    top_k: int
    hidden: int
    """Width that enters and leaves an expert (the latent width where a projection narrows it first)."""
    ffn: int
    matrices: int
    layers: int
    bias: bool = False

    @property
    def expert_params(self) -> int:
        """Weights of one expert of one layer."""
        return self.matrices * self.hidden * self.ffn + self._biases

    @property
    def _biases(self) -> int:
        return (self.matrices - 1) * self.ffn + self.hidden if self.bias else 0

    @property
    def params(self) -> int:
        """Weights of all experts of all layers."""
        return self.expert_params * self.n_routed * self.layers

    @property
    def bias_params(self) -> int:
        """Of these, biases."""
        return self._biases * self.n_routed * self.layers


@dataclass(frozen=True, slots=True)
class Indexer:
    """Scores that choose the cached entries which sparse attention reads."""

    heads: int
    dim: int
    elems_per_token: int
    """Elements of its own key cache per entry (one key, shared by its heads)."""


AttentionKind = Literal["gqa", "mla", "dsa", "csa", "hca", "window", "chunk", "linear"]


@dataclass(frozen=True, slots=True)
class Attention:
    """The part of attention that depends on the context, for ``layers`` equal layers."""

    kind: AttentionKind
    layers: int
    heads: int
    kv_heads: int
    qk_dim: int
    """Width of a query or key head in prefill (un-absorbed for latent attention)."""
    v_dim: int
    kv_elems_per_token: int
    """Cached elements per entry and layer; 0 for recurrent layers."""
    window_tokens: int | None = None
    """Tokens that ``window`` and ``chunk`` see, or that ``csa`` and ``hca`` see uncompressed beside their entries."""
    stride: int = 1
    """Tokens per cached entry (the compression ratio)."""
    topk_tokens: int | None = None
    """Entries (each of ``stride`` tokens) that sparse attention reads at most."""
    indexer: Indexer | None = None
    latent: tuple[int, int] | None = None
    """(kv_lora_rank, rope) of latent attention: decode attends in the latent space."""
    state_bytes_per_seq: int = 0
    """Recurrent state of one sequence in one layer: fp32 state and bf16 convolution inputs."""
    conv_width: int = 0
    """Of it, elements of a token that the convolution still needs."""
    conv_kept_tokens: int = 0
    """Such tokens: all but the newest of the filter's."""
    state_flop_per_token: int = 0
    """FLOPs to update and read that state, per token and layer."""
    rope_elems: int = 0
    """Elements of an entry that rotary embedding touches; mixed KV formats keep them wide."""
    stores_kv: bool = True
    """``False`` where the layer reads the cache of an earlier layer and adds nothing to it."""

    def visible_entries(self, context_tokens: float) -> float:
        """Return the cached entries that one new token reads: window, pooled and selected ones together."""
        if self.kind == "linear":
            return 0.0
        near = min(context_tokens, self.window_tokens) if self.window_tokens else 0.0
        if self.kind in ("window", "chunk"):
            return near
        far = context_tokens / self.stride
        return near + (min(far, self.topk_tokens) if self.topk_tokens else far)

    def decode_flop(self, context_tokens: float) -> float:
        """Return the FLOPs of one new token over all layers: scores, weighted sum, indexer and state.

        ``2·heads·(qk + v)`` per visible entry; latent attention, absorbed, ``2·heads·(2·kv_lora_rank + rope)``
        (DeepSeek-V2, arXiv 2405.04434, section 2.1.2); the indexer ``2·heads·dim`` per entry of the context
        (DeepSeek-V3.2, equation 1).
        """
        width = 2 * self.latent[0] + self.latent[1] if self.latent else self.qk_dim + self.v_dim
        flop = 2.0 * self.heads * width * self.visible_entries(context_tokens) + self.state_flop_per_token
        if self.indexer is not None:
            flop += 2.0 * self.indexer.heads * self.indexer.dim * context_tokens / self.stride
        return flop * self.layers


@dataclass(frozen=True, slots=True)
class Operators:
    """All operators of one forward pass, in no particular order."""

    linears: tuple[Linear, ...]
    experts: tuple[Experts, ...]
    attentions: tuple[Attention, ...]
    vectors: Mapping[str, int]
    """Parameters by tensor class that enter no matrix product: tables looked up, norms, biases, convolutions."""
    hidden: int
    vocab: int
    layers: int
    norms: int
    """Normalisations of the hidden state that one token passes."""
    residual_streams: int = 1
    """Copies of the hidden state between layers (hyper-connections)."""
    tied_head: bool = False
    """Whether the LM head is the embedding table, stored once."""

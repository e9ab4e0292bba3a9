"""How an engine accounts for device memory, by version: data that `envelope.perf.memory` reads."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pydantic import Field

from envelope.provenance import Frozen

FracOf = Literal["total", "free_before_load", "free_after_load"]
"""What an engine's memory fraction is a share of: of the whole device (vLLM), of what is free before the weights are
loaded (SGLang), or of what they and the working set leave free, all of it for the cache (TensorRT-LLM, LMDeploy)."""

VERSION_PATTERN = r"^\d+(\.\d+){0,3}$"


class DeviceLimits(Frozen):
    """Scheduler defaults that an engine takes on large enough devices."""

    min_capacity_bytes: float = Field(default=0.0, ge=0)
    except_devices: tuple[str, ...] = ()
    """Words of device ids to which it does not apply (vLLM leaves out the A100)."""
    max_num_seqs: int = Field(ge=1)
    max_num_batched_tokens: int = Field(ge=1)


class AutoFrac(Frozen):
    """A memory fraction that the engine computes from what it will need beside weights and cache."""

    reserved_bytes: float = Field(ge=0)
    """For itself, whatever the settings."""
    bytes_per_batched_token: float = Field(default=0.0, ge=0)
    bytes_per_rank: float = Field(default=0.0, ge=0)
    """Per tensor-parallel and pipeline rank."""
    least_bytes: float = Field(default=0.0, ge=0)
    """Least reserve on devices of ``least_from_bytes`` and more."""
    least_from_bytes: float = Field(default=0.0, ge=0)


class WidthPadding(Frozen):
    """Expert matrices that a kernel stores at rounded-up widths."""

    number_format: str
    architectures: tuple[str, ...]
    """Device architectures whose kernel pads."""
    ffn_multiple: int = Field(ge=1)
    hidden_multiple: int = Field(default=1, ge=1)


class MemoryRules(Frozen):
    """What stands in device memory beside weights and cache, and how the cache is handed out, from one version on."""

    since: str = Field(default="0", pattern=VERSION_PATTERN)
    """First version that accounts so."""
    frac: float = Field(gt=0, le=1)
    """Default memory fraction."""
    frac_of: FracOf = "total"
    auto_frac: AutoFrac | None = None
    """How the engine computes its default fraction; ``None`` takes ``frac``."""
    working_set_inside: bool = True
    """Whether activations count against the fraction; else they live in what it leaves."""
    graphs_inside: bool = False
    """Whether captured CUDA graphs count against the fraction; else they live in what it leaves."""
    context_bytes: float = Field(default=0.0, ge=0)
    """Driver context and libraries of one process (vLLM's non-torch memory on one device)."""
    collective_bytes: float = Field(default=0.0, ge=0)
    """More of it where tensor parallelism joins devices: communicator buffers."""
    sampler_bytes_per_logit: float = Field(default=0.0, ge=0)
    """Peak of sampling a full batch over the whole vocabulary, per sequence and vocabulary entry; logits are gathered,
    so that tensor parallelism does not divide it."""
    sampled_buffers: float = Field(default=0.0, ge=0)
    """Hidden-state buffers of the step's tokens (2 bytes an element) that are alive beside it."""
    forward_buffers: float = Field(default=0.0, ge=0)
    """Hidden-state buffers alive within a layer."""
    ffn_buffers: float = Field(default=0.0, ge=0)
    """Buffers as wide as the feed-forward network alive within a layer: 2 of the gated input, 1 of its product."""
    encoder_buffers: float = Field(default=0.0, ge=0)
    """Further hidden-state buffers where the engine also profiles an image encoder."""
    keeps_expert_workspace: bool = False
    """Whether the workspace of the expert kernels stays allocated while a batch is sampled."""
    fused_expert_formats: tuple[str, ...] = ()
    """Formats whose expert kernels need no workspace."""
    compressed_bytes: float = Field(default=0.0, ge=0)
    """Workspace of attention over compressed latents (DeepSeek-V4), counted with activations."""
    whole_context_until_tokens: int = Field(default=0, ge=0)
    """Longest context up to which a step holds a whole prompt by default; beyond it prompts are cut, and the engine
    profiles no sampling (vLLM before its first version of the new core). 0 cuts always, and samples."""
    logits_every_token: bool = False
    """Whether a step's buffers hold the logits of all its tokens (llama.cpp: micro-batch × vocabulary × 4 bytes)."""
    mask_bytes_per_token_pair: float = Field(default=0.0, ge=0)
    """Attention mask, per token of the step and cell of the longest context."""
    graph_bytes: float = Field(default=0.0, ge=0)
    """Captured graphs, whatever the model."""
    graph_bytes_per_layer: float = Field(default=0.0, ge=0)
    windows: Literal["evicted", "kept", "blocks", "ratio", "cells"] = "evicted"
    """How windowed layers are cached: freed behind the window; kept whole; in blocks of one pool that groups of layers
    share (vLLM); in a second pool of fixed ratio (SGLang); in cells of a slot (llama.cpp)."""
    in_flight_steps: int = Field(default=1, ge=1)
    """Steps whose tokens a window keeps besides itself when a sequence is admitted (``blocks``)."""
    state_blocks: int = Field(default=1, ge=1)
    """Blocks that recurrent layers reserve per sequence and group (``blocks``)."""
    packing: Literal["tuples", "buckets", "packed"] = "packed"
    """How layers of different page sizes share a block (``blocks``): in tuples of one layer per size, by size, or
    packed."""
    counts_tables: bool = False
    """Whether the start-up log counts tokens by block table, not by sequences of the longest context (``blocks``)."""
    window_pool_ratio: float = Field(default=0.8, gt=0)
    """Tokens of the windowed layers' pool per token of the others' (``ratio``)."""
    latent_window_pool_ratio: float = Field(default=0.1, gt=0)
    """As above for the windows of compressed latents (DeepSeek-V4)."""
    state_pool_ratio: float = Field(default=0.9, gt=0)
    """Bytes of recurrent states per byte of the growing cache (``ratio``)."""
    cell_multiple: int = Field(default=1, ge=1)
    """Windows are rounded up to this many cells (``cells``)."""
    longest_context_fits: bool = False
    """Whether the engine refuses to start where one sequence of the longest context does not fit."""
    states_for_all: bool = False
    """Whether it refuses to start with more sequences than its pool has blocks, where recurrent states take one each
    (``blocks``)."""
    embedding_on_host: bool = False
    """Whether an untied token embedding stays in host memory."""
    loads_encoders: bool = False
    """Whether image and audio encoders of the checkpoint are loaded with it."""
    rope_tables: bool = False
    """Whether rotary angles of every position are kept as a table (vLLM: positions × rotary width × 2 bytes)."""
    caches_latents: bool = True
    """Whether latent attention caches latents; else full keys and values of every head."""
    latent_multiple: int = Field(default=1, ge=1)
    """Elements to a multiple of which a cached latent is padded."""
    loading_bytes: float = Field(default=0.0, ge=0)
    """What loading leaves behind beside the weights, counted with them."""
    latent_fp8: dict[str, str] = Field(default_factory=dict)
    """Kind of attention → id of the KV format that ``fp8`` means for it (sparse and compressed latents)."""
    conv_element_bytes: float = Field(default=2.0, gt=0)
    """Element of the convolution inputs that recurrent layers keep."""
    padding: tuple[WidthPadding, ...] = ()
    limits: tuple[DeviceLimits, ...] = ()
    """Defaults by size of the device, the largest first; empty takes the engine's own."""


def version_key(version: str) -> tuple[int, ...]:
    """Return a version as a tuple that sorts (``0.10.1`` above ``0.9``).

    >>> version_key("0.10.1") > version_key("0.9")
    True
    """
    return tuple(int(part) for part in re.findall(r"\d+", version))


def inherited(entries: Any) -> Any:
    """Return entries of a file with what each takes over from the one before it; records are left as they are."""
    if not isinstance(entries, list):
        return entries
    found: list[Any] = []
    for entry in entries:
        before = found[-1] if found and isinstance(found[-1], dict) else {}
        found.append({**before, **entry} if isinstance(entry, dict) else entry)
    return found


def newest_first(rules: Iterable[MemoryRules]) -> tuple[MemoryRules, ...]:
    """Return rules by version, the newest first."""
    return tuple(sorted(rules, key=lambda r: version_key(r.since), reverse=True))


def rules_of(newest: Sequence[MemoryRules], version: str | None) -> MemoryRules:
    """Return the rules of a version, of those that start with the newest; of the newest where none is stated.

    A version older than all takes the oldest rules.
    """
    if version is None:
        return newest[0]
    wanted = version_key(version)
    return next((r for r in newest if version_key(r.since) <= wanted), newest[-1])

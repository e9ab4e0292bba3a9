"""Deployments: pools of replicas of a model on devices, and the routing between them."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from envelope.provenance import Frozen
from envelope.spec.acquisition import Acquisition
from envelope.spec.engine import DEFAULT_ENGINE
from envelope.spec.memory_rules import VERSION_PATTERN

MOST = 100_000
"""Most replicas, ranks or sequences of a pool."""
Count = Annotated[int, Field(ge=1, le=MOST)]
Many = Annotated[int, Field(ge=1, le=1_000_000_000)]
"""Tokens, or blocks of a cache."""


class Parallelism(Frozen):
    """How one replica is spread over devices; the product of all is its number of devices."""

    tp: int = Field(default=1, ge=1, le=1024)
    """Tensor parallelism: devices over which each layer is split."""
    pp: int = Field(default=1, ge=1, le=256)
    """Pipeline parallelism."""
    ep: int = Field(default=1, ge=1, le=1024)
    """Expert parallelism: ranks over which the routed experts are spread; divides tp·dp."""
    dp: int = Field(default=1, ge=1, le=1024)
    """Data-parallel attention ranks that share the experts."""
    dcp: int = Field(default=1, ge=1, le=1024)
    """Decode context parallelism: tensor-parallel ranks over which the tokens of a cache are spread that they would
    each hold a copy of; divides tp. It counts for memory; step times leave it out."""

    @model_validator(mode="after")
    def _experts_fit(self) -> Self:
        if (self.tp * self.dp) % self.ep:
            raise ValueError(f"ep={self.ep} must divide tp·dp={self.tp * self.dp}")
        if self.tp % self.dcp:
            raise ValueError(f"dcp={self.dcp} must divide tp={self.tp}")
        return self

    @property
    def devices(self) -> int:
        """Devices in one replica."""
        return self.tp * self.pp * self.dp


class EngineSettings(Frozen):
    """Scheduler and memory settings of a replica; ``None`` takes the engine's default."""

    max_num_seqs: Count | None = None
    max_num_batched_tokens: Many | None = None
    max_context_tokens: Many | None = None
    """Longest prompt plus answer admitted; ``None`` is the model's own limit."""
    engine_version: str | None = Field(default=None, pattern=VERSION_PATTERN)
    """Version whose memory accounting counts; ``None`` is the newest that the engine's record describes."""
    memory_frac: float | None = Field(default=None, gt=0, le=1)
    """Share of the memory that the engine takes; of which memory is the engine's habit."""
    kv_cache_bytes: float | None = Field(default=None, gt=0)
    """Memory for the cache of each device, stated instead of a share (vLLM ``--kv-cache-memory-bytes``)."""
    text_only: bool = False
    """Whether image and audio encoders of the checkpoint are left out (vLLM ``--language-model-only``)."""
    window_pool_ratio: float | None = Field(default=None, gt=0, le=1)
    """SGLang ``--swa-full-tokens-ratio``: tokens of the windowed layers' pool per token of the others'."""
    state_pool_ratio: float | None = Field(default=None, gt=0)
    """SGLang ``--mamba-full-memory-ratio``: bytes of recurrent states per byte of the growing cache."""
    prefix_cache: bool | None = None
    kv_blocks: Many | None = None
    """Fixed number of KV blocks instead of what fits."""
    draft_tokens: int = Field(default=0, ge=0, le=16)
    """Speculative tokens per step (MTP or draft model); 0 is off."""
    draft_acceptance_frac: float = Field(default=0.0, ge=0, lt=1)
    """Probability that each speculative token is accepted, given the one before it was."""
    draft_weight_bytes: float | None = Field(default=None, ge=0)
    """Weights of a separate draft model on each replica; ``None`` loads the model's own MTP layers where it drafts."""
    stage_layers: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Layers of each pipeline stage (vLLM ``VLLM_PP_LAYER_PARTITION``); empty cuts evenly."""
    stage_hardware: tuple[str, ...] = ()
    """Device profile of each pipeline stage where they differ. Memory is counted on each; step times are those of the
    pool's own ``hardware`` on every stage, so name the slowest there."""
    offload_layers: int = Field(default=0, ge=0)
    """Whole layers kept in host memory (llama.cpp ``-ngl`` counts the others)."""
    offload_expert_layers: int = Field(default=0, ge=0)
    """Layers whose routed experts are kept in host memory (llama.cpp ``--n-cpu-moe``)."""


class AdapterPlaces(Frozen):
    """Places on each replica's devices for the adapters (LoRA) that task classes name; a place takes KV memory."""

    rank: int = Field(default=16, ge=1, le=512)
    """Rank of the adapter matrices."""
    max_loaded: int | None = Field(default=None, ge=1, le=1024)
    """Adapters on a device at once, and in one batch; ``None`` is a place for each that the workload names."""


class Pool(Frozen):
    """Identical replicas of one model on one kind of device."""

    role: Literal["serve", "prefill", "decode", "seat"] = "serve"
    """``seat`` is one replica per user, on that user's own device."""
    model: str
    hardware: str
    weights: str = "native"
    """Weight format id, repository of an edition of the model, or ``native`` for what the checkpoint ships in."""
    kv: str = "bf16"
    engine: str = DEFAULT_ENGINE
    replicas: Count = 1
    parallelism: Parallelism = Parallelism()
    settings: EngineSettings = EngineSettings()
    adapters: AdapterPlaces = AdapterPlaces()
    """Places for the adapters that the workload's classes name; without such classes none are kept."""
    acquisition: Acquisition | None = None
    """How these devices are paid for, if not as the candidate's others."""
    on_premises: bool | None = None
    """Whether they stand in the building; ``None`` is as the candidate says."""

    @property
    def devices(self) -> int:
        """Devices in the whole pool."""
        return self.replicas * self.parallelism.devices

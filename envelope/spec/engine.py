"""Serving engines as data: overheads, memory habits and abilities, never code branches."""

from functools import cached_property
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from envelope.provenance import Sourced
from envelope.spec.memory_rules import MemoryRules, inherited, newest_first, rules_of

DEFAULT_ENGINE: Final = "vllm"
"""Id of the engine where none is named."""


class Engine(Sourced):
    """What an inference engine adds to the physics, and what can be chosen when it runs."""

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    efficiency_family: str
    """Value of ``EfficiencyCurve.engine`` whose constants it uses first (``vllm``, ``trtllm``, ``llama.cpp`` …)."""
    efficiency_fallbacks: tuple[str, ...] = ("any",)
    """Values of ``EfficiencyCurve.engine`` asked next, in order."""
    batching: Literal["continuous", "static", "single"]
    chunked_prefill: bool
    prefix_cache: bool
    reserves_answers: bool = False
    """Whether a request is admitted only where the KV cache has room for its whole answer; none is preempted then."""
    pipeline_overlap_frac: float = Field(default=1.0, ge=0, le=1)
    """Share of pipeline stages that work at once on micro-batches of a step; 0 is one stage after the other."""
    step_overhead_s: float = Field(ge=0)
    """Time of every step outside kernels that does not overlap with them."""
    sequence_overhead_s: float = Field(ge=0)
    """Time per sampled sequence and step (sampling, detokenising, bookkeeping)."""
    stream_overhead_s: float = Field(ge=0, default=0.0)
    """Part of ``sequence_overhead_s`` that sending each token to its client takes; runs that collect whole answers
    spare it."""
    request_overhead_s: float = Field(ge=0)
    """Time added to a request's TTFT outside the loop (HTTP, tokenising, queue hand-over)."""
    admission_steps: float = Field(ge=0, default=0.0)
    """Steps by which a request's first token lags behind the loop besides the rest of the running step: scheduled
    ahead of the device, handed over between processes."""
    graph_tokens: int = Field(ge=1, default=512)
    """Tokens up to which a step is replayed as one captured graph; larger steps launch kernel by kernel."""
    eager_layer_s: float = Field(ge=0, default=0.0)
    """Time that launching adds to each layer of a step beyond ``graph_tokens``."""
    kernel_scale_by_device: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Measured over predicted kernel time by id of the device profile, from ``envelope calibrate``; 1 elsewhere."""
    prefill_overhead_s: float = Field(ge=0, default=0.0)
    """Extra time of a step that holds prefill (no CUDA graph, metadata)."""
    memory: Annotated[tuple[MemoryRules, ...], BeforeValidator(inherited)] = Field(min_length=1)
    """How it accounts for device memory, from one version on each; an entry states what differs from the one before
    it. The newest counts where no version is stated."""
    kv_block_tokens: int = Field(ge=1, default=16)
    default_max_num_seqs: int = Field(ge=1)
    default_max_batched_tokens: int = Field(ge=1)
    supported_formats: tuple[str, ...] = ()
    """Weight formats that it runs; empty means every format."""
    supported_classes: tuple[str, ...] = ()
    """Device classes or vendors that it runs on; empty means all."""
    default_on: tuple[str, ...] = ()
    """Device classes on which it is taken to be the engine where a measured row names none that is known; where two
    engines claim a class the first by id is taken, and ``DEFAULT_ENGINE`` where none does."""
    splits_by: Literal["tensors", "layers"] = "tensors"
    """How it spreads a model over devices: every layer cut among them (tensor parallel), or whole layers on each
    (pipeline parallel)."""
    spills_to_host: bool = False
    """Whether it keeps layers that do not fit on the device in host memory by itself."""
    own_checkpoints: bool = False
    """Whether it runs checkpoints converted to a file format of its own (GGUF, MLX, OpenVINO IR, ONNX). The name of
    such a file tells its weight format best, and one in MXFP4 keeps no part of the model in 16 bits."""
    kv_of_narrow: str | None = None
    """Id of the KV format that it takes by itself for checkpoints below 9 bits a weight; ``None`` stays at 16 bits."""
    lighter_weights: tuple[str, ...] = ("fp8", "awq-int4")
    """Ids of the weight formats worth trying where memory or speed lacks, the widest first."""
    lighter_kv: tuple[str, ...] = ("fp8",)
    """Ids of the KV formats worth trying in place of one of 16 or more bits, the widest first."""
    sizing_kv: tuple[str, ...] = ()
    """Ids of the KV formats that sizing combines beside the deployment's own; empty keeps that alone."""
    step_tokens: tuple[int, ...] = (2048, 8192, 16_384)
    """Token limits of a step worth trying where prompts wait or answers stall, ascending; empty where it hardly
    matters."""
    note: str = ""

    @cached_property
    def _newest_first(self) -> tuple[MemoryRules, ...]:
        return newest_first(self.memory)

    def rules(self, version: str | None) -> MemoryRules:
        """Return how that version accounts for memory; the newest where ``version`` is ``None``."""
        return rules_of(self._newest_first, version)

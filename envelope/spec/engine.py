"""Serving engines as data: overheads, memory habits and abilities, never code branches."""

from typing import Annotated, Literal

from pydantic import Field

from envelope.provenance import Sourced


class Engine(Sourced):
    """What an inference engine adds to the physics."""

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
    evicts_windows: bool = True
    """Whether the KV cache drops what lies beyond the windows of windowed layers."""
    pipeline_overlap_frac: float = Field(default=1.0, ge=0, le=1)
    """Share of pipeline stages that work at once on micro-batches of a step; 0 is one stage after the other."""
    step_overhead_s: float = Field(ge=0)
    """Time of every step outside kernels that does not overlap with them."""
    sequence_overhead_s: float = Field(ge=0)
    """Time per sampled sequence and step (sampling, detokenising, bookkeeping)."""
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
    memory_frac: float = Field(gt=0, le=1)
    """Share of device memory that the engine takes for weights, activations and KV."""
    overhead_bytes: float = Field(ge=0)
    """Fixed memory per device outside that share's accounting: CUDA context, graphs, workspace."""
    kv_block_tokens: int = Field(ge=1, default=16)
    default_max_num_seqs: int = Field(ge=1)
    default_max_batched_tokens: int = Field(ge=1)
    supported_formats: tuple[str, ...] = ()
    """Weight formats that it runs; empty means every format."""
    supported_classes: tuple[str, ...] = ()
    """Device classes or vendors that it runs on; empty means all."""
    note: str = ""

"""One engine start as its log tells it: settings, and what stood in the memory of a device."""

from pydantic import Field

from envelope.provenance import Frozen
from envelope.spec.engine import DEFAULT_ENGINE


class StartupLog(Frozen):
    """What one start printed; figures that the text does not give are ``None``. All per device, GiB are 2^30 bytes."""

    url: str
    """Address of the log, or the id of the file that holds it."""
    model: str
    hardware: str
    weights: str = "native"
    kv: str | None = None
    """``None`` is what the engine takes by default: 16 bits."""
    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    dcp: int = 1
    engine: str = DEFAULT_ENGINE
    engine_version: str | None = None
    """As the log says; ``None`` may follow from the number of the thread (``names.yaml``)."""
    memory_frac: float | None = None
    max_context_tokens: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    draft_tokens: int = 0
    text_only: bool = False
    total_gib: float | None = None
    """Memory of the device as the engine sees it."""
    weights_gib: float | None = None
    host_weights_mib: float | None = None
    act_gib: float | None = None
    """Peak of activations."""
    nontorch_gib: float | None = None
    graph_gib: float | None = None
    compute_mib: float | None = None
    """Compute buffers (llama.cpp)."""
    kv_gib: float | None = None
    """Left for the cache."""
    kv_gib_signed: float | None = None
    """The same where it was negative and the engine did not start."""
    kv_tokens: float | None = None
    max_concurrency: float | None = None
    """Sequences of the longest context."""
    kv_bytes_per_token: float | None = None
    """Of one sequence over one device."""
    kv_seq_mib: float | None = None
    """Cache of the whole context, all slots of llama.cpp together."""
    kv_total_mib: float | None = None
    kv_window_mib: float | None = None
    """Of it, windows."""
    rs_mib: float | None = None
    """Of it, recurrent states."""
    needed_gib: float | None = None
    """Cache that the engine counts for one sequence of ``needed_tokens``."""
    needed_tokens: int | None = None
    needed_gib_for_30000: float | None = None
    """As above, for 30,000 tokens."""
    max_len_tokens: int | None = None
    """Longest context that the engine says would fit into ``kv_gib``."""
    fits: bool | None = None
    """Whether it started."""
    score_only: str = ""
    """Fields that the text supports, comma-separated; empty is all."""
    skip: bool = False
    """Whether nothing can be scored: model or settings are in doubt."""
    log: str = ""
    """Name of the log within its address."""
    note: str = Field(default="", repr=False)
    """What was judged."""

    def gives(self, field: str) -> bool:
        """Return whether the log gives a figure that may be scored."""
        allowed = {name.strip() for name in self.score_only.split(",") if name.strip()}
        return getattr(self, field) is not None and (not allowed or field in allowed)

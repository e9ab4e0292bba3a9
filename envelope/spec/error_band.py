"""Error bands: how far predictions of a class were off when they were scored against measurements."""

from typing import Literal

from pydantic import Field

from envelope.provenance import Frozen, Sourced

BandQuantity = Literal[
    "decode", "prefill", "ttft", "e2e", "throughput", "power", "energy", "weights", "kv_memory", "concurrency"
]
"""What is predicted: time or rate of decoding, of prefill, time to first token under load, request latency, system
throughput, watts, joules per token; of memory, weights, what is left for the cache, and the tokens or sequences that it
holds."""

Architecture = Literal["dense", "moe", "window", "hybrid", "latent", "any"]
"""Kind of a model: of its network for speed, of its cache for memory."""


class ScoredRange(Frozen):
    """Which settings the rows behind a band had."""

    formats: tuple[str, ...] = ()
    """Ids of weight formats."""
    architectures: tuple[str, ...] = ()
    """Architectures of devices."""
    max_batch_per_device: float | None = None
    max_input_tokens: float | None = None


class ErrorBand(Sourced):
    """Errors of one predicted quantity on one class of devices and models."""

    id: str
    quantity: BandQuantity
    device_class: str
    """``HardwareProfile.device_class``, or ``any``."""
    architecture: Architecture
    n: int = Field(ge=1)
    """Measured rows behind it."""
    median_ape_frac: float = Field(ge=0)
    """Half of the rows were predicted within this fraction."""
    p90_ape_frac: float = Field(ge=0)
    """Nine of ten rows were predicted within this fraction."""
    worst_ape_frac: float | None = Field(default=None, ge=0)
    """The row that was furthest off."""
    scored: ScoredRange = ScoredRange()
    bias_frac: float
    """Median of predicted/measured − 1; positive means too much."""


class Band(Frozen):
    """How far such predictions were off when they were scored against measurements."""

    median_error_frac: float
    """Half of the scored rows lie within this fraction."""
    p90_error_frac: float
    """Nine of ten rows lie within this fraction."""
    rows: int
    """Measured rows behind it."""
    scored_on: str
    """Class of devices and models of those rows, or the figures from which it follows."""
    outside: tuple[str, ...] = ()
    """What of the question no scored row had: the band is then the wider one of what was furthest off."""


def find_band(quantity: BandQuantity, device_class: str, architecture: str) -> ErrorBand | None:
    """Return the band of a class, or the narrowest wider one that exists: any architecture, any device, anything.

    ``None`` means that nobody has scored this quantity.
    """
    from envelope.spec.load import load_all

    known = {(b.quantity, b.device_class, b.architecture): b for b in load_all(ErrorBand, "error_bands")}
    wider = ((device_class, architecture), (device_class, "any"), ("any", architecture), ("any", "any"))
    return next((known[key] for place in wider if (key := (quantity, *place)) in known), None)

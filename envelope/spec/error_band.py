"""Error bands: how far predictions of a class were off when they were scored against measurements."""

from typing import Literal

from pydantic import Field

from envelope.provenance import Sourced

BandQuantity = Literal["decode", "prefill", "ttft", "e2e", "throughput", "power", "energy"]
"""What is predicted: time or rate of decoding, of prefill, time to first token under load, request latency, system
throughput, watts, joules per token."""


class ErrorBand(Sourced):
    """Errors of one predicted quantity on one class of devices and models."""

    id: str
    quantity: BandQuantity
    device_class: str
    """``HardwareProfile.device_class``, or ``any``."""
    architecture: Literal["dense", "moe", "any"]
    n: int = Field(ge=1)
    """Measured rows behind it."""
    median_ape_frac: float = Field(ge=0)
    """Half of the rows were predicted within this fraction."""
    p90_ape_frac: float = Field(ge=0)
    """Nine of ten rows were predicted within this fraction."""
    bias_frac: float
    """Median of predicted/measured − 1; positive means too much."""

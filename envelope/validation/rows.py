"""Measured rows: one published or logged measurement in SI units, whatever file it came from."""

from typing import Any, Literal

from pydantic import Field

from envelope.provenance import Frozen
from envelope.spec.engine import DEFAULT_ENGINE
from envelope.validation.startup.log import StartupLog

Quantity = Literal[
    "decode_rate", "prefill_rate", "itl", "tpot", "ttft", "ttft_unloaded", "e2e", "request_latency",
    "saturated_throughput", "serving_throughput", "per_user_rate", "power_gpu", "power_wall",
    "energy_per_token", "power_efficiency", "request_throughput", "concurrency_capacity",
]  # fmt: skip
"""What a row measured. Rates are tokens/s, times seconds, power watts, energy J per output token;
``power_efficiency`` is tokens/s per watt of provisioned utility power, ``request_throughput`` requests/s,
``concurrency_capacity`` requests served at once."""

Load = Literal[
    "single", "batch", "closed_loop", "steady", "open_loop", "saturated", "slo", "phase", "production", "replay"
]
"""How the system was loaded: one request at a time, one static batch, a fixed number in flight from an initial
burst (``closed_loop``) or in steady state (``steady``), a request rate, an offline queue, the highest rate
within latency limits, one phase alone at full load, a production fleet, or a recorded run."""

Statistic = Literal["mean", "median", "p90", "p99", "peak"]


class Stage(Frozen):
    """Part of an open-loop run at one nominal request rate."""

    rate_per_s: float = Field(gt=0)
    duration_s: float = Field(gt=0)


class MeasuredRow(Frozen):
    """One measurement with the setting under which it was taken; unknown settings are ``None``."""

    id: str
    collection: str
    """Family of rows that share a method, such as ``published/mlperf`` or ``datacenter/inferencex``."""
    quantity: Quantity
    value: float = Field(gt=0)
    """Measured value in SI (tokens/s, s, W, J/token)."""
    scale: float = 1.0
    """SI → the unit of the source: value in the source = ``value``·``scale``."""
    unit: str = ""
    """Unit as the source words it."""
    statistic: Statistic = "mean"
    per: Literal["system", "gpu", "node", "request", "watt"] = "system"
    counts_input: bool = False
    """Whether a throughput counts prompt tokens as well."""
    device: str
    """Device as the source names it."""
    device_count: int = Field(default=1, ge=1)
    model: str
    """Model as the source names it."""
    weights: str | None = None
    """Weight format as the source names it; ``None`` is the checkpoint's own."""
    kv: str | None = None
    engine: str = DEFAULT_ENGINE
    engine_version: str = ""
    tp: int | None = None
    pp: int | None = None
    ep: int | None = None
    dp: int | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    output_counted_tokens: float | None = None
    """Tokens that the client counted, where they differ from those that the engine generated."""
    depth_tokens: float = 0.0
    """Context already in the cache before the measured tokens."""
    length_spread_frac: float = 0.0
    """Lengths are uniform between (1 − spread)·nominal and nominal."""
    batch: float | None = None
    """Requests in flight: batch, concurrency, or its measured mean."""
    load: Load
    rate_per_s: float | None = None
    prompts_per_slot: float = 10.0
    """``closed_loop``: requests sent, in multiples of the concurrency."""
    requests: int | None = None
    """``saturated``: requests of the run, all queued at its start; ``None`` is so many that the ends do not matter."""
    memory_frac: float | None = None
    """Share of the device memory that the run let its engine take."""
    stages: tuple[Stage, ...] = ()
    stage: int | None = None
    """Stage that the value belongs to; ``None`` is the whole run."""
    trace: str | None = None
    """Key of recorded requests in the file beside the rows."""
    distinct_prompts: int | None = None
    """Prompts that the client cycles through (prefix cache!)."""
    dataset: str | None = None
    """Key of ``datasets.yaml`` that supplies lengths and latency limits which the row does not state."""
    prefix_cache: bool = False
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    kv_blocks: int | None = None
    draft_tokens: int = 0
    draft_acceptance_frac: float = 0.0
    lag_steps: float = 0.0
    """Steps by which settings of the run hold the first token back (polling, streaming in groups)."""
    in_process: bool = False
    """Whether the engine was called inside the benchmark, without server and network."""
    front_end_s: float = 0.0
    """Time that a front end before the engine adds to the first token."""
    ttft_limit_s: float | None = Field(default=None, gt=0)
    """Largest 99th percentile of the TTFT under which the row was measured; ``None`` where it states none."""
    tpot_limit_s: float | None = Field(default=None, gt=0)
    threads: int | None = None
    overloaded: bool = False
    """Whether the run failed requests or queued without bound, so that times measure the client's patience."""
    notes: str = ""
    peers: dict[str, float] = Field(default_factory=dict)
    """Other predictors' values for this row, SI."""
    source: str = ""
    date: str = ""


class RowSet(Frozen):
    """The rows of one file, with those that could not be understood."""

    rows: tuple[MeasuredRow, ...]
    rejected: tuple[tuple[str, str], ...] = ()
    """Row id and reason; they count against coverage."""
    logs: tuple[StartupLog, ...] = ()
    """Start-up logs, which measure memory."""
    requests_path: str | None = None
    """File of recorded requests that ``MeasuredRow.trace`` refers to."""


def number(value: Any) -> float | None:
    """Return a field as a float, or ``None`` if it is absent, empty or not a number."""
    if value is None or isinstance(value, bool) or value == "":
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if found == found and abs(found) != float("inf") else None


def whole(value: Any) -> int | None:
    """Return a field as an integer of at least 1, or ``None``."""
    found = number(value)
    return round(found) if found is not None and found >= 1 else None

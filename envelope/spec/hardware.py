"""Hardware profiles: devices and whole servers, with memory domains, links, peaks, power and price."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from envelope.display import Displayed
from envelope.provenance import DateText, Evidence, Frozen, Sourced

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]

DeviceClass = Literal["datacenter_gpu", "workstation_gpu", "consumer_gpu", "unified", "cpu", "edge"]


class MemoryDomain(Frozen):
    """One memory that the device reads: HBM, GDDR, unified LPDDR, host DRAM."""

    name: str
    """``device`` for the memory that weights and KV live in by default; ``host`` for memory behind a link."""
    kind: str
    """HBM3, GDDR7, LPDDR5X, DDR5 …"""
    capacity_bytes: Positive
    bandwidth_bytes_per_s: Positive
    """Peak read bandwidth by the datasheet."""
    unified: bool = False
    """Whether the operating system and other programs share it."""
    usable_frac: Fraction = 1.0
    """Share of the capacity that a model may use (unified memory keeps some for the system)."""


class Link(Frozen):
    """A connection of the device to its peers, its host or the network."""

    kind: Literal["nvlink", "infinity_fabric", "pcie", "c2c", "network", "other"]
    bandwidth_bytes_per_s: Positive
    """Per direction and device."""
    latency_s: NonNegative = 0.0
    peers: int | None = Field(default=None, ge=1)
    """Devices that it joins (8 in an NVLink node, 72 in a rack), if known."""
    note: str = ""


class Power(Frozen):
    """Electrical power of one device at its own input."""

    max_w: Positive
    """Board or package limit (TDP)."""
    idle_w: NonNegative
    evidence_idle: Evidence = Evidence.ASSUMED


class Price(Frozen):
    """What one unit costs to buy."""

    usd: Positive
    kind: Literal["list", "street", "msrp", "quote", "derived"] = "street"
    date: DateText
    low_usd: Positive | None = None
    high_usd: Positive | None = None
    note: str = ""


class EfficiencyCurve(Frozen):
    """Constants of one operator class on one device, number format and engine family.

    ``form`` names the formula in ``envelope.perf`` that reads ``constants``; times are seconds.
    """

    op: Literal["gemm", "decode_attention", "prefill_attention", "moe", "all_reduce", "elementwise", "power", "table"]
    """``table`` holds the measured points themselves (``envelope.perf.cpu_probe``), whatever the operator."""
    number_format: str
    """Compute key (``bf16``, ``fp8``, ``fp8_block``, ``nvfp4`` …) or ``any``."""
    engine: str = "any"
    """Engine id that the constants were measured with, or ``any``."""
    form: str
    constants: dict[str, float]
    peak: str | None = None
    """Key of ``peak_flop_per_s`` that ``eff_c`` is a share of; ``None`` is the format's own compute key."""
    error_median_frac: float | None = Field(default=None, ge=0)
    """Median absolute percentage error of the fit on the rows it was made from (a fraction)."""
    rows: int | None = Field(default=None, ge=0)
    spread_frac: float | None = Field(default=None, ge=0)
    """Median over the rows of (median − best) / best time of the repeats; how noisy the machine was."""
    evidence: Evidence
    source: str
    date: DateText


class Storage(Frozen):
    """Sequential read of large files, which bounds how fast weights load."""

    cold_read_bytes_per_s: Positive
    """From the device, nothing of the file in the page cache."""
    warm_read_bytes_per_s: Positive
    """From the page cache."""
    spread_frac: NonNegative = 0.0
    """(median − best) / best time of the repeats."""
    note: str = ""


class Conditions(Frozen):
    """What a probe ran under; a reader judges by it whether the numbers are those of a quiet machine."""

    date: DateText
    mode: Literal["quick", "full", "custom"]
    complete: bool
    """False if the probe was interrupted and some sensors are missing."""
    cores_allowed: Positive
    """CPU cores that the limits leave to the process; may be a fraction."""
    cores_limited_by: Literal["machine", "affinity", "cgroup v1", "cgroup v2"]
    cores_online: int = Field(ge=1)
    memory_limit_bytes: Positive
    """Smallest of the machine's memory and the cgroup limits."""
    load_1min: NonNegative | None = None
    foreign_cpu_frac: NonNegative | None = None
    """Share of the machine's CPU time that other processes used while the probe ran."""
    steal_cpu_frac: NonNegative | None = None
    """Share of the CPU time that the hypervisor gave to others."""
    memory_swing_frac: NonNegative | None = None
    """How far the memory's read rate moved while the probe ran, (90th − 10th percentile) / median: neighbours on the
    same host show here and not in the shares of CPU time."""
    clock_hz: Positive | None = None
    temperature_c: float | None = None
    blas: str = ""
    """BLAS library of numpy and the core architecture that it chose."""
    versions: dict[str, str] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    """What made a number doubtful, and sensors that are not readable here."""


class HardwareProfile(Sourced, Displayed):
    """A device: what a model runs on."""

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    vendor: str
    device_class: DeviceClass
    architecture: str
    """Family whose measured efficiency a profile without measurements inherits: hopper, ampere, cdna3, apple …"""
    release: DateText | None = None
    memory: tuple[MemoryDomain, ...] = Field(min_length=1)
    links: tuple[Link, ...] = ()
    peak_flop_per_s: dict[str, Positive]
    """Dense peak by compute format (fp32, bf16, fp16, fp8, int8, nvfp4 …), FP32 accumulation."""
    units: int | None = Field(default=None, ge=1)
    """Streaming multiprocessors, compute units, GPU cores or CPU cores."""
    cache_bytes: NonNegative | None = None
    """Last-level cache."""
    power: Power
    price: Price | None = None
    efficiency: tuple[EfficiencyCurve, ...] = ()
    storage: Storage | None = None
    conditions: Conditions | None = None
    """Set in profiles that ``envelope probe`` wrote."""
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return self.model_dump(mode="json")

    @model_validator(mode="after")
    def _has_device_memory(self) -> Self:
        if self.memory[0].name != "device":
            raise ValueError("the first memory domain must be named 'device'")
        return self

    @property
    def device_memory(self) -> MemoryDomain:
        """The memory that weights and KV live in by default."""
        return self.memory[0]

    def link(self, *kinds: str) -> Link | None:
        """Return the first link of one of the kinds, or ``None``."""
        return next((link for link in self.links if link.kind in kinds), None)


class ServerProfile(Sourced):
    """A whole server: several devices with their host, as bought or rented."""

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    device: str
    """Id of the device profile inside."""
    device_count: int = Field(ge=1)
    power_max_w: Positive
    power_idle_w: NonNegative | None = None
    power_typical_w: Positive | None = None
    """Draw under sustained load, where measured or published."""
    rack_units: NonNegative | None = None
    liquid_cooled: bool = False
    """Whether it needs a liquid loop at the site."""
    host_memory_bytes: NonNegative | None = None
    cpu: str = ""
    network: str = ""
    price: Price | None = None
    note: str = ""

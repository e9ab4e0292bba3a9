"""The resolved records of one replica: model, device, engine, formats, parallelism, settings."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from envelope.errors import InputError, Problem
from envelope.perf.comms import Fabric, fabric
from envelope.perf.efficiency import unmeasured
from envelope.perf.work import part_format
from envelope.spec.deployment import EngineSettings, Parallelism, Pool
from envelope.spec.editions import shares_of, weights_named
from envelope.spec.engine import DEFAULT_ENGINE, Engine
from envelope.spec.folders import generation
from envelope.spec.hardware import HardwareProfile, MemoryDomain, ServerProfile
from envelope.spec.load import load, load_all
from envelope.spec.memory_rules import MemoryRules
from envelope.spec.model import Model
from envelope.spec.number_format import NumberFormat

WHERE = "arguments"
"""What errors name as the file when a replica is resolved from function arguments."""

MOST_PER_STEP = 100_000
"""Most tokens or sequences of one step that tables are made for."""
WHOLE_STEP_TOKENS = 2048
"""Least tokens of a step that holds whole prompts (vLLM before chunked prefill)."""
LEAST_FRAC = 0.05
"""Share of the memory below which no computed fraction falls."""


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """One replica with every name resolved to its record."""

    model: Model
    hardware: HardwareProfile
    engine: Engine
    weights: NumberFormat | None
    """Format of all quantisable tensors; ``None`` is the format that the checkpoint ships in, part by part."""
    kv: NumberFormat
    formats: Mapping[str, NumberFormat]
    parallelism: Parallelism = Parallelism()
    settings: EngineSettings = EngineSettings()
    server: ServerProfile | None = None
    expert_skew: float = 0.0
    """Exponent of the experts' popularity, rank^(−skew); 0 is uniform routing."""
    stage_hardware: tuple[HardwareProfile, ...] = ()
    """Devices of the pipeline stages where they differ."""

    @property
    def max_num_seqs(self) -> int:
        """Sequences that one step may hold; by default the engine's for each data-parallel rank."""
        default, ranks = self.default_limits[0], self.parallelism.dp
        return self.settings.max_num_seqs or min(default * ranks, MOST_PER_STEP)

    @property
    def max_num_batched_tokens(self) -> int:
        """Tokens that one step may hold, as ``max_num_seqs``; never fewer than one step of every sequence."""
        default = min(self.default_limits[1] * self.parallelism.dp, MOST_PER_STEP)
        wanted = self.settings.max_num_batched_tokens or default
        return max(wanted, self.max_num_seqs * self.query_tokens)

    @property
    def default_limits(self) -> tuple[int, int]:
        """Sequences and tokens of a step that the engine takes by default on a device of this size."""
        capacity, name = self.hardware.device_memory.capacity_bytes, self.hardware.id
        for limits in self.rules.limits:
            if capacity >= limits.min_capacity_bytes and not any(word in name for word in limits.except_devices):
                return limits.max_num_seqs, limits.max_num_batched_tokens
        return self.engine.default_max_num_seqs, self.engine.default_max_batched_tokens

    @property
    def rules(self) -> MemoryRules:
        """How the engine, in the stated version, accounts for memory."""
        return self.engine.rules(self.settings.engine_version)

    @property
    def longest_tokens(self) -> int:
        """Longest context that is admitted: as set, or the model's own limit."""
        return self.settings.max_context_tokens or self.model.max_context_tokens

    @property
    def rank_seqs(self) -> int:
        """Sequences that one step of one data-parallel rank may hold."""
        return max(self.max_num_seqs // self.parallelism.dp, 1)

    @property
    def step_tokens(self) -> int:
        """Tokens for which one data-parallel rank makes room in a step."""
        until = self.rules.whole_context_until_tokens
        if until and self.settings.max_num_batched_tokens is None:
            return max(self.longest_tokens, WHOLE_STEP_TOKENS) if self.longest_tokens <= until else WHOLE_STEP_TOKENS
        return max(self.max_num_batched_tokens // self.parallelism.dp, 1)

    @property
    def memory_frac(self) -> float:
        """The engine's memory fraction: as set, as the engine computes it, or its default."""
        return self.settings.memory_frac or _auto_frac(self)

    @property
    def query_tokens(self) -> int:
        """Tokens of one decoding sequence in one step: 1, or 1 + draft tokens."""
        return 1 + self.settings.draft_tokens

    @property
    def tokens_per_step(self) -> float:
        """Expected progress of a decoding sequence in one step, 1 + a + a² + … over the draft tokens.

        Leviathan, Kalman, Matias: Fast Inference from Transformers via Speculative Decoding (ICML 2023), eq. 1.
        """
        accept = self.settings.draft_acceptance_frac
        return sum(accept**i for i in range(self.query_tokens))

    @property
    def host_memory(self) -> MemoryDomain | None:
        """Memory behind the device's link, if the profile knows one."""
        return next((d for d in self.hardware.memory[1:] if d.name == "host"), None)

    @property
    def fabric(self) -> Fabric:
        """Links that join the devices of this replica."""
        return fabric(self.hardware, self.server.device_count if self.server else None)

    def format_of(self, part: str) -> NumberFormat:
        """Return the number format of a tensor class, of its larger part where a checkpoint mixes several."""
        return part_format(self.model, part, self.weights or "native", self.formats)

    def formats_of(self, part: str, projection: str = "") -> list[tuple[NumberFormat, float]]:
        """Return the number formats of a tensor class, or of one of its projections, with the share of each."""
        shares = shares_of(self.model, part, self.weights or "native", self.formats, projection=projection)
        return [(self.formats[name], share) for name, share in shares.items()]

    @property
    def key(self) -> tuple[object, ...]:
        """Identity of the resolved records, for caches that keep the records alive."""
        return (
            id(self.model), id(self.hardware), id(self.engine), id(self.weights), id(self.kv), self.parallelism,
            self.settings, id(self.server), self.expert_skew, tuple(map(id, self.stage_hardware)),
        )  # fmt: skip


def _auto_frac(replica: ReplicaSpec) -> float:
    """Return the default memory fraction: a constant, or what an estimate of activations and graphs leaves."""
    rule, capacity = replica.rules.auto_frac, replica.hardware.device_memory.capacity_bytes
    if rule is None:
        return replica.rules.frac
    par = replica.parallelism
    reserved = rule.reserved_bytes + rule.bytes_per_batched_token * replica.step_tokens
    reserved += rule.bytes_per_rank * par.tp * par.pp
    if capacity >= rule.least_from_bytes:
        reserved = max(reserved, rule.least_bytes)
    return max((capacity - reserved) / capacity, LEAST_FRAC)


@cache
def _formats_of(_generation: int) -> dict[str, NumberFormat]:
    return {record.id: record for record in load_all(NumberFormat, "formats")}


def all_formats() -> Mapping[str, NumberFormat]:
    """Return every number format by id."""
    return _formats_of(generation())


def resolve(
    *,
    model: str | Model,
    hardware: str | HardwareProfile,
    engine: str | Engine = DEFAULT_ENGINE,
    weights: str = "native",
    kv: str = "bf16",
    parallelism: Parallelism | None = None,
    settings: EngineSettings | None = None,
    server: str | None = None,
    expert_skew: float = 0.0,
    file: str = WHERE,
) -> ReplicaSpec:
    """Return the replica that these names (or records) describe.

    Raises ``InputError`` for an unknown name, with the nearest ones, for weights that this model does not come in
    (``spec.editions.weights_named``), and for a profile whose probe was interrupted
    before it measured what this replica needs. ``file`` says where the names stand.
    """
    if isinstance(model, str):
        model = load(Model, "models", model, file=file, path="model")
    if isinstance(hardware, str):
        hardware = load(HardwareProfile, "hardware_profiles", hardware, file=file, path="hardware")
    if isinstance(engine, str):
        engine = load(Engine, "engines", engine, file=file, path="engine")
    model, number_format = weights_named(model, weights, file=file, path="weights")
    replica = ReplicaSpec(
        model=model,
        hardware=hardware,
        engine=engine,
        weights=number_format,
        kv=load(NumberFormat, "formats", kv, file=file, path="kv"),
        formats=all_formats(),
        parallelism=parallelism or Parallelism(),
        settings=settings or EngineSettings(),
        server=load(ServerProfile, "servers", server, file=file, path="server") if server else None,
        expert_skew=expert_skew,
    )
    _check_measured(replica, file)
    return _with_stages(replica, file)


def _with_stages(replica: ReplicaSpec, file: str) -> ReplicaSpec:
    """Return the replica with the devices of its stages. Raises ``InputError`` where stages and layers do not match."""
    settings, pp, layers = replica.settings, replica.parallelism.pp, replica.model.layers
    problems: list[Problem] = []
    for name, given in (("stage_layers", settings.stage_layers), ("stage_hardware", settings.stage_hardware)):
        if given and len(given) != pp:
            shown = ", ".join(str(x) for x in given)
            problems.append(Problem(file, f"settings.{name}", shown, f"names {len(given)} stages, pp is {pp}"))
    if settings.stage_layers and sum(settings.stage_layers) != layers:
        shown = ", ".join(map(str, settings.stage_layers))
        rule = f"must add up to the model's {layers} layers, not {sum(settings.stage_layers)}"
        problems.append(Problem(file, "settings.stage_layers", shown, rule))
    if problems:
        raise InputError(problems)
    if not settings.stage_hardware:
        return replica
    found = (
        load(HardwareProfile, "hardware_profiles", name, file=file, path="settings.stage_hardware")
        for name in settings.stage_hardware
    )
    return replace(replica, stage_hardware=tuple(found))


def _check_measured(replica: ReplicaSpec, file: str) -> None:
    """Raise ``InputError`` if the probe of the device was interrupted before it reached what is needed."""
    norm, kv, model = replica.format_of("norm"), replica.kv, replica.model
    needs = [("gemm", replica.format_of("attention"))]
    needs += [("gemm", replica.format_of("dense_ffn"))] if model.dense_ffn else []
    needs += [("moe", replica.format_of("routed_experts"))] if model.moe else []
    needs += [("decode_attention", kv), ("prefill_attention", kv), ("elementwise", norm)]
    missing = unmeasured(replica.hardware, replica.engine, needs)
    if missing:
        rule = f"its probe was interrupted before it measured {', '.join(missing)}"
        raise InputError(Problem(file, "hardware", replica.hardware.id, rule, "run envelope probe again"))


def from_pool(pool: Pool, *, server: str | None = None, file: str = WHERE) -> ReplicaSpec:
    """Return one replica of a pool."""
    return resolve(
        model=pool.model,
        hardware=pool.hardware,
        engine=pool.engine,
        weights=pool.weights,
        kv=pool.kv,
        parallelism=pool.parallelism,
        settings=pool.settings,
        server=server,
        file=file,
    )

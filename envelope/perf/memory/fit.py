"""What a replica needs of each memory, how many KV blocks are left, and how many sequences they hold."""

from dataclasses import dataclass, field
from functools import lru_cache

from envelope.perf.memory.cache import CachePlan, cache_plan
from envelope.perf.memory.weights import StageWeights, stage_weights
from envelope.perf.memory.working_set import working_set
from envelope.perf.replica import ReplicaSpec
from envelope.units import GB

MOST_SLOTS = 2**31
"""Stands for no limit."""


@dataclass(frozen=True, slots=True)
class DomainFit:
    """Use of one memory domain of one device, in bytes."""

    name: str
    capacity_bytes: float
    budget_bytes: float
    """Part of the capacity that the engine may use."""
    weights_bytes: float
    activations_bytes: float
    overhead_bytes: float
    """Driver context, libraries, communicators and captured graphs, as far as they count against the budget."""
    kv_bytes: float
    """Left for the KV cache (0 if nothing is left)."""
    outside_bytes: float = 0.0
    """Of what counts against no budget: activations and graphs where the engine keeps them beside it."""

    @property
    def needed_bytes(self) -> float:
        """Weights, activations and overhead: what stands there before a single token is cached."""
        return self.weights_bytes + self.activations_bytes + self.overhead_bytes

    @property
    def shortfall_bytes(self) -> float:
        """By how much that exceeds the budget; 0 if it fits."""
        return max(self.needed_bytes - self.budget_bytes, 0.0)


@dataclass(frozen=True, slots=True)
class MemoryFit:
    """Whether a replica fits, domain by domain, and what the KV cache holds."""

    domains: tuple[DomainFit, ...]
    plan: CachePlan
    kv_blocks: int
    """Blocks of the whole replica, that is of every data-parallel rank together."""
    replica: ReplicaSpec

    @property
    def kv_block_tokens(self) -> int:
        """Tokens that a growing sequence takes at a time."""
        return self.plan.block_tokens

    @property
    def kv_bytes_per_token(self) -> float:
        """Growth of a long sequence's cache per context token, on each device that holds a part of it."""
        return self.plan.block_bytes / self.plan.block_tokens

    @property
    def fixed_blocks(self) -> int:
        """Blocks that a long sequence takes whatever its length: full windows and recurrent state."""
        if self.plan.block_bytes <= 0:
            return 0
        return round(self.plan.fixed_bytes / self.plan.block_bytes)

    @property
    def state_slots(self) -> int:
        """Sequences of one data-parallel rank for which recurrent states are kept; very many where nothing limits."""
        slots = self.plan.state_slots(self.cache_bytes)
        return MOST_SLOTS if slots is None else max(slots, 1)

    @property
    def fits(self) -> bool:
        """Whether the weights fit and at least one KV block is left."""
        return self.kv_blocks > 0 and all(d.shortfall_bytes == 0 for d in self.domains)

    @property
    def cache_bytes(self) -> float:
        """What the cache of one device has for sequences."""
        if self.replica.settings.kv_blocks is not None:
            return self.kv_blocks / self.replica.parallelism.dp * self.plan.block_bytes
        return max(self.domains[0].kv_bytes - self.plan.pool_bytes, 0.0)

    def sequence_bytes(self, context_tokens: float) -> float:
        """Return what one decoding sequence of this context holds on each device of its rank."""
        return self.plan.held_bytes(context_tokens)

    def max_concurrency(self, context_tokens: float) -> int:
        """Return how many sequences of ``context_tokens`` the KV cache holds at once while they decode."""
        if not self.fits:
            return 0
        held = self.cache_bytes / max(self.plan.held_bytes(context_tokens), 1e-9)
        return min(int(held + 1e-9), self.state_slots) * self.replica.parallelism.dp

    def admitted_concurrency(self, context_tokens: float) -> float:
        """Return the sequences of ``context_tokens`` that the engine counts at start-up, for one data-parallel rank.

        vLLM prints it as *maximum concurrency*; windows count with the tokens of a step in flight, so that steady
        decoding holds more.
        """
        return self.cache_bytes / max(self.plan.admitted_bytes(context_tokens), 1e-9)

    @property
    def printed_tokens(self) -> float:
        """Tokens of the cache as the engine prints them at start-up, for one data-parallel rank."""
        return self.plan.printed_tokens(self.cache_bytes, self.replica.longest_tokens)

    def longest_context(self, limit_tokens: int) -> int:
        """Return the longest context up to ``limit_tokens`` of which the engine admits one sequence."""
        if self.plan.admitted_bytes(limit_tokens) <= self.cache_bytes:
            return limit_tokens
        low, high = 0, limit_tokens
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.plan.admitted_bytes(middle) <= self.cache_bytes else (low, middle - 1)
        return low

    @property
    def equation(self) -> str:
        """The budget of the device in words and numbers."""
        return _equation(self)


def fit(replica: ReplicaSpec) -> MemoryFit:
    """Return the memory fit of one replica, per device, of its fullest pipeline stage.

    All experts are resident unless offloaded. KV heads are split over tensor-parallel devices down to one each;
    latent caches are replicated on them. How the engine's fraction counts, and what lives beside it, are its
    ``MemoryRules``.
    """
    return _fit(_Asked(replica.key, replica))


@dataclass(frozen=True, slots=True)
class _Asked:
    """A replica, equal to another of the same records."""

    key: tuple[object, ...]
    replica: ReplicaSpec = field(compare=False)


@lru_cache(maxsize=512)
def _fit(asked: _Asked) -> MemoryFit:
    replica = asked.replica
    stages = [_device(replica, stage) for stage in stage_weights(replica)]
    # the fullest stage has the least room for the cache of its own layers
    device, stage = min(stages, key=lambda found: (found[0].kv_bytes - found[0].shortfall_bytes) / found[1].layers_frac)
    plan = cache_plan(replica, stage.layers_frac)
    fixed, left = replica.settings.kv_blocks, max(device.kv_bytes - plan.pool_bytes, 0.0)
    blocks = fixed or int(left / max(plan.block_bytes, 1e-9)) * replica.parallelism.dp
    domains = [device]
    if stage.host_bytes > 0 or replica.host_memory is not None:
        domains.append(_host_domain(replica, stage.host_bytes))
    return MemoryFit(tuple(domains), plan, blocks, replica)


def _device(replica: ReplicaSpec, stage: StageWeights) -> tuple[DomainFit, StageWeights]:
    """Return the budget of a device of one stage: the engine's fraction of its memory, and what counts against it."""
    rules, memory = replica.rules, stage.hardware.device_memory
    capacity = memory.capacity_bytes * memory.usable_frac
    used = working_set(replica, last_stage=stage.last)
    activations = used.activations_bytes if rules.working_set_inside else 0.0
    graphs = used.graphs_bytes if rules.graphs_inside else 0.0
    frac = replica.memory_frac
    match rules.frac_of:
        case "total":
            budget, overhead = capacity * frac, used.context_bytes + graphs
        case "free_before_load":
            budget, overhead = (capacity - used.context_bytes) * frac, graphs
        case _:
            # the rest is left free, so it counts against nothing else
            needs = stage.device_bytes + activations + used.context_bytes + graphs
            budget, overhead = needs + (capacity - needs) * frac if capacity > needs else capacity, used.context_bytes
            overhead += graphs
    outside = used.activations_bytes - activations + used.graphs_bytes - graphs
    left = max(budget - stage.device_bytes - activations - overhead, 0.0)
    if replica.settings.kv_cache_bytes is not None:
        left = min(replica.settings.kv_cache_bytes, max(capacity - stage.device_bytes - activations - overhead, 0.0))
        budget = stage.device_bytes + activations + overhead + left
    return (
        DomainFit("device", memory.capacity_bytes, budget, stage.device_bytes, activations, overhead, left, outside),
        stage,
    )


def _host_domain(replica: ReplicaSpec, weights: float) -> DomainFit:
    host = replica.host_memory
    server = replica.server
    capacity = host.capacity_bytes if host else 0.0
    if server and server.host_memory_bytes:
        capacity = server.host_memory_bytes / server.device_count
    usable = capacity * (host.usable_frac if host else 1.0)
    return DomainFit("host", capacity, usable, weights, 0.0, 0.0, 0.0)


_OF = {"total": "", "free_before_load": " of what is free before loading", "free_after_load": " of what loading leaves"}


def _equation(found: MemoryFit) -> str:
    d, replica = found.domains[0], found.replica
    gb = [f"{x / GB:.2f}" for x in (d.capacity_bytes, d.weights_bytes, d.activations_bytes, d.overhead_bytes)]
    usable = replica.hardware.device_memory.usable_frac
    share = f" × {usable:.2f} usable" if usable < 1 else ""
    activations = f" − activations {gb[2]}" if d.activations_bytes else ""
    each = found.kv_bytes_per_token
    return (
        f"KV = {gb[0]} GB{share} × {replica.memory_frac:.2f}{_OF[replica.rules.frac_of]} − weights {gb[1]}{activations}"
        f" − overhead {gb[3]} = {d.kv_bytes / GB:.2f} GB per device; {each:,.0f} bytes per token and device"
        f"{_beside(found)} → {_token_count(found):,.0f} tokens"
    )


def _beside(found: MemoryFit) -> str:
    fixed = found.plan.fixed_bytes
    return f" and {fixed / 1e6:,.0f} MB per sequence" if fixed > 0 else ""


def _token_count(found: MemoryFit) -> float:
    """Return the tokens of sequences of the longest admitted context that the cache of one device holds."""
    longest = found.longest_context(found.replica.longest_tokens)
    held = found.plan.held_bytes(longest) if longest else 0.0
    return longest * found.cache_bytes / held if held else 0.0

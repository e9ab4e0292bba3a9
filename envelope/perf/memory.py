"""What a replica needs of each memory, how many KV blocks are left, and how many sequences they hold."""

import math
from dataclasses import dataclass, field
from functools import lru_cache

from envelope.perf.replica import ReplicaSpec
from envelope.perf.work import kv_bytes, kv_bytes_no_eviction, operators, weight_bytes
from envelope.units import GB

ACTIVATION_BUFFERS = 8.0
"""Live hidden-state buffers of a step, in multiples of tokens · hidden · 2 bytes (a judgement)."""


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
    kv_bytes: float
    """Left for the KV cache (0 if nothing is left)."""

    @property
    def shortfall_bytes(self) -> float:
        """By how much weights, activations and overhead exceed the budget; 0 if they fit."""
        need = self.weights_bytes + self.activations_bytes + self.overhead_bytes
        return max(need - self.budget_bytes, 0.0)


@dataclass(frozen=True, slots=True)
class MemoryFit:
    """Whether a replica fits, domain by domain, and what the KV cache holds."""

    domains: tuple[DomainFit, ...]
    kv_block_tokens: int
    kv_blocks: int
    """Blocks of the whole replica, that is of every data-parallel rank together."""
    kv_bytes_per_token: float
    """Growth of one sequence's cache per context token, over all devices that hold a part of it, per device."""
    replica: ReplicaSpec
    equation: str

    @property
    def fits(self) -> bool:
        """Whether the weights fit and at least one KV block is left."""
        return self.kv_blocks > 0 and all(d.shortfall_bytes == 0 for d in self.domains)

    def max_concurrency(self, context_tokens: float) -> int:
        """Return how many sequences of ``context_tokens`` the KV cache holds at once."""
        if not self.fits:
            return 0
        per_sequence = _sequence_kv_bytes(self.replica, context_tokens)
        held = sum(d.kv_bytes for d in self.domains if d.name == "device")
        if self.replica.settings.kv_blocks is not None:
            blocks = math.ceil(context_tokens / self.kv_block_tokens)
            return int(self.kv_blocks // max(blocks, 1))
        return int(held / max(per_sequence, 1e-9)) * self.replica.parallelism.dp


def fit(replica: ReplicaSpec) -> MemoryFit:
    """Return the memory fit of one replica, per device.

    All experts are resident unless offloaded. KV heads are split over tensor-parallel devices down to one each;
    latent caches are replicated on them.
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
    device, host = device_weight_bytes(replica)
    memory = replica.hardware.device_memory
    frac = replica.settings.memory_frac or replica.engine.memory_frac
    budget = memory.capacity_bytes * memory.usable_frac * frac
    activations = _activation_bytes(replica)
    overhead = replica.engine.overhead_bytes
    left = max(budget - device - activations - overhead, 0.0)
    per_token = _kv_growth(replica)
    block = replica.engine.kv_block_tokens
    blocks = replica.settings.kv_blocks or int(left / max(per_token * block, 1e-9)) * replica.parallelism.dp
    domains = [DomainFit("device", memory.capacity_bytes, budget, device, activations, overhead, left)]
    if host > 0 or replica.host_memory is not None:
        domains.append(_host_domain(replica, host))
    return MemoryFit(tuple(domains), block, blocks, per_token, replica, _equation(replica, domains[0], per_token, frac))


def _host_domain(replica: ReplicaSpec, weights: float) -> DomainFit:
    host = replica.host_memory
    server = replica.server
    capacity = host.capacity_bytes if host else 0.0
    if server and server.host_memory_bytes:
        capacity = server.host_memory_bytes / server.device_count
    usable = capacity * (host.usable_frac if host else 1.0)
    return DomainFit("host", capacity, usable, weights, 0.0, 0.0, 0.0)


def device_weight_bytes(replica: ReplicaSpec) -> tuple[float, float]:
    """Return (bytes on the device, bytes in host memory) of weights per device, the fullest device counting."""
    parts = weight_bytes(replica.model, replica.weights or "native", replica.formats)
    par = replica.parallelism
    experts = parts.get("routed_experts", 0.0) / (par.tp * par.dp * par.pp)
    ends = (parts.get("embed", 0.0) + parts.get("lm_head", 0.0)) / par.tp
    body = sum(v for k, v in parts.items() if k not in ("routed_experts", "embed", "lm_head")) / (par.tp * par.pp)
    layers_off, experts_off = offload_fracs(replica)
    host = (experts + body) * layers_off + experts * (1 - layers_off) * experts_off
    return experts + body + ends - host, host


def offload_fracs(replica: ReplicaSpec) -> tuple[float, float]:
    """Return the shares of all layers, and of the remaining expert layers, that stand in host memory."""
    work = operators(replica.model)
    layers = min(replica.settings.offload_layers / work.layers, 1.0)
    expert_layers = sum(e.layers for e in work.experts)
    if expert_layers == 0 or layers >= 1.0:
        return layers, 0.0
    remaining = expert_layers * (1 - layers)
    return layers, min(replica.settings.offload_expert_layers / remaining, 1.0)


def _kv_share(replica: ReplicaSpec) -> float:
    """Return the part of a sequence's cache that one device of its rank holds."""
    par = replica.parallelism
    work = operators(replica.model)
    heads = [1.0 if a.latent else float(a.kv_heads) for a in work.attentions if a.kind != "linear"]
    split = min(par.tp, min(heads)) if heads else par.tp
    layers_off, _ = offload_fracs(replica)
    return (1.0 - layers_off) / split / par.pp


def _kv_growth(replica: ReplicaSpec) -> float:
    """Return KV bytes per token and device at long context, from two contexts so that windows drop out."""
    far, near = 131072.0, 65536.0
    growth = (_cache_bytes(replica, far) - _cache_bytes(replica, near)) / (far - near)
    if growth <= 0:
        growth = _cache_bytes(replica, near) / near
    return growth * _kv_share(replica)


def _sequence_kv_bytes(replica: ReplicaSpec, context_tokens: float) -> float:
    """Return the bytes of one sequence's cache on each device, rounded up to whole blocks."""
    block = replica.engine.kv_block_tokens
    whole = math.ceil(context_tokens / block) * block
    return _cache_bytes(replica, whole) * _kv_share(replica)


def _cache_bytes(replica: ReplicaSpec, context_tokens: float) -> float:
    """Return the bytes of one sequence's cache over all devices, as its engine keeps it."""
    held = kv_bytes if replica.engine.evicts_windows else kv_bytes_no_eviction
    return held(replica.model, context_tokens, replica.kv)


def _activation_bytes(replica: ReplicaSpec) -> float:
    """Return activations of the largest step plus the logits of its sampled sequences, per device."""
    par = replica.parallelism
    tokens = min(replica.max_num_batched_tokens / par.dp, replica.settings.max_context_tokens or 10**9) / par.pp
    seqs = min(replica.max_num_seqs / par.dp, 256)
    hidden = tokens * replica.model.hidden * 2.0 * ACTIVATION_BUFFERS
    return hidden + seqs * replica.model.vocab * 4.0 / par.tp


def _equation(replica: ReplicaSpec, d: DomainFit, per_token: float, frac: float) -> str:
    gb = [f"{x / GB:.2f}" for x in (d.capacity_bytes, d.weights_bytes, d.activations_bytes, d.overhead_bytes)]
    usable = replica.hardware.device_memory.usable_frac
    share = f" × {usable:.2f} usable" if usable < 1 else ""
    return (
        f"KV = {gb[0]} GB{share} × {frac:.2f} − weights {gb[1]} − activations {gb[2]} − overhead {gb[3]} "
        f"= {d.kv_bytes / GB:.2f} GB per device; {per_token:,.0f} bytes per token and device "
        f"→ {d.kv_bytes / max(per_token, 1e-9):,.0f} tokens"
    )

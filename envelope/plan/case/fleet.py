"""From a candidate to what the simulation runs: replicas with compiled steps, hosted API, router."""

from dataclasses import dataclass

from envelope.perf.checks import Reason, blocking_reasons
from envelope.perf.memory import MemoryFit, fit
from envelope.perf.replica import ReplicaSpec, from_pool
from envelope.perf.step import compile_step
from envelope.perf.work import kv_bytes, kv_bytes_per_token
from envelope.plan.case.adapters import adapter_names, adapter_reasons, with_adapters
from envelope.plan.case.operations import Clock, operated, scalable
from envelope.plan.case.usage import Share, shares
from envelope.serving.fleet import Fleet, HostedConfig, PoolConfig, ReplicaConfig, RouterPolicy
from envelope.spec.deployment import Pool
from envelope.spec.hosted import HostedModel
from envelope.spec.load import load
from envelope.spec.scenario import Candidate, HostedUse, Scenario
from envelope.spec.step import rank_tables

_LONG_TOKENS = 2**20
"""Context at which every sliding window is full."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A candidate with every name resolved."""

    candidate: Candidate
    replicas: tuple[ReplicaSpec, ...]
    """One replica of each pool."""
    fits: tuple[MemoryFit, ...]
    hosted: HostedModel | None
    reasons: tuple[Reason, ...]
    """Why a pool cannot run at all; empty if all can."""

    @property
    def runs(self) -> bool:
        """Whether every pool can run."""
        return not any(reason.blocks for reason in self.reasons)

    @property
    def idle_w(self) -> float:
        """Power while nothing runs: of the servers with their hosts if they are named, else of the devices."""
        return self.mean_idle_w()

    @property
    def own_idle_w(self) -> float:
        """The part of ``idle_w`` that machines draw which the company owns or leases."""
        return self.mean_idle_w(own=True)

    def mean_idle_w(self, running_fracs: tuple[float, ...] = (), *, own: bool = False) -> float:
        """Return ``idle_w`` on average if each pool is switched on for such a share of the time, by default for all.

        ``own`` leaves rented machines out, whose power the landlord pays.
        """
        found = [share for share in shares(self.candidate) if not (own and share.how.is_rented)]
        return sum(self._idle_w(share) * self._running_frac(share, running_fracs) for share in found)

    def _running_frac(self, share: Share, fracs: tuple[float, ...]) -> float:
        """Return the share of the time for which the devices that are paid for in one way are switched on."""
        devices = {p: self.candidate.pools[p].devices for p in share.positions}
        return sum(n * fracs[p] for p, n in devices.items()) / sum(devices.values()) if fracs else 1.0

    @property
    def own_power_frac(self) -> float:
        """Share of owned and leased devices in the highest power of all local devices."""
        own = [p for share in shares(self.candidate) if not share.how.is_rented for p in share.positions]
        every = sum(self._devices_w(p) for p in range(len(self.replicas)))
        return sum(self._devices_w(p) for p in own) / every if every else 0.0

    @property
    def device_idle_w(self) -> float:
        """Power of the local devices alone while nothing runs, as the simulation counts it."""
        pools = zip(self.candidate.pools, self.replicas, strict=True)
        return sum(pool.devices * replica.hardware.power.idle_w for pool, replica in pools)

    @property
    def max_w(self) -> float:
        """Power of the local devices, or of the servers that hold them, at their limit.

        Pools outside the building count only if no pool stands inside.
        """
        inside = [p for p in self.candidate.pools if self.candidate.is_inside(p)] or list(self.candidate.pools)
        total = 0.0
        for share in shares(self.candidate):
            if not any(self.candidate.pools[p] in inside for p in share.positions):
                continue
            if share.server is not None:
                total += share.server.power_max_w * share.servers
            else:
                total += sum(self._devices_w(p) for p in share.positions)
        return total

    def _idle_w(self, share: Share) -> float:
        if share.server is not None and share.server.power_idle_w is not None:
            return share.server.power_idle_w * share.servers
        return sum(self.candidate.pools[p].devices * self.replicas[p].hardware.power.idle_w for p in share.positions)

    def _devices_w(self, position: int) -> float:
        return self.candidate.pools[position].devices * self.replicas[position].hardware.power.max_w


def resolve_bench(scenario: Scenario, candidate: Candidate) -> Bench:
    """Return a candidate with its names resolved and its memory fitted.

    Raises ``InputError`` for an unknown name, naming the scenario and the candidate.
    """
    candidate = scalable(scenario, candidate)
    where = f"{scenario.id}: candidate {candidate.id}"
    replicas = tuple(
        from_pool(pool, server=candidate.acquisition_of(pool).server, file=where) for pool in candidate.pools
    )
    fits = tuple(fit(replica) for replica in replicas)
    # One token: whether a request's own length fits is for the simulation to find.
    reasons = [reason for r, f in zip(replicas, fits, strict=True) for reason in blocking_reasons(r, f, 1)]
    needed = len(adapter_names(scenario.workload))
    for pool, r, f in zip(candidate.pools, replicas, fits, strict=True):
        reasons += adapter_reasons(r, f, pool.adapters, needed)
    hosted = None
    if candidate.hosted is not None:
        hosted = load(HostedModel, "hosted", candidate.hosted.api, file=where, path="hosted.api")
    return Bench(candidate, replicas, fits, hosted, tuple(reasons))


def build_fleet(scenario: Scenario, bench: Bench, replica_share: float = 1.0, clock: Clock | None = None) -> Fleet:
    """Return the fleet of a candidate with its operations.

    ``replica_share`` keeps that share of each pool's replicas (at least one); ``clock`` says where the simulated time
    lies, by default in the busiest hour of the first year.
    """
    candidate = bench.candidate
    seats = any(pool.role == "seat" for pool in candidate.pools)
    pools = tuple(
        PoolConfig(
            name=f"{pool.role}-{index}",
            replica=_with_adapters(scenario, pool, replica, memory),
            replicas=max(1, round(pool.replicas * replica_share)),
            ranks=pool.parallelism.dp,
            role="serve" if pool.role == "seat" else pool.role,
            inside=candidate.is_inside(pool),
            tier=candidate.tier,
            devices_per_replica=pool.parallelism.devices,
        )
        for index, (pool, replica, memory) in enumerate(zip(candidate.pools, bench.replicas, bench.fits, strict=True))
    )
    route = candidate.route
    router = RouterPolicy(
        policy=route.policy,
        balance="per_seat" if seats else "prefix_affine" if _caches(pools) else "least_outstanding",
        overflow_wait_s=route.overflow_wait_s,
        long_context_tokens=route.long_context_tokens,
        escalate_after_failure=route.escalate_after_failure,
        private_stays=scenario.constraints.private_stays,
    )
    hosted = _hosted(candidate.hosted, bench.hosted) if candidate.hosted and bench.hosted else None
    fleet = Fleet(pools=pools, hosted=hosted, router=router, kv_transfer_s_per_token=_kv_transfer_s(bench))
    when = clock or Clock(scenario.workload.peak_hour * 3600.0, 3600.0)
    return operated(fleet, scenario, candidate, next(iter(bench.replicas), None), when, replica_share)


def _with_adapters(scenario: Scenario, pool: Pool, replica: ReplicaSpec, memory: MemoryFit) -> ReplicaConfig:
    config, needed = replica_config(replica, memory), len(adapter_names(scenario.workload))
    return with_adapters(config, replica, memory, pool.adapters, needed) if needed else config


def _kv_transfer_s(bench: Bench) -> float:
    """Return the time to move one prompt token's KV cache from a prefill replica to a decode replica.

    One device sends it over its network link, or over PCIe to its neighbour where the profile names no network.
    """
    for pool, replica in zip(bench.candidate.pools, bench.replicas, strict=True):
        link = replica.hardware.link("network", "pcie") if pool.role == "prefill" else None
        if link is not None:
            return kv_bytes_per_token(replica.model, replica.kv) / link.bandwidth_bytes_per_s
    return 0.0


def _caches(pools: tuple[PoolConfig, ...]) -> bool:
    return any(pool.replica.prefix_cache for pool in pools)


def replica_config(replica: ReplicaSpec, memory: MemoryFit) -> ReplicaConfig:
    """Return the scheduler's view of one replica, or of one of its data-parallel ranks."""
    engine, settings, ranks = replica.engine, replica.settings, replica.parallelism.dp
    steps = rank_tables(compile_step(replica), ranks)
    return ReplicaConfig(
        steps=steps,
        max_num_seqs=min(-(-replica.max_num_seqs // ranks), steps.max_num_seqs),
        max_num_batched_tokens=min(-(-replica.max_num_batched_tokens // ranks), steps.max_batched_tokens),
        kv_blocks=max(_useful_blocks(replica, memory) // ranks, 1),
        block_tokens=memory.kv_block_tokens,
        fixed_blocks_per_seq=_fixed_blocks(replica, memory.kv_block_tokens),
        prefix_cache=engine.prefix_cache if settings.prefix_cache is None else settings.prefix_cache,
        chunked_prefill=engine.chunked_prefill,
        batching=engine.batching,
        max_context_tokens=settings.max_context_tokens or replica.model.max_context_tokens,
        admission_steps=engine.admission_steps,
        draft_tokens=settings.draft_tokens,
        draft_acceptance_frac=settings.draft_acceptance_frac,
    )


def _useful_blocks(replica: ReplicaSpec, memory: MemoryFit) -> int:
    """Return the KV blocks that can ever be in use: a full batch of longest requests, twice that with a prefix cache.

    A laptop's memory holds far more than its few sequences reach, and every block costs the simulation memory.
    """
    longest = replica.settings.max_context_tokens or replica.model.max_context_tokens
    slots = 1 if replica.engine.batching == "single" else replica.max_num_seqs
    return min(memory.kv_blocks, 2 * slots * -(-longest // memory.kv_block_tokens))


def _fixed_blocks(replica: ReplicaSpec, block_tokens: int) -> int:
    """Return the KV blocks that a sequence takes whatever its length: full windows and recurrent state."""
    growth = kv_bytes_per_token(replica.model, replica.kv)
    if growth <= 0:
        return 0
    fixed = kv_bytes(replica.model, _LONG_TOKENS, replica.kv) - growth * _LONG_TOKENS
    return max(0, round(fixed / (growth * block_tokens)))


def _hosted(use: HostedUse, api: HostedModel) -> HostedConfig:
    """Return the hosted API as the simulation sees it."""
    latency, limits = api.latency, api.limits
    return HostedConfig(
        ttft_p50_s=latency.ttft_p50_s,
        ttft_sigma=latency.ttft_sigma_ln,
        tokens_per_s_p50=latency.output_tokens_per_s_p50,
        tokens_per_s_sigma=latency.output_tokens_per_s_sigma_ln,
        uncached_s_per_token=latency.ttft_s_per_uncached_token,
        context_s_per_token=latency.ttft_s_per_context_token,
        rpm=use.rpm or limits.rpm,
        tpm=use.tpm or limits.tpm,
        max_concurrent=limits.concurrent,
        availability_frac=api.availability.frac,
        tier=use.tier,
        input_thresholds=tuple(sorted({line.above_input_tokens for line in api.tariff} - {0})),
    )

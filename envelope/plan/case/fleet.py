"""From a case to what the simulation runs: replicas with compiled steps, hosted API, router."""

from dataclasses import replace

from envelope.perf.memory import MemoryFit
from envelope.perf.replica import ReplicaSpec
from envelope.perf.step import compile_step
from envelope.perf.work import kv_bytes_per_token
from envelope.plan.case.adapters import adapter_names, with_adapters
from envelope.plan.case.case import Case
from envelope.plan.case.operations import Clock, operated
from envelope.serving.fleet import Fleet, HostedConfig, PoolConfig, ReplicaConfig, RouterPolicy
from envelope.spec.deployment import Pool
from envelope.spec.hosted import HostedModel
from envelope.spec.scenario import HostedUse, Scenario
from envelope.spec.step import rank_tables

_LONG_TOKENS = 2**20
"""Context at which every sliding window is full."""


def build_fleet(case: Case, replica_share: float = 1.0, clock: Clock | None = None) -> Fleet:
    """Return the fleet of a case with its operations.

    ``replica_share`` keeps that share of each pool's replicas (at least one); ``clock`` says where the simulated time
    lies, by default in the busiest hour of the first year.
    """
    scenario, candidate = case.scenario, case.candidate
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
        for index, (pool, replica, memory) in enumerate(zip(candidate.pools, case.replicas, case.fits, strict=True))
    )
    route = candidate.route
    router = RouterPolicy(
        policy=route.policy,
        balance="per_seat" if case.on_seats else "prefix_affine" if _caches(pools) else "least_outstanding",
        overflow_wait_s=route.overflow_wait_s,
        long_context_tokens=route.long_context_tokens,
        escalate_after_failure=route.escalate_after_failure,
        private_stays=scenario.constraints.private_stays,
    )
    hosted = _hosted(candidate.hosted, case.hosted) if candidate.hosted and case.hosted else None
    fleet = Fleet(pools=pools, hosted=hosted, router=router, kv_transfer_s_per_token=_kv_transfer_s(case))
    when = clock or Clock(scenario.workload.peak_hour * 3600.0, 3600.0)
    whole = operated(fleet, scenario, candidate, next(iter(case.replicas), None), when, replica_share)
    return replace(whole, hosted=_shared(whole.hosted, replica_share))


def _shared(hosted: HostedConfig | None, share: float) -> HostedConfig | None:
    """Return the hosted API with that share of its limits, for that share of the load."""
    if hosted is None or share == 1.0:
        return hosted
    most = hosted.max_concurrent
    return replace(
        hosted,
        rpm=None if hosted.rpm is None else hosted.rpm * share,
        tpm=None if hosted.tpm is None else hosted.tpm * share,
        max_concurrent=None if most is None else max(1, round(most * share)),
    )


def _with_adapters(scenario: Scenario, pool: Pool, replica: ReplicaSpec, memory: MemoryFit) -> ReplicaConfig:
    config, needed = replica_config(replica, memory), len(adapter_names(scenario.workload))
    return with_adapters(config, replica, memory, pool.adapters, needed) if needed else config


def _kv_transfer_s(case: Case) -> float:
    """Return the time to move one prompt token's KV cache from a prefill replica to a decode replica.

    One device sends it over its network link, or over PCIe to its neighbour where the profile names no network.
    """
    for pool, replica in zip(case.candidate.pools, case.replicas, strict=True):
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
        max_num_seqs=min(-(-replica.max_num_seqs // ranks), steps.max_num_seqs, memory.state_slots),
        max_num_batched_tokens=min(-(-replica.max_num_batched_tokens // ranks), steps.max_batched_tokens),
        kv_blocks=max(_useful_blocks(replica, memory) // ranks, 1),
        block_tokens=memory.kv_block_tokens,
        fixed_blocks_per_seq=memory.fixed_blocks,
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

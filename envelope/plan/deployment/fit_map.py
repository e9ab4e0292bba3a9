"""What fits: memory of a candidate's pools, sequences held by context, and the number formats to choose from."""

from collections.abc import Sequence

from envelope.perf.checks import blocking_reasons
from envelope.perf.estimate import MemoryUse, estimate
from envelope.perf.memory import fit
from envelope.perf.replica import ReplicaSpec, resolve
from envelope.plan.case.case import case_of
from envelope.plan.deployment.estimate import EstimateQuery, resolve_query
from envelope.plan.deployment.sparse import mean_request
from envelope.provenance import Frozen
from envelope.spec.deployment import Pool
from envelope.spec.scenario import Scenario

CONTEXTS = (1_024, 2_048, 4_096, 8_192, 16_384, 32_768, 65_536, 131_072)
WEIGHTS = ("native", "bf16", "fp8", "awq-int4", "nvfp4", "q8_0", "q4_k_m")
"""Weight formats offered where none are named: the checkpoint's own and the usual steps down from it."""
KV_FORMATS = ("bf16", "fp8")
CONCURRENCIES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class PoolMemory(Frozen):
    """Memory of one replica of a pool."""

    candidate: str
    name: str
    pool: int
    model: str
    hardware: str
    devices: int
    """Of one replica."""
    replicas: int
    memory: MemoryUse
    reasons: tuple[str, ...]
    """Why it cannot run the workload's mean request; empty if it can."""


class FitMap(Frozen):
    """How many sequences a deployment holds at each context."""

    model: str
    hardware: str
    contexts_tokens: tuple[int, ...]
    concurrencies: tuple[int, ...]
    held: tuple[int, ...]
    """Sequences that the KV cache of the whole deployment holds, by context; 0 where not one fits."""
    reasons: tuple[str, ...]
    """Why nothing runs at all; empty if something does."""
    memory: MemoryUse

    def used_frac(self, context: int, concurrency: int) -> float | None:
        """Return the share of the cache that ``concurrency`` sequences take at ``context``, above 1 if too many.

        ``None`` where not a single sequence fits.
        """
        held = self.held[self.contexts_tokens.index(context)]
        return concurrency / held if held else None


class FormatChoice(Frozen):
    """One pair of weight and KV-cache formats on the same devices."""

    weights: str
    kv: str
    fits: bool
    reason: str
    weights_bytes: float
    """Per device."""
    kv_bytes: float
    """Left for the cache, per device."""
    max_concurrency: int
    """Sequences of the query's prompt and answer that the cache holds."""
    itl_s: float | None
    output_tokens_per_s: float | None
    """At the query's concurrency, or as many sequences as are held."""


def candidate_memory(scenario: Scenario) -> tuple[PoolMemory, ...]:
    """Return the memory of every local pool of a scenario's candidates at the workload's mean request."""
    prompt, answer = mean_request(scenario)
    found = []
    for candidate in scenario.candidates:
        case = case_of(scenario, candidate)
        for index, (pool, replica) in enumerate(zip(case.candidate.pools, case.replicas, strict=True)):
            one = estimate(replica, prompt, answer, 1)
            assert one.memory is not None  # local replicas always have one
            found.append(
                PoolMemory(
                    candidate=candidate.id, name=candidate.name, pool=index, model=replica.model.id,
                    hardware=replica.hardware.id, devices=pool.parallelism.devices, replicas=pool.replicas,
                    memory=one.memory, reasons=tuple(str(r) for r in one.reasons if r.blocks),
                )
            )  # fmt: skip
    return tuple(found)


def pool_query(scenario: Scenario, pool: Pool, *, concurrency: int = 16) -> EstimateQuery:
    """Return the query of a pool's deployment at the workload's mean request."""
    prompt, answer = mean_request(scenario)
    par = pool.parallelism
    return EstimateQuery(
        model=pool.model, hardware=pool.hardware, count=par.devices * pool.replicas, weights=pool.weights, kv=pool.kv,
        tp=par.tp, ep=par.ep, pp=par.pp, dp=par.dp, engine=pool.engine, input=prompt, output=answer,
        concurrency=concurrency, settings=pool.settings,
    )  # fmt: skip


def fit_map(
    query: EstimateQuery,
    *,
    contexts: Sequence[int] = CONTEXTS,
    concurrencies: Sequence[int] = CONCURRENCIES,
    where: str = "arguments",
) -> FitMap:
    """Return how many sequences a deployment holds at each context that its model reads.

    Raises ``InputError`` for unknown names and a parallelism that does not fit the devices.
    """
    replica, replicas = resolve_query(query, where)
    memory = fit(replica)
    limit = replica.settings.max_context_tokens or replica.model.max_context_tokens
    possible = [c for c in contexts if c <= limit] or [limit]
    blocking = blocking_reasons(replica, memory, 1)
    held = [0 if blocking else memory.max_concurrency(c) * replicas for c in possible]
    use = estimate(replica, query.input, query.output, 1).memory
    assert use is not None
    return FitMap(
        model=replica.model.id,
        hardware=replica.hardware.id,
        contexts_tokens=tuple(possible),
        concurrencies=tuple(concurrencies),
        held=tuple(held),
        reasons=tuple(str(reason) for reason in blocking),
        memory=use,
    )


def format_choices(
    query: EstimateQuery,
    *,
    weights: Sequence[str] = WEIGHTS,
    kv: Sequence[str] = KV_FORMATS,
    where: str = "arguments",
) -> tuple[FormatChoice, ...]:
    """Return every weight format with every KV-cache format on the devices of a query, fitting ones first.

    Raises ``InputError`` for unknown names.
    """
    replica, replicas = resolve_query(query, where)
    # The checkpoint's own format is listed once, as ``native``.
    offered = [w for w in dict.fromkeys([query.weights, *weights]) if w != replica.model.native_format]
    pairs = [(w, k) for w in offered for k in dict.fromkeys([query.kv, *kv])]
    found = [_choice(replica, replicas, query, w, k) for w, k in pairs]
    return tuple(sorted(found, key=lambda c: (not c.fits, -(c.output_tokens_per_s or 0.0), c.weights, c.kv)))


def _choice(replica: ReplicaSpec, replicas: int, query: EstimateQuery, weights: str, kv: str) -> FormatChoice:
    one = resolve(
        model=replica.model, hardware=replica.hardware, engine=replica.engine, weights=weights, kv=kv,
        parallelism=replica.parallelism, settings=replica.settings, server=query.server,
    )  # fmt: skip
    found = estimate(one, query.input, query.output, -(-query.concurrency // replicas))
    assert found.memory is not None
    device = found.memory.domains[0]
    rate = found.output_tokens_per_s
    return FormatChoice(
        weights=weights,
        kv=kv,
        fits=found.feasible,
        reason="; ".join(str(r) for r in found.reasons),
        weights_bytes=device.weights_bytes,
        kv_bytes=device.kv_bytes,
        max_concurrency=found.memory.max_concurrency * replicas,
        itl_s=found.itl_s,
        output_tokens_per_s=None if rate is None else rate * replicas,
    )

"""One deployment and one request shape, from names to numbers; the same function serves rows in bulk."""

import math
from collections.abc import Mapping
from inspect import Parameter, Signature
from typing import Annotated, Any, Required, TypedDict, Unpack, get_type_hints

from pydantic import Field

from envelope.errors import InputError, Problem
from envelope.perf.estimate import Estimate
from envelope.perf.estimate import estimate as estimate_replica
from envelope.perf.replica import ReplicaSpec, resolve
from envelope.provenance import Frozen
from envelope.spec.deployment import EngineSettings, Parallelism
from envelope.spec.engine import DEFAULT_ENGINE
from envelope.spec.load import validate

Whole = Annotated[int, Field(ge=1, le=100_000_000)]


class EstimateQuery(Frozen):
    """What ``envelope estimate`` asks, by names; one row of ``--batch``."""

    model: str
    """Model id or alias."""
    hardware: str
    """Hardware profile id or alias."""
    count: Whole | None = None
    """Devices; ``None`` is one replica's worth. A multiple runs as several replicas that share the load."""
    weights: str = "native"
    """Weight format, or ``native`` for the format the checkpoint ships in."""
    kv: str = "bf16"
    """KV-cache format."""
    tp: Whole | None = None
    """Tensor parallelism; ``None`` takes the devices that ``count``, ``pp`` and ``dp`` leave."""
    ep: Whole = 1
    """Expert parallelism."""
    pp: Whole = 1
    """Pipeline parallelism."""
    dp: Whole = 1
    """Data-parallel attention ranks of one replica."""
    dcp: Whole = 1
    """Tensor-parallel ranks that share the tokens of a cache (decode context parallelism)."""
    engine: str = DEFAULT_ENGINE
    """Serving engine."""
    input: Whole = 1024
    """Prompt tokens."""
    output: Whole = 256
    """Answer tokens."""
    concurrency: Whole = 1
    """Requests in flight in the whole deployment."""
    server: str | None = None
    """Server that holds the devices (its links decide between NVLink and network)."""
    settings: EngineSettings = EngineSettings()
    """Scheduler and memory settings."""


class Asked(TypedDict, total=False):
    """The fields of ``EstimateQuery`` as keyword arguments, for editors and type checkers."""

    model: Required[str]
    hardware: Required[str]
    count: int | None
    weights: str
    kv: str
    tp: int | None
    ep: int
    pp: int
    dp: int
    dcp: int
    engine: str
    input: int
    output: int
    concurrency: int
    server: str | None
    settings: EngineSettings | Mapping[str, Any]


def estimate(**query: Unpack[Asked]) -> Estimate:
    """Return memory, latency, throughput, power and provenance of one deployment and request shape.

    ``model`` and ``hardware`` are ids or aliases; ``count`` devices (``None``: one replica's worth) run replicas of
    ``tp`` · ``pp`` · ``dp`` devices each, experts split by ``ep``; ``weights`` and ``kv`` are number formats
    (``native``: that of the checkpoint); ``input`` and ``output`` are tokens of a request, ``concurrency`` the
    requests in flight in the whole deployment; ``server`` holds the devices, and ``settings`` are the engine's.

    Raises ``InputError`` for unknown names, wrong numbers and a parallelism that does not fit the devices.
    """
    return estimate_query(validate(EstimateQuery, query, "arguments"))


def _signature() -> Signature:
    """Return the arguments with their defaults, for ``help``; misspelt ones are answered with the nearest name."""
    fields, kinds = EstimateQuery.model_fields, get_type_hints(Asked)
    defaults = {name: Parameter.empty if field.is_required() else field.default for name, field in fields.items()}
    named = [Parameter(name, Parameter.KEYWORD_ONLY, default=defaults[name], annotation=kinds[name]) for name in fields]
    return Signature(named, return_annotation=Estimate)


estimate.__signature__ = _signature()  # type: ignore[attr-defined]


def estimate_row(row: Mapping[str, Any], where: str) -> Estimate:
    """Return the estimate of one row; ``where`` names file and line in errors."""
    return estimate_query(validate(EstimateQuery, row, where), where)


def estimate_query(query: EstimateQuery, where: str = "arguments") -> Estimate:
    """Return the estimate of a validated query."""
    replica, replicas = resolve_query(query, where)
    each = math.ceil(query.concurrency / replicas)
    one = estimate_replica(replica, query.input, query.output, each)
    return _scaled(one, replicas) if replicas > 1 and one.feasible else one


def resolve_query(query: EstimateQuery, where: str) -> tuple[ReplicaSpec, int]:
    """Return one resolved replica and the number of replicas; ``where`` says where the names stand, for errors."""
    parallelism, replicas = _layout(query, where)
    replica = resolve(
        model=query.model,
        hardware=query.hardware,
        engine=query.engine,
        weights=query.weights,
        kv=query.kv,
        parallelism=parallelism,
        settings=query.settings,
        server=query.server,
        file=where,
    )
    return replica, replicas


def _layout(query: EstimateQuery, where: str) -> tuple[Parallelism, int]:
    """Return the parallelism of one replica and the number of replicas."""
    fixed = query.pp * query.dp
    count = query.count or (query.tp or 1) * fixed
    tp = query.tp or max(count // fixed, 1)
    devices = tp * fixed
    if count % devices:
        rule = f"is not a multiple of tp·pp·dp = {tp}·{query.pp}·{query.dp} = {devices}"
        near = max(count // devices, 1) * devices
        raise InputError(Problem(where, "count", count, rule, f"nearest {near}"))
    if (tp * query.dp) % query.ep:
        rule = f"must divide tp·dp = {tp * query.dp}"
        allowed = [d for d in range(1, tp * query.dp + 1) if (tp * query.dp) % d == 0]
        raise InputError(Problem(where, "ep", query.ep, rule, f"allowed: {', '.join(map(str, allowed))}"))
    if tp % query.dcp:
        raise InputError(Problem(where, "dcp", query.dcp, f"must divide tp = {tp}"))
    return Parallelism(tp=tp, pp=query.pp, ep=query.ep, dp=query.dp, dcp=query.dcp), count // devices


def _scaled(one: Estimate, replicas: int) -> Estimate:
    """Return the figures of a deployment of equal replicas that share the load."""
    scaled = {
        name: value * replicas
        for name in ("output_tokens_per_s", "prefill_tokens_per_s", "power_w", "effective_concurrency")
        if (value := getattr(one, name)) is not None
    }
    memory = one.memory
    if memory is not None:
        scaled["memory"] = memory.changed(max_concurrency=memory.max_concurrency * replicas)
    return one.changed(**scaled)

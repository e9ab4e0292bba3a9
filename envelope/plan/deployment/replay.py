"""Replaying a recorded trace, or a closed-loop load, against one deployment."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypedDict

from pydantic import Field, model_validator

from envelope.errors import InputError, Problem
from envelope.logs import Usage, read_log, requests_of
from envelope.perf.checks import blocking_reasons
from envelope.perf.memory import fit
from envelope.plan.bring.trace_file import read_trace
from envelope.plan.case.fleet import replica_config
from envelope.plan.deployment.estimate import EstimateQuery, Whole, resolve_query
from envelope.plan.service.prepare import announce
from envelope.provenance import Frozen
from envelope.serving.fleet import ReplicaConfig
from envelope.serving.replay import load_test, replay_trace, served
from envelope.serving.requests import Requests
from envelope.spec.load import validate


class LoadTest(Frozen):
    """A closed-loop load: ``concurrency`` requests in flight until ``requests`` have been served."""

    concurrency: Whole
    requests: Whole
    input: Whole
    """Nominal prompt tokens."""
    output: Whole
    """Nominal answer tokens."""
    range_ratio: float = Field(default=1.0, gt=0, le=1)
    """Lengths are uniform between this share of the nominal ones and the nominal ones."""
    warmup: int = Field(default=0, ge=0)
    """Requests served before, and not counted."""
    seed: int = Field(default=0, ge=0)


class ReplayQuery(Frozen):
    """A deployment and the load that is put on it: give a trace or a load test."""

    deployment: EstimateQuery
    trace: Path | None = None
    """CSV with ``arrival_s, input_tokens, output_tokens`` and, optionally, ``prompt_id`` or ``hash_ids``."""
    load: LoadTest | None = None

    @model_validator(mode="after")
    def _one_load(self) -> Self:
        if (self.trace is None) == (self.load is None):
            raise ValueError("give a trace, or concurrency and requests")
        return self


def replay(**query: Any) -> dict[str, Any]:
    """Return what the requests of a trace or of a load test experience.

    Keyword arguments are the fields of ``ReplayQuery``. Keys of the result: ``requests``, ``completed``,
    ``duration_s``, ``output_tokens_per_s``, and ``ttft_s``, ``itl_s``, ``tpot_s``, ``e2e_s`` with mean, p50, p90,
    p95, p99. Raises ``InputError`` for wrong input and for a deployment that cannot run.
    """
    return replay_query(validate(ReplayQuery, query, "arguments"))


def replay_query(
    query: ReplayQuery,
    where: str = "arguments",
    *,
    table: Path | None = None,
    tell: Callable[[str], object] = lambda _text: None,
) -> dict[str, Any]:
    """Return the result of a validated query; ``table`` (``.csv`` or ``.parquet``) gets one row per request.

    ``tell`` is told before something that takes long for a reason of its own.
    """
    replica, replicas, ranks = _deployment(query.deployment, where)
    served_by: _ServedBy = {"replicas": replicas, "ranks": ranks, "table": table}
    if query.load is not None:
        load = query.load
        announce(load.requests + load.warmup, replicas * ranks, tell)
        return load_test(
            replica,
            concurrency=load.concurrency,
            requests=load.requests,
            input_tokens=load.input,
            output_tokens=load.output,
            range_ratio=load.range_ratio,
            warmup=load.warmup,
            seed=load.seed,
            **served_by,
        )
    assert query.trace is not None
    return _replay_file(query.trace, replica, served_by, tell)


def _replay_file(
    path: Path, replica: ReplicaConfig, served_by: "_ServedBy", tell: Callable[[str], object]
) -> dict[str, Any]:
    places = served_by["replicas"] * served_by["ranks"]
    if not _is_plain(path):
        logged = _logged(path)
        announce(len(logged), places, tell)
        return served(replica, logged, **served_by)
    trace = read_trace(path)
    announce(len(trace.arrival_s), places, tell)
    return replay_trace(
        replica,
        trace.arrival_s,
        trace.input_tokens,
        trace.output_tokens,
        prompt_id=trace.prompt_id,
        hash_ids=trace.hash_ids,
        hash_block_tokens=trace.hash_block_tokens,
        **served_by,
    )


class _ServedBy(TypedDict):
    replicas: int
    ranks: int
    table: Path | None


def _is_plain(path: Path) -> bool:
    """Return whether a file is a CSV with our own columns, whose every line is checked."""
    if path.suffix != ".csv" or not path.is_file():
        return not path.exists()
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head = file.readline()
    return "arrival_s" in head or not head.strip()


def _logged(path: Path) -> Requests:
    """Return the requests of any other log that is understood, as ``envelope import`` reads it."""
    found = read_log(path)
    if isinstance(found, Usage):
        raise InputError(Problem(str(path), "", None, "is a usage export: it has totals, but no requests to replay"))
    return requests_of(found)


def _deployment(query: EstimateQuery, where: str) -> tuple[ReplicaConfig, int, int]:
    """Return one scheduler, the number of replicas, and the data-parallel ranks of each."""
    spec, replicas = resolve_query(query, where)
    memory = fit(spec)
    blocking = [reason for reason in blocking_reasons(spec, memory, 1) if reason.blocks]
    if blocking:
        raise InputError([Problem(where, r.rule, None, r.text, r.fix) for r in blocking])
    return replica_config(spec, memory), replicas, spec.parallelism.dp

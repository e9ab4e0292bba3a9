"""Tuning bench: a stable behaviour by long prompt, retrieval, LoRA, QLoRA or full fine-tuning – what each costs."""

import math
from typing import Annotated, Literal

from pydantic import Field

from envelope.errors import InputError, Problem, unknown_name
from envelope.perf.estimate import Estimate, estimate
from envelope.perf.memory import fit
from envelope.perf.replica import ReplicaSpec, resolve
from envelope.perf.steady import context_s
from envelope.perf.step import compile_step
from envelope.perf.work import kv_bytes_per_token, param_counts
from envelope.plan.deployment.tuning_cost import (
    TrainingRun,
    device_usd_per_s,
    retrieval_usd_per_year,
    training_run,
    yearly_usd,
)
from envelope.provenance import Frozen
from envelope.spec.deployment import Parallelism
from envelope.spec.economic_facts import facts
from envelope.spec.engine import DEFAULT_ENGINE
from envelope.units import DAYS_PER_YEAR

Method = Literal["prompt", "prompt_cached", "retrieval", "lora", "qlora", "full"]
METHODS: tuple[Method, ...] = ("prompt", "prompt_cached", "retrieval", "lora", "qlora", "full")
TRAINED: tuple[Method, ...] = ("lora", "qlora", "full")

TOO_OFTEN_PER_YEAR = 26.0
"""Changes in a year from which knowledge does not belong into weights: every other week or oftener."""

MULTI_LORA_S = 0.002
"""Time that adapters kept apart from the base weights add to each token: Chen et al., *Punica: Multi-Tenant LoRA
Serving*, arXiv:2310.18547 (2023), abstract: 2 ms per token."""

RETRIEVAL_S = 0.05
"""Time of one look-up before the prompt; an assumption of this project."""

Tokens = Annotated[int, Field(ge=1, le=10_000_000)]


class TuningQuery(Frozen):
    """The behaviour that is wanted and the deployment that serves it."""

    model: str
    hardware: str
    requests_per_day: float = Field(gt=0)
    tp: int = Field(default=1, ge=1)
    weights: str = "native"
    kv: str = "bf16"
    engine: str = DEFAULT_ENGINE
    input_tokens: Tokens = 500
    """The user's own part of the prompt."""
    output_tokens: Tokens = 300
    concurrency: int = Field(default=16, ge=1)
    """Requests in flight on the replica, at which times are compared."""
    prompt_tokens: Tokens = 3000
    """Instructions and examples that tell the model the behaviour."""
    retrieved_tokens: Tokens = 1000
    """Passages that retrieval adds to each prompt."""
    training_tokens: Tokens = 5_000_000
    """Tokens of one run, all epochs."""
    sequence_tokens: Tokens = 4096
    rank: int = Field(default=16, ge=1, le=1024)
    """Rank of the adapter matrices."""
    changes_per_year: float = Field(default=2.0, ge=0, le=366)
    """How often the behaviour or the knowledge changes, each time with a new run."""
    behaviours: int = Field(default=1, ge=1, le=10_000)
    """Different behaviours served; adapters share a base model, fully tuned models do not."""
    region: str = "us"
    """Region of the catalog of money, whose staff is paid."""


class TuningRow(Frozen):
    """One way to the behaviour."""

    method: Method
    fits_weights: bool
    """False where the knowledge changes too often to be trained."""
    run: TrainingRun | None
    """One training run; ``None`` for methods without training."""
    prompt_tokens: int
    """Prompt of one request."""
    ttft_s: float | None
    """``None`` where the device cannot serve it."""
    itl_s: float | None
    e2e_s: float | None
    device_s_per_request: float
    """Time of all devices of the replica per request at the concurrency asked for."""
    serving_usd_per_request: float
    fixed_usd_per_year: float
    """Data, runs, evaluation, rollback drills, index: what does not follow the number of requests."""
    fixed_by_line_usd: dict[str, float]
    total_usd_per_year: float
    tokens_saved_per_request: int
    """Against the long prompt."""
    ttft_saved_s: float | None
    serving_note: str


class BreakEvenPoint(Frozen):
    """Where one method becomes cheaper than another."""

    method: Method
    against: Method
    requests_per_day: float | None
    """Requests a day from which on ``method`` is cheaper; ``None`` if it never is, 0 if it always is."""


class TuningBench(Frozen):
    """All methods side by side."""

    query: TuningQuery
    rows: tuple[TuningRow, ...]
    break_even: tuple[BreakEvenPoint, ...]
    cheapest: Method
    notes: tuple[str, ...]


def tuning_bench(query: TuningQuery) -> TuningBench:
    """Return what each way to a stable behaviour costs, and from how many requests a day training pays.

    Quality is left to evidence: a method is worth its price only if its own evaluation says so. Raises
    ``InputError`` for unknown names and a model that does not fit the device.
    """
    if query.region not in facts().regions:
        raise unknown_name("arguments", "region", query.region, facts().regions, "economics")
    replica = resolve(
        model=query.model, hardware=query.hardware, engine=query.engine, weights=query.weights, kv=query.kv,
        parallelism=Parallelism(tp=query.tp),
    )  # fmt: skip
    base = estimate(replica, query.input_tokens, query.output_tokens, query.concurrency)
    if not base.feasible:
        raise InputError(Problem("arguments", "hardware", query.hardware, str(base.reasons[0])))
    served = {m: _estimate(replica, query, m) for m in METHODS}
    rows = tuple(_row(query, replica, m, served) for m in METHODS)
    allowed = [r for r in rows if r.fits_weights]
    return TuningBench(
        query=query,
        rows=rows,
        break_even=tuple(
            _break_even(a, b) for a in rows for b in rows if a.method in TRAINED and b.method not in TRAINED
        ),
        cheapest=min(allowed, key=lambda r: r.total_usd_per_year).method,
        notes=tuple(_notes(query, rows)),
    )


def _estimate(replica: ReplicaSpec, query: TuningQuery, method: Method) -> Estimate:
    extra = {"prompt": query.prompt_tokens, "retrieval": query.retrieved_tokens}.get(method, 0)
    return estimate(replica, query.input_tokens + extra, query.output_tokens, query.concurrency)


def _row(query: TuningQuery, replica: ReplicaSpec, method: Method, served: dict[Method, Estimate]) -> TuningRow:
    long = served["prompt"]
    ttft, itl = served[method].ttft_s, served[method].itl_s
    if method == "prompt_cached" and itl is not None:
        # Its prefill is cached, but every decode step still reads the whole context.
        itl += _context_s(replica, query, served[method].effective_concurrency or 1.0)
    if method == "retrieval" and ttft is not None:
        ttft += RETRIEVAL_S
    if method in {"lora", "qlora"} and itl is not None and query.behaviours > 1:
        itl += MULTI_LORA_S
    e2e = None if ttft is None or itl is None else ttft + itl * (query.output_tokens - 1)
    slots = served[method].effective_concurrency or 1.0
    device_s = (e2e or 0.0) / slots * query.tp
    run = training_run(query, replica, method) if method in TRAINED else None
    lines = yearly_usd(query, run) if run else {}
    if method == "retrieval":
        lines = retrieval_usd_per_year(query)
    per_request = device_s * device_usd_per_s(query.hardware)
    fixed = sum(lines.values())
    extra = {"prompt": query.prompt_tokens, "prompt_cached": query.prompt_tokens, "retrieval": query.retrieved_tokens}
    added = extra.get(method, 0)
    return TuningRow(
        method=method,
        fits_weights=method not in TRAINED or query.changes_per_year < TOO_OFTEN_PER_YEAR,
        run=run,
        prompt_tokens=query.input_tokens + added,
        ttft_s=ttft,
        itl_s=itl,
        e2e_s=e2e,
        device_s_per_request=device_s,
        serving_usd_per_request=per_request,
        fixed_usd_per_year=fixed,
        fixed_by_line_usd=lines,
        total_usd_per_year=fixed + per_request * query.requests_per_day * DAYS_PER_YEAR,
        tokens_saved_per_request=query.prompt_tokens - added,
        ttft_saved_s=None if ttft is None or long.ttft_s is None else long.ttft_s - ttft,
        serving_note=_serving_note(query, replica, method),
    )


def _context_s(replica: ReplicaSpec, query: TuningQuery, slots: float) -> float:
    """Return the time that a decode step takes longer because its contexts hold the long prompt."""
    tables = compile_step(replica)
    short = query.input_tokens + query.output_tokens / 2.0
    return context_s(tables, slots, short + query.prompt_tokens) - context_s(tables, slots, short)


def _serving_note(query: TuningQuery, replica: ReplicaSpec, method: Method) -> str:
    if method == "prompt_cached":
        held = kv_bytes_per_token(replica.model, replica.kv) * query.prompt_tokens
        return f"the shared prefix takes {held / 1e9:.2f} GB of cache once; each step still reads it"
    if method in {"lora", "qlora"}:
        if query.behaviours == 1:
            return "the adapter is merged into the weights: nothing is added in serving"
        return f"{query.behaviours} adapters share one base model and add {MULTI_LORA_S * 1e3:g} ms a token"
    copies = query.behaviours
    if method == "full" and copies > 1:
        held = sum(d.weights_bytes for d in fit(replica).domains) * query.tp
        return f"{copies} behaviours are {copies} models of {held / 1e9:,.0f} GB, each with a replica of its own"
    return ""


def _break_even(trained: TuningRow, other: TuningRow) -> BreakEvenPoint:
    """Return from how many requests a day the higher fixed cost is earned back by the cheaper request."""
    fixed = trained.fixed_usd_per_year - other.fixed_usd_per_year
    saved = other.serving_usd_per_request - trained.serving_usd_per_request
    if saved > 0:
        requests = max(fixed / (saved * DAYS_PER_YEAR), 0.0)
        return BreakEvenPoint(method=trained.method, against=other.method, requests_per_day=requests)
    always = 0.0 if fixed <= 0 and saved == 0 else None
    return BreakEvenPoint(method=trained.method, against=other.method, requests_per_day=always)


def _notes(query: TuningQuery, rows: tuple[TuningRow, ...]) -> list[str]:
    notes = ["quality is not compared here: each method needs its own evidence (envelope evidence)"]
    if query.changes_per_year >= TOO_OFTEN_PER_YEAR:
        notes.append(
            f"what changes {query.changes_per_year:g} times a year is not fit for weights: keep it in the prompt or "
            "in an index"
        )
    counts = param_counts(resolve(model=query.model, hardware=query.hardware).model)
    for row in rows:
        if row.run and row.run.devices > 1:
            notes.append(f"{row.method} needs {row.run.devices} devices for {row.run.memory_bytes / 1e9:,.0f} GB")
    if math.isfinite(counts.total) and counts.total > counts.active * 1.5:
        notes.append("a mixture of experts trains all its experts: memory follows the total, time the active ones")
    return notes

"""The answer for one request shape on one replica: memory, times, rates, watts, bottleneck, provenance."""

from dataclasses import dataclass
from typing import Any

from pydantic import Field

from envelope.errors import InputError, Problem
from envelope.perf.bands import answered_bands, error_bands
from envelope.perf.breakdown import bottleneck_shares, evidence_of
from envelope.perf.checks import Reason, blocking_reasons, start_warnings
from envelope.perf.memory import MemoryFit, fit
from envelope.perf.replica import ReplicaSpec
from envelope.perf.steady import Loop, Steady, held_tokens, steady_state
from envelope.perf.step import compile_step
from envelope.provenance import Evidence, Frozen, weakest
from envelope.result import Result
from envelope.spec.error_band import Band
from envelope.spec.step import StepTables
from envelope.units import GB


class DomainUse(Frozen):
    """Use of one memory domain of one device."""

    name: str
    capacity_bytes: float
    budget_bytes: float
    """Part of the capacity that the engine may use."""
    weights_bytes: float
    kv_bytes: float
    """Left for the KV cache: keys and values of the tokens so far, kept for every running request."""
    activations_bytes: float
    overhead_bytes: float
    outside_bytes: float
    """Activations and captured graphs that the engine keeps beside its budget."""
    max_concurrency: int
    """Sequences of input plus output tokens that the cache of the whole replica holds."""


class MemoryUse(Frozen):
    """Memory of one replica, with the equation in words and numbers."""

    domains: tuple[DomainUse, ...]
    max_concurrency: int
    kv_blocks: int
    kv_block_tokens: int
    kv_bytes_per_token: float
    """Per device."""
    kv_bytes_per_sequence: float
    """What one sequence of input plus output tokens holds on each device while it decodes."""
    admitted_concurrency: float
    """Sequences of the longest admitted context that the engine counts at start-up, per data-parallel rank (vLLM's
    *maximum concurrency*). Windows count with the tokens of a step in flight; steady decoding holds more."""
    admitted_tokens: float
    """The same in tokens (vLLM's *KV cache size*)."""
    longest_context_tokens: int
    """Longest context of which the engine admits one sequence."""
    needed_bytes: float
    """Weights, activations, overhead and the cache of the asked concurrency, per device."""
    needed: str
    """The same in words, beside what is there."""
    equation: str


class InputEvidence(Frozen):
    """Where one input of the prediction came from."""

    input: str
    evidence: Evidence
    source: str


class Provenance(Frozen):
    """Weakest link of the prediction, the evidence of each input, and the error band of each figure."""

    evidence: Evidence
    inputs: tuple[InputEvidence, ...]
    error_bands: dict[str, Band] = Field(default_factory=dict)
    """Name of the figure → its error band; figures that nobody has scored are missing."""


class Estimate(Result):
    """Prediction for one request shape in a closed loop; times are means, ``None`` if nothing can run."""

    feasible: bool
    reasons: tuple[Reason, ...]
    ttft_s: float | None = None
    """Arrival to first token: rest of the running step, prefill beside the running decodes, request overhead."""
    itl_s: float | None = None
    """Mean gap between tokens, the other requests' prefills included."""
    e2e_s: float | None = None
    output_tokens_per_s: float | None = None
    """Of the whole replica."""
    prefill_tokens_per_s: float | None = None
    """Of one prompt alone on the idle replica."""
    effective_concurrency: float | None = None
    """Sequences really in the batch; less than asked for if the KV cache or the engine holds fewer."""
    memory: MemoryUse | None = None
    power_w: float | None = None
    """Mean of all devices of the replica, hosts excluded."""
    energy_per_output_token_j: float | None = None
    bottleneck: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Shares of the decode step and of a prefill step: compute, memory, communication, overhead."""
    provenance: Provenance | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; reasons are sentences."""
        return {**self.model_dump(mode="json"), "reasons": [str(reason) for reason in self.reasons]}


@dataclass(frozen=True, slots=True)
class _Limits:
    batch: float
    reasons: tuple[Reason, ...]


def estimate(replica: ReplicaSpec, input_tokens: int, output_tokens: int, concurrency: int = 1) -> Estimate:
    """Return times, rates, memory and watts of ``concurrency`` equal requests in a closed loop.

    No queueing beyond the batch: if memory or engine hold fewer than ``concurrency``, the rest waits outside and a
    reason says so. Raises ``InputError`` for counts below 1.
    """
    _check_counts(input_tokens, output_tokens, concurrency)
    memory = fit(replica)
    context = input_tokens + output_tokens
    blocking = blocking_reasons(replica, memory, context)
    use = _memory_use(memory, context, concurrency)
    if blocking:
        return Estimate(feasible=False, reasons=tuple(blocking), memory=use, provenance=_provenance(replica))
    limits = _limits(replica, memory, input_tokens, output_tokens, concurrency)
    tables = compile_step(replica)
    state = steady_state(tables, _loop(replica, input_tokens, output_tokens, limits.batch))
    rate = limits.batch * output_tokens / state.e2e_s
    return Estimate(
        feasible=True,
        reasons=(*limits.reasons, *start_warnings(replica, memory)),
        ttft_s=state.ttft_s,
        itl_s=state.itl_s,
        e2e_s=state.e2e_s,
        output_tokens_per_s=rate,
        prefill_tokens_per_s=_prefill_rate(replica, tables, input_tokens),
        effective_concurrency=limits.batch,
        memory=use,
        power_w=state.power_w,
        energy_per_output_token_j=state.power_w / rate,
        bottleneck=_bottleneck(replica, state, input_tokens, output_tokens),
        provenance=_provenance(replica, answered_bands(replica, state, input_tokens, output_tokens, limits.batch)),
    )


def _check_counts(input_tokens: int, output_tokens: int, concurrency: int) -> None:
    named = {"input_tokens": input_tokens, "output_tokens": output_tokens, "concurrency": concurrency}
    wrong = [Problem("arguments", k, v, "must be a whole number of at least 1") for k, v in named.items() if v < 1]
    if wrong:
        raise InputError(wrong)


def _loop(replica: ReplicaSpec, input_tokens: int, output_tokens: int, batch: float) -> Loop:
    return Loop(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        concurrency=batch,
        query_tokens=replica.query_tokens,
        tokens_per_step=replica.tokens_per_step,
        static=replica.engine.batching == "static",
    )


def _prefill_rate(replica: ReplicaSpec, tables: StepTables, input_tokens: int) -> float:
    alone = steady_state(tables, Loop(input_tokens, 1, 1.0))
    return input_tokens / alone.prefill_s


def _limits(
    replica: ReplicaSpec, memory: MemoryFit, input_tokens: int, output_tokens: int, concurrency: int
) -> _Limits:
    """Return the batch that memory and engine hold, and a reason for every limit that bites.

    The cache is counted as ``held_tokens`` does.
    """
    context = held_tokens(replica.engine, input_tokens, output_tokens)
    held = memory.max_concurrency(context)
    reasons: list[Reason] = []
    batch = float(concurrency)
    if held < concurrency:
        batch = max(float(held), 1.0)
        reasons.append(_kv_reason(memory, held, concurrency, context))
    slots = 1 if replica.engine.batching == "single" else replica.max_num_seqs
    if slots < batch:
        batch = float(slots)
        text = f"{replica.engine.name} runs {slots} sequences at once, {concurrency} are asked for; the rest queues"
        fix = "" if replica.engine.batching == "single" else f"set max_num_seqs={concurrency}"
        reasons.append(Reason(rule="engine_slots", blocks=False, text=text, fix=fix))
    return _Limits(batch, tuple(reasons))


def _kv_reason(memory: MemoryFit, held: int, concurrency: int, context: float) -> Reason:
    left = memory.domains[0].kv_bytes
    per_sequence = left / max(held, 1)
    return Reason(
        rule="kv_holds_concurrency",
        blocks=False,
        text=(
            f"the KV cache holds {held} sequences at {context:,.0f} tokens each, {concurrency} are asked for; "
            "the rest queues"
        ),
        fix=f"free {(concurrency - held) * per_sequence / 1e9:.1f} GB per device, or add replicas",
    )


def _memory_use(memory: MemoryFit, context: int, concurrency: int) -> MemoryUse:
    most = memory.max_concurrency(context)
    longest = memory.replica.longest_tokens
    admitted = memory.admitted_concurrency(longest)
    each = concurrency / memory.replica.parallelism.dp
    needed = memory.domains[0].needed_bytes + memory.plan.pool_bytes + each * memory.sequence_bytes(context)
    return MemoryUse(
        domains=tuple(
            DomainUse(
                name=d.name,
                capacity_bytes=d.capacity_bytes,
                budget_bytes=d.budget_bytes,
                weights_bytes=d.weights_bytes,
                kv_bytes=d.kv_bytes,
                activations_bytes=d.activations_bytes,
                overhead_bytes=d.overhead_bytes,
                outside_bytes=d.outside_bytes,
                max_concurrency=most if d.name == "device" else 0,
            )
            for d in memory.domains
        ),
        max_concurrency=most,
        kv_blocks=memory.kv_blocks,
        kv_block_tokens=memory.kv_block_tokens,
        kv_bytes_per_token=memory.kv_bytes_per_token,
        kv_bytes_per_sequence=memory.sequence_bytes(context),
        admitted_concurrency=admitted,
        admitted_tokens=admitted * longest,
        longest_context_tokens=memory.longest_context(longest),
        needed_bytes=needed,
        needed=(
            f"needs {needed / GB:.1f} of {memory.domains[0].budget_bytes / GB:.1f} GB per device for {concurrency:,} "
            f"{'request' if concurrency == 1 else 'requests'} at {context:,} tokens"
        ),
        equation=memory.equation,
    )


def _bottleneck(
    replica: ReplicaSpec, state: Steady, input_tokens: int, output_tokens: int
) -> dict[str, dict[str, float]]:
    context = input_tokens + output_tokens / 2.0
    return {
        "decode": bottleneck_shares(replica, max(state.decoding, 1.0), context, 0.0, input_tokens),
        "prefill": bottleneck_shares(replica, 0.0, 0.0, state.prefill_step_tokens, input_tokens),
    }


def _provenance(replica: ReplicaSpec, bands: dict[str, Band] | None = None) -> Provenance:
    inputs = tuple(InputEvidence(input=n, evidence=e, source=s) for n, e, s in evidence_of(replica))
    return Provenance(
        evidence=weakest(i.evidence for i in inputs),
        inputs=inputs,
        error_bands=error_bands(replica) if bands is None else bands,
    )

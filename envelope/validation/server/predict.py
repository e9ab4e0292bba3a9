"""The same requests through the product's own simulation, on the step times of what is served."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from envelope.perf.memory import fit
from envelope.perf.replica import ReplicaSpec, resolve
from envelope.provenance import Frozen
from envelope.sensors.calibrate import by_estimate, lengths_of
from envelope.sensors.endpoint_load import EndpointResult, LevelResult, quantiles
from envelope.serving.requests import Requests, closed_loop, replace_columns
from envelope.spec.deployment import EngineSettings
from envelope.spec.engine import Engine
from envelope.spec.hardware import HardwareProfile
from envelope.spec.model import Model
from envelope.validation.loads import LoadRun, lanes, simulated
from envelope.validation.server.load import Measured
from envelope.validation.server.plan import Drawn, Load
from envelope.validation.target import Target

STAGGER_S = 1e-3
"""Time between requests that a client sends at once (a judgement: what a front end takes to read one)."""


@dataclass(frozen=True, slots=True)
class Served:
    """What runs: enough to resolve it as a replica of a candidate."""

    model: Model
    hardware: HardwareProfile
    engine: Engine
    weights: str
    kv: str
    settings: EngineSettings

    def replica(self) -> ReplicaSpec:
        """Return the replica that a candidate of a scenario would have."""
        return resolve(
            model=self.model, hardware=self.hardware, engine=self.engine, weights=self.weights, kv=self.kv,
            settings=self.settings, file="command line",
        )  # fmt: skip

    def with_engine(self, engine: Engine) -> "Served":
        """Return the same with other constants of the engine."""
        return replace(self, engine=engine)


class Figures(Frozen):
    """Medians over the requests of one load, in seconds, and its rates."""

    ttft_s: float
    itl_s: float
    """Median over requests of the mean time per output token."""
    e2e_s: float
    output_tokens_per_s: float
    requests_per_s: float


def measured_figures(turns: Sequence[Measured]) -> Figures:
    """Return the median over turns of each figure."""
    return _median([
        Figures(
            ttft_s=m.median_s("ttft"), itl_s=m.median_s("itl"), e2e_s=m.median_s("e2e"),
            output_tokens_per_s=m.output_tokens_per_s, requests_per_s=m.requests_per_s,
        )
        for m in turns
    ])  # fmt: skip


def predicted_figures(served: Served, works: Sequence[Drawn], turns: Sequence[Measured]) -> Figures:
    """Return the median over turns of what the simulation of the same requests gives."""
    target = Target(served.replica(), replicas=1)
    return _median([_figures(target, work, found) for work, found in zip(works, turns, strict=True)])


def _figures(target: Target, work: Drawn, found: Measured) -> Figures:
    sent = np.array(found.sent_s)
    run = simulated(target, as_asked(work.requests(sent), target))
    span = span_s(run, work, sent)
    return Figures(
        ttft_s=run.statistic("ttft", "median"),
        itl_s=run.statistic("itl", "median"),
        e2e_s=run.statistic("e2e", "median"),
        output_tokens_per_s=float(run.output_tokens.sum()) / span,
        requests_per_s=len(run.e2e_s) / span,
    )


def as_asked(requests: Requests, target: Target) -> Requests:
    """Return the requests as they reach the engine: never two at once, and in a closed loop after whole answers only.

    A front end takes requests one by one, so the first of a burst is computed alone while the others come.
    """
    if not requests.concurrency:
        together = np.concatenate([[0.0], (np.diff(requests.arrival_s) <= 0).cumsum()])
        return replace_columns(requests, arrival_s=requests.arrival_s + STAGGER_S * together)
    turn = STAGGER_S * (np.arange(len(requests)) % requests.concurrency)
    gap = target.replica.engine.request_overhead_s + turn
    return replace_columns(requests, gap_s=gap, arrival_s=requests.arrival_s + turn)


def by_simulation(replica: ReplicaSpec, level: LevelResult, work: Drawn | None = None) -> tuple[float, float]:
    """Return median time to first token and time per output token of a closed loop, simulated request by request.

    ``work`` are the requests that were sent, by default equal ones of the level's mean lengths. Unlike the steady state
    of ``sensors.calibrate.by_estimate`` this knows that requests which start at once stay in step with each other, so
    that their prompts meet in one step. Raises ``InputError`` if the loop cannot run.
    """
    by_estimate(replica, level)
    target = Target(replica, replicas=1)
    # Data-parallel ranks take requests in turn: one of them stands for all.
    count, share = (max(math.ceil(n / lanes(target)), 1) for n in (level.completed, level.concurrency))
    inputs, outputs = (np.full(count, tokens, dtype=np.int64) for tokens in lengths_of(level))
    equal = closed_loop(inputs, outputs, concurrency=min(share, count))
    run = simulated(target, as_asked(equal if work is None else work.requests(), target))
    return run.statistic("ttft", "median"), run.statistic("itl", "median")


def span_s(run: LoadRun, work: Drawn, sent_s: np.ndarray) -> float:
    """Return the time from the first request to the end of the last answer, as the client measures it."""
    if work.load.kind == "closed":
        return float(run.output_tokens.sum()) / run.output_tokens_per_s
    return float(np.max(sent_s + run.e2e_s) - sent_s.min())


def _median(many: Sequence[Figures]) -> Figures:
    return Figures(**{name: statistics.median(getattr(f, name) for f in many) for name in Figures.model_fields})


def as_endpoint(pairs: Sequence[tuple[Load, Measured]], url: str, model: str, date: str) -> EndpointResult:
    """Return measured closed loops as the result of ``envelope probe endpoint``, which ``envelope calibrate`` reads."""
    levels = tuple(_level(load, found) for load, found in pairs if load.kind == "closed")
    return EndpointResult(
        url=url, model=model, date=date, levels=levels, usd=0.0,
        requests=sum(level.completed for level in levels),
        input_tokens=round(sum(level.completed * level.input_tokens_mean for level in levels)),
        output_tokens=round(sum(level.completed * level.output_tokens_mean for level in levels)),
    )  # fmt: skip


def _level(load: Load, found: Measured) -> LevelResult:
    return LevelResult(
        concurrency=load.concurrency,
        prompt_tokens=load.input_tokens,
        input_tokens_mean=statistics.fmean(found.input_tokens),
        output_tokens_mean=statistics.fmean(found.output_tokens),
        completed=len(found.sent_s),
        rate_limited=0,
        dropped=0,
        errors=0,
        wall_s=found.span_s,
        output_tokens_per_s=found.output_tokens_per_s,
        ttft=quantiles(found.ttft_s),
        itl=quantiles(found.itl_s()),
        tpot=quantiles(found.itl_s()),
    )


class MemoryRow(Frozen):
    """One amount of memory, predicted and as the engine's own log states it."""

    name: str
    unit: str
    predicted: float
    logged: float

    @property
    def error_frac(self) -> float:
        """(predicted − logged) / logged."""
        return (self.predicted - self.logged) / self.logged


def memory_rows(served: Served, logged: dict[str, float]) -> tuple[MemoryRow, ...]:
    """Return predicted beside logged memory, for what the log states.

    Keys of ``logged``: ``weights_bytes``, ``kv_bytes``, ``kv_tokens``, ``context_tokens``, ``concurrency`` (how many
    sequences of the whole context the cache holds).
    """
    found = fit(served.replica())
    device = found.domains[0]
    per_token = found.kv_bytes_per_token
    rows = []
    if "weights_bytes" in logged:
        rows.append(MemoryRow(name="weights", unit="B", predicted=device.weights_bytes, logged=logged["weights_bytes"]))
    if "kv_bytes" in logged and "kv_tokens" in logged:
        # How much memory the cache gets is a setting; what one token takes of it is predicted.
        tokens = logged["kv_bytes"] / per_token
        rows.append(MemoryRow(name="KV cache", unit="tokens", predicted=tokens, logged=logged["kv_tokens"]))
        if logged.get("concurrency") and logged.get("context_tokens"):
            held = tokens / logged["context_tokens"]
            rows.append(
                MemoryRow(name="sequences of the full context", unit="", predicted=held, logged=logged["concurrency"])
            )
    return tuple(rows)

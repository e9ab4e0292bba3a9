"""Load generators of the measured runs, simulated on the predicted step times."""

import csv
import gzip
import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from envelope.perf.memory import fit
from envelope.serving.fleet import Fleet, PoolConfig, ReplicaConfig
from envelope.serving.kernel import layout as k
from envelope.serving.requests import Floats, Requests, closed_loop, open_loop
from envelope.serving.run import run_once
from envelope.spec.step import BOUNDS, StepTables, rank_tables
from envelope.validation.rows import MeasuredRow
from envelope.validation.target import Target

_SEED = 20_26
_WAVES = 4.0
"""Multiples of the concurrency that a closed loop is simulated for; later waves repeat the last ones."""
_OPEN_REQUESTS = 1000
_KEEP = 8


@dataclass(frozen=True, slots=True)
class LoadRun:
    """Per-request times of a simulated run and its rates."""

    ttft_s: Floats
    e2e_s: Floats
    output_tokens: Floats
    weights: Floats
    """How often each simulated request stands for a measured one."""
    output_tokens_per_s: float
    input_tokens_per_s: float
    bound: str

    @property
    def requests_per_s(self) -> float:
        """Rate at which requests were answered."""
        return self.output_tokens_per_s / float(np.average(self.output_tokens, weights=self.weights))

    def _column(self, quantity: str) -> Floats:
        if quantity in {"tpot", "itl"}:
            gaps = np.maximum(self.output_tokens - 1, 1)
            return np.asarray((self.e2e_s - self.ttft_s) / gaps)
        return self.ttft_s if quantity.startswith("ttft") else self.e2e_s

    def mean(self, quantity: str) -> float:
        """Return the mean over requests (TPOT per request, then averaged, as vLLM's benchmark does)."""
        return float(np.average(self._column(quantity), weights=self.weights))

    def statistic(self, quantity: str, statistic: str) -> float:
        """Return a statistic over requests."""
        quantile = {"median": 50, "p90": 90, "p99": 99}.get(statistic)
        return float(np.percentile(self._column(quantity), quantile)) if quantile else self.mean(quantity)


_runs: "OrderedDict[tuple[object, ...], tuple[Target, LoadRun]]" = OrderedDict()


def _remembered(key: tuple[object, ...]) -> LoadRun | None:
    found = _runs.get(key)
    return found[1] if found else None


def _remember(key: tuple[object, ...], target: Target, run: LoadRun) -> LoadRun:
    _runs[key] = (target, run)
    if len(_runs) > _KEEP:
        _runs.popitem(last=False)
    return run


def closed_loop_run(row: MeasuredRow, target: Target, input_tokens: float, output_tokens: float) -> LoadRun:
    """Return a run of a generator that starts ``batch`` requests at once and replaces each that finishes.

    A long run is cut: its first wave (the burst) is taken as it is, and the waves after the second stand for
    all later ones, which repeat them statistically.
    """
    share = max(math.ceil((row.batch or 1.0) / lanes(target)), 1)
    key = (target.replica.key, share, input_tokens, output_tokens, row.length_spread_frac, row.prompts_per_slot)
    known = _remembered(key)
    if known is not None:
        return known
    waves = min(row.prompts_per_slot, _WAVES if share > 2 else 10.0)
    count = max(round(waves * share), share)
    lengths = _lengths(input_tokens, output_tokens, row.length_spread_frac, count)
    requests = closed_loop(*lengths, concurrency=share, seed=_SEED)
    run = _run(target, requests, 1, row)
    return _remember(key, target, _extrapolated(run, share, row.prompts_per_slot, waves))


def _lengths(input_tokens: float, output_tokens: float, spread: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(_SEED)
    low, high = (1 - spread) * np.array([input_tokens, output_tokens]), np.array([input_tokens, output_tokens])
    drawn = low + (high - low) * rng.random((count, 2))
    whole = np.maximum(np.rint(drawn), 1).astype(np.int64)
    return whole[:, 0], whole[:, 1]


def _extrapolated(run: LoadRun, share: int, wanted: float, simulated: float) -> LoadRun:
    """Return the run with its later waves weighted so that they stand for those that were not simulated."""
    if wanted <= simulated or simulated < 3:
        return run
    weights = np.ones(len(run.ttft_s))
    weights[2 * share :] = (wanted - 2) / (simulated - 2)
    return LoadRun(
        run.ttft_s, run.e2e_s, run.output_tokens, weights, run.output_tokens_per_s, run.input_tokens_per_s, run.bound
    )


def offline_run(row: MeasuredRow, target: Target, count: int, input_tokens: float, output_tokens: float) -> LoadRun:
    """Return a run of ``count`` equal requests that all wait at its start, its beginning and its end included."""
    key = (target.replica.key, target.replicas, "offline", count, input_tokens, output_tokens)
    known = _remembered(key)
    if known is not None:
        return known
    share = math.ceil(count / lanes(target))
    lengths = [np.full(share, max(round(x), 1), dtype=np.int64) for x in (input_tokens, output_tokens)]
    run = _run(target, open_loop(np.zeros(share), *lengths, seed=_SEED), 1, row)
    return _remember(key, target, replace(run, output_tokens_per_s=run.output_tokens_per_s * lanes(target)))


def open_loop_run(row: MeasuredRow, target: Target, input_tokens: float, output_tokens: float) -> LoadRun:
    """Return a run with Poisson arrivals at the row's rate and lengths around the data set's means."""
    from envelope.validation.datasets import load_datasets

    rate = row.rate_per_s or 1.0
    dataset = load_datasets().get(row.dataset or "")
    key = (target.replica.key, "open", rate, input_tokens, output_tokens, dataset)
    known = _remembered(key)
    if known is not None:
        return known
    rng = np.random.default_rng(_SEED)
    arrivals = np.cumsum(rng.exponential(1.0 / rate, _OPEN_REQUESTS))
    cv = dataset.length_cv if dataset else 0.0
    columns = [_spread(rng, mean, cv, _OPEN_REQUESTS) for mean in (input_tokens, output_tokens)]
    requests = open_loop(arrivals, columns[0], columns[1], seed=_SEED)
    return _remember(key, target, _run(target, requests, lanes(target), row))


def _spread(rng: np.random.Generator, mean: float, cv: float, count: int) -> np.ndarray:
    """Return lengths with a mean and coefficient of variation (gamma-distributed)."""
    if cv <= 0:
        return np.full(count, max(round(mean), 1), dtype=np.int64)
    shape = 1.0 / cv**2
    drawn = rng.gamma(shape, mean / shape, count)
    return np.maximum(np.rint(drawn), 1).astype(np.int64)


def replay_run(row: MeasuredRow, target: Target, requests_path: str | None) -> LoadRun:
    """Return a run of the row's recorded requests, or of Poisson arrivals in its stages where none were recorded."""
    key = (target.replica.key, "replay", row.trace, row.stages, row.input_tokens, row.output_tokens)
    known = _remembered(key)
    if known is not None:
        return known
    recorded = _recorded(requests_path).get(row.trace) if row.trace and requests_path else None
    arrivals, inputs, outputs = _columns(row) if recorded is None else _as_recorded(row, recorded)
    order = np.arange(len(arrivals))
    prompts = order % row.distinct_prompts if row.distinct_prompts else None
    requests = open_loop(arrivals, inputs, outputs, prompt_id=prompts, seed=_SEED)
    return _remember(key, target, _run(target, requests, lanes(target), row))


def _columns(row: MeasuredRow) -> tuple[Floats, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(_SEED)
    arrivals: list[Floats] = []
    start = 0.0
    for stage in row.stages:
        count = round(stage.rate_per_s * stage.duration_s)
        arrivals.append(start + np.sort(rng.random(count)) * stage.duration_s)
        start += stage.duration_s
    times = np.concatenate(arrivals) if arrivals else np.zeros(1)
    lengths = [max(round(v or 1), 1) for v in (row.input_tokens, row.output_tokens)]
    return times, np.full(len(times), lengths[0], dtype=np.int64), np.full(len(times), lengths[1], dtype=np.int64)


def _as_recorded(row: MeasuredRow, recorded: Floats) -> tuple[Floats, np.ndarray, np.ndarray]:
    """Return recorded requests; answers have the length that the engine was told where the client recounted them."""
    arrivals = recorded[:, 0] - recorded[0, 0]
    inputs = np.where(np.isfinite(recorded[:, 1]) & (recorded[:, 1] >= 1), recorded[:, 1], row.input_tokens or 1)
    nominal = row.distinct_prompts is not None and row.output_tokens
    outputs = np.full(len(recorded), row.output_tokens) if nominal else np.maximum(recorded[:, 2], 1)
    return arrivals, np.rint(inputs).astype(np.int64), np.rint(outputs).astype(np.int64)


@lru_cache(maxsize=2)
def _recorded(path: str) -> dict[str, Floats]:
    """Return recorded requests by experiment: arrival, input tokens, output tokens."""
    rows: dict[str, list[tuple[float, float, float]]] = {}
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for record in csv.DictReader(file):
            cells = (record["arrival_s"], record["input_tokens"], record["output_tokens"])
            values = [float(cell) if cell else math.nan for cell in cells]
            rows.setdefault(record["experiment"], []).append((values[0], values[1], values[2]))
    return {name: np.array(sorted(found)) for name, found in rows.items()}


def _run(target: Target, requests: Requests, replicas: int, row: MeasuredRow) -> LoadRun:
    return simulated(target, requests, replicas, lag_steps=row.lag_steps, front_end_s=row.front_end_s)


def simulated(
    target: Target, requests: Requests, replicas: int = 1, *, lag_steps: float = 0.0, front_end_s: float = 0.0
) -> LoadRun:
    """Simulate requests and return what each of them saw, the engine's and the run's lag of first tokens added.

    Data-parallel ranks take requests in turn and step together, so each is simulated as a replica of its own.
    """
    tables = rank_tables(target.tables(), target.replica.parallelism.dp)
    lag_steps += target.replica.engine.admission_steps / target.replica.tokens_per_step
    fleet = Fleet(pools=(PoolConfig(replica=replica_config(target, tables, requests), replicas=replicas),))
    done = run_once(fleet, requests, seed=_SEED)
    columns = np.asarray(done.rx).reshape(-1, k.F_SIZE)
    arrived, first, finish = columns[:, k.F_ARRIVAL], columns[:, k.F_FIRST], columns[:, k.F_FINISH]
    served = np.isfinite(first) & np.isfinite(finish) & (finish > 0) & (first < k.NEVER)
    span = float(finish[served].max() - arrived[served].min()) if served.any() else math.nan
    outputs = requests.output_tokens[served].astype(float)
    scale = float(lanes(target)) if requests.concurrency else 1.0
    inputs = float(requests.input_tokens[served].sum())
    gaps = (finish - first)[served] / np.maximum(outputs - 1, 1)
    lag = tables.request_overhead_s + front_end_s + lag_steps * gaps
    return LoadRun(
        ttft_s=(first - arrived)[served] + lag,
        e2e_s=(finish - arrived)[served] + lag,
        output_tokens=outputs,
        weights=np.ones(int(served.sum())),
        output_tokens_per_s=scale * float(outputs.sum()) / span,
        input_tokens_per_s=scale * inputs / span,
        bound=BOUNDS[int(np.argmax(done.final.bound_s))],
    )


def lanes(target: Target) -> int:
    """Return how many schedulers share the load: replicas times data-parallel ranks."""
    return target.replicas * target.replica.parallelism.dp


def replica_config(target: Target, tables: StepTables, requests: Requests) -> ReplicaConfig:
    """Return what the kernel needs of one replica (or data-parallel rank) for these requests."""
    replica = target.replica
    memory = fit(replica)
    block = memory.kv_block_tokens
    lengths = requests.input_tokens + requests.output_tokens
    blocks = max(memory.kv_blocks // replica.parallelism.dp, math.ceil(int(lengths.max()) / block) + 1)
    seqs = min(math.ceil(replica.max_num_seqs / replica.parallelism.dp), tables.max_num_seqs, memory.state_slots)
    if replica.engine.reserves_answers:
        seqs = max(min(seqs, int(blocks * block / float(lengths.mean()))), 1)
    return ReplicaConfig(
        steps=tables,
        max_num_seqs=seqs,
        max_num_batched_tokens=tables.max_batched_tokens,
        kv_blocks=blocks,
        block_tokens=block,
        fixed_blocks_per_seq=memory.fixed_blocks,
        prefix_cache=bool(replica.settings.prefix_cache),
        chunked_prefill=replica.engine.chunked_prefill,
        batching=replica.engine.batching,
        draft_tokens=replica.settings.draft_tokens,
        draft_acceptance_frac=replica.settings.draft_acceptance_frac,
    )

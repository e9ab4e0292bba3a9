"""The front door of the room: simulate a fleet on a workload or on given requests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from envelope.errors import InputError, Problem
from envelope.serving.arrivals import Window, generate, sensitivities, window_of
from envelope.serving.fleet import Fleet
from envelope.serving.metrics import (
    Measured,
    class_result,
    hosted_usage,
    interval,
    joined,
    measure,
    private_left,
    served_outside,
)  # fmt: skip
from envelope.serving.requests import ClassInfo, Floats, Ints, Requests, replace_columns
from envelope.serving.result import Bottleneck, Interval, SimulationResult, Timeline
from envelope.serving.run import Run, run_once
from envelope.spec.load import Reporter
from envelope.spec.workload import Workload

WARMUP_FRAC = 0.1
"""Share of the simulated time that fills queues and caches and is not counted."""


def simulate(
    fleet: Fleet,
    work: Workload | Requests,
    *,
    seed: int = 1,
    seeds: int = 1,
    max_requests: int = 20_000,
    window: Window | None = None,
    share: float = 1.0,
    year: int = 0,
    warmup_frac: float = WARMUP_FRAC,
    flat: bool = True,
    table: Path | None = None,
    report: Reporter | None = None,
) -> SimulationResult:
    """Return how ``fleet`` serves ``work``.

    A workload is simulated in its busiest hour (or ``window``), at most about ``max_requests`` requests per seed,
    with ``share`` of its load and the growth until ``year``; ``seeds`` independent repetitions give the
    confidence intervals. Requests given as columns are served as they stand, once. After the window everything
    in flight is served to its end, so that no latency is cut off. ``table`` writes one row per request (CSV) of
    the first seed.
    """
    runs: list[Run] = []
    numbers = [seed + i for i in range(seeds)] if isinstance(work, Workload) else [seed]
    for i, number in enumerate(numbers):
        requests = work if isinstance(work, Requests) else _drawn(
            work, number, window, max_requests, share, year, flat
        )  # fmt: skip
        span = requests.span_s if np.isfinite(requests.span_s) else 0.0
        runs.append(run_once(fleet, requests, seed=number, warmup_s=warmup_frac * span))
        if report is not None:
            report((i + 1) / len(numbers), f"seed {number}")
    if table is not None:
        write_table(runs[0], table)
    return summarise(runs, numbers, share)


def _drawn(
    work: Workload, seed: int, window: Window | None, max_requests: int, share: float, year: int, flat: bool
) -> Requests:
    if not 0 < share <= 1:
        raise InputError(Problem("simulation", "share", share, "must be above 0 and at most 1"))
    if work.trace is not None:
        return recorded(work, Path(work.trace), seed=seed, max_requests=max_requests)
    chosen = window or window_of(work, max_requests=max_requests, share=share * work.rate_in_year(year))
    return generate(work, seed=seed, window=chosen, share=share, year=year, flat=flat)


def recorded(work: Workload, log: Path, *, seed: int, max_requests: int) -> Requests:
    """Return the first ``max_requests`` requests of a log as requests of the workload's first task class.

    The class gives limits, difficulty and sensitivity; lengths and times are the log's. Later calls of a session
    wait for the answer before.
    """
    from envelope.serving.logs.detect import read_log
    from envelope.serving.logs.trace import Trace, head, requests_of

    trace = read_log(log)
    if not isinstance(trace, Trace):
        raise InputError(Problem("workload", "trace", str(log), "holds totals, not single requests"))
    made = requests_of(head(trace, max_requests), closed_sessions=trace.session is not None, seed=seed)
    task = work.tasks[0]
    group = np.where(made.chain >= 0, made.chain, np.arange(len(made)) + made.chains)
    return replace_columns(
        made,
        classes=(ClassInfo(task.id, task.slo, task.difficulty, task.priority, task.adapter),),
        sensitivity=sensitivities((task,), seed, np.zeros(len(made), dtype=np.int64), group),
    )


def summarise(runs: Sequence[Run], seeds: Sequence[int], share: float = 1.0) -> SimulationResult:
    """Return the statistics of runs that differ in their seed alone."""
    parts = [measure(run) for run in runs]
    everything = joined(parts)
    seconds = sum(_seconds(run) for run in runs)
    gaps = sum((run.final.gaps - run.warm.gaps for run in runs), np.zeros_like(runs[0].final.gaps))
    classes = tuple(
        class_result(c.id, everything, everything.task == i, gaps[i], seconds)
        for i, c in enumerate(runs[0].requests.classes)
    )
    all_rows = np.ones(len(everything.task), dtype=np.bool_)
    overall = class_result("all", everything, all_rows, gaps.sum(axis=0), seconds)
    per = 1.0 / len(runs)
    busy = sum(_delta(run, "busy_s") for run in runs)
    up = sum(_delta(run, "up_s") for run in runs)
    energy = sum(run.ended.energy_j - run.warm.energy_j for run in runs)
    fresh = sum(run.ended.tokens_in - run.warm.tokens_in for run in runs)
    hit = sum(run.ended.tokens_hit - run.warm.tokens_hit for run in runs)
    out = sum(run.ended.tokens_out - run.warm.tokens_out for run in runs)
    return SimulationResult(
        seeds=tuple(seeds), window_s=seconds * per, warmup_s=runs[0].warm.time_s, share_frac=share,
        requests=overall.offered, completed=overall.completed,
        completed_outside=sum(served_outside(run, part) for run, part in zip(runs, parts, strict=True)),
        overall=overall, classes=classes,
        slo_attainment=interval([float(p.good.mean()) if len(p.good) else 0.0 for p in parts], 1.0),
        goodput_per_s=interval([p.good.sum() / max(_seconds(r), 1e-9) for p, r in zip(parts, runs, strict=True)]),
        served=interval([float(p.done.mean()) if len(p.good) else 0.0 for p in parts], 1.0),
        ttft_p95_s=_ttft_interval(parts), private_requests_left=sum(private_left(run) for run in runs),
        output_tokens_per_s=out / max(seconds, 1e-9), prompt_tokens_per_s=fresh / max(seconds, 1e-9),
        prefix_hit_frac=hit / max(hit + fresh, 1), utilisation_frac=min(busy / max(up, 1e-9), 1.0),
        busy_s=busy * per, energy_j=energy * per, mean_power_w=energy / max(seconds, 1e-9),
        preemptions=int(sum(run.peaks[:, 0].sum() for run in runs)),
        peak_replicas=max(run.peak_replicas for run in runs),
        hosted=hosted_usage(everything, runs[0].fleet.hosted.input_thresholds if runs[0].fleet.hosted else ()),
        bottleneck=_bottleneck(runs), timeline=_timeline(runs[0]), events=_events(runs),
        log=runs[0].log, running_frac=_running_frac(runs),
        notes=_notes(runs),
    )  # fmt: skip


def _seconds(run: Run) -> float:
    return run.ended.time_s - run.warm.time_s


def _delta(run: Run, name: str) -> float:
    return float(np.sum(getattr(run.ended, name) - getattr(run.warm, name)))


def _ttft_interval(parts: list[Measured]) -> Interval | None:
    values = [float(np.percentile(p.ttft_s[p.done], 95)) for p in parts if p.done.any()]
    return interval(values) if values else None


def _bottleneck(runs: Sequence[Run]) -> Bottleneck:
    bound = sum((r.final.bound_s - r.warm.bound_s for r in runs), np.zeros(4))
    queue = sum((r.final.blocked_s - r.warm.blocked_s for r in runs), np.zeros(7))
    total = max(float(bound.sum()), 1e-12)
    shares, waits = bound / total, queue / total
    names = ("compute", "memory", "communication", "overhead")
    first = int(np.argmax(shares))
    text = f"{names[first]}-bound {100 * shares[first]:.0f} % of busy time"
    reasons = {"KV blocks": waits[1] + waits[5], "a place in the batch": waits[2], "the token budget": waits[3]}
    worst = max(reasons, key=lambda name: float(reasons[name]))
    if reasons[worst] >= 0.01:
        text += f"; the queue waits for {worst} {100 * reasons[worst]:.0f} %"
    return Bottleneck(
        compute_frac=shares[0], memory_frac=shares[1], communication_frac=shares[2], overhead_frac=shares[3],
        queue_for_kv_frac=waits[1] + waits[5], queue_for_seqs_frac=waits[2], queue_for_tokens_frac=waits[3],
        text=text if bound.sum() > 0 else "nothing ran on local replicas",
    )  # fmt: skip


def _timeline(run: Run) -> Timeline:
    t, energy = run.tick_times[:, 0], run.tick_times[:, 1]
    step = np.diff(t, prepend=0.0)
    watts = np.diff(energy, prepend=0.0) / np.where(step > 0, step, 1.0)
    blocks = max(sum(p.replica.kv_blocks for p in run.fleet.replicas), 1)

    def listed(values: Floats | Ints) -> tuple[float, ...]:
        return tuple(float(v) for v in values)

    return Timeline(
        t_s=listed(t),
        queue=listed(run.ticks[:, 0]),
        running=listed(run.ticks[:, 1]),
        kv_used_frac=listed(run.ticks[:, 2] / blocks),
        power_w=listed(np.clip(watts, 0.0, None)),
        hosted=listed(run.ticks[:, 3]),
    )


def _running_frac(runs: Sequence[Run]) -> float:
    possible = sum(_seconds(run) * len(run.fleet.replicas) for run in runs)
    return min(sum(_delta(run, "up_s") for run in runs) / possible, 1.0) if possible > 0 else 1.0


def _events(runs: Sequence[Run]) -> dict[str, int]:
    names = sorted({name for run in runs for name in run.events})
    return {name: sum(run.events.get(name, 0) for run in runs) for name in names}


def _notes(runs: Sequence[Run]) -> tuple[str, ...]:
    run = runs[0]
    notes = [
        f"the first {run.warm.time_s:.0f} s warm queues and caches up and are not counted; "
        "requests in flight at the end are served to their end"
    ]
    queue, quarter = run.ticks[:, 0], len(run.ticks) // 4
    if quarter >= 2 and queue[-quarter:].mean() > 1.7 * queue[quarter : 2 * quarter].mean() + 20:
        notes.append("the queue still grew at the end: the fleet is overloaded and latencies depend on the window")
    return tuple(notes)


def write_table(run: Run, path: Path) -> None:
    """Write one row per counted request of a run as CSV: class, sensitivity, place, tokens and times."""
    m = measure(run)
    names = [c.id for c in run.requests.classes]
    head = "task,sensitivity,status,server,input_tokens,output_tokens,arrival_s,ttft_s,tpot_s,e2e_s,preemptions"
    rows = [
        f"{names[t]},{s},{st},{sv},{i},{o},{a:.6f},{f:.6f},{tp:.6f},{e:.6f},{p}"
        for t, s, st, sv, i, o, a, f, tp, e, p in zip(
            m.task, m.sensitivity, m.status, m.server, m.input_tokens, m.output_tokens, m.arrival_s, m.ttft_s,
            m.tpot_s, m.e2e_s, m.preemptions, strict=True,
        )
    ]  # fmt: skip
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")

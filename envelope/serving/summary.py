"""The statistics of runs as one result: percentiles, shares, timelines and what limits the fleet."""

from collections.abc import Sequence

import numpy as np

from envelope.serving.metrics import interval
from envelope.serving.requests import Floats, Ints
from envelope.serving.result import Bottleneck, Interval, SimulationResult, Timeline
from envelope.serving.run import Run
from envelope.serving.strata import solved_frac, strata_of
from envelope.serving.tally import RunTally, Tally, class_result, hosted_usage, joined


def summarise(
    runs: Sequence[Run], tallies: Sequence[RunTally], seeds: Sequence[int], share: float = 1.0
) -> SimulationResult:
    """Return the statistics of runs that differ in their seed alone, and of their requests."""
    seconds = sum(_seconds(run) for run in runs)
    gaps = sum((run.final.gaps - run.warm.gaps for run in runs), np.zeros_like(runs[0].final.gaps))
    infos, fleet = runs[0].classes, runs[0].fleet
    strata = strata_of(tallies[0].strata.joined([tally.strata for tally in tallies[1:]]), infos, fleet)
    difficulty = [info.difficulty for info in infos]
    classes = tuple(
        class_result(
            c.id, joined([tally.classes[i] for tally in tallies]), gaps[i], seconds,
            solved_frac([s for s in strata if s.task == i], difficulty, fleet),
        )
        for i, c in enumerate(infos)
    )  # fmt: skip
    wholes = [tally.all for tally in tallies]
    overall = class_result("all", joined(wholes), gaps.sum(axis=0), seconds, solved_frac(strata, difficulty, fleet))
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
        completed_outside=sum(tally.outside for tally in tallies),
        overall=overall, classes=classes, strata=strata,
        slo_attainment=_pooled(overall.slo_attainment_frac, [whole.share("good") for whole in wholes]),
        goodput_per_s=interval([w.number["good"] / max(_seconds(r), 1e-9) for w, r in zip(wholes, runs, strict=True)]),
        served=_pooled(overall.served_frac, [whole.share("completed") - whole.share("late") for whole in wholes]),
        ttft_p95_s=_ttft_interval(wholes), private_requests_left=sum(tally.private_left for tally in tallies),
        output_tokens_per_s=out / max(seconds, 1e-9), prompt_tokens_per_s=fresh / max(seconds, 1e-9),
        prefix_hit_frac=hit / max(hit + fresh, 1), utilisation_frac=min(busy / max(up, 1e-9), 1.0),
        busy_s=busy * per, energy_j=energy * per, mean_power_w=energy / max(seconds, 1e-9),
        preemptions=int(sum(run.peaks[:, 0].sum() for run in runs)),
        peak_replicas=max(run.peak_replicas for run in runs),
        hosted=hosted_usage(tallies),
        bottleneck=_bottleneck(runs), timeline=_timeline(runs[0]), events=_events(runs),
        log=runs[0].log, running_frac=_running_frac(runs),
        notes=_notes(runs),
    )  # fmt: skip


def _pooled(share: float, by_seed: Sequence[float]) -> Interval:
    """Return the share of all requests, with the interval that the seeds give it: one number on every face."""
    around = interval(by_seed, 1.0)
    return Interval(mean=share, low=min(around.low, share), high=max(around.high, share))


def _seconds(run: Run) -> float:
    return run.ended.time_s - run.warm.time_s


def _delta(run: Run, name: str) -> float:
    return float(np.sum(getattr(run.ended, name) - getattr(run.warm, name)))


def _ttft_interval(wholes: Sequence[Tally]) -> Interval | None:
    values = [value for whole in wholes for value in whole.ttft_s.quantiles((0.95,))]
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
    blocks = max(sum(p.replica.usable_blocks for p in run.fleet.replicas), 1)

    def listed(values: Floats | Ints) -> tuple[float, ...]:
        return tuple(float(v) for v in values)

    return Timeline(
        t_s=listed(t),
        queue=listed(run.ticks[:, 0]),
        running=listed(run.ticks[:, 1]),
        kv_used_frac=listed(run.ticks[:, 2] / blocks),
        power_w=listed(np.clip(watts, 0.0, None)),
        hosted=listed(run.ticks[:, 3]),
        hosted_frac=listed(run.ticks[:, 3] / np.maximum(run.ticks[:, [0, 1, 3]].sum(axis=1), 1)),
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

"""Statistics of runs: percentiles, attainment, goodput and their confidence intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envelope.serving.fleet import TIERS, Fleet
from envelope.serving.kernel import layout as k
from envelope.serving.requests import ClassInfo, Floats, Ints, Mask, Requests
from envelope.serving.result import CURVE_FRACS, ClassResult, Curves, HostedBand, HostedUsage, Interval, Spread
from envelope.serving.run import Run
from envelope.serving.state import EDGES


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Columns of the requests that count: those that started in the measured time."""

    task: Ints
    status: Ints
    server: Ints
    sensitivity: Ints
    flags: Ints
    input_tokens: Ints
    output_tokens: Ints
    hosted_hit: Ints
    attempts: Ints
    preemptions: Ints
    restarts: Ints
    left: Ints
    arrival_s: Floats
    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats
    good: Mask
    solved: Mask

    @property
    def done(self) -> Mask:
        """Whether each was served."""
        return np.asarray(self.status == k.STATUS_DONE)

    @property
    def hosted(self) -> Mask:
        """Whether the hosted API gave the answer."""
        return self.done & (self.server < 0)


def measure(run: Run, rows: Mask | None = None) -> Measured:
    """Return the columns of the counted requests of a run (``rows`` overrides which ones count)."""
    requests, rq, rx = run.requests, run.rq, run.rx
    begun = rq[:, k.Q_STATUS] != k.STATUS_CUT
    arrived = rx[:, k.F_ARRIVAL]
    if rows is None:
        rows = begun & (arrived >= run.warm.time_s)
    q, x = rq[rows], rx[rows]
    extra = _request_overhead(run.fleet, q[:, k.Q_SERVER]) + _admission_lag(run.fleet, q, x)
    ttft = x[:, k.F_FIRST] - x[:, k.F_ARRIVAL] + extra
    e2e = x[:, k.F_FINISH] - x[:, k.F_ARRIVAL] + extra
    output = q[:, k.Q_OUTPUT]
    with np.errstate(invalid="ignore"):
        tpot = np.where(output > 1, (e2e - ttft) / np.maximum(output - 1, 1), np.nan)
    done = q[:, k.Q_STATUS] == k.STATUS_DONE
    task = q[:, k.Q_CLASS]
    return Measured(
        task=task, status=q[:, k.Q_STATUS], server=q[:, k.Q_SERVER], sensitivity=q[:, k.Q_SENSITIVITY],
        flags=q[:, k.Q_FLAGS], input_tokens=q[:, k.Q_INPUT], output_tokens=output,
        hosted_hit=np.minimum(q[:, k.Q_HOSTED_HIT], q[:, k.Q_INPUT]), attempts=q[:, k.Q_ATTEMPTS],
        preemptions=q[:, k.Q_PREEMPTIONS], restarts=q[:, k.Q_RESTARTS], left=q[:, k.Q_LEFT],
        arrival_s=x[:, k.F_ARRIVAL], ttft_s=ttft, tpot_s=tpot, e2e_s=e2e,
        good=done & _within(requests.classes, task, ttft, tpot, e2e),
        solved=done & _solved(run.fleet, requests.classes, q[:, k.Q_SERVER], task, x[:, k.F_UNIFORM]),
    )  # fmt: skip


def _request_overhead(fleet: Fleet, server: Ints) -> Floats:
    """Return the time outside the engine loop that each request's replica adds."""
    times = np.array([*(p.replica.steps.request_overhead_s for p in fleet.replicas), 0.0])
    extra: Floats = times[server]
    return extra


def _admission_lag(fleet: Fleet, q: Ints, x: Floats) -> Floats:
    """Return the steps that an engine lets pass before a request's first one, at the request's own mean gap.

    They lengthen what the client sees and occupy nothing, so that they need no place in the kernel's clock.
    """
    per_server = np.array([*(p.replica.admission_steps / p.replica.tokens_per_step for p in fleet.replicas), 0.0])[
        q[:, k.Q_SERVER]
    ]
    with np.errstate(invalid="ignore"):
        gap = (x[:, k.F_FINISH] - x[:, k.F_FIRST]) / np.maximum(q[:, k.Q_OUTPUT] - 1, 1)
    lag: Floats = np.where(np.isfinite(gap), per_server * gap, 0.0)
    return lag


def _within(classes: tuple[ClassInfo, ...], task: Ints, ttft: Floats, tpot: Floats, e2e: Floats) -> Mask:
    """Return whether each request kept every limit of its class."""
    limits = np.array(
        [[math.inf if v is None else v for v in (c.slo.ttft_s, c.slo.tpot_s, c.slo.e2e_s)] for c in classes]
    )[task]
    with np.errstate(invalid="ignore"):
        kept = (ttft <= limits[:, 0]) & (e2e <= limits[:, 2]) & (np.isnan(tpot) | (tpot <= limits[:, 1]))
    return np.asarray(kept, dtype=np.bool_)


def _solved(fleet: Fleet, classes: tuple[ClassInfo, ...], server: Ints, task: Ints, u: Floats) -> Mask:
    """Return whether the model that answered does not fail: the same draw decides for every model."""
    hosted = fleet.hosted.tier if fleet.hosted else "frontier"
    tiers = np.array([*(TIERS.index(p.tier) for p in fleet.replicas), TIERS.index(hosted)])
    table = np.array([[c.difficulty.small, c.difficulty.mid, c.difficulty.frontier] for c in classes])
    return np.asarray(u >= table[task, tiers[server]], dtype=np.bool_)


def joined(parts: Sequence[Measured]) -> Measured:
    """Return the requests of several runs as one."""
    if len(parts) == 1:
        return parts[0]
    names = Measured.__slots__
    return Measured(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})


def spread(values: Floats) -> Spread | None:
    """Return mean and percentiles, leaving out values that are not numbers; ``None`` if there are none."""
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return None
    p50, p90, p95, p99 = np.percentile(known, (50, 90, 95, 99))
    return Spread(mean=float(known.mean()), p50=p50, p90=p90, p95=p95, p99=p99)


def gap_spread(gaps: Ints, mean: float) -> Spread | None:
    """Return the spread of gaps between tokens from their histogram, exact to about 2 % (half a bin).

    ``mean`` is known exactly from the requests' own times.
    """
    if not gaps.any() or not math.isfinite(mean):
        return None
    p50, p90, p95, p99 = gap_quantiles(gaps, (0.5, 0.9, 0.95, 0.99))
    return Spread(mean=mean, p50=p50, p90=p90, p95=p95, p99=p99)


def gap_quantiles(gaps: Ints, shares: Sequence[float]) -> tuple[float, ...]:
    """Return the gaps that so large shares of them do not exceed, read off their histogram; none without gaps."""
    total = int(gaps.sum())
    if total == 0:
        return ()
    upto = np.cumsum(gaps)
    upper = np.append(EDGES[1:], EDGES[-1] * 1.04)

    def at(p: float) -> float:
        rank = max(p * total, 1e-9)
        b = int(np.searchsorted(upto, rank))
        inside = (rank - (upto[b] - gaps[b])) / gaps[b]
        return float(EDGES[b] + inside * (upper[b] - EDGES[b]))

    return tuple(at(p) for p in shares)


def curve(values: Floats) -> tuple[float, ...]:
    """Return the values that the shares ``CURVE_FRACS`` of them do not exceed; none without values."""
    known = values[np.isfinite(values)]
    return tuple(float(v) for v in np.quantile(known, CURVE_FRACS)) if len(known) else ()


def interval(values: Sequence[float], most: float = math.inf) -> Interval:
    """Return the mean over seeds with its 95 % interval by Student's t, kept within 0 and ``most``."""
    mean = float(np.mean(values))
    n = len(values)
    if n < 2:
        return Interval(mean=mean, low=mean, high=mean)
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, 0.975)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Interval(mean=mean, low=max(mean - half, 0.0), high=min(mean + half, most))


def class_result(ident: str, m: Measured, rows: Mask, gaps: Ints, seconds: float) -> ClassResult:
    """Return the statistics of the requests in ``rows``; ``gaps`` is their histogram, ``seconds`` the time."""
    n = int(rows.sum())
    done = rows & m.done

    def count(mask: Mask) -> int:
        return int(np.sum(mask & rows))

    def flag(bit: int) -> int:
        return count((m.flags & bit) > 0)

    more = done & (m.output_tokens > 1)
    tokens = int((m.output_tokens[more] - 1).sum())
    mean_gap = float((m.e2e_s - m.ttft_s)[more].sum()) / tokens if tokens else math.nan
    good = count(m.good)
    return ClassResult(
        id=ident, offered=n, completed=int(done.sum()), completed_hosted=count(m.hosted),
        refused_private=count(m.status == k.STATUS_REFUSED_PRIVATE),
        refused_length=count(m.status == k.STATUS_REFUSED_LENGTH),
        refused_hosted=count(m.status == k.STATUS_REFUSED_HOSTED),
        unfinished=count((m.status == k.STATUS_QUEUED) | (m.status == k.STATUS_UNBORN)),
        degraded=flag(k.FLAG_DEGRADED), escalated=flag(k.FLAG_ESCALATED), spilled=flag(k.FLAG_SPILLED),
        waited_for_repair=flag(k.FLAG_PARKED), preempted=count(m.preemptions > 0),
        restarted=count(m.restarts > 0), solved_frac=count(m.solved) / max(n, 1),
        slo_attainment_frac=good / max(n, 1), goodput_per_s=good / seconds if seconds > 0 else 0.0,
        mean_input_tokens=float(m.input_tokens[rows].mean()) if n else 0.0,
        mean_output_tokens=float(m.output_tokens[rows].mean()) if n else 0.0,
        ttft_s=spread(m.ttft_s[done]), itl_s=gap_spread(gaps, mean_gap), tpot_s=spread(m.tpot_s[done]),
        e2e_s=spread(m.e2e_s[done]),
        curves=Curves(
            ttft_s=curve(m.ttft_s[done]), itl_s=gap_quantiles(gaps, CURVE_FRACS), tpot_s=curve(m.tpot_s[done]),
            e2e_s=curve(m.e2e_s[done]),
        ),
    )  # fmt: skip


def hosted_usage(m: Measured, thresholds: Sequence[int] = ()) -> HostedUsage:
    """Return what the hosted API bills for the counted requests, split at these prompt lengths."""
    sent = m.hosted
    starts = [0, *sorted(set(thresholds) - {0})]
    ends = [*starts[1:], math.inf]
    bands = tuple(
        _band(m, sent & (m.input_tokens > (start or -1)) & (m.input_tokens <= end), start)
        for start, end in zip(starts, ends, strict=True)
    )
    return HostedUsage(
        requests=int(sent.sum()),
        attempts=int(m.attempts.sum()),
        input_tokens=sum(band.input_tokens for band in bands),
        cached_input_tokens=sum(band.cached_input_tokens for band in bands),
        output_tokens=sum(band.output_tokens for band in bands),
        bands=bands,
    )


def _band(m: Measured, rows: Mask, above: int) -> HostedBand:
    cached = int(m.hosted_hit[rows].sum())
    return HostedBand(
        above_input_tokens=above,
        input_tokens=int(m.input_tokens[rows].sum()) - cached,
        cached_input_tokens=cached,
        output_tokens=int(m.output_tokens[rows].sum()),
    )


def served_outside(run: Run, m: Measured) -> int:
    """Return how many of the counted requests were served by anything outside the building."""
    inside = np.array([*(p.inside for p in run.fleet.replicas), False])
    return int(np.sum(m.done & ~inside[m.server]))


def private_left(run: Run) -> int:
    """Return how many private requests of a run, warm-up included, entered anything outside the building.

    Counted from the requests' own records and the place that served them, not from the router's decisions.
    """
    inside = np.array([*(p.inside for p in run.fleet.replicas), False])
    server, status = run.rq[:, k.Q_SERVER], run.rq[:, k.Q_STATUS]
    served_outside = (status == k.STATUS_DONE) & ~inside[server]
    out = served_outside | (run.rq[:, k.Q_LEFT] > 0) | (run.rq[:, k.Q_ATTEMPTS] > 0)
    return int(np.sum(out & (run.requests.sensitivity == k.PRIVATE)))


def check_lost(requests: Requests, run: Run) -> int:
    """Return requests whose end is unknown although the simulation served everything: must be 0."""
    known = np.isin(run.rq[:, k.Q_STATUS], (k.STATUS_DONE, k.STATUS_CUT, k.STATUS_QUEUED)) | (
        run.rq[:, k.Q_STATUS] >= k.STATUS_REFUSED_PRIVATE
    )
    return int(len(requests) - np.sum(known))

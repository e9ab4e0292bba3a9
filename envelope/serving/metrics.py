"""Statistics of runs: percentiles, attainment, goodput and their confidence intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envelope.serving.fleet import TIERS, Fleet, Tier
from envelope.serving.kernel import layout as k
from envelope.serving.requests import ClassInfo, Floats, Ints, Mask
from envelope.serving.result import Interval
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
    client: Ints
    hit: Ints
    """Prompt tokens that the cache of the replica held."""
    before: Ints
    """Prompt tokens of the call before in the same dialogue."""
    gap_s: Floats
    """Time between the answer to it and this request."""
    arrival_s: Floats
    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats
    good: Mask
    solved: Mask
    hard: Mask
    """Whether the fleet's own model would fail it."""
    outside: Mask
    """Whether it entered anything outside the building, served there or not."""
    late: Mask
    """Whether it was answered when nobody waits any more: counted as not served."""

    @property
    def done(self) -> Mask:
        """Whether each was answered, however late."""
        return np.asarray(self.status == k.STATUS_DONE)

    @property
    def served(self) -> Mask:
        """Whether each was answered while somebody waited."""
        return self.done & ~self.late

    @property
    def hosted(self) -> Mask:
        """Whether the hosted API gave the answer."""
        return self.done & (self.server < 0)


LATE_S = 3600.0
"""Time to the first token beyond which an answer comes too late to count as served, unless its SLO allows longer; for
a class without any limit, such as work over night, no answer comes too late."""


def measure(run: Run) -> Measured:
    """Return the columns of the counted requests of a run that holds all of them."""
    return measured(run.fleet, run.classes, run.rq, run.rx, run.warm.time_s)


def measured(
    fleet: Fleet, classes: tuple[ClassInfo, ...], rq: Ints, rx: Floats, since_s: float = -math.inf
) -> Measured:
    """Return the columns of those of some requests that began, and not before ``since_s``."""
    rows = (rq[:, k.Q_STATUS] != k.STATUS_CUT) & (rx[:, k.F_ARRIVAL] >= since_s)
    q, x = rq[rows], rx[rows]
    extra = _request_overhead(fleet, q[:, k.Q_SERVER]) + _admission_lag(fleet, q, x)
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
        client=q[:, k.Q_SEAT], hit=q[:, k.Q_HIT], before=q[:, k.Q_BEFORE], gap_s=x[:, k.F_GAP],
        arrival_s=x[:, k.F_ARRIVAL], ttft_s=ttft, tpot_s=tpot, e2e_s=e2e,
        good=done & _within(classes, task, ttft, tpot, e2e),
        solved=done & ~_late(classes, task, ttft) & _solved(fleet, classes, q[:, k.Q_SERVER], task, x[:, k.F_UNIFORM]),
        hard=_hard(fleet, classes, task, x[:, k.F_UNIFORM]),
        outside=_outside(fleet, q), late=done & _late(classes, task, ttft),
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


def _late(classes: tuple[ClassInfo, ...], task: Ints, ttft: Floats) -> Mask:
    return np.asarray(ttft > np.array([_patience_s(c) for c in classes])[task], dtype=np.bool_)


def _patience_s(info: ClassInfo) -> float:
    given = [limit for limit in (info.slo.ttft_s, info.slo.e2e_s) if limit is not None]
    return max(LATE_S, *given) if given else math.inf


def _solved(fleet: Fleet, classes: tuple[ClassInfo, ...], server: Ints, task: Ints, u: Floats) -> Mask:
    """Return whether the model that answered does not fail: the same draw decides for every model."""
    hosted = fleet.hosted.tier if fleet.hosted else "frontier"
    tiers = np.array([*(TIERS.index(p.tier) for p in fleet.replicas), TIERS.index(hosted)])
    table = np.array([[c.difficulty.small, c.difficulty.mid, c.difficulty.frontier] for c in classes])
    return np.asarray(u >= table[task, tiers[server]], dtype=np.bool_)


def own_tier(fleet: Fleet) -> Tier:
    """Return the tier of the fleet's own model, or that of the hosted API if there is none."""
    if fleet.replicas:
        return fleet.replicas[0].tier
    return fleet.hosted.tier if fleet.hosted else "frontier"


def _hard(fleet: Fleet, classes: tuple[ClassInfo, ...], task: Ints, u: Floats) -> Mask:
    """Return whether the own model fails each request: the same draw decides for every model."""
    fails = np.array([getattr(c.difficulty, own_tier(fleet)) for c in classes])
    return np.asarray(u < fails[task], dtype=np.bool_)


_WIDTHS = np.diff(EDGES, append=EDGES[-1] * 1.04)
"""Widths of the bins of gaps between tokens."""


def gap_quantiles(gaps: Ints, shares: Sequence[float]) -> tuple[float, ...]:
    """Return the gaps that so large shares of them do not exceed, read off their histogram; none without gaps."""
    total = int(gaps.sum())
    if total == 0:
        return ()
    upto, rank = np.cumsum(gaps), np.maximum(np.asarray(shares, dtype=np.float64) * total, 1e-9)
    b = np.searchsorted(upto, rank)
    inside = (rank - (upto[b] - gaps[b])) / gaps[b]
    return tuple((EDGES[b] + inside * _WIDTHS[b]).tolist())


def interval(values: Sequence[float], most: float = math.inf) -> Interval:
    """Return the mean over seeds with its 95 % interval by Student's t, kept within 0 and ``most``."""
    mean = float(np.mean(values))
    n = len(values)
    if n < 2:
        return Interval(mean=mean, low=mean, high=mean)
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, 0.975)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Interval(mean=mean, low=max(mean - half, 0.0), high=min(mean + half, most))


def _outside(fleet: Fleet, rq: Ints) -> Mask:
    """Return which requests entered anything outside the building.

    Read off the requests' own records and the place that served them, not off the router's decisions.
    """
    served = (rq[:, k.Q_STATUS] == k.STATUS_DONE) & ~_inside(fleet)[rq[:, k.Q_SERVER]]
    return np.asarray(served | (rq[:, k.Q_LEFT] > 0) | (rq[:, k.Q_ATTEMPTS] > 0), dtype=np.bool_)


def private_left(fleet: Fleet, rq: Ints) -> int:
    """Return how many of these requests are private and entered anything outside the building."""
    return int(np.sum(_outside(fleet, rq) & (rq[:, k.Q_SENSITIVITY] == k.PRIVATE)))


def _inside(fleet: Fleet) -> Mask:
    """Return whether each replica, and last the hosted API (number −1), stands inside the building."""
    return np.array([*(p.inside for p in fleet.replicas), False])

"""What remains of the requests of a run: counts, sums and sketches by task class, but no requests."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from envelope.serving.fleet import Fleet
from envelope.serving.kernel import layout as k
from envelope.serving.metrics import Measured, gap_quantiles
from envelope.serving.requests import ClassInfo, Ints, Mask
from envelope.serving.result import CURVE_FRACS, ClassResult, Curves, HostedBand, HostedUsage, Spread
from envelope.serving.sketch import Sketch
from envelope.serving.strata import Strata, empty_strata


@dataclass(slots=True)
class Tally:
    """Requests of one task class, or of all."""

    number: Counter[str] = field(default_factory=Counter)
    gap_s: float = 0.0
    """Time between the first and the last token, of all answers."""
    ttft_s: Sketch = field(default_factory=Sketch)
    tpot_s: Sketch = field(default_factory=Sketch)
    e2e_s: Sketch = field(default_factory=Sketch)

    def add(self, m: Measured, rows: Mask) -> None:
        """Count the requests in ``rows``."""
        done = rows & m.done
        more = done & (m.output_tokens > 1)
        for name, mask in _counted(m).items():
            self.number[name] += int(np.sum(mask & rows))
        self.number["input_tokens"] += int(m.input_tokens[rows].sum())
        self.number["output_tokens"] += int(m.output_tokens[rows].sum())
        self.number["gaps"] += int((m.output_tokens[more] - 1).sum())
        self.gap_s += float((m.e2e_s - m.ttft_s)[more].sum())
        for sketch, column in ((self.ttft_s, m.ttft_s), (self.tpot_s, m.tpot_s), (self.e2e_s, m.e2e_s)):
            sketch.add(column[done])

    def join(self, other: "Tally") -> None:
        """Add all that another tally holds."""
        self.number.update(other.number)
        self.gap_s += other.gap_s
        for name in ("ttft_s", "tpot_s", "e2e_s"):
            getattr(self, name).join(getattr(other, name))

    def share(self, name: str) -> float:
        """Return a count as share of the offered requests."""
        return self.number[name] / max(self.number["offered"], 1)


def _counted(m: Measured) -> dict[str, Mask]:
    """Return the requests that count under each name."""
    status, flags = m.status, m.flags
    return {
        "offered": np.ones(len(status), dtype=np.bool_),
        "completed": m.done,
        "late": m.late,
        "completed_hosted": m.hosted,
        "refused_private": status == k.STATUS_REFUSED_PRIVATE,
        "refused_length": status == k.STATUS_REFUSED_LENGTH,
        "refused_hosted": status == k.STATUS_REFUSED_HOSTED,
        "unfinished": (status == k.STATUS_QUEUED) | (status == k.STATUS_UNBORN),
        "degraded": (flags & k.FLAG_DEGRADED) > 0,
        "escalated": (flags & k.FLAG_ESCALATED) > 0,
        "spilled": (flags & k.FLAG_SPILLED) > 0,
        "waited_for_repair": (flags & k.FLAG_PARKED) > 0,
        "preempted": m.preemptions > 0,
        "restarted": m.restarts > 0,
        "good": m.good,
    }


@dataclass(slots=True)
class RunTally:
    """All that is kept of the requests of one run."""

    fleet: Fleet
    classes: list[Tally]
    strata: Strata
    hosted_requests: int = 0
    hosted_attempts: int = 0
    outside: int = 0
    """Requests that entered anything outside the building."""
    private_left: int = 0
    """Private ones among them."""

    @property
    def all(self) -> Tally:
        """All classes together."""
        return joined(self.classes)

    def add(self, m: Measured) -> None:
        """Count measured requests."""
        for i, tally in enumerate(self.classes):
            tally.add(m, m.task == i)
        self.hosted_requests += int(m.hosted.sum())
        self.hosted_attempts += int(m.attempts.sum())
        self.outside += int(m.outside.sum())
        self.private_left += int(np.sum(m.outside & (m.sensitivity == k.PRIVATE)))
        hosted = self.fleet.hosted
        self.strata.add(m, band_starts(self.fleet), math.inf if hosted is None else hosted.cache_ttl_s)


def empty_tally(fleet: Fleet, classes: Sequence[ClassInfo]) -> RunTally:
    """Return a tally of no requests."""
    return RunTally(fleet, [Tally() for _ in classes], empty_strata(len(classes), len(band_starts(fleet))))


def band_starts(fleet: Fleet) -> list[int]:
    """Return the prompt lengths above which bands begin: where the tariff changes, and where a prompt is sent out, or
    refused, since the fleet's own replicas hold no longer one.
    """
    own = {n for pool in fleet.pools if (n := pool.replica.max_context_tokens) is not None}
    tariff = fleet.hosted.input_thresholds if fleet.hosted else ()
    return [0, *sorted({*tariff, *own} - {0})]


def joined(tallies: Sequence[Tally]) -> Tally:
    """Return several tallies as one."""
    whole = Tally()
    for tally in tallies:
        whole.join(tally)
    return whole


def hosted_usage(runs: Sequence[RunTally]) -> HostedUsage:
    """Return what the hosted API bills for the counted requests of several runs."""
    tokens = np.sum([run.strata.hosted.sum(axis=0) for run in runs], axis=0)
    fresh, cached, output = (int(n) for n in tokens.sum(axis=0))
    return HostedUsage(
        requests=sum(run.hosted_requests for run in runs),
        attempts=sum(run.hosted_attempts for run in runs),
        input_tokens=fresh,
        cached_input_tokens=cached,
        output_tokens=output,
        bands=tuple(
            HostedBand(
                above_input_tokens=start,
                input_tokens=int(row[0]),
                cached_input_tokens=int(row[1]),
                output_tokens=int(row[2]),
            )
            for start, row in zip(band_starts(runs[0].fleet), tokens, strict=True)
        ),
    )


def class_result(ident: str, tally: Tally, gaps: Ints, seconds: float, solved_frac: float) -> ClassResult:
    """Return the statistics of a class; ``gaps`` is its histogram of ITLs, ``seconds`` the measured time."""
    number, n = tally.number, max(tally.number["offered"], 1)
    mean_gap = tally.gap_s / number["gaps"] if number["gaps"] else math.nan
    return ClassResult(
        id=ident, offered=number["offered"], completed=number["completed"], late=number["late"],
        completed_hosted=number["completed_hosted"], refused_private=number["refused_private"],
        refused_length=number["refused_length"], refused_hosted=number["refused_hosted"],
        unfinished=number["unfinished"], degraded=number["degraded"], escalated=number["escalated"],
        spilled=number["spilled"], waited_for_repair=number["waited_for_repair"], preempted=number["preempted"],
        restarted=number["restarted"], solved_frac=solved_frac, slo_attainment_frac=tally.share("good"),
        goodput_per_s=number["good"] / seconds if seconds > 0 else 0.0,
        mean_input_tokens=number["input_tokens"] / n, mean_output_tokens=number["output_tokens"] / n,
        ttft_s=tally.ttft_s.spread(), itl_s=_gap_spread(gaps, mean_gap), tpot_s=tally.tpot_s.spread(),
        e2e_s=tally.e2e_s.spread(),
        curves=Curves(
            ttft_s=tally.ttft_s.quantiles(CURVE_FRACS), itl_s=gap_quantiles(gaps, CURVE_FRACS),
            tpot_s=tally.tpot_s.quantiles(CURVE_FRACS), e2e_s=tally.e2e_s.quantiles(CURVE_FRACS),
        ),
    )  # fmt: skip


def _gap_spread(gaps: Ints, mean: float) -> Spread | None:
    """Return the spread of gaps from their histogram, within 0.5 %; ``mean`` is exact, from the requests' times."""
    if not gaps.any() or not math.isfinite(mean):
        return None
    p50, p90, p95, p99 = gap_quantiles(gaps, (0.5, 0.9, 0.95, 0.99))
    return Spread(mean=mean, p50=p50, p90=p90, p95=p95, p99=p99)

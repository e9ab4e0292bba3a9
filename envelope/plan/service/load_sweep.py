"""The load at which one candidate breaks: latency against load, by multiples of the planned work."""

import math
from collections.abc import Callable, Sequence
from functools import partial

from envelope.plan.case.case import case_of
from envelope.plan.case.scenarios import chosen_candidates
from envelope.plan.service.prepare import prepare_for
from envelope.plan.service.simulate import simulate
from envelope.provenance import Frozen
from envelope.result import Result
from envelope.serving.result import Spread
from envelope.spec.load import Reporter
from envelope.spec.scenario import Candidate, Scenario

_PLANNED = (0.25, 0.5, 1.0)
_SWEEP_RUNS = 10
"""Simulations of a sweep, about."""
_HIGHEST = 64.0
_HALVINGS = 3


class LoadPoint(Frozen):
    """The service at one multiple of the planned load."""

    factor: float
    requests_per_s: float
    slo_attainment_frac: float
    served_frac: float
    keeps: bool
    """Whether both are what the scenario asks for."""
    ttft_s: Spread | None
    itl_s: Spread | None
    e2e_s: Spread | None
    goodput_per_s: float
    utilisation_frac: float
    hosted_frac: float
    mean_w: float
    bottleneck: str


class LoadSweep(Result):
    """Latency against load, up to where the service breaks."""

    scenario: str
    candidate: str
    name: str
    reasons: tuple[str, ...] = ()
    """Why the candidate cannot run at all."""
    points: tuple[LoadPoint, ...]
    """In the order of the load."""
    keeps_up_to: float | None
    """Largest simulated multiple up to which all points keep the service level; ``None`` if none does."""
    breaks_at: float | None
    """Smallest simulated multiple at which it breaks; ``None`` if no simulated one does."""
    slo_limit_frac: float


def load_sweep(
    scenario: Scenario,
    candidate_id: str,
    factors: Sequence[float] | None = None,
    *,
    seeds: int | None = None,
    progress: Reporter | None = None,
) -> LoadSweep:
    """Return latency against load, by multiples of the planned work in the busiest hour.

    Without ``factors`` the plan, its half and its quarter are simulated; if all keep the service level, the load is
    doubled until it breaks (at most 64 times the plan), and the step in which it breaks is halved three times in
    ratio. Given factors are simulated in order up to the first at which it breaks.
    """
    tell = progress or _silent
    candidate = chosen_candidates(scenario, [candidate_id])[0]
    repeats = seeds or scenario.simulation.seeds
    reasons = tuple(str(reason) for reason in case_of(scenario, candidate).reasons if reason.blocks)
    points: list[LoadPoint] = []

    def keeps(factor: float) -> bool:
        tell(min(len(points) / 12, 0.95), f"{factor:.3g} × the load")
        points.append(_point(scenario, candidate, factor, repeats))
        return points[-1].keeps

    if not reasons:
        prepare_for(scenario, [candidate], runs=_SWEEP_RUNS * repeats, tell=partial(tell, 0.0))
        _walk(keeps, factors)
    tell(1.0, "done")
    points.sort(key=lambda point: point.factor)
    broken = next((point.factor for point in points if not point.keeps), None)
    kept = [point.factor for point in points if point.keeps and (broken is None or point.factor < broken)]
    return LoadSweep(
        scenario=scenario.id, candidate=candidate.id, name=candidate.name, reasons=reasons, points=tuple(points),
        keeps_up_to=max(kept, default=None), breaks_at=broken,
        slo_limit_frac=scenario.constraints.slo_attainment_min_frac,
    )  # fmt: skip


def _silent(_share: float, _what: str) -> None:
    return None


def _walk(keeps: Callable[[float], bool], factors: Sequence[float] | None) -> None:
    """Simulate the given factors up to the first that breaks the service, or search for it."""
    if factors is None:
        _search(keeps)
        return
    for factor in sorted(factors):
        if not keeps(factor):
            return


def _search(keeps: Callable[[float], bool]) -> None:
    """Simulate the plan and parts of it, double the load until it breaks, then halve the interval in ratio."""
    kept = [factor for factor in _PLANNED if keeps(factor)]
    if len(kept) < len(_PLANNED):
        return
    low, high = kept[-1], 2 * kept[-1]
    while keeps(high):
        low, high = high, 2 * high
        if high > _HIGHEST:
            return
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if keeps(middle) else (low, middle)


def _point(scenario: Scenario, candidate: Candidate, factor: float, seeds: int) -> LoadPoint:
    run = simulate(scenario, candidate.id, seeds=seeds, load=factor)
    return LoadPoint(
        factor=factor,
        requests_per_s=run.requests_per_s,
        slo_attainment_frac=run.slo_attainment.mean,
        served_frac=run.overall.served_frac,
        keeps=run.keeps_service,
        ttft_s=run.overall.ttft_s,
        itl_s=run.overall.itl_s,
        e2e_s=run.overall.e2e_s,
        goodput_per_s=run.goodput_per_s.mean,
        utilisation_frac=run.utilisation_frac,
        hosted_frac=run.overall.hosted_frac,
        mean_w=run.energy.mean_w,
        bottleneck=run.bottleneck.text,
    )

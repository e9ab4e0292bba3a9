"""A cost study: the cash flows of a scenario's candidates with their uncertainty, against a baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from envelope.errors import InputError, Problem, unknown_name
from envelope.plan.case.fleet import Bench, resolve_bench
from envelope.plan.case.measured import measured_work
from envelope.plan.case.scenarios import chosen_candidates
from envelope.plan.case.usage import economics_of
from envelope.plan.cost.capacity import Tick, at_demand, grown_usage, sized_for
from envelope.plan.cost.volume import Volume, volume_costs
from envelope.plan.verdict.results import ServiceLevel
from envelope.provenance import Frozen
from envelope.result import Result
from envelope.spec.load import Reporter
from envelope.spec.scenario import Scenario
from envelope.tco import Comparison, TcoResult, compare
from envelope.tco.breakeven import TARIFFS, BreakEven, break_even_factor, break_even_month
from envelope.tco.evaluate import evaluate_model
from envelope.tco.model import Model, build
from envelope.tco.surface import Surface
from envelope.tco.uncertainty import (
    DRAWS,
    Quantiles,
    SobolIndex,
    TornadoBar,
    Uncertainty,
    sobol_indices,
    tornado,
    uncertainty,
)
from envelope.version import __version__

_SOBOL_DRAWS = 1024
_BREAK_EVEN_DRAWS = 1024
"""Draws of the break-even, which prices every candidate some eighty times."""


@dataclass(frozen=True, slots=True, eq=False)
class CostModels:
    """The cost models of the candidates that can run, before anything is priced."""

    scenario: Scenario
    models: dict[str, Model]
    service: dict[str, ServiceLevel]
    """Service level of each in the simulated time."""
    replicas: dict[str, tuple[int, ...]]
    """Replicas of each one's first pool by year, as growth asks for them."""
    left_out: dict[str, str]
    """Candidate → why it cannot run."""
    surfaces: dict[str, Surface]
    """Cost models over factors of the planned demand, if several were simulated."""
    volumes: dict[str, Volume]
    """Cost models over factors of the planned demand by the capacity of the planned replicas, for break-even."""


class CandidateCosts(Frozen):
    """What one candidate costs."""

    id: str
    name: str
    period: str
    """What was simulated, in words, such as ``the busiest hour``."""
    slo_attainment_frac: float
    served_frac: float
    keeps_service: bool
    """Whether both are at least what the scenario asks for; a cheaper candidate that does less work is no
    alternative."""
    replicas_by_year: tuple[int, ...]
    """Replicas of the first pool: a replica is added in the year whose simulated hour (or week) would break the SLO."""
    result: TcoResult
    against_baseline: Comparison | None
    """``None`` for the baseline itself."""
    peak_utilisation_frac: float | None
    """Busy share of its local replicas in the first year's busiest hour, or week."""
    break_even_volume: BreakEven | None
    """Factor on the planned volume of work, searched over the capacity surface: beyond what the planned replicas carry
    whole machines are added."""
    break_even_utilisation: BreakEven | None
    """Simulated load at the break-even volume, as a share of what the machines it takes carry within the SLO."""
    break_even_api_price: BreakEven | None
    """Factor on every hosted tariff."""
    break_even_month: BreakEven | None
    tornado: tuple[TornadoBar, ...]
    sobol: tuple[SobolIndex, ...]
    """First-order and total shares of the variance, the largest total first."""


class CostStudy(Result):
    """The costs of all candidates of a scenario."""

    scenario: str
    name: str
    question: str
    start: str
    horizon_months: int
    baseline: str
    candidates: tuple[CandidateCosts, ...]
    uncertainty: Uncertainty
    left_out: dict[str, str]
    version: str

    def candidate(self, ident: str) -> CandidateCosts:
        """Return the candidate of that id."""
        return next(c for c in self.candidates if c.id == ident)


def cost_models(
    scenario: Scenario,
    *,
    seeds: int | None = None,
    only: Sequence[str] | None = None,
    demand_factors: Sequence[float] = (),
    volumes: bool = True,
    progress: Reporter | None = None,
) -> CostModels:
    """Return the cost models of a scenario's candidates, each from a simulation of its busiest hours.

    Growth adds a replica in the year whose busiest hour would break the SLO, bought at that year's price.
    ``demand_factors`` are multiples of the planned demand that are simulated as well, each with the replicas that it
    takes; by default they span the range of ``demand_factor``, if it has one. Without them ``volumes`` says whether
    the capacity of the planned replicas is measured, for break-even above the planned demand.

    Candidates that cannot run (no memory, unsupported format …) are left out with the reason. Raises
    ``InputError`` for unknown names and missing prices.
    """
    chosen = chosen_candidates(scenario, only)
    tell = progress or _silent
    models: dict[str, Model] = {}
    service: dict[str, ServiceLevel] = {}
    replicas: dict[str, tuple[int, ...]] = {}
    left_out: dict[str, str] = {}
    surfaces: dict[str, Surface] = {}
    by_volume: dict[str, Volume] = {}
    factors = _factors(scenario, demand_factors)
    for index, candidate in enumerate(chosen):
        tick = partial(tell, index / len(chosen))
        tick(candidate.name)
        # Evaluation results, where there are any, replace the assumed difficulty, as in ``compare``.
        work, _ = measured_work(scenario, candidate)
        bench = resolve_bench(work, candidate)
        if not bench.runs:
            left_out[candidate.id] = "; ".join(str(reason) for reason in bench.reasons)
            continue
        grown = grown_usage(work, bench, seeds=seeds or scenario.simulation.seeds, tick=tick)
        service[candidate.id] = grown.service
        replicas[candidate.id] = grown.replicas
        models[candidate.id] = build(economics_of(scenario, candidate), grown.usage)
        if factors:
            planned = models[candidate.id]
            surfaces[candidate.id] = _surface(work, bench, factors, planned, grown.enough, tick)
        elif volumes:
            by_volume[candidate.id] = volume_costs(work, bench, grown, models[candidate.id], tick=tick)
    tell(1.0, "done")
    return CostModels(scenario, models, service, replicas, left_out, surfaces, by_volume)


def _surface(
    scenario: Scenario, bench: Bench, factors: Sequence[float], planned: Model, keeps: bool, tick: Tick
) -> Surface:
    """Return the cost models of one candidate at each demand, the planned one included.

    A candidate that ``keeps`` the SLO as planned gets the replicas that each demand takes; demands for which no
    number of replicas helps are left out, and the surface ends before them.
    """
    models = {1.0: planned}
    for factor in sorted(set(factors) - {1.0}):
        other = at_demand(scenario, factor)
        sized = sized_for(other, bench, tick=tick) if keeps and factor > 1 else bench
        if sized is None:
            break
        grown = grown_usage(other, sized, seeds=1, tick=tick)
        if keeps and factor > 1 and not grown.enough:
            break
        models[factor] = build(economics_of(scenario, bench.candidate), grown.usage)
    ordered = sorted(models)
    return Surface(tuple(ordered), tuple(models[factor] for factor in ordered))


def _factors(scenario: Scenario, given: Sequence[float]) -> tuple[float, ...]:
    """Return the demand factors to simulate: those given, or five that span the range of ``demand_factor``."""
    if given:
        return tuple(given)
    low, high = scenario.economics.demand_factor.bounds
    if low == high:
        return ()
    spread = scenario.economics.demand_factor.quantile(np.array([0.02, 0.25, 0.5, 0.75, 0.98]))
    return tuple(round(float(factor), 3) for factor in spread)


def tco(
    scenario: Scenario,
    *,
    baseline: str | None = None,
    only: Sequence[str] | None = None,
    seeds: int | None = None,
    demand_factors: Sequence[float] = (),
    draws: int = DRAWS,
    progress: Reporter | None = None,
) -> CostStudy:
    """Return what the candidates of a scenario cost over the years, with ranges, against a baseline.

    Raises ``InputError`` for unknown candidates and if none can run.
    """
    found = cost_models(scenario, seeds=seeds, only=only, demand_factors=demand_factors, progress=progress)
    return cost_study(found, baseline=baseline, draws=draws)


def cost_study(
    found: CostModels, *, baseline: str | None = None, draws: int = DRAWS, seed: int | None = None
) -> CostStudy:
    """Return the costs of all candidates, with ranges, and what each saves against the baseline.

    The baseline is by default the first candidate without machines of its own that keeps the service level, else the
    first that does, else the first. ``draws`` is a power of two; ``seed`` is the scenario's own unless
    given. Raises ``InputError`` if no candidate can run.
    """
    scenario, models = found.scenario, found.models
    if not models:
        rule = "has no candidate that can run: " + "; ".join(f"{k}: {v}" for k, v in found.left_out.items())
        raise InputError(Problem(scenario.id, "candidates", None, rule))
    base = _baseline(found, baseline)
    start = scenario.simulation.seed if seed is None else seed
    results = {ident: evaluate_model(model) for ident, model in models.items()}
    names = {c.id: c.name for c in scenario.candidates}
    candidates = tuple(_candidate(found, ident, names[ident], results, base, start) for ident in models)
    return CostStudy(
        scenario=scenario.id,
        name=scenario.name,
        question=scenario.question,
        start=scenario.economics.start,
        horizon_months=scenario.economics.horizon_months,
        baseline=base,
        candidates=candidates,
        uncertainty=uncertainty({i: found.surfaces.get(i, m) for i, m in models.items()}, draws=draws, seed=start),
        left_out=found.left_out,
        version=__version__,
    )


def _candidate(
    found: CostModels, ident: str, name: str, results: Mapping[str, TcoResult], base: str, seed: int
) -> CandidateCosts:
    model, baseline = found.models[ident], found.models[base]
    is_base = ident == base
    service = found.service[ident]
    volume = None if is_base else _break_even_volume(found, ident, base, seed)
    return CandidateCosts(
        id=ident,
        name=name,
        period=service.period,
        slo_attainment_frac=service.slo_attainment_frac,
        served_frac=service.served_frac,
        keeps_service=_keeps(found, ident),
        replicas_by_year=found.replicas[ident],
        result=results[ident],
        against_baseline=None if is_base else compare(results[ident], results[base]),
        peak_utilisation_frac=service.device_utilisation_frac,
        break_even_volume=volume,
        break_even_utilisation=_break_even_utilisation(found, ident, volume) if volume else None,
        break_even_api_price=None if is_base else _break_even_api_price(found, ident, base, seed),
        break_even_month=None if is_base else break_even_month(model, baseline, draws=_BREAK_EVEN_DRAWS, seed=seed),
        tornado=tuple(tornado(model)),
        sobol=tuple(sobol_indices(model, draws=_SOBOL_DRAWS, seed=seed)),
    )


def _break_even_volume(found: CostModels, ident: str, base: str, seed: int) -> BreakEven:
    surfaces = found.surfaces or {name: volume.surface for name, volume in found.volumes.items()}
    if not surfaces:
        own_model, base_model = found.models[ident], found.models[base]
        return break_even_factor(own_model, base_model, high=1.0, draws=_BREAK_EVEN_DRAWS, seed=seed)
    own, other = surfaces[ident], surfaces[base]
    low, high = max(own.factors[0], other.factors[0]), min(own.factors[-1], other.factors[-1])
    return break_even_factor(own, other, low=low, high=high, draws=_BREAK_EVEN_DRAWS, seed=seed)


def _break_even_utilisation(found: CostModels, ident: str, volume: BreakEven) -> BreakEven | None:
    """Return the break-even volume as a share of what its machines carry; ``None`` where that is not known."""
    costs = found.volumes.get(ident)
    if costs is None or costs.load_frac(1.0) is None:
        return None
    q = volume.quantiles
    ends = sorted(costs.load_frac(x) or 0.0 for x in (q.p10, q.p50, q.p90)) if q else []
    return BreakEven(
        quantity="utilisation",
        point=None if volume.point is None else costs.load_frac(volume.point),
        quantiles=Quantiles(p10=ends[0], p50=ends[1], p90=ends[2]) if ends else None,
        exists_frac=volume.exists_frac,
    )


def _break_even_api_price(found: CostModels, ident: str, base: str, seed: int) -> BreakEven | None:
    """Return the factor on every hosted tariff; ``None`` if neither of the two uses a hosted API."""
    own, other = found.models[ident], found.models[base]
    if not any(line.group == "hosted" for line in (*own.lines, *other.lines)):
        return None
    return break_even_factor(own, other, TARIFFS, draws=_BREAK_EVEN_DRAWS, seed=seed)


def _baseline(found: CostModels, wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in found.models:
            raise unknown_name("command line", "--baseline", wanted, found.models, "scenarios")
        return wanted
    keeping = [ident for ident in found.models if _keeps(found, ident)]
    hosted = [c.id for c in found.scenario.candidates if not c.pools and c.id in keeping]
    return next(iter([*hosted, *keeping, *found.models]))


def _keeps(found: CostModels, ident: str) -> bool:
    service, rules = found.service[ident], found.scenario.constraints
    return service.served_frac >= rules.served_min_frac and service.slo_attainment_frac >= rules.slo_attainment_min_frac


def _silent(_share: float, _what: str) -> None:
    return None

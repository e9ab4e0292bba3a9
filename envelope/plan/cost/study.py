"""A cost study: the cash flows of a scenario's candidates with their uncertainty, against a baseline."""

from collections.abc import Mapping, Sequence

from envelope.errors import InputError, Problem, unknown_name
from envelope.money.breakeven import TARIFFS, BreakEven, break_even_factor, break_even_month
from envelope.money.draws import DRAWS
from envelope.money.result import Comparison, TcoResult, compare
from envelope.money.uncertainty import (
    Quantiles,
    SobolIndex,
    TornadoBar,
    Uncertainty,
    sobol_indices,
    tornado,
    uncertainty,
)
from envelope.plan.cost.models import CostModels, cost_models, money
from envelope.plan.verdict.results import CandidateResult, CostFigures, YearFigures
from envelope.provenance import Frozen
from envelope.result import Result
from envelope.spec.load import Reporter
from envelope.spec.scenario import Scenario
from envelope.version import __version__

_SOBOL_DRAWS = 1024
_BREAK_EVEN_DRAWS = 1024
"""Draws of the break-even, which prices every candidate some eighty times."""


class CandidateCosts(Frozen):
    """What one candidate costs."""

    id: str
    name: str
    period: str
    """What was simulated, in words, such as ``the busiest hour``."""
    slo_attainment_frac: float
    served_frac: float
    keeps_service: bool
    """Whether every year reaches what the scenario asks of both; a cheaper candidate that does less work is no
    alternative."""
    feasible: bool
    """Whether it keeps every rule of the scenario, as ``envelope compare`` says."""
    broken: tuple[str, ...]
    """Names of the rules that it breaks."""
    years: tuple[YearFigures, ...]
    """Service and machines of every year: with ``capacity.growth: buy`` replicas are added in the year whose
    simulated hour (or week) would break the service."""
    cost: CostFigures
    """The headline."""
    result: TcoResult
    """Expected costs, line by line."""
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

    @property
    def replicas_by_year(self) -> tuple[int, ...]:
        """Replicas of the first pool in each year."""
        return tuple(year.replicas for year in self.years)


class CostStudy(Result):
    """The costs of all candidates of a scenario."""

    scenario: str
    name: str
    question: str
    start: str
    horizon_months: int
    baseline: str
    recommended: str | None
    """The candidate that ``envelope compare`` recommends; ``None`` if none keeps every rule."""
    runner_up: str | None
    reasons: tuple[str, ...]
    """Why it is recommended."""
    warnings: tuple[str, ...]
    """What the scenario says in vain, such as a price that no candidate pays."""
    candidates: tuple[CandidateCosts, ...]
    uncertainty: Uncertainty
    """Of all candidates; which is the cheapest is asked among the feasible ones."""
    left_out: dict[str, str]
    version: str

    def candidate(self, ident: str) -> CandidateCosts:
        """Return the candidate of that id."""
        return next(c for c in self.candidates if c.id == ident)


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


def cost_study(found: CostModels, *, baseline: str | None = None, draws: int = DRAWS, seed: int = 1) -> CostStudy:
    """Return the costs of all candidates, with ranges, and what each saves against the baseline.

    The baseline is by default the first feasible candidate without machines of its own, else the first feasible one,
    else by service alone in the same order, else the first. ``draws`` is a power of two; other ``draws`` or another
    ``seed`` than the default ones sharpen or vary the ranges, not the expected costs. Raises ``InputError`` if no
    candidate can run.
    """
    scenario = found.scenario
    if not found.judged:
        rule = "has no candidate that can run: " + "; ".join(f"{k}: {v}" for k, v in found.left_out.items())
        raise InputError(Problem(scenario.id, "candidates", None, rule))
    base = _baseline(found, baseline)
    results = {ident: money(one).cost for ident, one in found.judged.items()}
    said = found.comparison
    fit = {c.id for c in said.candidates if c.feasible}
    return CostStudy(
        scenario=scenario.id,
        name=scenario.name,
        question=scenario.question,
        start=scenario.economics.start,
        horizon_months=scenario.economics.horizon_months,
        baseline=base,
        recommended=said.recommended,
        runner_up=said.runner_up,
        reasons=said.reasons,
        warnings=said.warnings,
        candidates=tuple(_candidate(found, ident, results, base, seed) for ident in found.judged),
        uncertainty=uncertainty(
            {ident: money(one).priced for ident, one in found.judged.items()}, among=fit, draws=draws, seed=seed
        ),
        left_out=found.left_out,
        version=__version__,
    )


def _candidate(found: CostModels, ident: str, results: Mapping[str, TcoResult], base: str, seed: int) -> CandidateCosts:
    model, baseline = found.models[ident], found.models[base]
    said, is_base = found.comparison.candidate(ident), ident == base
    service = found.judged[ident].years[0].level
    volume = None if is_base else _break_even_volume(found, ident, base, seed)
    return CandidateCosts(
        id=ident,
        name=said.name,
        period=service.period,
        slo_attainment_frac=service.slo_attainment_frac,
        served_frac=service.served_frac,
        keeps_service=said.keeps_service,
        feasible=said.feasible,
        broken=found.judged[ident].broken,
        years=said.years,
        cost=_cost_of(said),
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


def _cost_of(said: CandidateResult) -> CostFigures:
    assert said.cost is not None
    return said.cost


def _break_even_volume(found: CostModels, ident: str, base: str, seed: int) -> BreakEven:
    surfaces = {name: one.surface for name, j in found.judged.items() if (one := money(j)).surface is not None}
    known = surfaces or {name: volume.surface for name, volume in found.volumes.items()}
    own, other = known.get(ident), known.get(base)
    if own is None or other is None:
        own_model, base_model = found.models[ident], found.models[base]
        return break_even_factor(own_model, base_model, high=1.0, draws=_BREAK_EVEN_DRAWS, seed=seed)
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
        if wanted not in found.judged:
            raise unknown_name("command line", "--baseline", wanted, found.judged, "scenarios")
        return wanted
    without = {c.id for c in found.scenario.candidates if not c.pools}
    every = list(found.judged)
    feasible = [ident for ident in every if found.judged[ident].feasible]
    keeping = [ident for ident in every if found.judged[ident].keeps_service]
    ordered = [group for kept in (feasible, keeping) for group in ([i for i in kept if i in without], kept)]
    return next(ident for group in [*ordered, every] for ident in group)

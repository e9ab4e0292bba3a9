"""The verdict on one candidate: constraints, service level, cost, evidence."""

from collections.abc import Callable
from dataclasses import dataclass

from envelope.perf.breakdown import evidence_of
from envelope.perf.estimate import error_bands
from envelope.plan.case.fleet import Bench, resolve_bench
from envelope.plan.case.measured import difficulty_basis, gate_constraint, gates_of, measured_work
from envelope.plan.case.usage import Traffic, annual_usage, economics_of
from envelope.plan.rules.static import Facts, binding, budget_constraint, service_constraints, static_constraints
from envelope.plan.service.downtime import downtime
from envelope.plan.service.level import Peak, cost_warning, service_level, simulate_peak, traffic
from envelope.plan.verdict.exposure import exposures
from envelope.plan.verdict.results import CandidateResult, ConstraintResult, CostLine, ServiceLevel
from envelope.provenance import Evidence, weakest
from envelope.spec.licence import Licence
from envelope.spec.load import load
from envelope.spec.scenario import Candidate, Scenario
from envelope.tco import TcoResult
from envelope.tco.evaluate import evaluate_model
from envelope.tco.model import build
from envelope.units import DAYS_PER_YEAR

Tick = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class _Found:
    """What the simulation and the cost model said about a candidate that can run."""

    peak: Peak
    service: ServiceLevel
    traffic: Traffic
    tco: TcoResult


def evaluate_candidate(
    scenario: Scenario, candidate: Candidate, *, seeds: int, tick: Tick, static_first: bool = False
) -> CandidateResult:
    """Return everything about one candidate of a scenario; ``tick`` is told what is being done.

    With ``static_first`` a candidate that a constraint without simulation rules out is not simulated.
    Raises ``InputError`` for unknown names and missing prices.
    """
    scenario, measured = measured_work(scenario, candidate)
    bench = resolve_bench(scenario, candidate)
    constraints = static_constraints(candidate_facts(scenario, bench))
    constraints += [gate_constraint(status) for status in gates_of(scenario, candidate) if status.hard]
    if not bench.runs or (static_first and not all(c.satisfied for c in constraints)):
        return _result(bench, constraints, None)
    tick(f"{candidate.name}: service")
    peak = simulate_peak(scenario, bench, seeds=seeds)
    service = service_level(scenario, peak)
    use = traffic(scenario, bench, peak)
    constraints += service_constraints(scenario, service, use.solved_frac, difficulty_basis(measured))
    constraints += _growth(scenario, bench, service, tick)
    tick(f"{candidate.name}: cost")
    model = build(
        economics_of(scenario, candidate), annual_usage(scenario, candidate, bench.replicas, bench.hosted, use)
    )
    tco = evaluate_model(model)
    budget = budget_constraint(scenario, tco.cost_npv_usd)
    result = _result(bench, constraints + ([budget] if budget else []), _Found(peak, service, use, tco))
    left = result.private_requests_left, result.requests_left_per_year
    down = downtime(scenario, bench, peak.result, peak.fleet.faults)
    shown = exposures(scenario, bench, use, service, model, left, down)
    return result.model_copy(update={"exposures": shown, "cost_warning": cost_warning(scenario, service)})


def candidate_facts(scenario: Scenario, bench: Bench) -> Facts:
    """Return what the constraints of a candidate look at."""
    shares = scenario.workload.shares()
    mixes = [task.sensitivity_mix.get("private", 0.0) for task in scenario.workload.tasks]
    models = tuple({r.model.id: r.model for r in bench.replicas}.values())
    where = f"{scenario.id}: candidate {bench.candidate.id}"
    return Facts(
        scenario=scenario,
        candidate=bench.candidate,
        models=models,
        licences=tuple(load(Licence, "licences", m.licence, file=where, path="licence") for m in models),
        hosted=bench.hosted,
        reasons=bench.reasons,
        device_max_w=bench.max_w,
        private_frac=sum(share * private for share, private in zip(shares, mixes, strict=True)),
    )


def _growth(scenario: Scenario, bench: Bench, service: ServiceLevel, tick: Tick) -> list[ConstraintResult]:
    """Return whether the same machines still serve the last year's load, if the work grows."""
    last = -(-scenario.economics.horizon_months // 12) - 1
    limit = scenario.constraints.slo_attainment_min_frac
    if last < 1 or scenario.workload.growth_frac_per_year <= 0 or service.slo_attainment_frac < limit:
        return []
    tick(f"{bench.candidate.name}: year {last + 1}")
    value = simulate_peak(scenario, bench, seeds=1, year=last).result.overall.slo_attainment_frac
    load_factor = scenario.workload.rate_in_year(last)
    return [
        ConstraintResult(
            id="growth", satisfied=value >= limit, value=value, limit=limit, unit="fraction",
            margin_frac=value / limit - 1 if limit else None,
            explanation=(
                f"in year {last + 1}, at {load_factor:.2f}× the load, {value:.1%} keep their SLO (at least {limit:.1%})"
            ),
        )
    ]  # fmt: skip


def _result(bench: Bench, constraints: list[ConstraintResult], found: _Found | None) -> CandidateResult:
    candidate = bench.candidate
    evidence, notes = _evidence(bench, found)
    base = CandidateResult(
        id=candidate.id,
        name=candidate.name,
        feasible=all(c.satisfied for c in constraints),
        constraints=tuple(constraints),
        binding=binding(constraints),
        devices=sum(pool.devices for pool in candidate.pools),
        power_max_w=bench.max_w if candidate.pools else None,
        evidence=evidence,
        evidence_notes=notes,
        error_bands=error_bands(bench.replicas[0]) if bench.replicas else {},
    )
    return base.model_copy(update=_figures(bench, found)) if found else base


def _figures(bench: Bench, found: _Found) -> dict[str, object]:
    tco, use, simulated = found.tco, found.traffic, found.peak.result
    offered = max(simulated.overall.offered, 1)
    # Rented devices stand outside the building, so that every request they serve leaves it.
    left = simulated.completed_outside
    yearly = use.requests_per_year / offered
    kwh = (use.idle_w * DAYS_PER_YEAR * 24 / 1e3) + use.dynamic_j * use.requests_per_year / 3.6e6
    return {
        "service": found.service,
        "slo_attainment_frac": found.service.slo_attainment_frac,
        "solved_frac": use.solved_frac,
        "cost_npv": tco.cost_npv_usd,
        "cost_by_line": {line.id: line.present_value_usd for line in tco.lines},
        "cost_by_year": tco.by_year_usd,
        "lines": tuple(
            CostLine(
                id=line.id,
                label=line.label,
                group=line.group,
                npv_usd=line.present_value_usd,
                nominal_usd=line.total_usd,
                formula=line.formula,
                source=line.source,
                date=line.date,
                evidence=line.evidence,
            )
            for line in tco.lines
        ),
        "usd_per_request": tco.unit_costs.usd_per_request,
        "usd_per_solved_task": tco.unit_costs.usd_per_solved_task,
        "usd_per_mtok": tco.unit_costs.usd_per_mtok,
        "usd_per_seat_month": tco.unit_costs.usd_per_seat_month,
        "private_requests_left": round(simulated.private_requests_left * yearly),
        "requests_left_per_year": left * yearly,
        "energy_kwh_per_year": kwh if bench.candidate.pools else None,
    }


def _evidence(bench: Bench, found: _Found | None) -> tuple[Evidence, tuple[str, ...]]:
    """Return the weakest evidence behind a candidate's figures and what it concerns."""
    links = [(name, evidence) for r in bench.replicas for name, evidence, _ in evidence_of(r)]
    if bench.hosted is not None:
        links += [(f"hosted.{part}", bench.hosted.source_of(part).evidence) for part in ("tariff", "latency", "limits")]
    worst = weakest(evidence for _, evidence in links)
    names = list(dict.fromkeys(name for name, evidence in links if evidence == worst))
    notes = [f"{worst}: {', '.join(names)}"] if names else []
    if found is not None:
        notes.append(f"{found.tco.assumed_frac:.0%} of the cost rests on assumed prices or rates")
    return worst, tuple(notes)

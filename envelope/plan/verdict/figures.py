"""From the record of a candidate to the figures that every face shows."""

from collections.abc import Sequence

from envelope.money.result import LineResult, TcoResult
from envelope.perf.bands import error_bands
from envelope.perf.breakdown import evidence_of
from envelope.plan.chain import Judged, Priced
from envelope.plan.rules.rule import ConstraintResult, binding
from envelope.plan.service.level import cost_warning
from envelope.plan.service.years import ServedYear
from envelope.plan.verdict.results import CandidateResult, CostFigures, CostLine, Fix, YearFigures
from envelope.provenance import Evidence, weakest
from envelope.units import HOURS_PER_YEAR, J_PER_KWH


def candidate_result(
    found: Judged, fixes: Sequence[Fix] = (), rules: Sequence[ConstraintResult] | None = None
) -> CandidateResult:
    """Return the figures of a candidate; ``rules`` are its own with the fixes found for them, if any were."""
    candidate, case = found.case.candidate, found.case
    evidence, notes = _evidence(found)
    shown = tuple(found.rules if rules is None else rules)
    plain = {
        "id": candidate.id,
        "name": candidate.name,
        "feasible": found.feasible,
        "constraints": shown,
        "binding": binding(shown),
        "devices": sum(pool.devices for pool in candidate.pools),
        "power_max_w": case.max_w if candidate.pools else None,
        "fixes": tuple(fixes),
        "evidence": evidence,
        "evidence_notes": notes,
        "error_bands": error_bands(case.replicas[0]) if case.replicas else {},
    }
    service = _service_figures(found, found.years[0]) if found.years else {}
    money = _money_figures(found.money) if found.money is not None else {}
    return CandidateResult(**plain, **service, **money)


def _service_figures(found: Judged, first: ServedYear) -> dict[str, object]:
    use, level = first.use, first.level
    kwh = use.idle_w * HOURS_PER_YEAR / 1e3 + use.dynamic_j * use.requests_per_year / J_PER_KWH
    return {
        "service": level,
        "slo_attainment_frac": level.slo_attainment_frac,
        "solved_frac": use.solved_frac,
        "years": tuple(_year(year) for year in found.years),
        "keeps_service": found.keeps_service,
        "failure": found.failure,
        "cost_warning": cost_warning(found.case.scenario, level),
        "private_requests_left": round(use.private_left_per_year),
        "requests_left_per_year": use.left_per_year,
        "energy_kwh_per_year": kwh if found.case.candidate.pools else None,
        "exposures": found.exposures,
    }


def _year(found: ServedYear) -> YearFigures:
    work = found.case.scenario.workload
    return YearFigures(
        year=found.year + 1,
        replicas=found.replicas,
        requests_per_year=found.use.requests_per_year * work.rate_in_year(found.year),
        slo_attainment_frac=found.level.slo_attainment_frac,
        served_frac=found.level.served_frac,
        keeps_service=found.keeps,
        simulated=found.simulated,
    )


def cost_figures(cost: TcoResult) -> CostFigures:
    """Return the headline of expected costs."""
    return CostFigures(
        expected_npv_usd=cost.cost_npv_usd,
        p10_npv_usd=cost.p10_npv_usd,
        p90_npv_usd=cost.p90_npv_usd,
        signature_usd=cost.signature_usd,
        total_usd=cost.total_usd,
        peak_cash_usd=cost.cash_usd,
    )


def _money_figures(money: Priced) -> dict[str, object]:
    cost = money.cost
    return {
        "cost_npv": cost.cost_npv_usd,
        "cost": cost_figures(cost),
        "cost_by_line": {line.id: line.present_value_usd for line in cost.lines},
        "cost_by_year": cost.by_year_usd,
        "lines": tuple(_line(line) for line in cost.lines),
        "usd_per_request": cost.unit_costs.usd_per_request,
        "usd_per_solved_task": cost.unit_costs.usd_per_solved_task,
        "usd_per_mtok": cost.unit_costs.usd_per_mtok,
        "usd_per_seat_month": cost.unit_costs.usd_per_seat_month,
    }


def _line(line: LineResult) -> CostLine:
    return CostLine(
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


def _evidence(found: Judged) -> tuple[Evidence, tuple[str, ...]]:
    """Return the weakest evidence behind a candidate's figures and what it concerns."""
    hosted = found.case.hosted
    links = [(name, evidence) for r in found.case.replicas for name, evidence, _ in evidence_of(r)]
    if hosted is not None:
        links += [(f"hosted.{part}", hosted.source_of(part).evidence) for part in ("tariff", "latency", "limits")]
    worst = weakest(evidence for _, evidence in links)
    names = list(dict.fromkeys(name for name, evidence in links if evidence == worst))
    notes = [f"{worst}: {', '.join(names)}"] if names else []
    if found.money is not None:
        notes.append(f"{found.money.cost.assumed_frac:.0%} of the cost rests on assumed prices or rates")
    return worst, tuple(notes)

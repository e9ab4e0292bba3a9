"""What a comparison says: verdict, margins, service level, cost and evidence of each candidate."""

from typing import Any

from pydantic import Field

from envelope.plan.rules.exposure import Exposure
from envelope.plan.rules.rule import ConstraintResult
from envelope.plan.service.level import ServiceLevel
from envelope.plan.service.node_failure import NodeFailure
from envelope.provenance import Evidence, Frozen
from envelope.result import Result
from envelope.spec.error_band import Band
from envelope.spec.scenario import Failure


class CostLine(Frozen):
    """One line of the cost over the horizon."""

    id: str
    label: str
    group: str = "other"
    """Heading under which lines are summed: hardware, energy, staff, hosted …"""
    npv_usd: float
    """Present value of the payments, a positive cost."""
    nominal_usd: float
    formula: str = ""
    source: str = ""
    date: str = ""
    evidence: Evidence = Evidence.ASSUMED


class Change(Frozen):
    """One value of a scenario that is changed."""

    path: str
    """Where it stands, such as ``candidates.own-70b.pools.0.replicas``."""
    value: Any
    text: str
    """The change in words, such as ``KV cache in fp8 instead of bf16``."""
    concession: bool = False
    """Whether a limit of the scenario gives way, rather than the deployment."""


class Fix(Frozen):
    """A smallest set of changes, found by search, after which a candidate keeps every constraint."""

    changes: tuple[Change, ...]
    text: str
    concession: bool
    """Whether any limit of the scenario gives way."""
    cost_npv: float | None = None
    """Present value of the candidate's costs after the changes."""


class CostFigures(Frozen):
    """What a candidate costs over the horizon, in dollars before value-added tax."""

    expected_npv_usd: float
    """Expected present value: the mean over the ranges of all inputs. The figure that is compared."""
    p10_npv_usd: float
    p90_npv_usd: float
    """One case of ten costs less, one of ten more."""
    signature_usd: float
    """Expected cash at signature: what is bought and paid before the first month."""
    total_usd: float
    """Expected nominal sum of all payments, less what the machines fetch at the end."""
    peak_cash_usd: float
    """The most money that has gone out at any time."""

    @property
    def spread_text(self) -> str:
        """P10 to P90 in words, such as ``$1,200,000–$1,500,000``."""
        return f"${self.p10_npv_usd:,.0f}–${self.p90_npv_usd:,.0f}"


class YearFigures(Frozen):
    """One year of the horizon."""

    year: int
    """From 1."""
    replicas: int
    """Of the first pool; 0 without machines."""
    requests_per_year: float
    slo_attainment_frac: float
    served_frac: float
    keeps_service: bool
    simulated: bool
    """Whether the year was simulated itself; if not, its level is that of the heavier of two simulated years between
    which it lies, or of the last year that was simulated."""


class CandidateResult(Frozen):
    """Everything found about one candidate."""

    id: str
    name: str
    feasible: bool
    constraints: tuple[ConstraintResult, ...]
    binding: str | None = None
    """Id of the broken constraint that is furthest from its limit, or, if feasible, the closest to it."""
    service: ServiceLevel | None = None
    """``None`` when the candidate cannot run at all (no memory, unsupported format …)."""
    slo_attainment_frac: float | None = None
    solved_frac: float | None = None
    """Expected share of the tasks that are solved."""
    cost_npv: float | None = None
    """Expected net present value in dollars of all payments over the horizon, later ones discounted; a cost counts
    positive. The mean over the ranges of all inputs; ``cost`` has its range."""
    cost: CostFigures | None = None
    years: tuple[YearFigures, ...] = ()
    """Service and machines of every year; empty when the candidate cannot run."""
    keeps_service: bool = False
    """Whether every year serves so many requests, within their SLO, as the scenario asks."""
    failure: NodeFailure | None = None
    """What the failure of one node means; ``None`` without servers."""
    cost_by_line: dict[str, float] = Field(default_factory=dict)
    """Cost line → present value in dollars; the values sum to ``cost_npv``."""
    cost_by_year: tuple[float, ...] = ()
    """Nominal payments by year in dollars."""
    lines: tuple[CostLine, ...] = ()
    cost_warning: str | None = None
    """Why its cost must not be set beside that of the others: it pays for a part of the work only."""
    usd_per_request: float | None = None
    usd_per_solved_task: float | None = None
    usd_per_mtok: float | None = None
    usd_per_seat_month: float | None = None
    private_requests_left: int = 0
    """Private requests that leave the building in the first year; counted from the simulation's records."""
    requests_left_per_year: float = 0.0
    """All requests that leave the building in it."""
    energy_kwh_per_year: float | None = None
    devices: int = 0
    power_max_w: float | None = None
    exposures: tuple[Exposure, ...] = ()
    """Exposure to each kind of failure; empty when the candidate cannot run."""
    fixes: tuple[Fix, ...] = ()
    """What would make an infeasible candidate feasible, changes of the deployment alone first."""
    evidence: Evidence = Evidence.ASSUMED
    """Weakest link behind the figures."""
    evidence_notes: tuple[str, ...] = ()
    error_bands: dict[str, Band] = Field(default_factory=dict)
    """Figure of an estimate (``ttft_s``, ``itl_s`` …) → how far such predictions were off when scored."""

    def exposure(self, failure: Failure) -> Exposure | None:
        """Return the exposure to one kind of failure, if the candidate runs."""
        return next((e for e in self.exposures if e.failure == failure), None)


class Comparison(Result):
    """The answer to a scenario's question."""

    scenario: str
    name: str
    question: str
    failure_not_affordable: Failure
    horizon_years: float
    requests_per_year: float
    candidates: tuple[CandidateResult, ...]
    order: tuple[str, ...]
    """Candidates as every face lists them: the feasible ones as they are ranked, then the others, the cheapest
    first."""
    recommended: str | None
    runner_up: str | None
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    """What the scenario says in vain, such as a price that no candidate pays."""
    version: str

    @property
    def ordered(self) -> tuple[CandidateResult, ...]:
        """The candidates in that order."""
        return tuple(self.candidate(ident) for ident in self.order)

    @property
    def feasible(self) -> bool:
        """Whether any candidate is feasible."""
        return self.recommended is not None

    def candidate(self, ident: str) -> CandidateResult:
        """Return one candidate's result; raises ``KeyError`` for an unknown id."""
        for result in self.candidates:
            if result.id == ident:
                return result
        raise KeyError(ident)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return self.model_dump(mode="json")

"""What a comparison says: verdict, margins, service level, cost and evidence of each candidate."""

from typing import Any

from pydantic import Field

from envelope.provenance import Evidence, Frozen
from envelope.result import Result
from envelope.spec.error_band import Band
from envelope.spec.scenario import Failure


class ConstraintResult(Frozen):
    """One hard constraint applied to one candidate."""

    id: str
    """Name of the rule, such as ``memory`` or ``slo_attainment``."""
    satisfied: bool
    value: float | None = None
    """What the candidate has or needs, in ``unit``."""
    limit: float | None = None
    """What the rule allows, in ``unit``."""
    unit: str = ""
    margin_frac: float | None = None
    """Distance to the limit as a fraction of it; negative when broken."""
    explanation: str
    """One sentence with the numbers."""
    fix: str | None = None
    """Smallest change found that would satisfy the rule."""


_WORDS = {
    "slo_attainment": "the SLO", "served": "requests served", "solved": "tasks solved", "budget": "the budget",
    "pinned_model": "a pinned model", "data_terms": "the terms on data", "offline": "working offline",
}  # fmt: skip


def in_words(ident: str) -> str:
    """Return the name of a constraint as it stands in a sentence.

    >>> in_words("slo_attainment"), in_words("rack_space"), in_words("ledger.age.qwen3-32b")
    ('the SLO', 'rack space', 'ledger: age (qwen3-32b)')
    """
    head, _, rest = ident.partition(".")
    if head == "ledger":
        rule, _, model = rest.partition(".")
        return f"ledger: {rule} ({model})"
    words = _WORDS.get(head, head.replace("_", " "))
    return f"{words} ({rest})" if rest else words


class Percentiles(Frozen):
    """A latency distribution in seconds."""

    mean_s: float
    p50_s: float
    p95_s: float
    p99_s: float


class ClassResult(Frozen):
    """Service level of one task class in the simulated time."""

    id: str
    requests: int
    slo_attainment_frac: float | None
    ttft_p95_s: float | None = None
    e2e_p95_s: float | None = None
    hosted_frac: float = 0.0
    """Share served by the hosted API."""
    too_long_frac: float = 0.0
    """Share refused because no local model holds so long a request."""


class ServiceLevel(Frozen):
    """What the simulation of the busiest hour, or of the week if the operations take one, found."""

    period: str = "the busiest hour"
    """What was simulated, in words."""
    slo_attainment_frac: float = Field(ge=0, le=1)
    """Share of the offered requests that were served within every limit of their SLO."""
    slo_attainment_low_frac: float
    slo_attainment_high_frac: float
    """95 % confidence interval over seeds."""
    served_frac: float
    ttft: Percentiles | None = None
    itl: Percentiles | None = None
    """Inter-token latency: each gap between two tokens of an answer."""
    e2e: Percentiles | None = None
    hosted_frac: float = 0.0
    refused_frac: float = 0.0
    requests_simulated: int
    simulated_s: float
    peak_requests_per_s: float
    device_utilisation_frac: float | None = None
    bottleneck: str = ""
    """What limited the local replicas, in words."""
    classes: tuple[ClassResult, ...] = ()


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


class Exposure(Frozen):
    """How much of one kind of failure a candidate lets happen, in natural units; less is better."""

    failure: Failure
    value: float
    unit: str
    text: str
    """One sentence with the number."""
    basis: str
    """What the number rests on."""
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
    """Net present value in dollars of all payments over the horizon, later ones discounted; a cost counts positive."""
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
    """Private requests that left the building in a year; measured in the simulation's records."""
    requests_left_per_year: float = 0.0
    """All requests that left the building in a year."""
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
    recommended: str | None
    runner_up: str | None
    reasons: tuple[str, ...]
    version: str

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

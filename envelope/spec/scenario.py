"""Scenarios: the work, the company, the constraints, the money and the candidates that compete."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, overload

from pydantic import Field, model_validator

from envelope.provenance import Frozen
from envelope.spec.acquisition import Acquisition as Acquisition
from envelope.spec.deployment import Pool
from envelope.spec.economics import Economics
from envelope.spec.evidence import EvidenceSet
from envelope.spec.hosted import Processing
from envelope.spec.ledger import LedgerRules
from envelope.spec.operations import Operations
from envelope.spec.presets import Look
from envelope.spec.ranges import Range
from envelope.spec.references import check_names
from envelope.spec.replace import replaced
from envelope.spec.routing import Routing as Routing
from envelope.spec.workload import Workload

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=80)]
Fraction = Annotated[float, Field(ge=0, le=1)]

Tier = Literal["small", "mid", "frontier"]
"""How hard a task a model can solve; a task class gives each tier's probability to fail."""

Failure = Literal["leak", "wrong_answer", "unsafe_tool_use", "downtime", "silent_model_change", "cost_overrun"]
"""The failure that a company cannot afford."""


class Company(Frozen):
    """Facts about the company that licences and data rules ask for."""

    seats: int = Field(ge=1, le=10_000_000)
    """People who use the assistant."""
    monthly_active_users: int | None = Field(default=None, ge=0)
    """Users of all products of the company in a month (Llama licences cap them); ``None`` means the seats."""
    annual_revenue_usd: float | None = Field(default=None, ge=0)
    territory: str = "US"
    """Country or region where the models are used, as in licences: ``US``, ``EU``, ``DE`` …"""
    redistributes_weights: bool = False
    """Whether models or derivatives of them leave the company (on customers' devices, say)."""
    serves_third_parties: bool = False
    """Whether others pay for the model as a service; some licences ask for another licence then."""

    @property
    def licence_users(self) -> int:
        """Users that a licence's monthly-user cap counts."""
        return self.seats if self.monthly_active_users is None else self.monthly_active_users


class Budget(Frozen):
    """What may be spent, and on which of the figures the limit is put."""

    limit_usd: float | None = Field(default=None, gt=0)
    """Most that the whole horizon may cost."""
    of: Literal["present_value", "cash"] = "present_value"
    """``present_value``: the expected costs, later ones discounted, resale credited. ``cash``: the most money that has
    gone out at any time, nominal, so that a later resale helps nobody to pay."""
    by_year: tuple[Annotated[float, Field(ge=0)], ...] = ()
    """Most dollars that may be paid in each year, nominal; the first holds what is bought at signature."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.limit_usd is None and not self.by_year:
            raise ValueError("needs limit_usd, by_year, or both")
        return self

    @property
    def limits_payments(self) -> bool:
        """Whether it limits what is paid when, not the present value alone."""
        return bool(self.by_year) or self.of == "cash"


class Capacity(Frozen):
    """What becomes of the machines when the work grows."""

    growth: Literal["buy", "keep"] = "buy"
    """``buy``: in the year whose simulated hour (or week) would break the service, replicas are added, at that year's
    price. ``keep``: the machines stay, and a year that breaks the service is a broken rule. Users' own devices are as
    many as there are seats, and hosted APIs have no machines, so both stay as they are."""


class Constraints(Frozen):
    """Hard limits: a candidate that breaks one is infeasible."""

    private_stays: bool = True
    """Whether requests marked private may only be served inside the building."""
    slo_attainment_min_frac: Fraction = 0.95
    """Share of the requests of the simulated hour (of the week, if the operations take one) that must meet every limit
    of their class's SLO."""
    served_min_frac: Fraction = 0.99
    """Share of the requests that must be served at all (neither refused nor dropped)."""
    solved_min_frac: Fraction = 0.0
    """Share of the tasks that must be solved, by the difficulty of the classes and the tier of the models."""
    budget_usd: float | None = Field(default=None, gt=0)
    """Most that the whole horizon may cost (expected present value): short for ``budget: {limit_usd}``."""
    budget: Budget | None = None
    """Limits on cash, on the present value, or on single years."""
    offline: bool = False
    """Whether the assistant must work without any network."""
    pinned_model: bool = False
    """Whether the model must not change without the company's own decision."""
    max_power_w: float | None = Field(default=None, gt=0)
    """Electrical power that the site can feed to the machines."""
    max_cooling_w: float | None = Field(default=None, gt=0)
    """Heat that the site can take away from the machines."""
    liquid_cooling: bool = True
    """Whether the site can connect servers that are cooled by liquid."""
    max_rack_units: float | None = Field(default=None, gt=0)
    max_staff_fte: float | None = Field(default=None, gt=0)
    """People (full-time equivalents) that can be hired or spared to run the service."""
    hosted_regions: tuple[str, ...] = ()
    """Regions where a hosted API may process data; empty means anywhere."""
    hosted_may_train: bool = False
    """Whether a hosted provider may train on the requests by default."""
    ledger: LedgerRules | None = None
    """Limits on the ecosystem of the models that a candidate runs itself."""

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if self.budget_usd is not None and self.budget is not None and self.budget.limit_usd is not None:
            raise ValueError("budget_usd and budget.limit_usd say the same: give one")
        return self

    @property
    def spending(self) -> Budget | None:
        """The budget, in whichever form it was given."""
        if self.budget_usd is None:
            return self.budget
        years = self.budget.by_year if self.budget else ()
        return Budget(limit_usd=self.budget_usd, by_year=years)


class HostedUse(Frozen):
    """A hosted API as part of a candidate."""

    api: str
    """Id of the hosted model in the catalog."""
    tier: Tier = "frontier"
    batch_frac: Fraction = 0.0
    """Share of the hosted requests that can wait for the provider's batch tariff."""
    rpm: int | None = Field(default=None, ge=1)
    """Requests per minute that the account may send; ``None`` takes the catalog's limit, if known."""
    tpm: int | None = Field(default=None, ge=1)
    """Tokens per minute that the account may send."""
    processing: Processing = "standard"
    """Service class of the requests that are not sent as a batch; what it does not price costs the standard price."""
    commitment_usd_per_year: Range | None = None
    """Spend promised to this provider; ``None`` is the promise of the scenario's economics."""
    discount_frac: Range | None = None
    """Discount on the tariff that the promise brings; ``None`` is that of the scenario's economics."""


class Candidate(Frozen):
    """One possible deployment (a *bench*): pools of local replicas, a hosted API, or both."""

    id: Name
    name: str
    pools: tuple[Pool, ...] = ()
    tier: Tier = "small"
    """How hard a task the local model solves."""
    hosted: HostedUse | None = None
    routing: Routing | None = None
    """``None`` means local only with pools and hosted only without."""
    operations: Operations | None = None
    """Faults, spares, schedule and scaling, where they are not the scenario's."""
    acquisition: Acquisition = Acquisition()
    """How the devices are paid for; a pool may have its own, as in a fleet of own and rented machines."""
    on_premises: bool = True
    """Whether the pools stand in the building (or on the seats); rented cloud devices do not. A pool may differ."""
    adaptation: str = "none"
    """What was done to the model for this work (``prompt``, ``retrieval``, ``lora`` …); only evidence with the same
    word counts."""
    trained_on: tuple[str, ...] = ()
    """Models or hosted APIs, by catalog id, whose outputs trained the local model (distillation)."""
    note: str = ""

    @model_validator(mode="after")
    def _has_something(self) -> Self:
        if not self.pools and self.hosted is None:
            raise ValueError("needs pools, a hosted API, or both")
        policy = self.route.policy
        if policy != "local_only" and self.hosted is None and policy != "long_context":
            raise ValueError(f"routing policy {policy!r} needs a hosted API")
        if policy != "hosted_only" and not self.pools:
            raise ValueError(f"routing policy {policy!r} needs pools")
        return self

    @model_validator(mode="after")
    def _one_site(self) -> Self:
        if any(pool.acquisition is not None and pool.acquisition.site is not None for pool in self.pools):
            raise ValueError("acquisition.site is set for the candidate, not for one of its pools")
        return self

    @model_validator(mode="after")
    def _can_scale(self) -> Self:
        scaling = self.operations.autoscale if self.operations else None
        if scaling is not None and any(pool.role == "seat" for pool in self.pools):
            raise ValueError("operations.autoscale cannot switch the devices of seats off")
        if (
            scaling is not None
            and self.pools
            and scaling.min_replicas > (scaling.max_replicas or self.pools[0].replicas)
        ):
            raise ValueError(f"operations.autoscale.min_replicas is above the pool's {self.pools[0].replicas} replicas")
        return self

    def acquisition_of(self, pool: Pool) -> Acquisition:
        """Return how the devices of one of its pools are paid for."""
        return pool.acquisition or self.acquisition

    def is_inside(self, pool: Pool) -> bool:
        """Return whether one of its pools stands in the building (or on the seats)."""
        return self.on_premises if pool.on_premises is None else pool.on_premises

    @property
    def route(self) -> Routing:
        """The routing, with the default for what the candidate has."""
        if self.routing is not None:
            return self.routing
        return Routing(policy="local_only" if self.pools else "hosted_only")


class SimulationSettings(Frozen):
    """How much of the work is simulated."""

    seeds: int = Field(default=2, ge=1, le=1000)
    """Independent repetitions; the confidence interval comes from them."""
    seed: int = Field(default=1, ge=0)
    max_requests: int = Field(default=20_000, ge=100, le=5_000_000)
    """Requests simulated per repetition at most; larger fleets are simulated by a share of their replicas."""


class Scenario(Frozen):
    """A question about a deployment, with everything needed to answer it."""

    id: Name
    name: str
    question: str
    story: str = ""
    """Whose question it is and what matters to them."""
    failure_not_affordable: Failure
    company: Company
    workload: Workload
    constraints: Constraints = Constraints()
    economics: Economics
    simulation: SimulationSettings = SimulationSettings()
    operations: Operations = Operations()
    """What fails, when machines are switched off and how they scale, for all candidates."""
    capacity: Capacity = Capacity()
    """Whether growth buys machines."""
    evidence: EvidenceSet = EvidenceSet()
    """Results of one's own evaluations; also read from ``evidence/<id>.yaml`` beside the scenario's file."""
    candidates: tuple[Candidate, ...] = Field(min_length=1)

    @classmethod
    def with_presets(cls, data: Any, look: Look) -> Any:
        """Return the fields of a file with those of the presets that its workload names."""
        work = data.get("workload") if isinstance(data, Mapping) else None
        return data if work is None else {**data, "workload": Workload.with_presets(work, look.inside("workload"))}

    @model_validator(mode="after")
    def _ids_differ(self) -> Self:
        seen: set[str] = set()
        for candidate in self.candidates:
            if candidate.id in seen:
                raise ValueError(f"two candidates are called {candidate.id!r}")
            seen.add(candidate.id)
        return self

    def operations_of(self, candidate: Candidate) -> Operations:
        """Return how a candidate is operated: as the scenario says, except for what the candidate gives itself."""
        own = candidate.operations
        if own is None:
            return self.operations
        return self.operations.changed(**{name: getattr(own, name) for name in own.model_fields_set})

    @overload
    def replace(self, path: str, value: Any, /) -> Self: ...
    @overload
    def replace(self, path: Mapping[str, Any], /) -> Self: ...
    def replace(self, path: str | Mapping[str, Any], value: Any = None, /) -> Self:
        """Return the scenario with one value replaced, or several at once by a mapping of path → value.

        A path names fields, entries of lists by id or index, and keys of mappings. Values are validated as those of a
        scenario's file are; a value may be a whole record, given as a mapping. Raises ``InputError`` with every
        problem. ``workload.requests_per_day`` and ``workload.requests_per_seat_day`` replace each other, whichever
        the scenario gives; a new ``preset`` replaces what a task class took from its old one.

        >>> import envelope
        >>> tutor = envelope.load_scenario("math-tutor").replace("workload.requests_per_day", 50_000)
        >>> tutor.workload.daily_requests
        50000.0
        >>> tutor.replace("company.seats", 0)
        Traceback (most recent call last):
        envelope.errors.InputError: math-tutor: company.seats: 0 input should be greater than or equal to 1
        """
        changed = replaced(self, {path: value} if isinstance(path, str) else path, file=self.id)
        check_names(changed, self.id)
        return changed

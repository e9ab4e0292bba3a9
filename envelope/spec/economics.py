"""Money: defaults with ranges and sources, recurring cost items, and the choices of one scenario."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from envelope.provenance import DateText, Evidence, Frozen, Sourced
from envelope.spec.ranges import Range, named, number
from envelope.units import years_of

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=80)]

Group = Literal[
    "hardware", "facility", "energy", "rental", "hosted", "staff", "software", "assurance", "model_work", "client",
    "carbon", "tax", "other",
]  # fmt: skip
"""Heading under which a cost line is summed."""

AppliesTo = Literal["any", "self_hosted", "owned", "bought", "rented", "seat", "hosted"]
"""Candidates that pay an item: ``owned`` has servers or devices, bought or leased, ``bought`` such as are
not leased; ``self_hosted`` runs weights on servers, owned or rented; ``seat`` on laptops."""

Per = Literal[
    "candidate", "node", "device", "rack", "seat", "user", "it_kw", "it_kwh", "seat_kwh", "output_mtok",
    "solved_task", "failed_task", "purchase", "installed", "outage_seat_hour",
]  # fmt: skip
"""What an item is multiplied by. ``purchase`` is the price of each server bought, when it is bought;
``installed`` the original price of all servers in service; ``node`` counts eight devices; ``seat`` a laptop that
is paid for, ``user`` a person who uses the assistant, on whatever bench; ``outage_seat_hour`` is an
hour of one user without service."""

PRICE_PREFIXES = ("price.", "rent.", "tariff.")
"""Beginnings of the names of inputs that a deployment brings along: its machines, rents and hosted tariffs."""


class Default(Frozen):
    """A planning value with its range and origin."""

    value: float
    low: float
    high: float
    """``low`` to ``high`` is a planning range with ``value`` as its median, not a confidence interval."""
    unit: str
    """Unit; one that begins with a currency, such as ``EUR/kWh``, is converted to dollars."""
    label: str
    source: str = Field(min_length=3)
    date: DateText
    evidence: Evidence
    note: str = ""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError("value must lie between low and high")
        return self

    @property
    def currency(self) -> str:
        """Currency in which the value is given; empty if it is no money."""
        head = self.unit.split("/")[0].split(" ")[0]
        return head if len(head) == 3 and head.isupper() and head != "FTE" else ""


class CostItem(Frozen):
    """A cost line that is the product of its factors and of what it is charged per."""

    id: Name
    label: str
    group: Group
    applies_to: AppliesTo = "any"
    per: Per = "candidate"
    when: Literal["start", "per_year", "per_month", "end"] = "per_year"
    """``per_year`` amounts are paid in twelve equal parts; ``start`` and ``end`` once."""
    factors: tuple[Range, ...] = Field(min_length=1)
    """Numbers, or names of defaults, that are multiplied."""
    divided_by: tuple[Range, ...] = ()
    growth: Name | None = None
    """Name of the yearly price change that the item follows; ``None`` keeps today's price."""
    site: Literal["own_room", "colocation", "own_build"] | None = None
    """The only kind of site at which the item is paid; ``None`` is any."""
    assets: tuple[Literal["server", "device", "seat"], ...] = ("server", "device")
    """Kinds of owned machines that count, for items per ``purchase`` or ``installed``."""
    optional: bool = False
    """Whether the item counts only if the scenario includes it by id."""
    capex: bool = False
    payer: str = "IT"
    """Who pays, for charging back."""
    note: str = ""


class EconomicFacts(Sourced):
    """One file of the catalog of money: defaults, items and regional names."""

    id: str
    name: str
    defaults: dict[Name, Default] = {}
    items: tuple[CostItem, ...] = ()
    regions: dict[Name, dict[Name, Name]] = {}
    """Region → general name (``electricity``) → default (``electricity_de``)."""


class Economics(Frozen):
    """The money of a scenario. Rates are nominal and per year; amounts in dollars without value-added tax.

    Every field and every default of the catalog is an *input* with a name; ``inputs`` overrides any of them.
    """

    horizon_months: int = Field(default=36, ge=12, le=84)
    """Months that are counted, from 12 to 84."""
    start: DateText = "2026-12"
    """Month in which service begins; prices announced for a later date count from then on."""
    region: Name = "us"
    """Where staff, electricity and grid carbon are taken from, unless given."""
    site: Literal["own_room", "colocation", "own_build"] = "own_room"
    """Where owned servers stand: an existing room, rented space, or a room that has to be built."""
    site_includes_power: bool = False
    """Whether the colocation contract is all-in, so that electricity is not paid on top."""
    discount_rate_frac_per_year: Range = named("wacc")
    """Nominal yearly rate at which later payments count less."""
    inflation_frac_per_year: Range = named("inflation")
    """Price change of services and software."""
    wage_growth_frac_per_year: Range = named("wage_growth")
    electricity_growth_frac_per_year: Range = named("electricity_price_growth")
    colocation_growth_frac_per_year: Range = named("colo_price_growth")
    hardware_price_trend_frac_per_year: Range = named("hardware_price_trend")
    """Price change of the same device, new; growth and replacement are bought at that year's price."""
    rental_price_trend_frac_per_year: Range = named("gpu_rental_trend")
    """Price change of rented devices; a reserved price stays for its term."""
    hosted_price_trend_frac_per_year: Range = named("api_price_trend_frontier")
    """Price change of the hosted tier, with the model changes that re-validation is paid for."""
    hosted_commitment_usd_per_year: Range = number(0.0)
    """Spend on the hosted API that is promised for each year; what falls short of it is paid at the year's end."""
    hosted_discount_frac: Range = number(0.0)
    """Discount on the tariff that the promise (or a negotiation) brings."""
    demand_growth_frac_per_year: Range = number(0.0)
    """Growth of tokens, energy and tasks when the usage is given for one year only."""
    demand_factor: Range = number(1.0)
    """Demand over the planned one; as a range it makes the volume of work uncertain."""
    electricity_usd_per_kwh: Range = named("electricity")
    pue: Range = named("pue_average")
    """Energy of the site over energy of its computers."""
    colocation_usd_per_kw_month: Range = named("colo_retail")
    hardware_life_months: int = Field(default=48, ge=12, le=120)
    """Age at which owned devices are sold and replaced."""
    depreciation: Literal["straight_line", "declining"] = "straight_line"
    depreciation_years: int = Field(default=4, ge=1, le=10)
    """Years over which the books write a purchase off."""
    declining_rate_frac: float = Field(default=0.4, gt=0, lt=1)
    """``declining``: share of the book value written off each year."""
    tax_rate_frac: Range = number(0.0)
    """Corporate tax; above 0, running costs and depreciation reduce it (a negative cost)."""
    lease_rate_frac_per_year: Range = named("lease_rate")
    lease_months: int = Field(default=36, ge=12, le=84)
    usd_per_currency: dict[Annotated[str, Field(pattern=r"^[A-Z]{3}$")], Range] = {"EUR": named("eur_usd")}
    """Dollars for one unit of a foreign currency, with date and source."""
    include: tuple[Name, ...] = ()
    """Optional cost items that are paid, such as ``oncall`` or ``fine_tuning_lora_8b``."""
    skip: tuple[Name, ...] = ()
    """Cost items of the catalog that are not paid."""
    extra: tuple[CostItem, ...] = ()
    """Cost items of the scenario's own."""
    inputs: dict[Name, Range] = {}
    """Values in place of defaults of the catalog, by name, and of prices: ``price.<server or device>``,
    ``rent.<device>.<mode>``, ``tariff.<hosted model>.<token kind>``."""

    @property
    def years(self) -> int:
        """Years of the horizon, the last of which may be a part of one."""
        return years_of(self.horizon_months)

"""Hosted models: what a provider's API costs, how fast it answers, and under which terms."""

from datetime import date as Date
from datetime import time as Time
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from envelope.provenance import DateText, Frozen, Sourced
from envelope.units import MTOK

NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]

TokenKind = Literal["input", "cached_input", "cache_write", "cache_write_1h", "output"]
"""What a tariff line prices. The kinds are disjoint: ``input`` is the input that neither hit nor filled a cache."""

Processing = Literal["standard", "batch", "flex", "priority", "fast"]
"""Service class: ``batch`` answers within a day, ``flex`` when there is room, ``priority``/``fast`` sooner."""

_STAND_IN: dict[TokenKind, TokenKind] = {
    "cached_input": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
}
"""Kind whose price holds where a tariff has no line of its own (no cache discount, no surcharge for writing)."""


class UtcHours(Frozen):
    """Hours of the day (UTC) in which a line holds."""

    start: Time
    end: Time
    weekdays_only: bool = False
    """Monday to Friday only; public holidays are not modelled."""

    def holds(self, at: Time, weekday: int) -> bool:
        """Return whether the clock time ``at`` on ``weekday`` (Monday 0) lies within the hours."""
        if self.weekdays_only and weekday > 4:
            return False
        if self.start <= self.end:
            return self.start <= at < self.end
        return at >= self.start or at < self.end

    @property
    def week_frac(self) -> float:
        """Share of a week that the hours cover."""
        minutes = (self.end.hour - self.start.hour) * 60 + self.end.minute - self.start.minute
        return (minutes % 1440) / 1440 * (5 / 7 if self.weekdays_only else 1)


class TariffLine(Frozen):
    """One price with the conditions under which it holds."""

    kind: TokenKind
    usd_per_mtok: NonNegative
    """Dollars per million tokens, without value-added tax."""
    processing: Processing = "standard"
    above_input_tokens: int = Field(default=0, ge=0)
    """The line prices the whole request once its input (cached or not) is longer than this."""
    from_date: DateText | None = None
    """First day on which the line holds."""
    utc_hours: UtcHours | None = None
    """Hours in which the line holds; ``None`` means always."""

    def matches(self, kind: TokenKind, processing: Processing, input_tokens: float, day: Date) -> bool:
        """Return whether the line may price such a request on ``day``, whatever the hour."""
        return (
            self.kind == kind
            and self.processing == processing
            and (self.above_input_tokens == 0 or input_tokens > self.above_input_tokens)
            and (self.from_date is None or self.from_date <= day.isoformat())
        )


class HostedLatency(Frozen):
    """How long the provider takes: log-normal time to first token and output speed.

    The median TTFT of a request is ``ttft_p50_s + uncached·ttft_s_per_uncached_token +
    context·ttft_s_per_context_token``, with tokens of input; ``ttft_sigma_ln`` is the standard deviation of
    its logarithm. Output speed is log-normal as well.
    """

    ttft_p50_s: Positive
    ttft_sigma_ln: NonNegative
    ttft_s_per_uncached_token: NonNegative = 0.0
    ttft_s_per_context_token: NonNegative = 0.0
    output_tokens_per_s_p50: Positive
    output_tokens_per_s_sigma_ln: NonNegative
    first_answer_p50_s: Positive | None = None
    """Median time to the first token of the *answer* when the model thinks first, if known."""
    note: str = ""


class RateLimits(Frozen):
    """What an account may send; ``None`` where the provider shows it only inside the account."""

    rpm: Positive | None = None
    """Requests per minute."""
    tpm: Positive | None = None
    """Tokens per minute, input and output together."""
    input_tpm: Positive | None = None
    """Input tokens per minute, where the provider counts them apart."""
    output_tpm: Positive | None = None
    """Output tokens per minute, where the provider counts them apart."""
    concurrent: int | None = Field(default=None, ge=1)
    """Requests in flight."""
    cached_input_counts: bool | None = None
    """Whether cached input counts towards the limits."""
    tier: str = ""
    """Usage tier for which the numbers hold."""
    note: str = ""


class Availability(Frozen):
    """Share of time that the API answers."""

    frac: Fraction
    """Planning value: what third parties measured, not what the contract promises."""
    sla_frac: Fraction | None = None
    """What the contract promises; a rule for credits, not a forecast."""
    note: str = ""


class DataTerms(Frozen):
    """What the provider may do with the requests; ``None`` where it is not known."""

    trains_by_default: bool | None
    retention_days: NonNegative | None
    """Days for which requests are kept by default."""
    zero_retention: Literal["default", "setting", "on_approval", "none", "unknown"]
    """Whether requests can be kept out of storage altogether, and how one gets there."""
    regions: tuple[str, ...]
    """Regions where processing can be pinned or takes place (``US``, ``EU``, ``CN``); empty if unknown."""
    regional_uplift_frac: NonNegative = 0.0
    """Added to every price when a region is pinned."""
    note: str = ""


class Lifecycle(Frozen):
    """Whether a version can be pinned, and for how long it stays."""

    pinned: bool | None
    """Whether the name always answers with the same weights; ``None`` if unknown."""
    notice_months: NonNegative | None
    """Time between announcement and shutdown."""
    life_months: Positive
    """Time between release and shutdown for planning."""
    shutdown_date: DateText | None = None
    note: str = ""

    @property
    def forced_changes_per_year(self) -> float:
        """Changes of model that the provider forces on a user who always moves at the end of life."""
        return 12.0 / self.life_months


class HostedModel(Sourced):
    """One model as one provider sells it."""

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    provider: str
    api_model: str
    """Name to send in a request."""
    weights: str | None = None
    """The open-weight model behind it, by its catalog id; ``None`` for closed weights."""
    context_tokens: int | None = Field(default=None, ge=1)
    """Longest input plus output, if the provider states it."""
    max_output_tokens: int | None = Field(default=None, ge=1)
    tariff: tuple[TariffLine, ...] = Field(min_length=1)
    latency: HostedLatency
    limits: RateLimits
    availability: Availability
    data: DataTerms
    lifecycle: Lifecycle
    note: str = ""

    @model_validator(mode="after")
    def _has_input_and_output(self) -> Self:
        always = {line.kind for line in self.tariff if line.processing == "standard" and line.from_date is None}
        missing = {"input", "output"} - always
        if missing:
            raise ValueError(f"tariff needs unconditional standard lines for: {', '.join(sorted(missing))}")
        return self

    @property
    def has_batch(self) -> bool:
        """Whether the provider sells a batch tariff."""
        return any(line.processing == "batch" for line in self.tariff)

    def line(
        self,
        kind: TokenKind,
        *,
        day: Date,
        input_tokens: float = 0.0,
        processing: Processing = "standard",
        at: Time | None = None,
    ) -> TariffLine:
        """Return the line that prices ``kind`` tokens of a request.

        ``input_tokens`` is the whole input of the request, cached or not, on which long-context lines depend.
        Without ``at`` the lines that hold at certain hours only are left out. The longest threshold, then the
        latest start date, then the line for the hour wins. A kind that the processing class does not price is
        priced as its stand-in, then as standard.
        """
        found = [
            line
            for line in self.tariff
            if line.matches(kind, processing, input_tokens, day) and _at_hour(line, at, day.weekday())
        ]
        if found:
            return max(found, key=lambda x: (x.above_input_tokens, x.from_date or "", x.utc_hours is not None))
        if kind in _STAND_IN and not self._prices(kind, "standard"):
            return self.line(_STAND_IN[kind], day=day, input_tokens=input_tokens, processing=processing, at=at)
        return self.line(kind, day=day, input_tokens=input_tokens, at=at)

    def _prices(self, kind: TokenKind, processing: Processing) -> bool:
        return any(x.kind == kind and x.processing == processing for x in self.tariff)

    def usd_per_token(
        self, kind: TokenKind, *, day: Date, input_tokens: float = 0.0, processing: Processing = "standard"
    ) -> float:
        """Return the price of one token of ``kind`` in dollars, averaged over the hours of the week."""
        base = self.line(kind, day=day, input_tokens=input_tokens, processing=processing)
        usd = base.usd_per_mtok
        for line in self.tariff:
            if line.utc_hours and line.matches(base.kind, base.processing, input_tokens, day):
                usd += (line.usd_per_mtok - base.usd_per_mtok) * line.utc_hours.week_frac
        return usd / MTOK


def _at_hour(line: TariffLine, at: Time | None, weekday: int) -> bool:
    if line.utc_hours is None:
        return True
    return at is not None and line.utc_hours.holds(at, weekday)

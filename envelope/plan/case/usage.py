"""The usage of each year that the cost model prices, from what a request uses and the machines in service."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from envelope.money.tariff import billed_kinds, hosted_tokens
from envelope.money.usage import AnnualUsage, HostedTokens
from envelope.plan.case.case import Case
from envelope.plan.case.paid import owned_assets, rented_devices
from envelope.spec.hosted import Processing, TokenKind
from envelope.units import J_PER_KWH, SECONDS_PER_YEAR


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one offered request uses on average, as the simulation found it."""

    requests_per_year: float
    """Offered requests in the first year."""
    input_tokens: float
    output_tokens: float
    """Of a mean request of the workload, the same for every candidate."""
    served_frac: float
    solved_frac: float
    """Share of the offered requests that are served and solved."""
    dynamic_j: float
    """Energy above idle per offered request."""
    idle_w: float
    """Power of all local machines while nothing runs, hosts included, mean over the year."""
    own_idle_w: float = 0.0
    """The part of ``idle_w`` that the company pays for: machines that it owns or leases."""
    own_dynamic_frac: float = 0.0
    """The part of ``dynamic_j`` that it pays for."""
    running_fracs: tuple[float, ...] = ()
    """Share of the year's hours for which each pool's machines are switched on; empty means always. ``idle_w`` and
    ``own_idle_w`` are means over these hours and the others."""
    downtime_hours_per_year: float = 0.0
    """Hours without full service for a user."""
    hosted_tokens: dict[tuple[TokenKind, int], float] = field(default_factory=dict)
    """Hosted tokens per offered request by kind and the length that their prompts exceed."""
    hosted_error_frac: float = 0.0
    """Relative standard error of the hosted bill, since only a part of the year is simulated."""
    served_tokens: tuple[float, float] = (0.0, 0.0)
    """Prompt and answer tokens of the served requests, per offered request."""
    left_frac: float = 0.0
    """Share of the offered requests that leave the building."""
    private_left_frac: float = 0.0
    """Share of the offered requests that are private and leave it."""

    @property
    def left_per_year(self) -> float:
        """Requests of the first year that leave the building."""
        return self.left_frac * self.requests_per_year

    @property
    def private_left_per_year(self) -> float:
        """Private requests of the first year that leave the building."""
        return self.private_left_frac * self.requests_per_year


_FIGURES = (
    "served_frac", "solved_frac", "dynamic_j", "idle_w", "own_idle_w", "downtime_hours_per_year", "hosted_error_frac",
    "left_frac", "private_left_frac",
)  # fmt: skip
"""Plain figures of ``Traffic`` that depend on the load."""


def mixed(low: Traffic, high: Traffic, share: float) -> Traffic:
    """Return traffic that lies ``share`` of the way from ``low`` to ``high`` in every figure."""

    def mean(a: float, b: float) -> float:
        return a + (b - a) * share

    kinds = dict.fromkeys([*low.hosted_tokens, *high.hosted_tokens])
    return replace(
        low,
        **{name: mean(getattr(low, name), getattr(high, name)) for name in _FIGURES},
        running_fracs=tuple(mean(a, b) for a, b in zip(low.running_fracs, high.running_fracs, strict=True)),
        hosted_tokens={k: mean(low.hosted_tokens.get(k, 0.0), high.hosted_tokens.get(k, 0.0)) for k in kinds},
        served_tokens=(
            mean(low.served_tokens[0], high.served_tokens[0]), mean(low.served_tokens[1], high.served_tokens[1]),
        ),
    )  # fmt: skip


def year_usage(case: Case, traffic: Traffic, year: int) -> AnnualUsage:
    """Return the usage of one year of the horizon with the case's machines and the work of that year.

    Raises ``InputError`` if a device has neither a price in its profile nor one in the scenario.
    """
    requests = traffic.requests_per_year * case.scenario.workload.rate_in_year(year)
    dynamic_kwh = traffic.dynamic_j * requests / J_PER_KWH
    idle_kwh = traffic.own_idle_w * SECONDS_PER_YEAR / J_PER_KWH
    served_input, served_output = traffic.served_tokens
    return AnnualUsage(
        owned=owned_assets(case.candidate, case.replicas, case.shares),
        rented=rented_devices(case.candidate, case.replicas, traffic.running_fracs, case.operations.spares),
        hosted=_hosted(case, traffic, requests, year),
        hosted_error_frac=traffic.hosted_error_frac,
        it_kwh=0.0 if case.on_seats else idle_kwh + dynamic_kwh * traffic.own_dynamic_frac,
        # A laptop is on anyway: only the energy above idle is the assistant's.
        seat_kwh=dynamic_kwh if case.on_seats else 0.0,
        seats=case.scenario.company.seats,
        requests=requests,
        input_tokens=traffic.input_tokens * requests,
        output_tokens=traffic.output_tokens * requests,
        served_requests=traffic.served_frac * requests,
        served_input_tokens=served_input * requests,
        served_output_tokens=served_output * requests,
        solved_tasks=traffic.solved_frac * requests,
        failed_tasks=(1.0 - traffic.solved_frac) * requests,
        downtime_hours=traffic.downtime_hours_per_year,
        forced_changes_per_year=case.hosted.lifecycle.forced_changes_per_year if case.hosted else None,
    )


def _hosted(case: Case, traffic: Traffic, requests: float, year: int) -> tuple[HostedTokens, ...]:
    """Return the hosted tokens of one year with that year's prices, each length of prompt by its own tariff lines."""
    use, hosted, start = case.candidate.hosted, case.hosted, case.scenario.economics.start
    if hosted is None or use is None:
        return ()
    batch = use.batch_frac if hosted.has_batch else 0.0
    split: list[tuple[Processing, float]] = [(use.processing, 1.0 - batch), ("batch", batch)]
    bands: dict[int, dict[TokenKind, float]] = {}
    for (kind, above), tokens in sorted(traffic.hosted_tokens.items()):
        bands.setdefault(above, {})[kind] = tokens * requests
    lines: list[HostedTokens] = []
    for above, used in bands.items():
        length = above + 1 if above else 0
        billed = billed_kinds(hosted, used, start=start, request_input_tokens=length)
        for processing, share in split:
            if share > 0:
                lines += hosted_tokens(
                    hosted,
                    {kind: tokens * share for kind, tokens in billed.items() if tokens > 0},
                    start=start,
                    year=year,
                    processing=processing,
                    request_input_tokens=length,
                    pinned_region=bool(case.scenario.constraints.hosted_regions),
                )
    return tuple(_merged(lines))


def _merged(lines: Sequence[HostedTokens]) -> Iterator[HostedTokens]:
    """Yield one line for each line of the tariff, whose tokens may come from several bands of length."""
    tokens: dict[str, float] = {}
    for line in lines:
        tokens[line.line_id] = tokens.get(line.line_id, 0.0) + line.tokens
    for ident, first in {line.line_id: line for line in reversed(lines)}.items():
        yield HostedTokens(**{**dict(first), "tokens": tokens[ident]})

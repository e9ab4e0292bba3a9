"""Hosted tokens priced by a provider's tariff."""

from collections.abc import Iterable, Mapping
from datetime import date as Date
from functools import lru_cache

from envelope.identity import Same
from envelope.money.usage import HostedTokens
from envelope.provenance import Evidence
from envelope.spec.hosted import HostedModel, Processing, TariffLine, TokenKind
from envelope.spec.ranges import Spread
from envelope.units import MTOK


def hosted_tokens(
    model: HostedModel,
    tokens: Mapping[TokenKind, float],
    *,
    start: str,
    year: int = 0,
    processing: Processing = "standard",
    request_input_tokens: float = 0.0,
    pinned_region: bool = False,
) -> tuple[HostedTokens, ...]:
    """Return the tokens of one year with the price of each kind.

    ``tokens`` are counts by kind for the year; the kinds are disjoint, so ``input`` leaves out cached input.
    ``start`` is the month in which service begins (``2026-12``) and ``year`` counts from 0: the price is the
    mean over the months of that year, so that announced changes count from their date. Requests of different
    length classes go in separate calls, with ``request_input_tokens`` their whole input, cached or not.
    ``pinned_region`` adds the provider's regional uplift.
    """
    result = []
    for kind, count in tokens.items():
        line, price = _priced(Same(model), kind, start, year, processing, request_input_tokens, pinned_region)
        result.append(
            HostedTokens(
                api=model.id,
                kind=kind,
                processing=line.processing,
                above_input_tokens=line.above_input_tokens,
                tokens=count,
                usd_per_mtok=price,
            )
        )
    return tuple(result)


@lru_cache(maxsize=1024)
def _priced(
    api: Same[HostedModel],
    kind: TokenKind,
    start: str,
    year: int,
    processing: Processing,
    request_input_tokens: float,
    pinned_region: bool,
) -> tuple[TariffLine, Spread]:
    """Return the line of the tariff at the end of a year and the mean price of a million tokens in it."""
    model, days = api.record, _month_starts(start, year)
    uplift = 1.0 + (model.data.regional_uplift_frac if pinned_region else 0.0)
    prices = [
        model.usd_per_token(kind, day=day, input_tokens=request_input_tokens, processing=processing) for day in days
    ]
    line = model.line(kind, day=days[-1], input_tokens=request_input_tokens, processing=processing)
    usd_per_mtok, source = sum(prices) / len(prices) * MTOK * uplift, model.source_of("tariff")
    return line, _price(usd_per_mtok, source.source, source.date, source.evidence)


def billed_kinds(
    model: HostedModel, tokens: Mapping[TokenKind, float], *, start: str, request_input_tokens: float = 0.0
) -> dict[TokenKind, float]:
    """Return the tokens of a year as the provider bills them, where filling its cache costs a surcharge.

    ``tokens`` has ``input`` that no cache held and ``cached_input``. A tariff with a price for cache writes leaves the
    choice to the user: either every prompt is written (all ``input`` at that price), or nothing is cached; the cheaper
    is taken.
    """
    if not any(line.kind == "cache_write" for line in model.tariff):
        return dict(tokens)
    day = _month_starts(start, 0)[0]

    def usd(kind: TokenKind, count: float) -> float:
        return count * model.usd_per_token(kind, day=day, input_tokens=request_input_tokens)

    fresh, hit = tokens.get("input", 0.0), tokens.get("cached_input", 0.0)
    rest: dict[TokenKind, float] = {k: n for k, n in tokens.items() if k not in ("input", "cached_input")}
    if usd("cache_write", fresh) + usd("cached_input", hit) < usd("input", fresh + hit):
        return {"cache_write": fresh, "cached_input": hit, **rest}
    return {"input": fresh + hit, **rest}


def bill_usd(hosted: Iterable[HostedTokens]) -> float:
    """Return what the tokens cost, in dollars, without price trends."""
    return sum(h.tokens * h.usd_per_mtok.point / MTOK for h in hosted)


def _price(usd_per_mtok: float, source: str, date: str, evidence: Evidence) -> Spread:
    return Spread(value=round(usd_per_mtok, 12), source=source, date=date, evidence=evidence)


def _month_starts(start: str, year: int) -> list[Date]:
    """Return the first days of the twelve months of a year of service."""
    parts = [int(p) for p in start.split("-")]
    first = (parts[0] + year) * 12 + (parts[1] - 1 if len(parts) > 1 else 0)
    return [Date((first + m) // 12, (first + m) % 12 + 1, 1) for m in range(12)]

"""Ages of the prices in the catalog, and a user's own negotiated prices."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date as Date
from pathlib import Path

from pydantic import Field

from envelope.errors import InputError, Problem, unknown_name
from envelope.provenance import DateText, Evidence, Frozen
from envelope.spec.cloud import CloudPrices
from envelope.spec.economic_facts import economics_problems, facts
from envelope.spec.economics import Economics
from envelope.spec.hardware import HardwareProfile, ServerProfile
from envelope.spec.hosted import HostedModel
from envelope.spec.load import ids, load_all, load_file
from envelope.spec.ranges import Range


class PriceAge(Frozen):
    """How old one price of the catalog is."""

    kind: str
    """``hosted``, ``cloud``, ``hardware``, ``servers`` or ``economics``."""
    id: str
    """Record, and for cloud prices the provider too."""
    date: DateText
    age_days: int
    """Days since the date; a date without a day is taken as the end of its month or year."""
    source: str
    evidence: Evidence


def price_ages(today: Date) -> list[PriceAge]:
    """Return the age of every price in the catalog, the oldest first."""
    ages = [
        PriceAge(kind=kind, id=ident, date=day, age_days=age_days(day, today), source=source, evidence=evidence)
        for kind, ident, day, source, evidence in _prices()
    ]
    return sorted(ages, key=lambda age: (-age.age_days, age.kind, age.id))


def stale_prices(today: Date, *, days: int) -> list[PriceAge]:
    """Return the prices that are more than ``days`` days old, the oldest first."""
    return [age for age in price_ages(today) if age.age_days > days]


class PriceFile(Frozen):
    """A user's negotiated prices, which take the place of the catalog's and are marked so."""

    supplier: str = ""
    prices: dict[str, Range] = Field(min_length=1)
    """Price by the name of the input: ``tariff.<hosted model>.<token kind>``, ``rent.<device>.<mode>``,
    ``price.<server or device>``, or a default of the catalog such as ``pue_average`` or ``electricity``."""


def with_price_file(economics: Economics, path: Path) -> Economics:
    """Return the economics with the prices of a file in place of those of the catalog.

    Raises ``InputError`` for a name that no price can have, for a price without source or date, and for a number that
    cannot be.
    """
    book = load_file(PriceFile, path)
    problems: list[Problem] = []
    for name, spread in book.prices.items():
        problems += _name_problems(name, path)
        if not spread.source or spread.date is None:
            where = f"prices.{name}"
            problems.append(Problem(str(path), where, None, "needs source and date", "such as a quote and its day"))
    priced = economics.changed(inputs={**economics.inputs, **book.prices})
    problems += [
        replace(p, path=p.path.replace("inputs.", "prices.", 1))
        for p in economics_problems(priced, str(path), "")
        if p.path.removeprefix("inputs.") in book.prices and p.rule != "unknown"
    ]
    if problems:
        raise InputError(problems)
    return priced


def _name_problems(name: str, path: Path) -> tuple[Problem, ...]:
    """Return what is wrong with a name that no input can have."""
    kind, _, rest = name.partition(".")
    owners = {
        "tariff": ids("hosted"),
        "rent": ids("cloud"),
        "price": [*ids("hardware_profiles"), *ids("servers")],
    }
    if kind not in owners:
        known = {*facts().defaults, *(general for names in facts().regions.values() for general in names)}
        return () if name in known else unknown_name(str(path), f"prices.{name}", name, known, "economics").problems
    if any(rest == owner or rest.startswith(f"{owner}.") for owner in owners[kind]):
        return ()
    ident = rest.rsplit(".", 1)[0] if kind != "price" else rest
    listing = {"tariff": "hosted", "rent": "hardware", "price": "hardware"}[kind]
    return unknown_name(str(path), f"prices.{name}", ident, owners[kind], listing).problems


def _prices() -> Iterator[tuple[str, str, str, str, Evidence]]:
    for model in load_all(HostedModel, "hosted"):
        origin = model.source_of("tariff")
        yield "hosted", model.id, origin.date, origin.source, origin.evidence
    for device in load_all(CloudPrices, "cloud"):
        for quote in device.quotes:
            yield "cloud", f"{device.id}: {quote.provider}, {quote.mode}", quote.date, quote.source, quote.evidence
    for profile in load_all(HardwareProfile, "hardware_profiles"):
        if profile.price is not None:
            origin = profile.source_of("price")
            yield "hardware", profile.id, profile.price.date, origin.source, origin.evidence
    for server in load_all(ServerProfile, "servers"):
        if server.price is not None:
            origin = server.source_of("price")
            yield "servers", server.id, server.price.date, origin.source, origin.evidence
    for name, default in facts().defaults.items():
        yield "economics", name, default.date, default.source, default.evidence


def age_days(day: str, today: Date) -> int:
    """Return the days since a date; one without month or day is taken as the end of its year or month."""
    return (today - _latest(day)).days


def _latest(text: str) -> Date:
    """Return the last day that a date without month or day can mean."""
    parts = [int(p) for p in text.split("-")]
    if len(parts) == 3:
        return Date(*parts)
    year, month = parts[0], parts[1] if len(parts) == 2 else 12
    following = Date(year + month // 12, month % 12 + 1, 1)
    return Date.fromordinal(following.toordinal() - 1)

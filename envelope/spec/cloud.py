"""Rental prices of devices: quotes of cloud providers, and the planning price that follows from them."""

from statistics import median
from typing import Annotated, Literal

from pydantic import Field

from envelope.errors import InputError, Problem
from envelope.provenance import DateText, Evidence, Frozen, Sourced, weakest
from envelope.spec.economic_facts import facts
from envelope.spec.load import ids, load
from envelope.spec.ranges import Spread

RentalMode = Literal["on_demand", "spot", "reserved_1y", "reserved_3y"]

Mode = Literal["on_demand", "spot", "reserved_short", "reserved_1y", "reserved_3y", "serverless", "owning"]
"""``reserved_short`` is days to weeks, prepaid; ``serverless`` is billed by the busy second; ``owning`` is an
analyst's estimate of what a provider pays himself."""

DISCOUNT_OF = {"spot": "spot_discount", "reserved_1y": "reserved_1y_discount", "reserved_3y": "reserved_3y_discount"}
"""Default that turns an on-demand price into the price of a mode for which there is no quote."""


class CloudQuote(Frozen):
    """What one provider asks for one device."""

    provider: str
    mode: Mode
    usd_per_device_hour: Annotated[float, Field(gt=0)]
    instance: str = ""
    source: str = Field(min_length=3)
    date: DateText
    evidence: Evidence
    note: str = ""


class CloudPrices(Sourced):
    """All quotes for one device; the id is that of its hardware profile."""

    id: str
    quotes: tuple[CloudQuote, ...] = Field(min_length=1)

    def price(self, mode: Mode) -> Spread | None:
        """Return the median of the quotes for ``mode`` as a range from the lowest to the highest, or ``None``.

        Quotes that were read from a source count; recalled or doubtful ones only if there is no other.
        """
        quotes = [q for q in self.quotes if q.mode == mode]
        checked = [q for q in quotes if q.evidence is not Evidence.ASSUMED]
        used = checked or quotes
        if not used:
            return None
        prices = [q.usd_per_device_hour for q in used]
        return Spread(
            low=min(prices),
            p50=median(prices),
            high=max(prices),
            source=f"median of {len(used)} quotes: {', '.join(sorted({q.provider for q in used}))}",
            date=max(q.date for q in used),
            evidence=weakest(q.evidence for q in used),
        )


def rental_price(device: str, mode: RentalMode, *, file: str, path: str) -> Spread:
    """Return the planning price of renting one device for an hour, in dollars.

    Without a quote for ``mode`` it is the on-demand price less the catalog's discount, marked assumed.
    ``file`` and ``path`` say where the device was named, for the error if nobody rents it out.
    """
    prices = load(CloudPrices, "cloud", device, file=file, path=path)
    found = prices.price(mode)
    if found is not None:
        return found
    if mode in DISCOUNT_OF:
        discount = facts().defaults[DISCOUNT_OF[mode]]
        base = rental_price(device, "on_demand", file=file, path=path)
        source = f"{base.source}; less {discount.value:.0%} ({discount.source})"
        return base.scaled(1 - discount.value).changed(source=source, evidence=Evidence.ASSUMED)
    rule = "has no on-demand price in the catalog"
    raise InputError(Problem(file, path, device, rule, "give a price, or one of: " + ", ".join(ids("cloud"))))

"""Acquisition: how the devices of a candidate, or of one of its pools, are paid for."""

from typing import Literal, Self

from pydantic import Field, model_validator

from envelope.provenance import DateText, Frozen

RENTED = frozenset({"on_demand", "reserved_1y", "reserved_3y", "spot"})
"""Kinds that are paid by the device-hour."""


class Acquisition(Frozen):
    """How devices are paid for."""

    kind: Literal["purchase", "lease", "on_demand", "reserved_1y", "reserved_3y", "spot", "seat_uplift"] = "purchase"
    """``lease``: a leasing company buys the machines and is paid by the month; ``spot``: rented, with the hours lost to
    interruptions; ``seat_uplift``: the seats' own laptops, bought a class better than they would be anyway."""
    server: str | None = None
    """Id of the server in the catalog that holds the devices (price, power, rack units)."""
    device_price_usd: float | None = Field(default=None, gt=0)
    """Price of one device (for rented ones of one hour), or of one seat's uplift, when the catalog's own price does not
    apply."""
    price_source: str | None = Field(default=None, min_length=3)
    """Where ``device_price_usd`` comes from, such as a quote number."""
    price_date: DateText | None = None
    hours_per_day: float = Field(default=24.0, gt=0, le=24)
    """Hours a day for which devices rented on demand or spot run."""
    site: Literal["own_room", "colocation", "own_build"] | None = None
    """Where own or leased machines stand; ``None`` is the site of the scenario's economics."""

    @model_validator(mode="after")
    def _own_price_has_source(self) -> Self:
        if self.device_price_usd is not None and self.price_source is None:
            raise ValueError("device_price_usd needs price_source")
        return self

    @property
    def is_rented(self) -> bool:
        """Whether the devices are paid by the hour."""
        return self.kind in RENTED

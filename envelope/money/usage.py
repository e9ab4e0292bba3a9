"""What one year of a deployment uses: the quantities that cost lines multiply by prices."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from envelope.provenance import Frozen
from envelope.spec.cloud import RentalMode
from envelope.spec.hosted import Processing, TokenKind
from envelope.spec.ranges import Range

NonNegative = Annotated[float, Field(ge=0)]


VOLUMES = (
    "it_kwh", "seat_kwh", "requests", "input_tokens", "output_tokens", "served_requests", "served_input_tokens",
    "served_output_tokens", "solved_tasks", "failed_tasks",
)  # fmt: skip
"""Quantities of a year that follow the volume of work."""


class OwnedAsset(Frozen):
    """Machines of one kind that the company has in service during the year."""

    id: str
    """Id of the server or device profile; the price is the input ``price.<id>``."""
    kind: Literal["server", "device", "seat"] = "server"
    """``server`` needs network, storage, racks and operations; ``device`` is a card or workstation that needs
    operations only; ``seat`` is the dearer part of a user's laptop."""
    count: NonNegative
    unit_price_usd: Range
    """Price of one when service begins; later purchases follow the hardware price trend."""
    devices_per_unit: int = Field(default=1, ge=1)
    max_w: NonNegative = 0.0
    """Power that the site must provide for one."""
    rack_units: NonNegative = 0.0
    leased: bool = False
    """Whether a leasing company buys it and is paid by the month."""


class RentedDevices(Frozen):
    """Devices rented by the hour."""

    id: str
    """Id of the device profile; the price is the input ``rent.<id>.<mode>``."""
    mode: RentalMode = "on_demand"
    device_hours: NonNegative
    """Hours times devices that are paid for in the year."""
    usd_per_device_hour: Range
    devices: NonNegative = 0.0
    """Devices at the busiest time, for the effort of operating them."""


class HostedTokens(Frozen):
    """Tokens of one tariff line of a hosted model."""

    api: str
    kind: TokenKind
    processing: Processing = "standard"
    above_input_tokens: int = Field(default=0, ge=0)
    """Threshold of the tariff line that priced them; 0 is the base tariff."""
    tokens: NonNegative
    usd_per_mtok: Range

    @property
    def line_id(self) -> str:
        """Name of the cost line, such as ``hosted.openai-gpt-5.output``."""
        parts = ["hosted", self.api, self.kind]
        parts += [self.processing] if self.processing != "standard" else []
        parts += [f"above-{self.above_input_tokens}"] if self.above_input_tokens else []
        return ".".join(parts)


class AnnualUsage(Frozen):
    """One year of use, as the simulation found it."""

    owned: tuple[OwnedAsset, ...] = ()
    rented: tuple[RentedDevices, ...] = ()
    hosted: tuple[HostedTokens, ...] = ()
    hosted_error_frac: NonNegative = 0.0
    """Relative standard error of the hosted tokens, where a simulated part of the year stands for all of it."""
    it_kwh: NonNegative = 0.0
    """Energy of owned servers and devices at their own input in the year, without cooling."""
    seat_kwh: NonNegative = 0.0
    """Energy of the users' laptops for the model in the year."""
    seats: NonNegative = 0.0
    """People who use the assistant."""
    requests: NonNegative = 0.0
    input_tokens: NonNegative = 0.0
    output_tokens: NonNegative = 0.0
    """What the workload offers, whether served or not."""
    served_requests: NonNegative = 0.0
    served_input_tokens: NonNegative = 0.0
    served_output_tokens: NonNegative = 0.0
    """What is served of it, by default all; unit costs are per served work."""
    solved_tasks: NonNegative = 0.0
    failed_tasks: NonNegative = 0.0
    """Tasks answered wrongly, refused or dropped."""
    downtime_hours: NonNegative = 0.0
    """Hours of the year without full service for a user."""
    forced_changes_per_year: NonNegative | None = None
    """Forced changes of the hosted model; ``None`` takes the default of the catalog."""

    @model_validator(mode="before")
    @classmethod
    def _all_served(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        names = ("requests", "input_tokens", "output_tokens")
        return {**{f"served_{name}": data[name] for name in names if name in data}, **data}

    def grown(self, factor: float) -> "AnnualUsage":
        """Return the same year with ``factor`` times the work on the same machines."""
        names = VOLUMES
        update: dict[str, object] = {name: getattr(self, name) * factor for name in names}
        update["hosted"] = tuple(h.changed(tokens=h.tokens * factor) for h in self.hosted)
        return self.changed(**update)

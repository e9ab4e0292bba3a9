"""How a deployment is operated: what fails, when it is switched off, how it scales, what becomes of the hosted API.

Without any of it a scenario's busiest hour is simulated on machines that never fail. With maintenance, a schedule,
autoscaling or faults the whole week is, since these are things that an hour does not show.
"""

from datetime import date as Date
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from envelope.provenance import Frozen
from envelope.units import SECONDS_PER_DAY

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Hour = Annotated[float, Field(ge=0, le=24)]

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

WEEK_S = 7 * SECONDS_PER_DAY


class FaultRules(Frozen):
    """Failures of devices, nodes and power, drawn at random; what is not given has the catalog's value."""

    device_mtbf_hours: Positive | None = None
    """Mean time between failures of one device that stop its replica. ``None`` is ``mtbf_gpu_all_causes``: 419
    unexpected interruptions in 54 days of 16,384 H100s (Llama 3, arXiv:2407.21783), 16,384 · 54 · 24 / 419 = 50,677
    device-hours; for devices of seats a year over ``laptop_failure``."""
    node_mtbf_hours: Positive | None = None
    """The same for a replica's host; ``None`` is never, since the figure for devices counts every cause."""
    restart_frac: Fraction | None = None
    """Share of the failures that a restart cures; ``None`` is ``soft_failure_share``."""
    repair_hours: Positive | None = None
    """Mean time to repair or exchange what a restart does not cure; ``None`` is ``repair_time_vendor``."""
    power_cuts_per_year: NonNegative = 0.0
    """Power cuts that stop everything in the building."""
    power_cut_hours: Positive = 1.0
    """Their mean length."""


class Maintenance(Frozen):
    """Planned maintenance, one replica after the other; running requests finish first."""

    weekday: Weekday = "sun"
    start_hour: Hour = 3.0
    """Local hour at which the round begins."""
    minutes_per_replica: Positive = 30.0
    every_weeks: int = Field(default=4, ge=1, le=52)
    """Weeks between two rounds; the simulated week is one with a round."""


class OpeningHours(Frozen):
    """Hours in which the machines run; requests that come in others wait until they run again."""

    weekdays: tuple[Hour, Hour] | None = (0.0, 24.0)
    """From and to, local time, Monday to Friday; ``null`` is off."""
    weekends: tuple[Hour, Hour] | None = (0.0, 24.0)
    """The same on Saturday and Sunday."""
    keep_replicas: int = Field(default=0, ge=0)
    """Replicas of each pool that run all the same."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name, hours in (("weekdays", self.weekdays), ("weekends", self.weekends)):
            if hours is not None and hours[1] <= hours[0]:
                raise ValueError(f"{name}: the end must be after the start")
        if self.weekdays is None and self.weekends is None:
            raise ValueError("the machines would never run")
        return self

    def closed_s(self) -> tuple[tuple[float, float], ...]:
        """Return start and end of the closed times of a week from Monday 00:00, those that touch joined."""
        found: list[tuple[float, float]] = []
        for day in range(7):
            hours = self.weekdays if day < 5 else self.weekends
            midnight = day * SECONDS_PER_DAY
            opens, closes = (midnight + 3600.0 * h for h in hours) if hours else (midnight + SECONDS_PER_DAY,) * 2
            for begin, end in ((midnight, opens), (closes, midnight + SECONDS_PER_DAY)):
                if end > begin and found and found[-1][1] == begin:
                    found[-1] = (found[-1][0], end)
                elif end > begin:
                    found.append((begin, end))
        return tuple(found)

    @property
    def open_frac(self) -> float:
        """Share of a week in which the machines run."""
        return 1.0 - sum(end - begin for begin, end in self.closed_s()) / WEEK_S


class Autoscaling(Frozen):
    """Replicas of the first pool are started and drained by the requests in the system per running replica."""

    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int | None = Field(default=None, ge=1)
    """``None`` is as many as the pool has; more are machines that are rented or bought when needed."""
    up_at_requests: Positive = 16.0
    """Requests per running replica above which one more is started."""
    down_at_requests: NonNegative = 4.0
    """Requests per running replica below which one is drained."""
    check_every_s: Positive = 30.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.down_at_requests >= self.up_at_requests:
            raise ValueError("down_at_requests must be below up_at_requests")
        if self.max_replicas is not None and self.max_replicas < self.min_replicas:
            raise ValueError("max_replicas must not be below min_replicas")
        return self


class HostedRules(Frozen):
    """What becomes of the hosted API."""

    outages: bool = True
    """Whether it fails as often as its availability says."""
    outage_minutes: Positive = 30.0
    """Mean length of an outage."""
    retired_on: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")] | None = None
    """Day from which the snapshot refuses everything, if nobody moves to its successor."""
    concurrent: int | None = Field(default=None, ge=1)
    """Requests in flight that the account may have; ``None`` takes the catalog's limit, if known."""

    @model_validator(mode="after")
    def _is_a_day(self) -> Self:
        if self.retired_on is not None:
            Date.fromisoformat(self.retired_on)
        return self


class Operations(Frozen):
    """How the machines are operated; of a candidate's own, the fields that it gives replace the scenario's."""

    faults: FaultRules | None = None
    """``None``: nothing fails in the simulation, unless spares or maintenance are given; the expected downtime is
    worked out all the same."""
    spares: int = Field(default=0, ge=0, le=1000)
    """Replicas' worth of spare machines (N + k), which are bought or rented as the others and switched on when one of
    these fails."""
    maintenance: Maintenance | None = None
    schedule: OpeningHours | None = None
    autoscale: Autoscaling | None = None
    startup_s: Positive | None = None
    """Time to start a replica (engine and weights); ``None`` is its weights at the storage's measured rate, or at the
    catalog's ``cold_start_rate``."""
    hosted: HostedRules = HostedRules()

    @model_validator(mode="after")
    def _one_minimum(self) -> Self:
        if self.autoscale is not None and self.schedule is not None and self.schedule.keep_replicas:
            raise ValueError("schedule.keep_replicas and autoscale exclude each other: autoscale has min_replicas")
        return self

    @property
    def fault_rules(self) -> FaultRules | None:
        """Failures that are simulated: those given, or the catalog's where spares or maintenance ask for them."""
        return self.faults or (FaultRules() if self.spares or self.maintenance else None)

    @property
    def takes_a_week(self) -> bool:
        """Whether an hour does not show what the operations do to the service."""
        return any(rule is not None for rule in (self.fault_rules, self.schedule, self.autoscale))

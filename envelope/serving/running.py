"""The fleet while it runs: which replicas are wanted, broken or in maintenance, and what happened to them."""

from collections import Counter
from dataclasses import dataclass, field

import simpy

from envelope.serving.fleet import Fleet
from envelope.serving.result import FleetEvent
from envelope.serving.state import State


@dataclass(slots=True)
class Controls:
    """What the processes that change the fleet share."""

    fleet: Fleet
    state: State
    env: simpy.Environment
    span_s: float
    active: bool = False
    """Whether any process may change the fleet."""
    events: Counter[str] = field(default_factory=Counter)
    log: list[FleetEvent] = field(default_factory=list)
    reasons: dict[int, set[str]] = field(default_factory=dict)
    """Why each replica is down; it is up when nothing is left."""
    peak_replicas: int = 0
    spares: int = 0

    @property
    def units(self) -> list[int]:
        """The replicas, each by the number of its first rank: what fails, starts and stops as a whole."""
        return sorted(set(self.fleet.leaders))

    @property
    def running(self) -> int:
        """Replicas in service."""
        return sum(not self.reasons.get(r) for r in self.units)

    def down(self, r: int, why: str, *, at_once: bool) -> None:
        """Take replica ``r`` out of service for the reason ``why``."""
        self.reasons.setdefault(r, set()).add(why)
        self.state.call("set_down", r, float(self.env.now), int(at_once))
        if at_once:
            self.state.call("set_power", r, float(self.env.now), 0)

    def up(self, r: int, why: str) -> None:
        """Remove a reason; the replica serves again when it was the last one."""
        held = self.reasons.setdefault(r, set())
        held.discard(why)
        if not held:
            self.state.call("set_up", r, float(self.env.now))
            self.state.call("set_power", r, float(self.env.now), 1)
            self.peak_replicas = max(self.peak_replicas, self.running)

    def note(self, kind: str, r: int | None = None) -> None:
        """Put something that has just happened into the log."""
        self.log.append(FleetEvent(time_s=float(self.env.now), kind=kind, replica=r, running=self.running))

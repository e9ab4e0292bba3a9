"""Which part of the week is simulated, and with what share of the fleet."""

import math
from dataclasses import dataclass
from typing import Literal

from envelope.errors import InputError, Problem
from envelope.plan.case.case import Case
from envelope.plan.case.operations import Clock
from envelope.serving.arrivals import Window, window_of
from envelope.serving.simulate import WARMUP_FRAC
from envelope.units import SECONDS_PER_DAY

Horizon = Literal["hour", "day", "week"]
"""What is simulated: the busiest hour at its own rate, the day around it, or the whole week from Monday 00:00."""

SHORTEST_WINDOW_S = 900.0
"""A fleet too large to simulate whole for this long is simulated by a share of its replicas."""

MOST_REQUESTS = 2_000_000
"""Requests of one seed at most when the time to simulate is given."""

_WEEK_REQUESTS = 200_000
"""Requests of one seed at most for a week that the operations ask for, where the settings do not allow more."""

_QUICK_SEATS = 24
"""Seats of a fleet of seats that a short simulation takes."""

_SPANS_S = {"day": SECONDS_PER_DAY, "week": 7 * SECONDS_PER_DAY}
_WARMUP_S = 1800.0
"""Longest part of a day or week that fills queues and caches and is not counted."""


@dataclass(frozen=True, slots=True)
class Period:
    """A part of the week that is simulated."""

    text: str
    window: Window
    flat: bool
    """Whether the load stays that of the first hour."""
    share: float
    """Share of the load and of every pool's replicas."""
    year: int

    @property
    def clock(self) -> Clock:
        """Where the simulated time lies."""
        return Clock(self.window.start_s, self.window.span_s, self.year)

    @property
    def warmup_frac(self) -> float:
        """Share of the simulated time that is not counted."""
        return min(WARMUP_FRAC, _WARMUP_S / self.window.span_s) if not self.flat else WARMUP_FRAC


def usual_period(case: Case, year: int = 0) -> Period:
    """Return what is simulated unless it is asked for: the busiest hour, or a week if the operations take one.

    A week of more requests than are simulated at most becomes the busiest day, and that the busiest hour.
    """
    most = max(case.max_requests, _WEEK_REQUESTS)
    if case.candidate.pools and case.operations.takes_a_week:
        for name in ("week", "day"):
            found = timed(case, name, None, year, most)
            if _expected(case, found) <= most:
                return found
    return busiest_hour(case, year)


def period_of(case: Case, *, horizon: Horizon | None, hours: float | None, year: int, whole: bool = False) -> Period:
    """Return what is simulated when a horizon or its length is asked for; ``whole`` takes no share of the fleet.

    Raises ``InputError`` if that is more than ``MOST_REQUESTS`` requests.
    """
    if horizon is None and hours is None:
        usual = usual_period(case, year)
        return usual if usual.share == 1 or not whole else busiest_hour(case, year, whole=True)
    if horizon == "hour" and hours is None:
        return busiest_hour(case, year, whole=whole)
    found = timed(case, horizon or "hour", hours, year, MOST_REQUESTS if whole else MOST_REQUESTS / 4)
    expected = _expected(case, found)
    if expected > MOST_REQUESTS:
        rule = f"gives about {expected:,.0f} requests a seed; at most {MOST_REQUESTS:,} are simulated"
        where = "horizon" if hours is None else "hours"
        raise InputError(Problem("arguments", where, hours or horizon, rule, "shorten the time"))
    return found


def busiest_hour(case: Case, year: int = 0, *, whole: bool = False) -> Period:
    """Return the busiest hour, shorter or longer by the number of requests that the settings allow."""
    share = 1.0 if whole else replica_share(case, year)
    most = case.max_requests * (10 if whole else 1)
    load = share * case.scenario.workload.rate_in_year(year)
    return Period(
        "the busiest hour", window_of(case.scenario.workload, max_requests=most, share=load), True, share, year
    )


def timed(case: Case, horizon: Horizon, hours: float | None, year: int, most_requests: float) -> Period:
    """Return a part of the week of given length, whose load follows the curve."""
    peak = case.scenario.workload.peak_hour * 3600.0
    start = {"hour": peak, "day": peak // SECONDS_PER_DAY * SECONDS_PER_DAY, "week": 0.0}[horizon]
    span = hours * 3600.0 if hours is not None else _SPANS_S[horizon]
    begin = {"hour": "the busiest hour", "day": "the busiest day", "week": "the week"}[horizon]
    text = begin if hours is None else f"{hours:g} hours from the start of {begin}"
    rate = case.scenario.workload.mean_rate_per_s * case.scenario.workload.rate_in_year(year)
    share = share_of(case, most_requests / (rate * span))
    return Period(text, Window(start, span), False, share, year)


def _expected(case: Case, period: Period) -> float:
    rate = case.scenario.workload.mean_rate_per_s * case.scenario.workload.rate_in_year(period.year)
    return rate * period.window.span_s * period.share


def replica_share(case: Case, year: int) -> float:
    """Return the share of the load (and of every pool's replicas) that is simulated in the busiest hour."""
    rate = case.scenario.workload.peak_rate_per_s * case.scenario.workload.rate_in_year(year)
    wanted = case.max_requests / (rate * SHORTEST_WINDOW_S)
    if case.quick and case.on_seats and len(case.candidate.pools) == 1:
        # Each seat's device serves its own user only, so that a few say what all do.
        wanted = min(wanted, _QUICK_SEATS / case.candidate.pools[0].replicas)
    return share_of(case, wanted)


def share_of(case: Case, wanted: float) -> float:
    """Return the largest share of the fleet, whole replicas of every pool, that is not above ``wanted``."""
    if wanted >= 1:
        return 1.0
    pools = case.candidate.pools
    if not pools:
        return wanted
    # Only multiples of 1/gcd keep the load per replica exactly.
    parts = math.gcd(*(pool.replicas for pool in pools))
    return max(1, math.floor(wanted * parts)) / parts

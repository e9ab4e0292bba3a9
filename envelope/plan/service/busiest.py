"""The one memory of simulations: a case in its busiest hour, or week, of one year."""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from envelope.errors import InputError, Problem
from envelope.identity import Same
from envelope.perf.replica import ReplicaSpec
from envelope.plan.case.case import Case
from envelope.plan.case.fleet import build_fleet
from envelope.plan.service.period import MOST_REQUESTS, Period, usual_period
from envelope.serving.fleet import Fleet
from envelope.serving.result import SimulationResult
from envelope.serving.simulate import simulate
from envelope.serving.trace import Trace
from envelope.spec.hosted import HostedModel
from envelope.spec.load import Reporter
from envelope.spec.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Peak:
    """One candidate in the busiest hour of one year, or in a week of it if its operations take one."""

    result: SimulationResult
    fleet: Fleet
    share_frac: float
    period: str
    """What was simulated, in words."""


def simulate_peak(case: Case, *, seeds: int, year: int = 0) -> Peak:
    """Return the simulation of the busiest hour, or of a week if the candidate's operations take one.

    One of the same work on the same machines, operated in the same way, is remembered.
    """
    return _peak(_Busiest(_work_text(case, year), seeds, year, case.quick, case.replicas, case.hosted, case))


REMEMBERED = 256
"""Simulations that are remembered, so that a change of prices alone simulates nothing."""


@dataclass(frozen=True, slots=True)
class _Busiest:
    """One simulation to run, equal to another by what its outcome depends on."""

    work: str
    seeds: int
    year: int
    quick: bool
    replicas: tuple[ReplicaSpec, ...] = field(hash=False)
    hosted: HostedModel | None = field(hash=False)
    case: Case = field(compare=False)


_MONEY: Any = {"acquisition": True, "name": True, "note": True, "pools": {"__all__": {"acquisition"}}}
_BESIDES: Any = {"workload": {"tasks", "growth_frac_per_year"}} | dict.fromkeys(
    ("id", "name", "question", "story", "failure_not_affordable", "economics", "candidates", "evidence", "capacity",
     "company", "constraints"), True
)  # fmt: skip
"""Parts of a scenario that count before or after the simulation only."""


def _work_text(case: Case, year: int) -> str:
    """Return what is simulated: the work, the privacy and the candidate, without how it is paid for.

    Difficulty counts where it decides the route, sensitivity where anything stands outside the building.
    """
    scenario, candidate, drop = case.scenario, case.candidate, set[str]()
    if candidate.route.policy != "escalate":
        drop.add("difficulty")
    if case.hosted is None and all(candidate.is_inside(pool) for pool in candidate.pools):
        drop.add("sensitivity")
    rest = scenario.workload.rate_in_year(year), scenario.constraints.private_stays, scenario.economics.start
    return f"{_scenario_text(Same(scenario), frozenset(drop))}{rest}{candidate.model_dump_json(exclude=_MONEY)}"


@lru_cache(maxsize=256)
def _scenario_text(scenario: Same[Scenario], drop: frozenset[str]) -> str:
    """Return the part that does not change with the year."""
    tasks = "".join(task.model_dump_json(exclude=set(drop)) for task in scenario.record.workload.tasks)
    return f"{tasks}{scenario.record.model_dump_json(exclude=_BESIDES)}"


@lru_cache(maxsize=REMEMBERED)
def _peak(busiest: _Busiest) -> Peak:
    return simulated(busiest.case, usual_period(busiest.case, busiest.year), seeds=busiest.seeds)


def _trace(log: str) -> Trace:
    from envelope.logs.detect import read_log

    found = read_log(Path(log))
    if not isinstance(found, Trace):
        raise InputError(Problem("workload", "trace", log, "holds totals, not single requests"))
    return found


def simulations() -> int:
    """Return how many simulations of a usual period this process has run; what is remembered does not count."""
    return _peak.cache_info().misses


def simulated(
    case: Case,
    period: Period,
    *,
    seeds: int,
    fleet: Fleet | None = None,
    table: Path | None = None,
    report: Reporter | None = None,
) -> Peak:
    """Return the simulation of a part of the week; ``fleet`` is the candidate's own unless given."""
    fleet = fleet or build_fleet(case, period.share, period.clock)
    scenario = case.scenario
    # A recorded log has a busiest hour of its own, whatever the rate of the workload says.
    log = scenario.workload.trace
    recorded = log is not None
    result = simulate(
        fleet,
        scenario.workload,
        trace=None if log is None else _trace(log),
        seed=scenario.simulation.seed,
        seeds=seeds,
        max_requests=case.max_requests if recorded else MOST_REQUESTS,
        window=None if recorded and period.flat else period.window,
        share=period.share,
        year=period.year,
        warmup_frac=period.warmup_frac,
        flat=period.flat,
        table=table,
        report=report,
    )
    return Peak(result, fleet, period.share, period.text)

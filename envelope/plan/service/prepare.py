"""Compiling the simulation before a job that gains by it, so that nobody waits without knowing why."""

from collections.abc import Callable, Iterable

from envelope.serving.compiled import COMPILE_REQUESTS, available, is_ready, worth_compiling
from envelope.serving.warm import ready_for
from envelope.spec.scenario import Candidate, Scenario

NOTICE = "compiling the simulation, once on this machine (about 20 seconds)"
"""What a user is told before it is done."""

_SESSION_WEIGHT = 10
"""What a call of a session weighs: its prompt is ten to a hundred times that of a single request, and is cached."""

_WEEK_REQUESTS = 200_000


def prepare_for(
    scenario: Scenario, candidates: Iterable[Candidate], *, runs: int, tell: Callable[[str], object] | None = None
) -> bool:
    """Compile the simulation if ``runs`` simulations of each candidate gain by it; returns whether it was done now.

    It is done once for each version of the program on a machine; ``tell`` is told before.
    """
    local = [c for c in candidates if c.pools]
    requests = round(runs * sum(_weighted_requests(scenario, c) for c in local))
    if tell is not None and requests > COMPILE_REQUESTS and not is_ready() and available():
        tell(NOTICE)
    return ready_for(requests)


def announce(requests: int, replicas: int, tell: Callable[[str], object]) -> None:
    """Tell of the compilation if one run of so many requests on so many replicas will begin with it."""
    if not is_ready() and worth_compiling(requests, replicas):
        tell(NOTICE)


def _weighted_requests(scenario: Scenario, candidate: Candidate) -> float:
    """Return about how many requests a simulation serves; those of sessions and of large fleets count for more."""
    work, most = scenario.workload, scenario.simulation.max_requests
    requests = min(max(work.peak_rate_per_s * 3600.0, 0.1 * most), most)
    if scenario.operations_of(candidate).takes_a_week:
        requests = min(7 * work.daily_requests, max(most, _WEEK_REQUESTS))
    long = sum(share for task, share in zip(work.tasks, work.shares(), strict=True) if task.session)
    replicas = sum(pool.replicas * pool.parallelism.dp for pool in candidate.pools)
    return requests * (1 + long * _SESSION_WEIGHT) * (8 + replicas) / 8

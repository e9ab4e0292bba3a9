"""What one offered request uses on average: from a simulated hour, weighed by the work that the workload means."""

import math
from dataclasses import dataclass
from functools import lru_cache

from envelope.plan.case.case import Case
from envelope.plan.case.operations import running_fracs
from envelope.plan.case.usage import Traffic
from envelope.plan.service.busiest import REMEMBERED, Peak
from envelope.plan.service.downtime import Downtime, saturated_s_per_request
from envelope.plan.service.work import Local, Work
from envelope.serving.offered import OfferedClass, offered_classes
from envelope.serving.result import SimulationResult, Stratum
from envelope.serving.strata import solved_frac
from envelope.spec.hosted import TokenKind
from envelope.units import DAYS_PER_YEAR


def traffic(case: Case, peak: Peak, down: Downtime) -> Traffic:
    """Return what one offered request uses on average; ``down`` is what failures take away.

    Energy above idle is that of the simulated time, corrected for longer or shorter requests than the mean ones. If
    that is the busiest hour, batches are smaller in quiet hours, so the energy per request of the year is somewhat
    higher.
    """
    result, fleet = peak.result, peak.fleet
    starts = tuple(band.above_input_tokens for band in result.hosted.bands)
    means = offered_classes(
        case.scenario.workload, starts, math.inf if fleet.hosted is None else fleet.hosted.cache_ttl_s
    )
    own = [pool.replica.max_context_tokens or math.inf for pool in fleet.pools]
    asks = fleet.router.policy == "escalate"
    each = _weighed(result.strata, means, starts, max(own, default=math.inf), asks)
    per_seed = max(result.overall.offered, 1) / len(result.seeds)
    idle_j = case.device_idle_w * peak.share_frac * result.window_s * result.running_frac
    running = running_fracs(case.scenario, case.candidate, result.running_frac)
    prompt, answer = each.tokens
    left, private_left = each.left
    return Traffic(
        requests_per_year=case.scenario.workload.daily_requests * DAYS_PER_YEAR,
        input_tokens=prompt,
        output_tokens=answer,
        served_frac=result.overall.served_frac,
        # Remembered simulations may be of other difficulties, where the route does not ask for them.
        solved_frac=solved_frac(result.strata, [t.difficulty for t in case.scenario.workload.tasks], fleet),
        dynamic_j=max(result.energy_j - idle_j, 0.0) / per_seed * _effort_ratio(case, result, each),
        idle_w=case.mean_idle_w(running),
        own_idle_w=case.mean_idle_w(running, own=True),
        running_fracs=running,
        own_dynamic_frac=case.own_power_frac,
        downtime_hours_per_year=down.hours_per_year,
        hosted_tokens=dict(each.hosted),
        hosted_error_frac=each.work.hosted_error_frac(case.scenario.workload),
        served_tokens=each.served,
        left_frac=left,
        private_left_frac=private_left,
    )


@dataclass(frozen=True, slots=True)
class _Weighed:
    """What a simulation says of one offered request, by the weights of the workload."""

    work: Work
    tokens: tuple[float, float]
    left: tuple[float, float]
    hosted: dict[tuple[TokenKind, int], float]
    served: tuple[float, float]
    meant: Local
    drawn: Local


@lru_cache(maxsize=REMEMBERED)
def _weighed(
    strata: tuple[Stratum, ...],
    means: tuple[OfferedClass, ...] | None,
    starts: tuple[int, ...],
    own_tokens: float,
    asks_difficulty: bool,
) -> _Weighed:
    """Return what a simulation says of one offered request; kept as long as the simulation is, whatever it costs."""
    work = Work(strata, means, starts, own_tokens=own_tokens, asks_difficulty=asks_difficulty)
    return _Weighed(
        work, work.tokens(), work.left(), work.hosted(), work.served(), work.local(), work.local_drawn()
    )  # fmt: skip


def _effort_ratio(case: Case, result: SimulationResult, each: _Weighed) -> float:
    """Return what the workload's requests take of the first pool's machines, over what the drawn ones took.

    Of what continues earlier prompts, caches hold the share that they held in the run.
    """
    drawn, meant = each.drawn, each.meant
    if not case.replicas or min(*drawn[:3], *meant[:3]) <= 0:
        return 1.0
    held = min(result.prefix_hit_frac * drawn.prompt / drawn.before, 1.0) if drawn.before else 0.0
    efforts = [
        x.requests
        * saturated_s_per_request(
            case.fits[0],
            max(x.prompt / x.requests, 1.0),
            max(x.answer / x.requests, 1.0),
            1.0 - held * x.before / x.prompt,
        )
        for x in (meant, drawn)
    ]
    return efforts[0] / efforts[1]

"""What one offered request uses on average: from a simulated hour, weighed by the work that the workload means."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from envelope.plan.case.case import Case
from envelope.plan.case.operations import running_fracs
from envelope.plan.case.usage import Traffic
from envelope.plan.service.busiest import Peak
from envelope.plan.service.downtime import Downtime, saturated_s_per_request
from envelope.serving.offered import OfferedClass, offered_classes
from envelope.serving.result import SimulationResult, Stratum
from envelope.serving.strata import part_like, solved_frac
from envelope.spec.hosted import TokenKind
from envelope.spec.workload import Workload
from envelope.units import DAYS_PER_YEAR

Floats = NDArray[np.float64]

_KINDS: tuple[tuple[TokenKind, int], ...] = (("input", 0), ("cached_input", 0), ("output", 1))
"""Kinds of hosted tokens in the order of ``Stratum.hosted_tokens``, each a part of prompt (0) or answer (1) tokens."""


def traffic(case: Case, peak: Peak, down: Downtime) -> Traffic:
    """Return what one offered request uses on average; ``down`` is what failures take away.

    The simulation says which share of each stratum's prompt and answer tokens is served, and where; the workload says
    how many tokens a stratum offers, so that the luck of a simulated hour with long requests is no bill of a year
    (ratio estimate within strata: W. G. Cochran, *Sampling Techniques*, 1977, chapter 6). Energy above idle is that
    of the simulated time, corrected for longer or shorter requests than the mean ones. If that is the busiest hour,
    batches are smaller in quiet hours, so the energy per request of the year is somewhat higher.
    """
    result = peak.result
    starts = tuple(band.above_input_tokens for band in result.hosted.bands)
    work = _Work(result, offered_classes(case.scenario.workload, starts))
    per_seed = max(result.overall.offered, 1) / len(result.seeds)
    idle_j = case.device_idle_w * peak.share_frac * result.window_s * result.running_frac
    running = running_fracs(case.scenario, case.candidate, result.running_frac)
    prompt, answer = work.tokens()
    return Traffic(
        requests_per_year=case.scenario.workload.daily_requests * DAYS_PER_YEAR,
        input_tokens=prompt,
        output_tokens=answer,
        served_frac=result.overall.served_frac,
        # Remembered simulations may be of other difficulties, where the route does not ask for them.
        solved_frac=solved_frac(result.strata, [t.difficulty for t in case.scenario.workload.tasks], peak.fleet),
        dynamic_j=max(result.energy_j - idle_j, 0.0) / per_seed * _effort_ratio(case, result, prompt, answer),
        idle_w=case.mean_idle_w(running),
        own_idle_w=case.mean_idle_w(running, own=True),
        running_fracs=running,
        own_dynamic_frac=case.own_power_frac,
        downtime_hours_per_year=down.hours_per_year,
        hosted_tokens=work.hosted(starts),
        hosted_error_frac=work.hosted_error_frac(case.scenario.workload),
        served_tokens=work.served(),
        left_frac=work.share(lambda s: s.outside),
        private_left_frac=work.share(lambda s: s.outside if s.private else 0),
    )


def _effort_ratio(case: Case, result: SimulationResult, prompt: float, answer: float) -> float:
    """Return what a mean request of the workload takes of the first pool's machines, over what the drawn ones took."""
    overall = result.overall
    if not case.replicas or overall.mean_input_tokens <= 0 or overall.mean_output_tokens <= 0:
        return 1.0
    fresh = 1.0 - result.prefix_hit_frac
    meant, drawn = (
        saturated_s_per_request(case.replicas[0], max(p, 1.0), max(a, 1.0), fresh)
        for p, a in ((prompt, answer), (overall.mean_input_tokens, overall.mean_output_tokens))
    )
    return meant / drawn


class _Work:
    """The strata of a simulation with what the workload offers in each."""

    def __init__(self, result: SimulationResult, means: Sequence[OfferedClass] | None) -> None:
        self._strata = result.strata
        total = sum(s.weight_frac for s in self._strata) or 1.0
        self._weights = [s.weight_frac / total for s in self._strata]
        self._pools = [[o for o in self._strata if o.task == s.task] for s in self._strata]
        self._spread = [0.0 if means is None else means[s.task].prompt_cv ** 2 for s in self._strata]
        self._means: list[Floats] = [_per_request([s]) if means is None else means[s.task].tokens for s in self._strata]

    def tokens(self) -> tuple[float, float]:
        """Return prompt and answer tokens of a mean request."""
        mean = np.sum([w * m.sum(axis=0) for w, m in zip(self._weights, self._means, strict=True)], axis=0)
        return float(mean[0]), float(mean[1])

    def share(self, count: Callable[[Stratum], int]) -> float:
        """Return the share of the offered requests that are counted in their strata."""
        total = 0.0
        for part, weight, pool in zip(self._strata, self._weights, self._pools, strict=True):
            like = part_like(part, pool, self._strata)
            total += weight * sum(count(s) for s in like) / max(sum(s.offered for s in like), 1)
        return total

    def served(self) -> tuple[float, float]:
        """Return prompt and answer tokens that are served, per offered request."""
        found = np.zeros(2)
        for part, weight, pool, mean in zip(self._strata, self._weights, self._pools, self._means, strict=True):
            like = part_like(part, pool, self._strata)
            offered = np.sum([s.offered_tokens for s in like], axis=(0, 1))
            served = np.sum([s.served_tokens for s in like], axis=0)
            found += weight * mean.sum(axis=0) * served / np.maximum(offered, 1)
        return float(found[0]), float(found[1])

    def hosted(self, starts: Sequence[int]) -> dict[tuple[TokenKind, int], float]:
        """Return the tokens that the hosted API bills per offered request, by kind and band."""
        found = np.zeros((len(starts), len(_KINDS)))
        for part, weight, pool, mean in zip(self._strata, self._weights, self._pools, self._means, strict=True):
            like = part_like(part, pool, self._strata)
            offered = np.sum([s.offered_tokens for s in like], axis=0)
            hosted = np.sum([s.hosted_tokens for s in like], axis=0)
            for column, (_, side) in enumerate(_KINDS):
                whole = hosted[:, column].sum() / max(offered[:, side].sum(), 1)
                ratios = np.where(offered[:, side] > 0, hosted[:, column] / np.maximum(offered[:, side], 1), whole)
                found[:, column] += weight * mean[:, side] * ratios
        return {
            (kind, start): float(found[row, column])
            for row, start in enumerate(starts)
            for column, (kind, _) in enumerate(_KINDS)
            if found[row, column] > 0
        }

    def hosted_error_frac(self, work: Workload) -> float:
        """Return the relative standard error of the hosted tokens.

        Within a stratum of n requests of which a share p is sent out, the share of the tokens that are has a variance
        of about p·(1 − p)·(1 + cv²)/n; calls of a session go the same way, so that sessions are counted there.
        """
        sent = variance = 0.0
        for part, weight, pool, mean, cv2 in zip(
            self._strata, self._weights, self._pools, self._means, self._spread, strict=True
        ):
            like = part_like(part, pool, self._strata)
            offered = max(sum(s.offered for s in like), 1)
            p = sum(s.hosted for s in like) / offered
            tokens = weight * float(mean.sum())
            sent += tokens * p
            variance += tokens**2 * p * (1.0 - p) * (1.0 + cv2) / max(offered / work.tasks[part.task].mean_calls, 1.0)
        return math.sqrt(variance) / sent if sent > 0 else 0.0


def _per_request(strata: Sequence[Stratum]) -> Floats:
    """Return the drawn tokens of a mean request, [bands, 2]."""
    tokens = np.sum([s.offered_tokens for s in strata], axis=0)
    return np.asarray(tokens / max(sum(s.offered for s in strata), 1), dtype=np.float64)

"""What one offered request uses on average: from a simulated hour, weighed by the work that the workload means."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

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

_KINDS: tuple[TokenKind, ...] = ("input", "cached_input", "output")
"""Kinds of hosted tokens in the order of ``Stratum.hosted_tokens``."""


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
    hosted = peak.fleet.hosted
    means = offered_classes(case.scenario.workload, starts, math.inf if hosted is None else hosted.cache_ttl_s)
    work = _Work(result, means, asks_difficulty=peak.fleet.router.policy == "escalate")
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
        dynamic_j=max(result.energy_j - idle_j, 0.0) / per_seed * _effort_ratio(case, result, work),
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


def _effort_ratio(case: Case, result: SimulationResult, work: "_Work") -> float:
    """Return what the workload's requests take of the first pool's machines, over what the drawn ones took.

    Of what continues earlier prompts, caches hold the share that they held in the run.
    """
    drawn, meant = work.local_drawn(), work.local()
    if not case.replicas or min(*drawn[:3], *meant[:3]) <= 0:
        return 1.0
    held = min(result.prefix_hit_frac * drawn.prompt / drawn.before, 1.0) if drawn.before else 0.0
    each = [
        x.requests
        * saturated_s_per_request(
            case.replicas[0],
            max(x.prompt / x.requests, 1.0),
            max(x.answer / x.requests, 1.0),
            1.0 - held * x.before / x.prompt,
        )
        for x in (meant, drawn)
    ]
    return each[0] / each[1]


class _Local(NamedTuple):
    """What own machines serve, per offered request."""

    requests: float
    prompt: float
    answer: float
    before: float
    """Tokens of the prompts that continue earlier ones."""


class _Work:
    """The strata of a simulation with what the workload offers in each."""

    def __init__(
        self, result: SimulationResult, means: Sequence[OfferedClass] | None, *, asks_difficulty: bool = False
    ) -> None:
        self._strata = result.strata
        self._asks_difficulty = asks_difficulty
        self._weights = _weights(result.strata, means)
        self._pools = [[o for o in self._strata if o.task == s.task] for s in self._strata]
        self._spread = [0.0 if means is None else means[s.task].prompt_cv ** 2 for s in self._strata]
        self._means: list[Floats] = [
            _per_request([s]) if means is None else means[s.task].tokens[int(s.continues)] for s in self._strata
        ]

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
        for like, weight, mean in self._parts():
            offered = np.sum([s.offered_tokens for s in like], axis=(0, 1))[:2]
            served = np.sum([s.served_tokens for s in like], axis=0)
            found += weight * mean.sum(axis=0)[:2] * served / np.maximum(offered, 1)
        return float(found[0]), float(found[1])

    def local(self) -> _Local:
        """Return what own machines serve of the requests that the workload means."""
        found = np.zeros(4)
        for like, weight, mean in self._parts():
            offered = np.sum([[s.offered, *np.sum(s.offered_tokens, axis=0)] for s in like], axis=0)
            per_request = np.array([1.0, *mean.sum(axis=0)])
            found += weight * per_request * np.sum([_local(s) for s in like], axis=0) / np.maximum(offered, 1)
        return _Local(*found.tolist())

    def local_drawn(self) -> _Local:
        """Return what they served of those that were drawn."""
        offered = max(sum(s.offered for s in self._strata), 1)
        found = np.sum([_local(s) for s in self._strata], axis=0) / offered if self._strata else np.zeros(4)
        return _Local(*found.tolist())

    def hosted(self, starts: Sequence[int]) -> dict[tuple[TokenKind, int], float]:
        """Return the tokens that the hosted API bills per offered request, by kind and band.

        Which share of the prompts and answers is sent out, and of what continues earlier prompts is cached, is taken
        from the run; how long prompts and what they continue are on average, from the workload.
        """
        found = np.zeros((len(starts), len(_KINDS)))
        for position, (like, weight, mean) in enumerate(self._parts()):
            offered = np.sum([s.offered_tokens for s in like], axis=0)
            fresh, cached, answers = np.sum([s.hosted_tokens for s in like], axis=0).T
            sent = _ratio(fresh + cached, offered[:, 0])
            kept = self._sent_before(position) * sent if self._asks_difficulty else _ratio(cached, offered[:, 2])
            held = np.minimum(mean[:, 2] * kept, mean[:, 0] * sent)
            answered = mean[:, 1] * _ratio(answers, offered[:, 1])
            found += weight * np.stack([mean[:, 0] * sent - held, held, answered], axis=1)
        return {
            (kind, start): float(found[row, column])
            for row, start in enumerate(starts)
            for column, kind in enumerate(_KINDS)
            if found[row, column] > 0
        }

    def _sent_before(self, position: int) -> Floats:
        """Return by band the share of the calls before those of a stratum that were sent out, so that they are cached.

        Each call of a session is hard or easy for itself, so that the one before is as hard as any of its kind.
        """
        part = self._strata[position]
        total, found = 0.0, np.zeros(len(part.hosted_tokens))
        for other, (like, weight, _) in zip(self._strata, self._parts(), strict=True):
            if (other.task, other.private, other.continues) == (part.task, part.private, True):
                offered = np.sum([s.offered_tokens for s in like], axis=0)[:, 0]
                sent = np.sum([s.hosted_tokens for s in like], axis=0)[:, :2].sum(axis=1)
                total += weight
                found += weight * _ratio(sent, offered)
        return found / total if total else found

    def _parts(self) -> Iterator[tuple[Sequence[Stratum], float, Floats]]:
        """Yield for each stratum what is known of it, its weight and the tokens of a mean request."""
        for part, weight, pool, mean in zip(self._strata, self._weights, self._pools, self._means, strict=True):
            yield part_like(part, pool, self._strata), weight, mean

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
            tokens = weight * float(mean[:, :2].sum())
            sent += tokens * p
            variance += tokens**2 * p * (1.0 - p) * (1.0 + cv2) / max(offered / work.tasks[part.task].mean_calls, 1.0)
        return math.sqrt(variance) / sent if sent > 0 else 0.0


def _weights(strata: Sequence[Stratum], means: Sequence[OfferedClass] | None) -> list[float]:
    """Return the share of each stratum in the requests, with as many that continue a dialogue as the workload means."""
    total = sum(s.weight_frac for s in strata) or 1.0
    if means is None:
        return [s.weight_frac / total for s in strata]
    found = []
    for part in strata:
        both = [s for s in strata if (s.task, s.hard, s.private) == (part.task, part.hard, part.private)]
        share = means[part.task].continues_frac
        # Of a kind that did not occur nothing is known, so that the other stands for both.
        own = 1.0 if len(both) == 1 else share if part.continues else 1.0 - share
        found.append(sum(s.weight_frac for s in both) / total * own)
    return found


def _local(part: Stratum) -> Floats:
    """Return requests, prompt, answer and continued tokens of a stratum that own machines served."""
    out = np.sum(part.hosted_tokens, axis=0)
    served = np.array([part.served, *part.served_tokens], dtype=np.float64)
    own = np.maximum(served - np.array([part.hosted, out[0] + out[1], out[2]]), 0.0)
    prompt, _, before = np.sum(part.offered_tokens, axis=0)
    return np.array([*own, own[1] * before / max(prompt, 1)])


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Return the share by band; a band without any requests is like all of them."""
    overall = part.sum() / max(whole.sum(), 1)
    return np.asarray(np.where(whole > 0, part / np.maximum(whole, 1), overall), dtype=np.float64)


def _per_request(strata: Sequence[Stratum]) -> Floats:
    """Return the drawn tokens of a mean request, [bands, 3]."""
    tokens = np.sum([s.offered_tokens for s in strata], axis=0)
    return np.asarray(tokens / max(sum(s.offered for s in strata), 1), dtype=np.float64)

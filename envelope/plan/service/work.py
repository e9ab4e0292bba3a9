"""The work of a simulated hour, weighed as the workload means it: ratio estimates within strata.

The simulation says which share of each stratum's prompt and answer tokens is served, and where; the workload says how
many tokens a stratum offers, so that the luck of an hour with long requests is no bill of a year (W. G. Cochran,
*Sampling Techniques*, 1977, chapter 6).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envelope.serving.offered import OfferedClass
from envelope.serving.result import Stratum
from envelope.serving.strata import part_like
from envelope.spec.hosted import TokenKind
from envelope.spec.workload import Workload

Floats = NDArray[np.float64]

_KINDS: tuple[TokenKind, ...] = ("input", "cached_input", "output")
"""Kinds of hosted tokens in the order of ``Stratum.hosted_tokens``."""


class Local(NamedTuple):
    """What own machines serve, per offered request."""

    requests: float
    prompt: float
    answer: float
    before: float
    """Tokens of the prompts that continue earlier ones."""


class Work:
    """The strata of a simulation with what the workload offers in each.

    Arrays begin with [strata]; of a stratum that did not occur they hold what is known of those like it.
    """

    def __init__(
        self,
        strata: Sequence[Stratum],
        means: Sequence[OfferedClass] | None,
        starts: Sequence[int],
        *,
        own_tokens: float = math.inf,
        asks_difficulty: bool = False,
    ) -> None:
        """Take strata, what their classes offer, and the prompt lengths above which bands begin.

        ``own_tokens`` is the longest prompt that own machines hold beside a hosted API; ``asks_difficulty`` says
        whether the route sends hard requests out.
        """
        self._strata, self._asks_difficulty = strata, asks_difficulty
        self._starts, self._own_tokens = starts, own_tokens
        self._weights = _weights(strata, means)
        self._private = np.array([s.private for s in strata], dtype=np.bool_)
        self._hard = np.array([s.hard for s in strata], dtype=np.bool_)
        self._cv2 = np.array([0.0 if means is None else means[s.task].prompt_cv ** 2 for s in strata])
        self._counts = np.array([[s.offered, s.served, s.hosted, s.outside] for s in strata], dtype=np.float64)
        self._offered = np.array([s.offered_tokens for s in strata], dtype=np.float64)
        self._served = np.array([s.served_tokens for s in strata], dtype=np.float64)
        self._hosted = np.array([s.hosted_tokens for s in strata], dtype=np.float64)
        self._mean = np.array(
            [_per_request(s) if means is None else means[s.task].tokens[int(s.continues)] for s in strata]
        )
        self._own_drawn = self._own(self._counts, self._served, self._hosted, self._offered)
        if not self._counts[:, 0].all():
            self._lend()

    def _lend(self) -> None:
        """Let strata that did not occur take what is known of those like them."""
        places = {id(s): i for i, s in enumerate(self._strata)}
        like = np.zeros((len(self._strata),) * 2)
        for i, part in enumerate(self._strata):
            for other in part_like(part, self._strata):
                like[i, places[id(other)]] = 1.0
        self._counts = like @ self._counts
        self._offered, self._served, self._hosted = (
            np.einsum("ij,jbk->ibk", like, x) for x in (self._offered, self._served, self._hosted)
        )

    @staticmethod
    def _own(counts: Floats, served: Floats, hosted: Floats, offered: Floats) -> tuple[Floats, Floats]:
        """Return what own machines served: requests [strata]; prompt, answer, continued tokens [strata, bands, 3]."""
        sent = np.stack([hosted[:, :, 0] + hosted[:, :, 1], hosted[:, :, 2]], axis=2)
        own = np.maximum(served - sent, 0.0)
        before = own[:, :, 0] * offered[:, :, 2] / np.maximum(offered[:, :, 0], 1)
        return np.maximum(counts[:, 1] - counts[:, 2], 0.0), np.dstack([own, before])

    def tokens(self) -> tuple[float, float]:
        """Return prompt and answer tokens of a mean request."""
        mean = self._weights @ self._mean.sum(axis=1)
        return float(mean[0]), float(mean[1])

    def left(self) -> tuple[float, float]:
        """Return the share of the requests that leave the building, and of those that are private and leave it."""
        shares = self._weights * self._counts[:, 3] / np.maximum(self._counts[:, 0], 1)
        # Without a private request in the run nothing is known of them, and those that may leave are not like them.
        known = any(s.private and s.offered for s in self._strata)
        return float(shares.sum()), float(shares[self._private].sum()) if known else 0.0

    def served(self) -> tuple[float, float]:
        """Return prompt and answer tokens that are served, per offered request."""
        shares = (self._ratio(self._served[:, :, i], self._offered[:, :, i]) for i in (0, 1))
        found = (float(self._weights @ (self._mean[:, :, i] * x).sum(axis=1)) for i, x in enumerate(shares))
        prompt, answer = found
        return prompt, answer

    def local(self) -> Local:
        """Return what own machines serve of the requests that the workload means."""
        requests, tokens = self._own(self._counts, self._served, self._hosted, self._offered)
        each = self._weights @ (requests / np.maximum(self._counts[:, 0], 1))
        prompt, answer = (self._ratio(tokens[:, :, i], self._offered[:, :, i]) for i in (0, 1))
        # Of what continues earlier prompts as large a share is served as of the prompts that hold it.
        shares = (prompt, answer, prompt)
        found = (float(self._weights @ (self._mean[:, :, i] * x).sum(axis=1)) for i, x in enumerate(shares))
        return Local(float(each), *found)

    def local_drawn(self) -> Local:
        """Return what they served of those that were drawn."""
        offered = max(sum(s.offered for s in self._strata), 1)
        requests, tokens = self._own_drawn
        return Local(float(requests.sum() / offered), *(tokens.sum(axis=(0, 1)) / offered).tolist())

    def hosted(self) -> dict[tuple[TokenKind, int], float]:
        """Return the tokens that the hosted API bills per offered request, by kind and band.

        Which share of the prompts and answers is sent out, and of what continues earlier prompts is cached, is taken
        from the run; how long prompts and what they continue are on average, from the workload.
        """
        if not self._hosted.any():
            return {}
        sent, mean = self._sent(), self._mean
        cached = self._ratio(self._hosted[:, :, 1], self._offered[:, :, 2])
        kept = self._sent_before(sent) * sent if self._asks_difficulty else cached
        held = np.minimum(mean[:, :, 2] * kept, mean[:, :, 0] * sent)
        answered = mean[:, :, 1] * self._ratio(self._hosted[:, :, 2], self._offered[:, :, 1])
        found = np.einsum("i,ibk->bk", self._weights, np.stack([mean[:, :, 0] * sent - held, held, answered], axis=2))
        return {
            (kind, start): float(found[row, column])
            for row, start in enumerate(self._starts)
            for column, kind in enumerate(_KINDS)
            if found[row, column] > 0
        }

    def _ratio(self, part: Floats, whole: Floats) -> Floats:
        """Return the share of each stratum by band, [strata, bands].

        A band of which nothing was drawn is like that of requests as hard and as private; one of prompts that own
        machines do not hold is like that of others as private, or goes where hard ones go. Else it is like the
        stratum's other bands.
        """
        overall = part.sum(axis=1) / np.maximum(whole.sum(axis=1), 1)
        found = np.where(whole > 0, part / np.maximum(whole, 1), overall[:, None])
        private, hard = self._private, self._hard
        # Only where the workload means any prompts.
        for i, band in zip(*np.nonzero((whole == 0) & (self._mean[:, :, 0] > 0)), strict=True):
            like = (private == private[i]) & (hard == hard[i])
            pools = [(like, band)]
            if self._starts[band] >= self._own_tokens:
                pools += [(private == private[i], band), ((private == private[i]) & hard, slice(None))]
            for pool in pools:
                if whole[pool].sum() > 0:
                    found[i, band] = part[pool].sum() / whole[pool].sum()
                    break
        return found

    def _sent(self) -> Floats:
        """Return the share of the prompt tokens that are sent out, [strata, bands]."""
        return self._ratio(self._hosted[:, :, :2].sum(axis=2), self._offered[:, :, 0])

    def _sent_before(self, sent: Floats) -> Floats:
        """Return the share of the calls before those of each stratum that were sent out, so that they are cached.

        Each call of a session is hard or easy for itself, so that the one before is as hard as any of its kind.
        """
        kinds = [(s.task, s.private) for s in self._strata]
        found = np.zeros_like(sent)
        for kind in set(kinds):
            mine = np.array([k == kind and s.continues for k, s in zip(kinds, self._strata, strict=True)])
            total = self._weights[mine].sum()
            if total > 0:
                found[[k == kind for k in kinds]] = self._weights[mine] @ sent[mine] / total
        return found

    def hosted_error_frac(self, work: Workload) -> float:
        """Return the relative standard error of the hosted tokens.

        Within a stratum of n requests of which a share p is sent out, the share of the tokens that are has a variance
        of about p·(1 − p)·(1 + cv²)/n; calls of a session go the same way, so that sessions are counted there.
        """
        offered = np.maximum(self._counts[:, 0], 1)
        p = self._counts[:, 2] / offered
        tokens = self._weights * self._mean[:, :, :2].sum(axis=(1, 2))
        of_task = [task.mean_calls for task in work.tasks]
        calls = np.array([of_task[s.task] for s in self._strata])
        variance = float((tokens**2 * p * (1.0 - p) * (1.0 + self._cv2) / np.maximum(offered / calls, 1.0)).sum())
        sent = float((tokens * p).sum())
        return math.sqrt(variance) / sent if sent > 0 else 0.0


def _weights(strata: Sequence[Stratum], means: Sequence[OfferedClass] | None) -> Floats:
    """Return the share of each stratum in the requests, with as many that continue a dialogue as the workload means."""
    total = sum(s.weight_frac for s in strata) or 1.0
    if means is None:
        return np.array([s.weight_frac / total for s in strata])
    sums: dict[tuple[int, bool, bool], list[float]] = {}
    for s in strata:
        sums.setdefault((s.task, s.hard, s.private), []).append(s.weight_frac)
    found = []
    for s in strata:
        both, share = sums[s.task, s.hard, s.private], means[s.task].continues_frac
        # Of a kind that did not occur nothing is known, so that the other stands for both.
        own = 1.0 if len(both) == 1 else share if s.continues else 1.0 - share
        found.append(sum(both) / total * own)
    return np.array(found)


def _per_request(part: Stratum) -> Floats:
    """Return the drawn tokens of a mean request, [bands, 3]."""
    return np.asarray(part.offered_tokens, dtype=np.float64) / max(part.offered, 1)

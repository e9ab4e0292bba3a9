"""Requests by what the workload says of their numbers: task class, whether they are hard, whether they are private."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envelope.serving.fleet import Fleet
from envelope.serving.kernel import layout as k
from envelope.serving.metrics import Measured, own_tier
from envelope.serving.requests import ClassInfo, Floats, Ints
from envelope.serving.result import Stratum
from envelope.spec.workload import Difficulty

_KINDS = 8
"""Easy and hard, each private or not, each beginning a dialogue or continuing one."""


@dataclass(slots=True)
class Strata:
    """Counts and tokens of the strata of one run or several; every array begins with [classes × kinds]."""

    requests: Ints
    """[…, 4] offered, served, hosted, entered anything outside."""
    offered: Ints
    """[…, bands, 3] prompt and answer tokens, and the part of the prompts that continues earlier ones."""
    served: Ints
    """[…, bands, 2] prompt and answer tokens."""
    hosted: Ints
    """[…, bands, 3] prompt tokens at the full price, cached ones, answer tokens."""

    def add(self, m: Measured, starts: Sequence[int], cache_s: float) -> None:
        """Count measured requests; ``starts`` are the prompt lengths above which the bands begin.

        A dialogue that rests for longer than ``cache_s`` begins anew as far as the hosted API's cache goes.
        """
        before = held_tokens(m.before, m.gap_s, cache_s)
        later = before > 0
        row = m.task * _KINDS + 4 * m.hard + 2 * (m.sensitivity == k.PRIVATE) + later
        band = np.searchsorted(np.asarray(starts)[1:], m.input_tokens, side="left")
        rows, bands = self.offered.shape[:2]
        for column, mask in enumerate((np.ones(len(row), dtype=np.bool_), m.served, m.hosted, m.outside)):
            self.requests[:, column] += np.bincount(row[mask], minlength=rows)
        for column, tokens in enumerate((m.input_tokens, m.output_tokens, before)):
            self.offered[:, :, column] += _summed(row * bands + band, tokens, (rows, bands))
        for column, tokens in enumerate((m.input_tokens, m.output_tokens)):
            self.served[:, :, column] += _summed((row * bands + band)[m.served], tokens[m.served], (rows, bands))
        out = m.hosted
        fresh = (m.input_tokens - m.hosted_hit)[out]
        for column, tokens in enumerate((fresh, m.hosted_hit[out], m.output_tokens[out])):
            self.hosted[:, :, column] += _summed((row * bands + band)[out], tokens, (rows, bands))

    def joined(self, others: Sequence["Strata"]) -> "Strata":
        """Return these together with those of other runs."""
        every = (self, *others)
        names = ("requests", "offered", "served", "hosted")
        return Strata(**{name: np.sum([getattr(s, name) for s in every], axis=0) for name in names})


def held_tokens(before: Ints, gap_s: Floats, cache_s: float) -> Ints:
    """Return the part of each prompt that a cache holds which keeps prompts for ``cache_s``."""
    return np.where(gap_s <= cache_s, before, 0)


def _summed(places: Ints, tokens: Ints, shape: tuple[int, ...]) -> Ints:
    return np.bincount(places, tokens, int(np.prod(shape))).astype(np.int64).reshape(shape)


def empty_strata(classes: int, bands: int) -> Strata:
    """Return the strata of no requests."""
    rows = classes * _KINDS
    zeros = (np.zeros(s, dtype=np.int64) for s in ((rows, 4), (rows, bands, 3), (rows, bands, 2), (rows, bands, 3)))
    return Strata(*zeros)


def strata_of(found: Strata, classes: Sequence[ClassInfo], fleet: Fleet) -> tuple[Stratum, ...]:
    """Return the strata as records with their weights; those that neither weigh nor occurred are left out."""
    drawn = found.requests[:, 0].reshape(len(classes), _KINDS)
    total = max(int(drawn.sum()), 1)
    records = []
    for task, info in enumerate(classes):
        mine = drawn[task]
        share = mine.sum() / total if info.share is None else info.share
        fails = getattr(info.difficulty, own_tier(fleet))
        for kind in range(_KINDS):
            hard, private, later = kind >> 2, kind >> 1 & 1, kind & 1
            chance = fails if hard else 1.0 - fails
            if info.private_frac is not None:
                chance *= info.private_frac if private else 1.0 - info.private_frac
            else:
                chance *= mine[_private(private)].sum() / max(mine.sum(), 1)
            chance *= mine[later::2].sum() / max(mine.sum(), 1)
            row = task * _KINDS + kind
            if chance * share == 0 and mine[kind] == 0:
                continue
            offered, served, hosted, outside = (int(n) for n in found.requests[row])
            records.append(
                Stratum(
                    task=task, hard=bool(hard), private=bool(private), continues=bool(later),
                    weight_frac=float(chance * share),
                    offered=offered, served=served, hosted=hosted, outside=outside,
                    offered_tokens=tuple((int(a), int(b), int(c)) for a, b, c in found.offered[row]),
                    served_tokens=tuple((int(a), int(b)) for a, b in found.served[row]),
                    hosted_tokens=tuple((int(a), int(b), int(c)) for a, b, c in found.hosted[row]),
                )
            )  # fmt: skip
    return tuple(records)


def _private(private: int) -> list[int]:
    return [kind for kind in range(_KINDS) if kind >> 1 & 1 == private]


def solved_frac(strata: Sequence[Stratum], difficulty: Sequence[Difficulty], fleet: Fleet) -> float:
    """Return the expected share of the requests of some strata that the model which answers does not fail.

    ``difficulty`` is that of each task. A request is hard if one draw lies below the own model's rate of failure; the
    same draw decides for the hosted model, so that of the hard ones (d_own − d_hosted) / d_own are solved by a better
    one. Where the route does not ask whether a request is hard, hard and easy ones are answered alike.
    """
    own, hosted = own_tier(fleet), fleet.hosted.tier if fleet.hosted else "frontier"
    asks = fleet.router.policy == "escalate"
    meant = solved = 0.0
    for part, served, out in _shares(strata, apart=asks):
        fails_own, fails_out = (getattr(difficulty[part.task], tier) for tier in (own, hosted))
        if not asks:
            inside, answered = (served - out) * (1.0 - fails_own), 1.0 - fails_out
        elif part.hard:
            inside, answered = 0.0, max(fails_own - fails_out, 0.0) / fails_own if fails_own else 0.0
        else:
            inside = served - out
            answered = min((1.0 - fails_out) / (1.0 - fails_own), 1.0) if fails_own < 1 else 0.0
        meant += part.weight_frac * served
        solved += part.weight_frac * (inside + out * answered)
    # Of those that were served as many are solved as the mix says.
    drawn = sum(s.served for s in strata) / max(sum(s.offered for s in strata), 1)
    return min(solved / meant, 1.0) * drawn if meant > 0 else 0.0


def part_like(part: Stratum, strata: Sequence[Stratum]) -> Sequence[Stratum]:
    """Return what is known of a stratum: itself, or if none of it occurred those most like it.

    Private requests are like private ones as long as any are known, since they are the ones that may not leave.
    """
    mine = [s for s in strata if s.task == part.task]
    private = [s for s in strata if s.private == part.private]
    both = [s for s in mine if s.private == part.private]
    groups = ([part], [s for s in both if s.continues == part.continues], both, private, mine)
    return next((group for group in groups if sum(s.offered for s in group)), strata)


def _shares(strata: Sequence[Stratum], *, apart: bool) -> list[tuple[Stratum, float, float]]:
    """Return each stratum with the shares served and hosted; ``apart`` tells hard from easy requests.

    One that did not occur is like its class, or all.
    """
    totals: dict[tuple[int, bool, bool], list[int]] = {}
    keys = [(s.task, s.private, s.hard and apart) for s in strata]
    for key, s in zip(keys, strata, strict=True):
        sums = totals.setdefault(key, [0, 0, 0])
        for column, count in enumerate((s.offered, s.served, s.hosted)):
            sums[column] += count
    return [(part, *_served_and_hosted(part, totals[key], strata)) for key, part in zip(keys, strata, strict=True)]


def _served_and_hosted(part: Stratum, sums: Sequence[int], strata: Sequence[Stratum]) -> tuple[float, float]:
    """Return the shares of those like a stratum, of whom ``sums`` were offered, served and hosted."""
    offered, served, hosted = sums
    if not offered:
        like = part_like(part, strata)
        offered, served, hosted = (sum(getattr(s, name) for s in like) for name in ("offered", "served", "hosted"))
    offered = max(offered, 1)
    return served / offered, hosted / offered

"""What a workload offers on average: tokens of a request by class, whatever a simulated hour happened to draw."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from envelope.identity import Same
from envelope.serving.arrivals import Lengths, class_lengths
from envelope.serving.strata import held_tokens
from envelope.spec.workload import TaskClass, Workload

REQUESTS = 120_000
"""Requests of one class from which its means are taken: within 1 % for the longest tails of the presets."""
_ROUNDS = 6
"""Independent draws of that many parts, since all requests of one share its documents."""
_SEED = 20_261_126
"""Own seed: what is offered must not change with the seed of a simulation."""


@dataclass(frozen=True, slots=True, eq=False)
class OfferedClass:
    """Means of one class over its requests."""

    tokens: NDArray[np.float64]
    """[2, bands, 3] prompt and answer tokens of a mean request from prompts of each band's length, and the part
    of the prompts that continues earlier ones; first of one that begins a dialogue, then of one that continues one."""
    continues_frac: float
    """Share of the requests that continue a dialogue."""
    prompt_cv: float
    """Coefficient of variation of the prompts."""

    @property
    def mean_request(self) -> tuple[float, float]:
        """Prompt and answer tokens of a mean request."""
        first, later = self.tokens.sum(axis=1)
        mean = (1.0 - self.continues_frac) * first + self.continues_frac * later
        return float(mean[0]), float(mean[1])


def offered_classes(
    workload: Workload, starts: Sequence[int] = (0,), cache_s: float = math.inf
) -> tuple[OfferedClass, ...] | None:
    """Return what each class offers, by bands of prompt length that begin above ``starts``.

    A dialogue that rests for longer than ``cache_s`` counts as one that begins anew.

    The same for every candidate, seed and year. ``None`` for a recorded log, which is its own mean.
    """
    if workload.trace is not None:
        return None
    clients = workload.daily_requests
    return tuple(
        _offered(
            _Of(
                _text(Same(task)),
                clients if task.clients is not None else 0.0,
                task,
                workload,
            ),
            tuple(starts),
            cache_s,
        )
        for task in workload.tasks
    )


@lru_cache(maxsize=1024)
def _text(task: Same[TaskClass]) -> str:
    """Return what the lengths of a class depend on."""
    return task.record.model_dump_json(exclude={"share", "slo", "difficulty", "sensitivity", "priority"})


@lru_cache(maxsize=256)
def _offered(of: "_Of", starts: tuple[int, ...], cache_s: float) -> OfferedClass:
    drawn = _lengths(of)
    before = held_tokens(drawn.before, drawn.gap_s, cache_s)
    later = before > 0
    shape, place = (2, len(starts)), later.astype(np.int64) * len(starts)
    for start in starts[1:]:
        place += drawn.prompts > start
    columns = (drawn.prompts, drawn.answers, before)
    sums = np.stack([np.bincount(place, tokens, 2 * shape[1]).reshape(shape) for tokens in columns], axis=2)
    counts = np.maximum([np.count_nonzero(~later), np.count_nonzero(later)], 1)
    return OfferedClass(sums / counts[:, None, None], float(later.mean()), _prompt_cv(of))


@dataclass(frozen=True, slots=True)
class _Of:
    """A class to draw, equal to another by what its lengths depend on."""

    task_text: str
    clients: float
    """Requests a day, which decide how many clients of a class with clients appear."""
    task: TaskClass = field(compare=False)
    workload: Workload = field(compare=False)


@lru_cache(maxsize=64)
def _lengths(of: _Of) -> Lengths:
    """Return the lengths of many requests of a class."""
    count = REQUESTS // _ROUNDS
    parts = [class_lengths(of.workload, of.task, seed=_SEED + i, requests=count) for i in range(_ROUNDS)]
    return Lengths(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Lengths)))


@lru_cache(maxsize=64)
def _prompt_cv(of: _Of) -> float:
    prompts = _lengths(of).prompts
    return float(prompts.std() / prompts.mean())

"""What a workload offers on average: tokens of a request by class, whatever a simulated hour happened to draw."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from envelope.serving.arrivals import class_lengths
from envelope.serving.requests import Ints
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
    """[bands, 2] prompt and answer tokens of a mean request that come from prompts of each band's length."""
    prompt_cv: float
    """Coefficient of variation of the prompts."""

    @property
    def mean_tokens(self) -> tuple[float, float]:
        """Prompt and answer tokens of a mean request."""
        prompt, answer = self.tokens.sum(axis=0)
        return float(prompt), float(answer)


def offered_classes(workload: Workload, starts: Sequence[int] = (0,)) -> tuple[OfferedClass, ...] | None:
    """Return what each class offers, by bands of prompt length that begin above ``starts``.

    The same for every candidate, seed and year. ``None`` for a recorded log, which is its own mean.
    """
    if workload.trace is not None:
        return None
    found = []
    for task in workload.tasks:
        text = task.model_dump_json(exclude={"share", "slo", "difficulty", "sensitivity", "priority"})
        clients = workload.daily_requests if task.clients is not None else 0.0
        prompts, answers = _lengths(_Of(text, clients, task, workload))
        band = np.searchsorted(np.asarray(starts)[1:], prompts, side="left")
        sums = [np.bincount(band, tokens, len(starts)) / len(prompts) for tokens in (prompts, answers)]
        found.append(OfferedClass(np.stack(sums, axis=1), float(prompts.std() / prompts.mean())))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Of:
    """A class to draw, equal to another by what its lengths depend on."""

    task_text: str
    clients: float
    """Requests a day, which decide how many clients of a class with clients appear."""
    task: TaskClass = field(compare=False)
    workload: Workload = field(compare=False)


@lru_cache(maxsize=64)
def _lengths(of: _Of) -> tuple[Ints, Ints]:
    """Return prompt and answer tokens of many requests of a class."""
    count = REQUESTS // _ROUNDS
    parts = [class_lengths(of.workload, of.task, seed=_SEED + i, requests=count) for i in range(_ROUNDS)]
    return np.concatenate([p for p, _ in parts]), np.concatenate([a for _, a in parts])

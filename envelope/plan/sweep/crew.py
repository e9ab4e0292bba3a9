"""Who does the work of a study."""

import contextlib
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Crew:
    """Workers that take tasks."""

    executor: Executor
    workers: Callable[[], int]
    """Workers there are now."""
    lost: Callable[[], bool]
    """Whether tasks under way will never come back, so that a new crew must take them."""


Hire = Callable[[], contextlib.AbstractContextManager[Crew]]
"""Opens a crew; called again when one is lost."""

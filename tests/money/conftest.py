"""Economics without anything that a hand computation would have to repeat."""

from collections.abc import Callable
from typing import Any

import pytest

from envelope.spec.economic_facts import facts
from envelope.spec.economics import Economics


@pytest.fixture(scope="session")
def bare() -> Callable[..., Economics]:
    """Return economics without price trends, discounting or items, except those named in ``keep``."""

    def make(*keep: str, **fields: Any) -> Economics:
        trends = dict.fromkeys([f for f in Economics.model_fields if f.endswith("_frac_per_year")], 0.0)
        skip = tuple(item.id for item in facts().items if item.id not in keep)
        return Economics(**({**trends, "skip": skip} | fields))

    return make

"""Which deployment of which language model fits, how fast it is, what it costs and what fails first."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from envelope.version import __version__

if TYPE_CHECKING:
    from envelope.plan.compare import compare
    from envelope.plan.estimate import estimate
    from envelope.plan.scenarios import load_scenario

__all__ = ["__version__", "compare", "estimate", "load_scenario"]

_HOME = {
    "compare": "envelope.plan.compare",
    "estimate": "envelope.plan.estimate",
    "load_scenario": "envelope.plan.scenarios",
}


def __getattr__(name: str) -> Any:
    """Import the public functions on first use, so that ``import envelope`` and ``--help`` stay fast."""
    if name not in _HOME:
        raise AttributeError(f"module 'envelope' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)

"""Which deployment of which language model fits, how fast it is, what it costs and what fails first.

``__all__`` is the whole public surface. Everything else may change without notice.

>>> import envelope
>>> tutor = envelope.load_scenario("math-tutor").replace("workload.requests_per_day", 50_000)
>>> one = envelope.estimate(model="llama-3.1-8b", hardware="nvidia-l40s-48gb", concurrency=8)
>>> one.feasible, sorted(one.to_dict())[:2]
(True, ['bottleneck', 'e2e_s'])
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from envelope.display import draw_with
from envelope.version import __version__

if TYPE_CHECKING:
    from envelope.errors import InputError
    from envelope.plan.case.scenarios import load_scenario
    from envelope.plan.compare import compare
    from envelope.plan.cost.study import tco
    from envelope.plan.deployment.estimate import estimate
    from envelope.plan.frontier.map import frontier
    from envelope.plan.service.simulate import simulate
    from envelope.plan.size.search import size
    from envelope.plan.sweep.run import sweep
    from envelope.sensors.machine import probe
    from envelope.spec.scenario import Scenario
    from envelope.validation.validate import validate

__all__ = [
    "InputError", "Scenario", "__version__", "compare", "estimate", "frontier", "load_scenario", "probe", "simulate",
    "size", "sweep", "tco", "validate",
]  # fmt: skip

_HOME = {
    "InputError": "envelope.errors",
    "Scenario": "envelope.spec.scenario",
    "compare": "envelope.plan.compare",
    "estimate": "envelope.plan.deployment.estimate",
    "frontier": "envelope.plan.frontier.map",
    "load_scenario": "envelope.plan.case.scenarios",
    "probe": "envelope.sensors.machine",
    "simulate": "envelope.plan.service.simulate",
    "size": "envelope.plan.size.search",
    "sweep": "envelope.plan.sweep.run",
    "tco": "envelope.plan.cost.study",
    "validate": "envelope.validation.validate",
}
"""Public name → its module; imported on first use, so that ``import envelope`` and ``--help`` stay fast."""


def _artist() -> Any:
    # Rooms after the reports draw their own results; theirs are known once the room is in use.
    if "envelope.validation.validate" in sys.modules:
        import_module("envelope.validation.drawn")
    return import_module("envelope.report.artist")


# The package itself introduces those who compute to those who draw: neither imports the other.
draw_with(_artist)


def __getattr__(name: str) -> Any:
    """Return a public name."""
    if name not in _HOME:
        raise AttributeError(f"module 'envelope' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

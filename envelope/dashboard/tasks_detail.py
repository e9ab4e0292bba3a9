"""What the worker processes do for the pages about memory, service, models, machines and accuracy.

As in ``tasks``: each takes ``progress`` and returns a record; imports are late.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, NamedTuple

from envelope.errors import MissingExtraError
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import Reporter
from envelope.spec.scenario import Scenario

if TYPE_CHECKING:
    from envelope.plan.case.measured import TaskEvidence
    from envelope.plan.deployment.estimate import EstimateQuery
    from envelope.plan.deployment.fit_map import FitMap, FormatChoice, PoolMemory
    from envelope.plan.deployment.operator_roofline import OperatorRoofline
    from envelope.plan.deployment.sparse import SparseView
    from envelope.plan.deployment.tuning import TuningBench, TuningQuery
    from envelope.plan.rules.gates import GateStatus
    from envelope.plan.service.load_sweep import LoadSweep
    from envelope.plan.service.run_result import ServiceRun
    from envelope.validation.validate import ValidationReport


class Fitted(NamedTuple):
    """What fits on one deployment."""

    map: "FitMap"
    formats: "tuple[FormatChoice, ...]"


class Shown(NamedTuple):
    """What a scenario's evidence says."""

    tasks: "tuple[TaskEvidence, ...]"
    gates: "tuple[GateStatus, ...]"


def memory(scenario: Scenario, *, progress: Reporter) -> "tuple[PoolMemory, ...]":
    """Return the memory of every local pool."""
    from envelope.plan.deployment.fit_map import candidate_memory

    progress(0.0, "memory")
    return candidate_memory(scenario)


def fitted(query: "EstimateQuery", *, progress: Reporter) -> Fitted:
    """Return the map of what fits and the formats to choose from."""
    from envelope.plan.deployment.fit_map import fit_map, format_choices

    progress(0.0, "number formats")
    return Fitted(fit_map(query), format_choices(query))


def service_run(
    scenario: Scenario,
    ident: str,
    *,
    load: float = 1.0,
    horizon: Literal["hour", "day", "week"] = "hour",
    fails: bool = False,
    progress: Reporter,
) -> "ServiceRun":
    """Return one candidate under load; if a node ``fails``, in the middle of the busiest hour."""
    from envelope.plan.service.simulate import simulate

    failure: Literal["peak"] | None = "peak" if fails else None
    return simulate(scenario, ident, load=load, horizon=horizon, fail_node_at=failure, progress=progress)


def sweep(scenario: Scenario, ident: str, *, progress: Reporter) -> "LoadSweep":
    """Return the load at which one candidate breaks."""
    from envelope.plan.service.load_sweep import load_sweep

    return load_sweep(scenario, ident, progress=progress)


def sparse(
    scenario: Scenario, models: Sequence[str], hardware: str, weights: str, kv: str, *, progress: Reporter
) -> "SparseView":
    """Return dense and sparse models side by side."""
    from envelope.plan.deployment.sparse import sparse_view

    progress(0.0, "models side by side")
    return sparse_view(scenario, models, hardware, weights=weights, kv=kv)


def tuning(query: "TuningQuery", *, progress: Reporter) -> "TuningBench":
    """Return the ways to a stable behaviour side by side."""
    from envelope.plan.deployment.tuning import tuning_bench

    progress(0.0, "ways to the behaviour")
    return tuning_bench(query)


def roofline(query: "EstimateQuery", *, progress: Reporter) -> "OperatorRoofline":
    """Return a model's operators on a device's roofline."""
    from envelope.plan.deployment.operator_roofline import operator_roofline

    progress(0.0, "operators")
    return operator_roofline(query)


def evidence(scenario: Scenario, *, progress: Reporter) -> Shown:
    """Return the difficulties and gates of every candidate."""
    from envelope.plan.case.measured import measured_work
    from envelope.plan.rules.gates import gates_of

    progress(0.0, "evidence")
    tasks = tuple(t for c in scenario.candidates for t in measured_work(scenario, c)[1])
    return Shown(tasks, tuple(g for c in scenario.candidates for g in gates_of(scenario, c)))


def accuracy(*, progress: Reporter) -> "ValidationReport":
    """Return the shipped facts beside their predictions."""
    from envelope.validation.validate import validate

    return validate(progress=progress, workers=1)


def probe(_attempt: int, *, progress: Reporter) -> HardwareProfile:
    """Return the quick profile of the machine that the dashboard runs on; nothing is saved.

    Raises ``MissingExtraError`` without the probe's packages.
    """
    if find_spec("onnxruntime") is None or find_spec("onnx") is None:
        raise MissingExtraError("onnxruntime", "probe")
    from envelope.sensors.machine import probe as measure

    return measure(quick=True, progress=progress)

"""Names in a scenario that stand for records of the catalog."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import BaseModel

from envelope.errors import InputError, Problem
from envelope.spec import load
from envelope.spec.economic_facts import economics_problems
from envelope.spec.engine import Engine
from envelope.spec.hardware import HardwareProfile, ServerProfile
from envelope.spec.hosted import HostedModel
from envelope.spec.model import Model
from envelope.spec.number_format import NumberFormat

if TYPE_CHECKING:
    from envelope.spec.scenario import Candidate, Scenario


def check_names(scenario: "Scenario", file: str) -> None:
    """Raise ``InputError`` with every name that no data file has, and every number of the money that cannot be."""
    problems: list[Problem] = []
    for c, candidate in enumerate(scenario.candidates):
        for where, cls, kind, name in _names(candidate):
            try:
                load.load(cls, kind, name, file=file, path=f"candidates[{c}].{where}")
            except InputError as error:
                problems.extend(error.problems)
    problems += economics_problems(scenario.economics, file)
    if problems:
        raise InputError(problems)


def _names(candidate: "Candidate") -> Iterator[tuple[str, type[BaseModel], str, str]]:
    """Yield where a name stands, the class and folder of its record, and the name."""
    for p, pool in enumerate(candidate.pools):
        yield f"pools[{p}].model", Model, "models", pool.model
        yield f"pools[{p}].hardware", HardwareProfile, "hardware_profiles", pool.hardware
        yield f"pools[{p}].engine", Engine, "engines", pool.engine
        yield f"pools[{p}].kv", NumberFormat, "formats", pool.kv
        if pool.weights != "native":
            yield f"pools[{p}].weights", NumberFormat, "formats", pool.weights
        if pool.acquisition is not None and pool.acquisition.server is not None:
            yield f"pools[{p}].acquisition.server", ServerProfile, "servers", pool.acquisition.server
    if candidate.hosted is not None:
        yield "hosted.api", HostedModel, "hosted", candidate.hosted.api
    if candidate.acquisition.server is not None:
        yield "acquisition.server", ServerProfile, "servers", candidate.acquisition.server

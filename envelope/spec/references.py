"""Names in a scenario that stand for records of the catalog."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import BaseModel

from envelope.errors import InputError, Problem
from envelope.spec import load
from envelope.spec.economic_facts import economics_problems
from envelope.spec.editions import weights_named
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
        problems += _weights_problems(candidate, f"candidates[{c}]", file)
    problems += economics_problems(scenario.economics, file)
    if problems:
        raise InputError(problems)


def _weights_problems(candidate: "Candidate", where: str, file: str) -> Iterator[Problem]:
    """Yield what is wrong with the weights of a candidate's pools: unknown, or none that its model comes in."""
    for p, pool in enumerate(candidate.pools):
        path = f"{where}.pools[{p}].weights"
        try:
            model = load.load(Model, "models", pool.model, file=file, path=path)
        except InputError:
            if pool.weights != "native" and "/" not in pool.weights:
                yield from _unknown(pool.weights, file, path)
            continue
        try:
            weights_named(model, pool.weights, file=file, path=path)
        except InputError as error:
            yield from error.problems


def _unknown(weights: str, file: str, path: str) -> Iterator[Problem]:
    try:
        load.load(NumberFormat, "formats", weights, file=file, path=path)
    except InputError as error:
        yield from error.problems


def _names(candidate: "Candidate") -> Iterator[tuple[str, type[BaseModel], str, str]]:
    """Yield where a name stands, the class and folder of its record, and the name."""
    for p, pool in enumerate(candidate.pools):
        yield f"pools[{p}].model", Model, "models", pool.model
        yield f"pools[{p}].hardware", HardwareProfile, "hardware_profiles", pool.hardware
        yield f"pools[{p}].engine", Engine, "engines", pool.engine
        yield f"pools[{p}].kv", NumberFormat, "formats", pool.kv
        if pool.acquisition is not None and pool.acquisition.server is not None:
            yield f"pools[{p}].acquisition.server", ServerProfile, "servers", pool.acquisition.server
    if candidate.hosted is not None:
        yield "hosted.api", HostedModel, "hosted", candidate.hosted.api
    if candidate.acquisition.server is not None:
        yield "acquisition.server", ServerProfile, "servers", candidate.acquisition.server

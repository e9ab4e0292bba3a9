"""Scenario diff: what changed between two cost runs, and what each change did to the costs of every candidate."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from envelope.errors import InputError, Problem
from envelope.money.difference import Waterfall, waterfall
from envelope.money.inputs import Input
from envelope.money.model import Model, build
from envelope.money.usage import AnnualUsage
from envelope.plan.cost.models import CostModels
from envelope.provenance import Frozen
from envelope.spec.economics import Economics
from envelope.spec.load import validate
from envelope.spec.ranges import Range, Spread

KEY = "run"
"""Key of the saved run in ``tco.json``."""


class SavedCandidate(Frozen):
    """All that the cost model of one candidate is built from."""

    name: str
    economics: Economics
    usage: tuple[AnnualUsage, ...]
    inputs: dict[str, Range]
    """Every input with its range, so that defaults of the catalog that change later show as changes."""


class SavedRun(Frozen):
    """A cost run that a later one can be set against."""

    scenario: str
    date: str
    version: str
    candidates: dict[str, SavedCandidate] = Field(min_length=1)


class CostDifference(Frozen):
    """The waterfall of every candidate that both runs have."""

    before: str
    """Name of the earlier run."""
    after: str
    names: dict[str, str]
    """Candidate → its name."""
    waterfalls: dict[str, Waterfall]
    only_before: tuple[str, ...]
    """Candidates that the later run lacks."""
    only_after: tuple[str, ...]


def saved_run(found: CostModels, *, date: str, version: str) -> SavedRun:
    """Return what a later run needs to be set against this one."""
    names = found.names
    return SavedRun(
        scenario=found.scenario.id,
        date=date,
        version=version,
        candidates={
            ident: SavedCandidate(
                name=names[ident],
                economics=model.economics,
                usage=model.years,
                inputs={name: _bare(item.spread) for name, item in model.inputs.items()},
            )
            for ident, model in found.models.items()
        },
    )


def load_run(path: Path) -> SavedRun:
    """Return the run in a ``tco.json``; raises ``InputError`` if the file holds none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(Problem(str(path), "", None, f"cannot be read: {error}")) from None
    if not isinstance(data, Mapping) or KEY not in data:
        rule = "holds no saved run"
        raise InputError(Problem(str(path), KEY, None, rule, "give a tco.json that envelope tco --out wrote"))
    return validate(SavedRun, data[KEY], str(path))


def models_of(run: SavedRun) -> dict[str, Model]:
    """Return the cost models of a saved run, with the numbers that held then."""
    return {ident: _model(saved) for ident, saved in run.candidates.items()}


def difference(before: Mapping[str, Model], found: CostModels, *, label: str) -> CostDifference:
    """Return the way from the costs of an earlier run (``label``) to those of ``found``, candidate by candidate.

    Raises ``InputError`` if the two have no candidate in common.
    """
    models, names = found.models, found.names
    common = [ident for ident in models if ident in before]
    if not common:
        rule = f"has no candidate in common with {label}: {', '.join(models)} against {', '.join(before)}"
        raise InputError(Problem(found.scenario.id, "candidates", None, rule))
    return CostDifference(
        before=label,
        after=found.scenario.id,
        names={ident: names[ident] for ident in common},
        waterfalls={ident: waterfall(before[ident], models[ident]) for ident in common},
        only_before=tuple(ident for ident in before if ident not in models),
        only_after=tuple(ident for ident in models if ident not in before),
    )


def _model(saved: SavedCandidate) -> Model:
    model = build(saved.economics, saved.usage)
    inputs = {name: _as_it_was(item, saved.inputs.get(name)) for name, item in model.inputs.items()}
    return replace(model, inputs=inputs)


def _as_it_was(item: Input, saved: Spread | None) -> Input:
    return item if saved is None or saved == _bare(item.spread) else replace(item, spread=saved)


def _bare(spread: Spread) -> Spread:
    """Return a range without its origin."""
    return Spread(**{name: getattr(spread, name) for name in ("value", "p10", "p50", "p90", "low", "mode", "high")})

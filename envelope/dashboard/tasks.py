"""What the worker processes do for the pages: functions of ``plan`` and ``report``, called with records.

Each takes ``progress`` and returns a record or the bytes of files. Imports are late: the server names these functions,
but only the workers run them.
"""

import tempfile
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from envelope.spec.load import Reporter
from envelope.spec.scenario import Scenario

if TYPE_CHECKING:
    from envelope.money.prices import PriceAge
    from envelope.plan.chain import Judged
    from envelope.plan.cost.assumptions import Assumption
    from envelope.plan.cost.difference import CostDifference
    from envelope.plan.cost.models import CostModels
    from envelope.plan.cost.study import CostStudy
    from envelope.plan.frontier.map import Frontier
    from envelope.plan.verdict.results import CandidateResult


def candidate(scenario: Scenario, ident: str, *, progress: Reporter) -> "CandidateResult":
    """Return the verdict on one candidate."""
    from envelope.plan.verdict.figures import candidate_result

    return candidate_result(_judged(scenario, ident, progress))


def fixes(scenario: Scenario, ident: str, *, progress: Reporter) -> "CandidateResult":
    """Return an infeasible candidate's verdict with the smallest changes that would mend it."""
    from envelope.plan.fixes.fixes import with_fixes

    found = _judged(scenario, ident, progress)
    return with_fixes(scenario, found, seeds=scenario.simulation.seeds, tick=partial(progress, 0.0))


def _judged(scenario: Scenario, ident: str, progress: Reporter) -> "Judged":
    from envelope.plan.chain import judged

    chosen = next(c for c in scenario.candidates if c.id == ident)
    return judged(scenario, chosen, seeds=scenario.simulation.seeds, tick=partial(progress, 0.0))


def cost_study(scenario: Scenario, baseline: str | None, *, progress: Reporter) -> "CostStudy":
    """Return the costs of all candidates with their ranges."""
    from envelope.plan.cost.study import cost_study as study

    return study(_models(scenario, progress), baseline=baseline)


def cost_files(scenario: Scenario, baseline: str | None, *, progress: Reporter) -> dict[str, bytes]:
    """Return the files of ``envelope tco --out`` by name."""
    from envelope.plan.cost.study import cost_study as study
    from envelope.report.cost_files import write_cost_study

    models = _models(scenario, progress)
    with tempfile.TemporaryDirectory() as folder:
        date = datetime.now(UTC).date().isoformat()
        written = write_cost_study(study(models, baseline=baseline), models, Path(folder), date=date)
        return {path.name: path.read_bytes() for path in written}


def cost_difference(before: Scenario, after: Scenario, label: str, *, progress: Reporter) -> "CostDifference":
    """Return what changed from the costs of one scenario (``label``) to those of another, and what each change did."""
    from envelope.plan.cost.difference import difference

    return difference(_quick_models(before, progress).models, _quick_models(after, progress), label=label)


def assumptions(scenario: Scenario, *, progress: Reporter) -> "tuple[Assumption, ...]":
    """Return the assumptions behind the costs of all candidates."""
    from envelope.plan.cost.assumptions import assumptions as listed

    return listed(_quick_models(scenario, progress), today=datetime.now(UTC).date())


def stale_prices(days: int, *, progress: Reporter) -> "list[PriceAge]":
    """Return the prices of the catalog that are older than so many days."""
    from envelope.money.prices import stale_prices as old

    progress(0.0, "reading the catalog")
    return old(datetime.now(UTC).date(), days=days)


def frontier(
    scenario: Scenario, x: str, y: str, ranges: tuple[tuple[float, float] | None, ...], *, progress: Reporter
) -> "Frontier":
    """Return the map of the cheapest feasible candidate over two inputs."""
    from envelope.plan.frontier.map import frontier as mapped

    return mapped(scenario, x, y, x_range=ranges[0], y_range=ranges[1], progress=progress)


class _Content:
    """A scenario as a key of a cache, equal by its content, and who is told of the progress."""

    def __init__(self, scenario: Scenario, progress: Reporter) -> None:
        self.scenario, self.progress, self.text = scenario, progress, scenario.model_dump_json()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Content) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


def _models(scenario: Scenario, progress: Reporter) -> "CostModels":
    return _kept_models(_Content(scenario, progress))


def _quick_models(scenario: Scenario, progress: Reporter) -> "CostModels":
    """Return the cost models without the larger volumes that only break-even asks for."""
    from envelope.plan.cost.models import cost_models

    return cost_models(scenario, volumes=False, progress=progress)


@lru_cache(maxsize=8)
def _kept_models(content: _Content) -> "CostModels":
    from envelope.plan.cost.models import cost_models

    return cost_models(content.scenario, progress=content.progress)

"""The rows of a study, and what they say together."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from typing import Any
from weakref import finalize

from envelope.display import Displayed
from envelope.plan.sweep.effects import Correlation, Effect, correlations, effects
from envelope.plan.sweep.journal import Journal, read_study
from envelope.plan.sweep.ranking import Ranking, ranking
from envelope.plan.sweep.row import Row
from envelope.plan.sweep.study import Study
from envelope.spec.load import validate

BEST_BY = "cost_npv_usd"
"""Figure by which variants are ranked unless another is named."""


class Sweep(Displayed):
    """The results of a sweep in a folder; rows are read from it when they are asked for, never all at once."""

    def __init__(self, folder: Path, *, passing: bool = False) -> None:
        self.folder = folder
        if passing:
            # The folder is this object's own and goes with it.
            finalize(self, rmtree, folder, ignore_errors=True)
        self._held = read_study(folder)
        self.study = validate(Study, self._held.get("study"), str(folder / "study.json"))
        self.runs = int(self._held["runs"])
        """Rows that the study has when it is finished."""

    def __repr__(self) -> str:
        scenarios = ", ".join(self.study.scenarios)
        return f"Sweep({scenarios}; {self.done:,} of {self.runs:,} runs, {self.failed:,} failed; in {self.folder})"

    @cached_property
    def _journal(self) -> Journal:
        return Journal(self.folder, self.runs)

    @property
    def done(self) -> int:
        """Rows there are, failed ones included."""
        return self._journal.done

    @property
    def failed(self) -> int:
        """Rows that record an error instead of figures."""
        return self._journal.failed

    def rows(self) -> Iterator[Row]:
        """Yield the rows in the order of their numbers."""
        # A generator of its own keeps the sweep alive, and with it the folder that holds its rows.
        yield from self._journal.rows()

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the rows as flat records, one key for each value that varies."""
        for row in self.rows():
            yield flat_row(row, self.study.paths)

    def ranking(self, by: str = BEST_BY, *, top: int = 20) -> Ranking:
        """Return the best variants by a figure, with the differences between them.

        Raises ``InputError`` for a figure that rows do not have.
        """
        return ranking(self.rows, by, top=top)

    def effects(self, by: str = BEST_BY, *, candidate: str | None = None) -> tuple[Effect, ...]:
        """Return how much each step of each axis changes a figure of a candidate (by default the best one)."""
        chosen = candidate or self._leader(by)
        return effects(self.rows(), self.study, by, chosen) if chosen else ()

    def correlations(self, by: str = BEST_BY, *, candidate: str | None = None) -> tuple[Correlation, ...]:
        """Return how strongly a figure of a candidate moves with each sampled value."""
        chosen = candidate or self._leader(by)
        return correlations(self.rows(), self.study, by, chosen) if chosen else ()

    def to_dict(self, by: str = BEST_BY) -> dict[str, Any]:
        """Return plain data for JSON: what was asked, and what the rows say together."""
        return {
            "study": self.study.model_dump(mode="json"),
            "runs": self.runs,
            "done": self.done,
            "failed": self.failed,
            "ranking": self.ranking(by).model_dump(mode="json"),
            "effects": [effect.model_dump(mode="json") for effect in self.effects(by)],
            "correlations": [found.model_dump(mode="json") for found in self.correlations(by)],
            "version": self._held.get("version"),
            "data_version": self._held.get("data_version"),
        }

    def _leader(self, by: str) -> str | None:
        best = self.ranking(by, top=1).best
        return best[0].candidate if best else None


def flat_row(row: Row, paths: tuple[str, ...]) -> dict[str, Any]:
    """Return a row as one record, the values that vary after the seed."""
    plain = row.model_dump()
    changes = plain.pop("changes")
    head = ("run", "variant", "scenario", "candidate", "seed")
    return {
        **{name: plain[name] for name in head},
        **{path: changes.get(path) for path in paths},
        **{name: value for name, value in plain.items() if name not in head},
    }

"""A sweep in the terminal."""

import sys
from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from envelope.plan.sweep.effects import Effect
from envelope.plan.sweep.results import Sweep
from envelope.report.sweep_tables import Table, correlations_table, effects_table, figure_name, notes, ranking_table

MOST_FAILURES = 3
LEAST_EFFECTS = 20
"""Steps of axes that are always shown; of long axes only the largest are."""


def print_sweep(found: Sweep, *, by: str, top: int) -> None:
    """Print the best variants, what each axis does, and the first failures."""
    out = Console(highlight=False)
    if not out.is_terminal:
        out = Console(highlight=False, width=160, file=sys.stdout)
    for part in sweep_parts(found, by=by, top=top):
        out.print(part)


def sweep_parts(found: Sweep, *, by: str, top: int) -> Iterator[RenderableType]:
    """Yield the tables and notes of a sweep."""
    ranking = found.ranking(by, top=top)
    yield _table(f"Best by {figure_name(by)}", ranking_table(ranking, found.study))
    leader = ranking.best[0].candidate if ranking.best else ""
    effects = found.effects(by, candidate=leader)
    if effects:
        shown = _largest(effects, max(top, LEAST_EFFECTS))
        yield _table(f"What each change does to {leader}, all else equal", effects_table(shown, by))
        if len(shown) < len(effects):
            yield Text(f"… {len(effects) - len(shown):,} smaller changes: --top, --json or envelope sweep report")
    correlations = found.correlations(by, candidate=leader)
    if correlations:
        yield _table(f"What moves {leader}", correlations_table(correlations))
    for note in notes(ranking, found.done, found.failed, found.runs):
        yield Text(note)
    if found.failed:
        yield from (Text(f"failed: {words}", style="red") for words in failures(found))


def _largest(effects: Sequence[Effect], count: int) -> list[Effect]:
    """Return the effects with the largest differences in their order."""
    least = sorted((abs(effect.difference.mean) for effect in effects), reverse=True)[:count][-1]
    return [effect for effect in effects if abs(effect.difference.mean) >= least]


def failures(found: Sweep) -> list[str]:
    """Return the first different errors of a sweep with the run that had them."""
    seen: dict[str, str] = {}
    for row in found.rows():
        if row.error and row.error not in seen:
            seen[row.error] = f"run {row.run}, {row.candidate}: {row.error}"
            if len(seen) == MOST_FAILURES:
                break
    return list(seen.values())


def _table(title: str, content: Table) -> RichTable:
    header, rows = content
    table = RichTable(title=title, box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for index, name in enumerate(header):
        numeric = bool(rows) and all(row[index][:1] in "0123456789$+−–" for row in rows if row[index] != "best")
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table

"""What every command prints with: JSON on stdout, tables on stdout, progress on stderr."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from envelope.spec.load import Reporter


def write_json(data: Any) -> None:
    """Print data as JSON on standard output; NaN and infinity are never written."""
    json.dump(data, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print a table on standard output; numbers are aligned to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for index, name in enumerate(columns):
        numeric = bool(rows) and all(_is_numeric(row[index]) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    # A pipe has no width of its own: lines must not be folded at 80 columns there.
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _is_numeric(cell: str) -> bool:
    return not cell or cell[0] in "0123456789$<>−–-"


def _notice(_share: float, what: str) -> None:
    """Print the one line that a user who sees no progress bar needs too: why the first run takes longer."""
    from envelope.plan.service.prepare import NOTICE

    if what == NOTICE:
        print(what, file=sys.stderr)


@contextmanager
def progress(label: str, *, enabled: bool = True) -> Iterator[Reporter]:
    """Give a reporter ``(share_done, what)`` that draws a progress bar on standard error."""
    if not enabled or not sys.stderr.isatty():
        yield _notice
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(),
        console=Console(stderr=True), transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task(label, total=1.0)
        yield lambda share, what: bar.update(task, completed=share, description=what)

"""``envelope ledger``: the ecosystems of lines of models side by side, as sourced facts."""

import argparse
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from envelope.cli.output import print_table, write_json
from envelope.errors import ExitCode, unknown_name

if TYPE_CHECKING:
    from envelope.spec.ledger import Ledger

_LISTS = ("engines", "adapter_recipes", "community_quants", "guard_models")


def add_arguments(parser: argparse.ArgumentParser, _command: str) -> None:
    """Declare the arguments."""
    parser.add_argument("name", nargs="?", help="show this line whole, with its sources")
    parser.add_argument("--today", type=_date, metavar="DATE", help="day on which ages are counted (default: today)")
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")


def run(options: argparse.Namespace, _command: str) -> int:
    """List the ledger, or show one line of models."""
    from envelope.plan.rules.ledger import ledger_rows

    rows = {r.ledger.id: r for r in ledger_rows(today=options.today or datetime.now(UTC).date())}
    if options.name:
        if options.name not in rows:
            raise unknown_name("command line", "name", options.name, rows, "ledger")
        write_json(rows[options.name].model_dump(mode="json"))
        return ExitCode.OK
    if options.json:
        write_json([r.model_dump(mode="json") for r in rows.values()])
        return ExitCode.OK
    listed = [
        (
            r.ledger.id, str(len(r.models)), r.last_release or "–", _months(r.age_months), _months(r.cadence_months),
            f"{len(r.licences)} ({r.licence_changes} changes)",
            *(_entries(r.ledger, field) for field in _LISTS),
            r.ledger.hiring_pool or "unknown",
        )
        for r in rows.values()
    ]  # fmt: skip
    columns = ("line", "models", "last release", "age", "cadence", "licences", "engines", "adapter recipes",
               "community quants", "guard models", "people (a proxy)")  # fmt: skip
    print_table(columns, listed, title=f"{len(listed)} lines of models")
    print("? assumed, not read from a source; sources of the others: envelope ledger NAME")
    print("cadence: median time between releases; none of this is added up to a score")
    return ExitCode.OK


def _entries(line: "Ledger", field: str) -> str:
    sourced = line.sourced(field)
    return ", ".join(name if name in sourced else f"{name}?" for name in getattr(line, field)) or "–"


def _months(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} months"


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a date such as 2026-11-23, not {text!r}") from None

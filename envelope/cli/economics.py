"""``envelope economics``: the defaults behind every cost line, and the cost items that use them."""

import argparse
import sys
from typing import TYPE_CHECKING

from envelope.cli.output import print_table, write_json
from envelope.errors import ExitCode, unknown_name

if TYPE_CHECKING:
    from envelope.spec.ranges import Spread


def add_arguments(parser: argparse.ArgumentParser, _command: str) -> None:
    """Declare the arguments."""
    parser.add_argument("name", nargs="?", help="show this default or cost item whole, with its source")
    parser.add_argument("--items", action="store_true", help="list the cost items instead of the defaults")
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")


def run(options: argparse.Namespace, _command: str) -> int:
    """List the defaults or the cost items, or show one of them."""
    from envelope.spec.economic_facts import facts

    known = facts()
    items = {item.id: item for item in known.items}
    if options.name:
        if options.name not in {**known.defaults, **items}:
            raise unknown_name("command line", "name", options.name, [*known.defaults, *items], "economics")
        record = known.defaults.get(options.name) or items[options.name]
        write_json(record.model_dump(mode="json", exclude_defaults=True))
        return ExitCode.OK
    chosen = items if options.items else known.defaults
    if options.json:
        write_json({name: r.model_dump(mode="json", exclude_defaults=True) for name, r in chosen.items()})
        return ExitCode.OK
    if options.items:
        listed = [
            (i.id, i.group, i.applies_to, i.per, _factors(i.factors), "yes" if i.optional else "") for i in known.items
        ]
        header = ("item", "group", "paid by", "per", "factors", "optional")
        print_table(header, listed, title=f"{len(listed)} cost items")
    else:
        rows = [
            (name, f"{d.value:g}", f"{d.low:g}", f"{d.high:g}", d.unit, str(d.evidence), d.date)
            for name, d in known.defaults.items()
        ]
        columns = ("default", "value", "low", "high", "unit", "evidence", "date")
        print_table(columns, rows, title=f"{len(rows)} defaults")
    print(f"envelope economics {next(iter(chosen))} shows one with its source.", file=sys.stderr)
    return ExitCode.OK


def _factors(factors: "tuple[Spread, ...]") -> str:
    return " × ".join(f.default or f"{f.point:g}" for f in factors)

"""``envelope prices check``: prices of the catalog that have become old."""

import argparse
from datetime import UTC, date, datetime

from envelope.cli.output import print_table, write_json
from envelope.errors import ExitCode


def add_arguments(parser: argparse.ArgumentParser, _command: str) -> None:
    """Declare the arguments."""
    parser.add_argument("action", choices=["check"], help="check: list the prices that are older than --days")
    parser.add_argument("--days", type=int, default=180, help="age above which a price is listed (default 180)")
    parser.add_argument("--today", type=date.fromisoformat, metavar="DATE", help="count from this day (YYYY-MM-DD)")
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")


def run(options: argparse.Namespace, _command: str) -> int:
    """List the prices that are older than some days."""
    from envelope.tco.prices import price_ages, stale_prices

    today = options.today or datetime.now(UTC).date()
    stale = stale_prices(today, days=options.days)
    if options.json:
        write_json([age.model_dump(mode="json") for age in stale])
        return ExitCode.OK
    rows = [(a.kind, a.id, f"{a.age_days:,}", a.date, str(a.evidence), a.source[:70]) for a in stale]
    print_table(("kind", "price", "days", "date", "evidence", "source"), rows)
    print(f"{len(stale)} of {len(price_ages(today))} prices are more than {options.days} days old on {today}")
    return ExitCode.OK

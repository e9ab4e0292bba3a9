"""``envelope prices``: prices of the catalog that have become old, and hosted tariffs taken anew."""

import argparse
from datetime import UTC, date, datetime

from envelope.cli.output import print_table, write_json
from envelope.errors import ExitCode


def add_arguments(parser: argparse.ArgumentParser, _command: str) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "action", choices=["check", "refresh"],
        help="check: list the prices that are older than --days; refresh: write hosted tariffs that differ in the "
        "installed genai-prices package to your own data folder, where they come before the packaged ones",
    )  # fmt: skip
    parser.add_argument("--days", type=int, default=180, help="check: age above which a price is listed (default 180)")
    parser.add_argument("--today", type=date.fromisoformat, metavar="DATE", help="count from this day (YYYY-MM-DD)")
    parser.add_argument("--out", metavar="DIR", help="refresh: data folder to write to (default: your own data folder)")
    parser.add_argument("--dry-run", action="store_true", help="refresh: list the changes, write nothing")
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")


def run(options: argparse.Namespace, _command: str) -> int:
    """List old prices, or refresh hosted tariffs."""
    today = options.today or datetime.now(UTC).date()
    return _refresh(options, today) if options.action == "refresh" else _check(options, today)


def _check(options: argparse.Namespace, today: date) -> int:
    from envelope.money.prices import price_ages, stale_prices

    stale = stale_prices(today, days=options.days)
    if options.json:
        write_json([age.model_dump(mode="json") for age in stale])
        return ExitCode.OK
    rows = [(a.kind, a.id, f"{a.age_days:,}", a.date, str(a.evidence), a.source[:70]) for a in stale]
    print_table(("kind", "price", "days", "date", "evidence", "source"), rows)
    print(f"{len(stale)} of {len(price_ages(today))} prices are more than {options.days} days old on {today}")
    return ExitCode.OK


def _refresh(options: argparse.Namespace, today: date) -> int:
    from pathlib import Path

    from envelope.money.refresh import changes, refreshed, save_tariffs
    from envelope.spec.hosted import HostedModel
    from envelope.spec.load import load_all

    known = {model.id: model for model in load_all(HostedModel, "hosted")}
    found = refreshed(known.values(), today)
    listed = [change for model in found for change in changes(known[model.id], model)]
    folder = Path(options.out) if options.out else None
    written = [] if options.dry_run else save_tariffs(found, folder)
    if options.json:
        data = [change.model_dump(mode="json") for change in listed]
        write_json({"changes": data, "written": [str(path) for path in written]})
        return ExitCode.OK
    rows = [(c.id, c.line, _usd(c.before_usd_per_mtok), _usd(c.after_usd_per_mtok)) for c in listed]
    print_table(("hosted model", "tariff line", "before", "after"), rows, title="US dollars per million tokens")
    print(f"{len(found)} of {len(known)} hosted models have another tariff in the installed package")
    for path in written:
        print(f"wrote {path}")
    return ExitCode.OK


def _usd(price: float | None) -> str:
    return "–" if price is None else f"{price:g}"

"""``envelope doctor``: what is installed, what is measured, what is stale."""

import argparse
from datetime import UTC, date, datetime
from typing import Any

from envelope.cli.output import print_table, write_json
from envelope.errors import ExitCode


def add_arguments(parser: argparse.ArgumentParser, _command: str) -> None:
    """Declare the arguments."""
    parser.add_argument("--stale-days", type=int, default=180, metavar="N", help="age that counts as old (default 180)")
    parser.add_argument("--today", type=date.fromisoformat, metavar="DATE", help="count from this day (YYYY-MM-DD)")
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")


def run(options: argparse.Namespace, _command: str) -> int:
    """Examine the installation; exit code 2 if a data file does not load."""
    from envelope.plan.doctor import examine

    health = examine(options.today or datetime.now(UTC).date(), stale_days=options.stale_days)
    if options.json:
        write_json(health.model_dump(mode="json"))
    else:
        _show(health)
    return ExitCode.BAD_INPUT if health.broken else ExitCode.OK


def _show(health: Any) -> None:
    print(
        f"envelope {health.version}, Python {health.python}, {health.system}, {health.processor or 'processor unknown'}"
    )
    _show_installed(health)
    _show_evidence(health)
    rows = [[s.kind, f"{s.count:,}", f"{s.old:,}", s.oldest] for s in health.stale]
    print_table(["dated", "entries", f"over {health.stale_days} days", "oldest"], rows)
    if any(s.old for s in health.stale if s.kind.startswith("prices")):
        print("! old prices: 'envelope prices check' lists them, 'envelope prices refresh' takes hosted ones anew")
    for problem in health.broken:
        print(f"✘ {problem}")


def _show_installed(health: Any) -> None:
    rows = [[p.extra or "always", p.name, p.installed or "missing", p.wanted] for p in health.packages]
    print_table(["extra", "package", "installed", "wanted"], rows)
    for extra in health.missing_extras:
        print(f"! extra '{extra}' is incomplete: pip install 'deployment-envelope[{extra}]'")
    advice = {
        "ready": "ready",
        "not compiled yet": "not compiled yet; long simulations compile it on first use, 'make run' beforehand",
        "not installed": "not installed; long simulations are slow without: pip install 'deployment-envelope[fast]'",
    }
    print(f"{'✔' if health.kernel == 'ready' else '!'} compiled kernel: {advice[health.kernel]}")
    for folder in health.folders:
        mark, note = ("✔", "") if folder.writable else ("✘", " (not writable)")
        print(f"{mark} {folder.purpose}: {folder.path}{note}")


def _show_evidence(health: Any) -> None:
    classes = ["measured", "fitted", "interpolated", "datasheet", "assumed"]
    rows = [
        [kind.replace("_", " "), *(f"{counts.get(c, 0):,}" for c in classes)]
        for kind, counts in health.evidence.items()
    ]
    print_table(["sources of", *classes], rows)
    for profile in health.probed:
        where = "this machine" if profile.this_machine else "another machine"
        doubts = f", {len(profile.warnings)} warnings" if profile.warnings else ""
        print(f"{'✔' if profile.complete else '!'} probed: {profile.id} ({where}, {profile.date}{doubts})")
    if not any(profile.this_machine for profile in health.probed):
        print("! this machine has not been measured: envelope probe")

"""``envelope compare``: the main job."""

import argparse
import sys
from pathlib import Path

from envelope.cli.output import progress, write_json
from envelope.errors import ExitCode, InputError, Problem


def add_arguments(parser: argparse.ArgumentParser, _command: str) -> None:
    """Declare the arguments."""
    parser.add_argument("scenario", help="scenario file, or the id of one that ships: envelope scenarios")
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")
    parser.add_argument(
        "--out", metavar="DIR", help="also write comparison.json, candidates.csv, cost_lines.csv and report.txt"
    )
    parser.add_argument("--seeds", type=int, help="independent repetitions of the simulation (default: the scenario's)")
    parser.add_argument("--why", metavar="ID", help="only this candidate, constraint by constraint, with its margins")
    parser.add_argument("--only", metavar="ID", action="append", help="only this candidate (repeatable)")


def run(options: argparse.Namespace, _command: str) -> int:
    """Compare the candidates of a scenario and print the verdict."""
    from envelope.plan.case.scenarios import load_scenario
    from envelope.plan.compare import compare

    out = out_dir(options.out)
    scenario = load_scenario(options.scenario)
    with progress("simulating") as report:
        only = [options.why] if options.why else options.only
        result = compare(scenario, seeds=options.seeds, only=only, progress=report, fixes=True)
    if options.json:
        write_json(result.to_dict())
    elif options.why:
        from rich.console import Console

        from envelope.report.terminal_why import print_why

        print_why(result.candidate(options.why), Console(highlight=False))
    else:
        from envelope.report.terminal import print_comparison

        print_comparison(result)
    if out is not None:
        from envelope.report.files import write_comparison

        for path in write_comparison(result, out):
            print(f"wrote {path}", file=sys.stderr)
    return ExitCode.OK if result.feasible else ExitCode.INFEASIBLE


def out_dir(name: str | None) -> Path | None:
    """Return the output folder, made before the work starts, so that an hour's result is not lost on a typing error."""
    if name is None:
        return None
    path = Path(name)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".envelope-write-test"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            Problem("command line", "--out", name, f"cannot be written: {error.strerror or error}")
        ) from None
    return path

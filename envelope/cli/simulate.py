"""``envelope simulate``: candidates of a scenario under load, with faults and what-ifs."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from envelope.cli.output import progress, write_json
from envelope.errors import ExitCode, InputError, Problem

if TYPE_CHECKING:
    from envelope.plan.service.load_sweep import LoadSweep
    from envelope.plan.service.run_result import ServiceRun
    from envelope.spec.load import Reporter
    from envelope.spec.scenario import Scenario


def add_arguments(parser: argparse.ArgumentParser, _command: str) -> None:
    """Declare the arguments."""
    parser.add_argument("scenario", help="scenario file, or the id of one that ships: envelope scenarios")
    parser.add_argument("candidates", nargs="*", metavar="CANDIDATE", help="ids of candidates (default: all)")
    parser.add_argument("--seeds", type=int, help="independent repetitions (default: the scenario's)")
    parser.add_argument(
        "--horizon", choices=("hour", "day", "week"),
        help="part of the week (default: the busiest hour, or a week if the candidate's operations take one)",
    )  # fmt: skip
    parser.add_argument("--hours", type=float, help="length, from the start of the busiest hour or of --horizon")
    parser.add_argument("--load", type=float, default=1.0, metavar="FACTOR", help="multiple of the planned work")
    parser.add_argument("--year", type=int, default=1, help="year of the horizon whose growth applies (default: 1)")
    parser.add_argument(
        "--fail-node-at", metavar="peak|SECONDS", help="one node dies in the middle of the busiest hour, or then"
    )
    parser.add_argument(
        "--sweep", action="store_true", help="latency against load instead, up to where the service level breaks"
    )
    parser.add_argument(
        "--table", metavar="FILE", help="write one row per request of the first seed (.csv or .parquet)"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")


def run(options: argparse.Namespace, _command: str) -> int:
    """Simulate candidates and print what their users experience."""
    from envelope.plan.case.scenarios import chosen_candidates, load_scenario

    scenario = load_scenario(options.scenario)
    names = [c.id for c in chosen_candidates(scenario, options.candidates, "CANDIDATE")]
    what_if = {"--fail-node-at": options.fail_node_at, "--table": options.table, "--hours": options.hours}
    given = [name for name, value in what_if.items() if value is not None]
    if options.sweep and given:
        raise InputError(Problem("command line", given[0], None, "cannot be used with --sweep"))
    if options.seeds is not None and not 1 <= options.seeds <= 1000:
        raise InputError(Problem("command line", "--seeds", options.seeds, "must be at least 1 and at most 1000"))
    if options.table:
        check_table(options.table, len(names))
    results: Sequence[ServiceRun | LoadSweep]
    with progress("simulating") as report:
        results = [_one(options, scenario, name, _part(report, k, len(names))) for k, name in enumerate(names)]
    if options.json:
        write_json({"scenario": scenario.id, "candidates": [result.to_dict() for result in results]})
    else:
        _print(results)
    if options.table:
        print(f"wrote {options.table}", file=sys.stderr)
    return ExitCode.OK if any(not result.reasons for result in results) else ExitCode.INFEASIBLE


def check_table(name: str, candidates: int = 1) -> None:
    """Raise ``InputError`` if a table of requests cannot be written to a file of that name."""
    problems = []
    if not name.endswith((".csv", ".parquet")):
        problems.append(Problem("command line", "--table", name, "must end in .csv or .parquet"))
    if not Path(name).absolute().parent.is_dir():
        problems.append(Problem("command line", "--table", name, "lies in a folder that does not exist"))
    if candidates > 1:
        problems.append(Problem("command line", "--table", name, "needs one candidate to be named"))
    if problems:
        raise InputError(problems)


def _one(options: argparse.Namespace, scenario: "Scenario", name: str, report: "Reporter") -> Any:
    from envelope.plan.service.load_sweep import load_sweep
    from envelope.plan.service.simulate import simulate

    if options.sweep:
        return load_sweep(scenario, name, seeds=options.seeds, progress=report)
    return simulate(
        scenario,
        name,
        seeds=options.seeds,
        horizon=options.horizon,
        hours=options.hours,
        load=options.load,
        year=options.year - 1,
        fail_node_at=_moment(options.fail_node_at),
        table=Path(options.table) if options.table else None,
        progress=report,
    )


def _moment(given: str | None) -> float | Literal["peak"] | None:
    if given is None or given == "peak":
        return "peak" if given else None
    try:
        return float(given)
    except ValueError:
        rule = "must be peak, or seconds after the start"
        raise InputError(Problem("command line", "--fail-node-at", given, rule)) from None


def _part(report: "Reporter", position: int, total: int) -> "Reporter":
    """Return a reporter for one of several candidates."""
    return partial(_told, report, position, total)


def _told(report: "Reporter", position: int, total: int, share: float, what: str) -> None:
    report((position + share) / total, what)


def _print(results: Sequence[Any]) -> None:
    from envelope.plan.service.run_result import ServiceRun
    from envelope.report.service_run import print_service, print_sweep

    for result in results:
        if isinstance(result, ServiceRun):
            print_service([result])
        else:
            print_sweep(result)

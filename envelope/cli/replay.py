"""``envelope replay``: a recorded trace or a closed-loop load on one deployment."""

import argparse
import sys
from pathlib import Path
from typing import Any

from envelope.cli.estimate import add_deployment_arguments, deployment_row
from envelope.cli.output import print_table, write_json
from envelope.cli.simulate import check_table
from envelope.errors import ExitCode, InputError, Problem


def add_arguments(parser: argparse.ArgumentParser, _command: str) -> None:
    """Declare the arguments."""
    add_deployment_arguments(parser, load=False)
    trace = parser.add_argument_group("a recorded trace")
    trace.add_argument("--trace", metavar="FILE.csv", help="arrival_s,input_tokens,output_tokens[,prompt_id|hash_ids]")
    load = parser.add_argument_group("or a closed-loop load")
    load.add_argument("--concurrency", type=int, help="requests in flight")
    load.add_argument("--requests", type=int, help="requests in all")
    load.add_argument("--input", type=int, help="nominal prompt tokens")
    load.add_argument("--output", type=int, help="nominal answer tokens")
    load.add_argument("--range-ratio", type=float, help="lengths are uniform from this share of nominal to nominal")
    load.add_argument("--warmup", type=int, help="requests before, not counted")
    load.add_argument("--seed", type=int)
    parser.add_argument("--table", metavar="FILE", help="write one row per request (.csv or .parquet)")
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")


_LOAD = ("concurrency", "requests", "input", "output", "range_ratio", "warmup", "seed")


def run(options: argparse.Namespace, _command: str) -> int:
    """Print the latencies of the replayed requests."""
    from envelope.plan.deployment.replay import ReplayQuery, replay_query
    from envelope.spec.load import validate

    given = vars(options)
    load = {name: given[name] for name in _LOAD if given[name] is not None}
    missing = [f"--{n}" for n in ("concurrency", "requests", "input", "output") if load and n not in load]
    if options.trace is None and (missing or not load):
        rule = (
            f"also needs {', '.join(missing)}" if load else "give --trace, or --concurrency --requests --input --output"
        )
        raise InputError(Problem("command line", "", None, rule))
    query: dict[str, Any] = {"deployment": deployment_row(options)}
    query |= {"trace": options.trace} if options.trace is not None else {}
    query |= {"load": load} if load else {}
    if options.table:
        check_table(options.table)
    table = Path(options.table) if options.table else None
    result = replay_query(validate(ReplayQuery, query, "command line"), "command line", table=table, tell=_tell)
    if options.json:
        write_json(result)
    else:
        _show(result)
    if table is not None:
        print(f"wrote {table}", file=sys.stderr)
    return ExitCode.OK


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _show(result: dict[str, Any]) -> None:
    from envelope.report import text

    print(
        f"{result['completed']:,} of {result['requests']:,} requests completed in "
        f"{text.seconds(result['duration_s'])}, {text.si(result['output_tokens_per_s'])} output tokens/s"
    )
    names = {"ttft_s": "TTFT", "itl_s": "ITL", "tpot_s": "TPOT", "e2e_s": "E2E"}
    columns = ["mean", "p50", "p90", "p95", "p99"]
    rows = [[label, *(text.seconds(result[key][c]) for c in columns)] for key, label in names.items() if result[key]]
    print_table(["", *columns], rows)

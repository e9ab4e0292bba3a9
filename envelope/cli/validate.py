"""``envelope validate``: predictions scored against measurements."""

import argparse
import sys

from envelope.cli.output import progress, write_json
from envelope.cli.validate_local import add_local_arguments, run_local
from envelope.cli.validate_server import add_server_arguments, run_server
from envelope.errors import ExitCode


def add_arguments(parser: argparse.ArgumentParser, _command: str) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--rows", metavar="FILE", help="measured rows: published or datacenter serving (.jsonl), vLLM experiments "
        "(.json); default: the facts that ship with the package",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")
    parser.add_argument("--out", metavar="DIR", help="also write tables, rows and scatter charts")
    parser.add_argument("--workers", type=int, help="processes (default: 2)")
    add_local_arguments(parser)
    add_server_arguments(parser)


def run(options: argparse.Namespace, _command: str) -> int:
    """Score, print and write."""
    if options.local:
        return run_local(options)
    if options.start or options.server:
        return run_server(options)
    from envelope.validation import validate
    from envelope.validation.output import write_report
    from envelope.validation.tables import report_text

    out = None
    if options.out is not None:
        from envelope.cli.compare import out_dir

        out = out_dir(options.out)
    with progress("scoring") as report:
        result = validate(options.rows or None, progress=report, workers=options.workers)
    if options.json:
        write_json(result.to_dict())
    else:
        print(report_text(result))
    if out is not None:
        for path in write_report(result, out):
            print(f"wrote {path}", file=sys.stderr)
    return ExitCode.OK

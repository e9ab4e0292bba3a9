"""``envelope sweep`` and ``envelope sweep report``: thousands of what-ifs, and what they say together."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envelope.cli.output import progress, write_json
from envelope.errors import ExitCode, InputError, Problem

if TYPE_CHECKING:
    from envelope.plan.sweep.study import Study
    from envelope.spec.scenario import Scenario

_NUMBER = r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER}):({_NUMBER})((?::(?:log|int))*)")
_EPILOG = """\
values:
  --set workload.requests_per_day=10000,50000     a list; several --set make a grid
  --set constraints.budget_usd=1e6:9e6:log        a range (log: by ratio, int: whole numbers), with --sample
  --zip workload.seats=100,200 company.seats=100,200   values that go together
paths are those of the scenario's file: candidates.own-llama-70b.pools.0.replicas, workload.tasks.chat.share

envelope sweep report DIR    what the rows in DIR say together
envelope schema sweep        what a sweep file holds
"""


def add_arguments(parser: argparse.ArgumentParser, _command: str) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument(
        "scenario", nargs="+", help="scenario files or ids, or one sweep file; or: report, and the folder of a sweep"
    )
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUES", help="values of one axis")
    parser.add_argument("--zip", action="append", default=[], nargs="+", metavar="PATH=VALUES", help="axes in step")
    parser.add_argument("--sample", metavar="METHOD:N", help="lhs:500 (Latin hypercube) or sobol:512 over the ranges")
    parser.add_argument("--sample-seed", type=int, default=1, help="random numbers of the sample (default 1)")
    parser.add_argument("--seeds", type=int, help="repetitions of each variant (default: the scenario's)")
    parser.add_argument("--only", metavar="ID", action="append", help="only this candidate (repeatable)")
    parser.add_argument("--out", metavar="DIR", help="results folder; the same command goes on where it stood")
    parser.add_argument("--format", default="csv", metavar="A,B", help="tables: csv, jsonl, parquet (default csv)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")
    parser.add_argument(
        "--executor",
        metavar="WHERE",
        help="processes (default), here, dask (a cluster on this machine), dask://HOST:PORT",
    )
    parser.add_argument("--retry-failed", action="store_true", help="run rows again that failed before")
    parser.add_argument("--by", default="cost_npv_usd", help="figure that ranks the variants (default cost_npv_usd)")
    parser.add_argument("--top", type=int, default=10, help="variants shown (default 10)")
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")


def run(options: argparse.Namespace, _command: str) -> int:
    """Run a sweep, or report on one, and print what it says."""
    from envelope.plan.sweep.ranking import check_figure

    check_figure(options.by)
    if options.scenario[0] == "report":
        return _report(options)
    try:
        return _run(options)
    except KeyboardInterrupt:
        # Wherever it comes, while the tables are written or drawn too.
        if options.out:
            print(f"interrupted; finished rows are safe in {options.out}: the same command goes on", file=sys.stderr)
        else:
            print("interrupted; without --out nothing is kept", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    from envelope.plan.sweep.run import Way, run_study

    study, scenarios = _study(options)
    way = Way(options.workers, options.executor, tuple(options.format.split(",")), options.retry_failed)
    out = Path(options.out) if options.out else None
    with progress("starting workers") as tell:
        found = run_study(study, scenarios, out, way, progress=tell)
    _show(options, found)
    if out is not None:
        print(f"wrote {', '.join(str(out / f'rows.{name}') for name in way.formats)}", file=sys.stderr)
    return ExitCode.PARTIAL if found.failed else ExitCode.OK


def _report(options: argparse.Namespace) -> int:
    from envelope.plan.sweep.results import Sweep
    from envelope.report.sweep_page import write_sweep_page

    if len(options.scenario) != 2:
        words = "needs one folder: envelope sweep report DIR"
        raise InputError(Problem("command line", "report", " ".join(options.scenario[1:]), words))
    found = Sweep(Path(options.scenario[1]))
    _show(options, found)
    for path in write_sweep_page(found, Path(options.out or found.folder), by=options.by, top=max(options.top, 50)):
        print(f"wrote {path}", file=sys.stderr)
    return ExitCode.PARTIAL if found.failed or found.done < found.runs else ExitCode.OK


def _show(options: argparse.Namespace, found: Any) -> None:
    if options.json:
        write_json(found.to_dict(options.by))
        return
    from envelope.report.sweep_terminal import print_sweep

    print_sweep(found, by=options.by, top=options.top)


def _study(options: argparse.Namespace) -> "tuple[Study, list[Scenario]]":
    """Return what a sweep file or the options ask for."""
    from envelope.plan.case.scenarios import load_scenario
    from envelope.plan.sweep.run import find_sweep_file, read_study_file
    from envelope.plan.sweep.study import Study
    from envelope.spec.load import validate

    asked = _asked(options)
    file = find_sweep_file(options.scenario[0]) if len(options.scenario) == 1 else None
    if file is not None:
        study, scenarios = read_study_file(file)
        both = {**study.model_dump(), **{name: value for name, value in asked.items() if value}}
        return validate(Study, both, str(file)), scenarios
    scenarios = [load_scenario(name) for name in options.scenario]
    return validate(Study, {**asked, "scenarios": [s.id for s in scenarios]}, "command line"), scenarios


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    axes, ranges = _axes(options.set)
    groups = []
    for pairs in options.zip:
        group, wrong = _axes(pairs)
        if wrong:
            raise InputError(Problem("command line", "--zip", next(iter(wrong)), "takes a list of values, not a range"))
        groups.append(group)
    sample = None
    if options.sample is not None:
        method, _, count = options.sample.partition(":")
        sample = {"method": method, "count": count or "missing", "seed": options.sample_seed}
    return {
        "set": axes, "zip": groups, "ranges": ranges, "sample": sample, "only": options.only or [],
        "seeds": options.seeds,
    }  # fmt: skip


def _axes(texts: Sequence[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the lists and the ranges of ``PATH=VALUES`` texts by path."""
    from envelope.spec.yaml_text import parse_yaml

    axes: dict[str, Any] = {}
    ranges: dict[str, dict[str, Any]] = {}
    for text in texts:
        path, sep, given = text.partition("=")
        if not sep or not path.strip() or not given.strip():
            words = "is no PATH=VALUES such as workload.requests_per_day=10000,50000"
            raise InputError(Problem("command line", "--set", text, words))
        path = path.strip()
        if path in axes or path in ranges:
            raise InputError(Problem("command line", "--set", path, "is given twice"))
        between = _RANGE.fullmatch(given.strip())
        if between is None:
            axes[path] = [_number(value) for value in parse_yaml(f"[{given}]", f"command line: {path}")]
        else:
            low, high, words = between.groups()
            ranges[path] = {"low": float(low), "high": float(high), "log": "log" in words}
            if "int" in words:
                ranges[path]["integer"] = True
    return axes, ranges


def _number(value: Any) -> Any:
    """Return a number for a text such as ``1e6``, which YAML leaves a text without a dot and a sign."""
    return float(value) if isinstance(value, str) and re.fullmatch(_NUMBER, value) else value

"""``envelope validate --local``: random-weight decoders on this machine against predictions from op probes alone."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from envelope.cli.output import print_table, progress, write_json
from envelope.errors import ExitCode, InputError, Problem

if TYPE_CHECKING:
    from envelope.spec.hardware import HardwareProfile
    from envelope.validation.local import LocalRow


def add_local_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that go with ``--local``."""
    local = parser.add_argument_group("this machine")
    local.add_argument("--local", action="store_true", help="probe this machine, predict decoders, run them, compare")
    local.add_argument("--quick", action="store_true", help="fewer decoders and points")
    local.add_argument("--profile", metavar="FILE", help="profile that 'envelope probe' wrote here, instead of probing")
    local.add_argument("--patience", type=float, default=0.0, metavar="S", help="wait up to S s for quiet moments")
    local.add_argument("--llama-bench", metavar="PROGRAM", help="also compare this llama-bench")
    local.add_argument("--gguf", metavar="FILE", help="model file for llama-bench")
    local.add_argument("--model", help="model id of that file, such as llama-3.2-1b")
    local.add_argument("--weights", help="format id of that file, such as q4_k_m")


def run_local(options: argparse.Namespace) -> int:
    """Print predicted beside measured, the errors as a chart, and whether the targets are met."""
    from envelope.probe.save import load_probed
    from envelope.validation.local import validate_local
    from envelope.validation.local_text import COLUMNS, chart, summary_lines, table_rows

    _check(options)
    profile = load_probed(Path(options.profile)) if options.profile else None
    with progress("validate", enabled=not options.json) as report:
        result = validate_local(report, quick=options.quick, profile=profile, patience_s=options.patience)
    if options.llama_bench and profile is not None:
        result = result.model_copy(update={"rows": (*result.rows, *_llama(options, profile))})
    if options.json:
        write_json(result.model_dump(mode="json"))
    else:
        print_table(COLUMNS, table_rows(result), title=f"this machine, profile {result.profile}")
        print(chart(result.rows))
        print("\n".join(summary_lines(result)))
        for line in result.probe_warnings:
            print(f"note: {line}", file=sys.stderr)
    return ExitCode.OK if result.complete else ExitCode.PARTIAL


def _check(options: argparse.Namespace) -> None:
    if not options.llama_bench:
        return
    problems = [
        Problem("command line", f"--{name}", None, "is required with --llama-bench")
        for name in ("gguf", "model", "weights", "profile")
        if not getattr(options, name)
    ]
    if problems:
        raise InputError(problems)


def _llama(options: argparse.Namespace, profile: "HardwareProfile") -> "list[LocalRow]":
    from envelope.probe.cores import core_limit
    from envelope.validation.llama_bench import compare_llama_bench, run_llama_bench

    records = run_llama_bench(Path(options.llama_bench), Path(options.gguf), threads=core_limit().threads)
    return compare_llama_bench(records, profile, options.model, options.weights)

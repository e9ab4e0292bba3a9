"""``envelope validate --local``: random-weight decoders on this machine against predictions from op probes alone."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from envelope.cli.output import print_table, progress, write_json
from envelope.errors import ExitCode, InputError, Problem

if TYPE_CHECKING:
    from envelope.sensors.llama_bench import LlamaBench
    from envelope.spec.hardware import HardwareProfile
    from envelope.spec.load import Reporter
    from envelope.validation.local import LocalResult


def add_local_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that go with ``--local``."""
    local = parser.add_argument_group("this machine")
    local.add_argument("--local", action="store_true", help="probe this machine, predict decoders, run them, compare")
    local.add_argument("--quick", action="store_true", help="fewer decoders and points")
    local.add_argument("--profile", metavar="FILE", help="profile that 'envelope probe' wrote here, instead of probing")
    local.add_argument("--patience", type=float, default=0.0, metavar="S", help="wait up to S s for quiet moments")
    local.add_argument("--device", choices=["cpu", "gpu"], default="cpu", help="what runs the decoders (gpu: PyTorch)")
    local.add_argument("--llama-bench", metavar="PROGRAM", help="also compare this llama-bench, on random weights")
    local.add_argument("--gguf", metavar="FILE", help="your own model file for it; needs --model and --weights")
    local.add_argument("--model", help="model id of that file, such as llama-3.2-1b")
    local.add_argument("--weights", help="format id of that file, such as q4_k_m")


def run_local(options: argparse.Namespace) -> int:
    """Print predicted beside measured, the errors as a chart, and whether the targets are met."""
    from envelope.validation.local_text import COLUMNS, chart, summary_lines, table_rows

    _check(options)
    with progress("validate", enabled=not options.json) as report:
        result = _gpu(options, report) if options.device == "gpu" else _cpu(options, report)
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
    def given(name: str) -> bool:
        return bool(getattr(options, name.replace("-", "_")))

    own = ("gguf", "model", "weights")
    problems = []
    if any(given(name) for name in own):
        rule = "is required with a model file of your own"
        problems = [Problem("command line", f"--{n}", None, rule) for n in ("llama-bench", *own) if not given(n)]
    paths = [
        Problem("command line", f"--{name}", path, "no such file")
        for name in ("llama-bench", "gguf", "profile")
        if (path := getattr(options, name.replace("-", "_"))) and not Path(path).is_file()
    ]
    if options.device == "gpu" and given("llama-bench"):
        problems.append(Problem("command line", "--llama-bench", None, "runs on the processor; leave out --device gpu"))
    if problems or paths:
        raise InputError([*problems, *paths])


def _cpu(options: argparse.Namespace, report: "Reporter") -> "LocalResult":
    """Run the decoders in ONNX Runtime, and in llama.cpp if it is given."""
    from envelope.validation.local import FULL_LOCAL, QUICK_LOCAL, probed_profile, validate_local

    # Shares of the time: probe, decoders, llama.cpp.
    probe, decoders = (0.3, 0.6) if options.llama_bench else (0.4, 1.0)
    profile = _given_profile(options)
    if profile is None:
        profile = probed_profile(
            lambda share, what: report(probe * share, what), quick=options.quick, patience_s=options.patience,
            llama_bench=_llama_bench(options),
        )  # fmt: skip
    result = validate_local(
        lambda share, what: report(probe + (decoders - probe) * share, what), profile=profile,
        plan=QUICK_LOCAL if options.quick else FULL_LOCAL, patience_s=options.patience,
    )  # fmt: skip
    if not result.complete:
        return result
    return _with_llama(result, options, profile, lambda share, what: report(decoders + (1 - decoders) * share, what))


def _given_profile(options: argparse.Namespace) -> "HardwareProfile | None":
    from envelope.sensors.save import load_probed

    return load_probed(Path(options.profile)) if options.profile else None


def _llama_bench(options: argparse.Namespace) -> "LlamaBench | None":
    from envelope.sensors.cores import core_limit
    from envelope.sensors.llama_bench import LlamaBench

    return LlamaBench(Path(options.llama_bench), core_limit().threads) if options.llama_bench else None


def _with_llama(
    result: "LocalResult", options: argparse.Namespace, profile: "HardwareProfile", report: "Reporter"
) -> "LocalResult":
    from envelope.validation import llama_bench as lb

    bench = _llama_bench(options)
    if bench is None:
        return result
    plan = lb.QUICK_BENCH if options.quick else lb.FULL_BENCH
    if options.gguf:
        report(0.0, f"llama.cpp {options.gguf}")
        records = bench.records(Path(options.gguf), plan.test)
        return result.with_rows(lb.compare_llama_bench(records, profile, options.model, options.weights))
    rows, skipped = lb.random_weight_rows(bench, profile, plan, report)
    return result.with_rows(rows, skipped)


def _gpu(options: argparse.Namespace, report: "Reporter") -> "LocalResult":
    """Run decoders of Llama-3.1-8B's shape in PyTorch on the first GPU."""
    from envelope.validation.local_gpu import validate_gpu

    return validate_gpu(report, profile=_given_profile(options), quick=options.quick)

"""``envelope import`` and ``envelope workload``: a company's own logs as a workload."""

import argparse
import sys
from pathlib import Path
from typing import Any

from envelope.cli.output import print_table, write_json
from envelope.errors import ExitCode, InputError, Problem


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """Declare the arguments."""
    parser.add_argument("log", metavar="LOG", help="log file, or folder of agent transcripts")
    parser.add_argument("--format", help="format of the log, if it is not recognised by its columns")
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        help="column of a plain CSV, such as input_tokens=in",
    )
    parser.add_argument("--time-unit", choices=("s", "ms", "us", "ns"), help="unit of the time column of a plain CSV")
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")
    if command == "import":
        parser.add_argument("--out", metavar="FILE.yaml", help="write the workload here instead of standard output")
        parser.add_argument("--id", default="imported", help="id of the task class (default: imported)")
        parser.add_argument(
            "--shape", default="chat", help="preset that lends the lengths when a usage export has only totals"
        )


def run(options: argparse.Namespace, command: str) -> int:
    """Describe a log, or write the synthetic workload whose statistics match it."""
    from envelope.logs import Usage, describe, read_log

    found = read_log(
        Path(options.log), format=options.format, mapping=_mapping(options.map), time_unit=options.time_unit
    )
    if command == "import":
        return _import(found, options)
    if isinstance(found, Usage):
        rule = "is a usage export: it has totals, but no requests to describe; envelope import makes a workload of it"
        raise InputError(Problem(options.log, "", None, rule))
    description = describe(found)
    if options.json:
        write_json(description.model_dump(mode="json"))
    else:
        _show(description)
    return ExitCode.OK


def _mapping(pairs: list[str]) -> dict[str, str]:
    wrong = [Problem("command line", "--map", pair, "must be OURS=THEIRS") for pair in pairs if "=" not in pair]
    if wrong:
        raise InputError(wrong)
    return dict((ours, theirs) for ours, _, theirs in (pair.partition("=") for pair in pairs))


def _import(found: Any, options: argparse.Namespace) -> int:
    from envelope.logs import Usage, describe, fit_twin, workload_of_usage
    from envelope.spec.yaml_text import yaml_text

    if isinstance(found, Usage):
        workload = workload_of_usage(found, options.shape)
    else:
        description = describe(found)
        workload = fit_twin(found, description, ident=options.id)
        if not options.json:
            print(
                f"{description.requests:,} requests ({description.failures:,} failures left out), read as "
                f"{description.format}", file=sys.stderr,
            )  # fmt: skip
    data = workload.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    if options.json:
        write_json(data)
        return ExitCode.OK
    text = yaml_text({"workload": data}, short_lists=True)
    if options.out is None:
        print(text, end="")
        return ExitCode.OK
    try:
        Path(options.out).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            Problem("command line", "--out", options.out, f"cannot be written: {error.strerror}")
        ) from None
    print(f"wrote {options.out}: put it under 'workload' of a scenario", file=sys.stderr)
    return ExitCode.OK


def _show(d: Any) -> None:
    from envelope.report import text

    print(
        f"{d.requests:,} requests in {text.seconds(d.span_s)} ({text.count(d.requests_per_day)} a day), "
        f"read as {d.format}{f', {d.failures:,} failures' if d.failures else ''}"
    )
    columns = ["mean", "p50", "p90", "p95", "p99"]
    rows = [["input tokens", *(text.count(getattr(d.input_tokens, c)) for c in columns)]]
    rows.append(["output tokens", *(text.count(getattr(d.output_tokens, c)) for c in columns)])
    for name, spread in (("TTFT", d.ttft_s), ("E2E", d.e2e_s)):
        if spread is not None:
            rows.append([name, *(text.seconds(getattr(spread, c)) for c in columns)])
    print_table(["", *columns], rows)
    for line in _facts(d):
        print(line)


def _facts(d: Any) -> list[str]:
    from envelope.report import text

    sizes = {f"{int(k) // 1024} k": v for k, v in d.context_fit_frac.items()}
    whole = next((k for k, v in sizes.items() if v == 1.0), None)
    parts = [f"{k}: {text.percent(v)}" for k, v in sizes.items() if v < 1.0] + ([f"{whole}: all"] if whole else [])
    lines = ["fits a context of " + ", ".join(parts)]
    if d.burstiness is not None:
        b = d.burstiness
        lines.append(
            f"arrivals: gaps with CV {b.gap_cv:.2f} (1 is Poisson), dispersion {b.dispersion_1s:.1f} at 1 s and "
            f"{b.dispersion_60s:.1f} at 60 s, bursts {text.percent(b.on_frac)} of the time"
        )
    if d.clock_quantum_s is not None:
        lines.append(f"the clock ticks every {d.clock_quantum_s:g} s; bursts within a tick cannot be seen")
    if d.hour_weights is not None:
        from envelope.report.service_run import spark

        lines.append(
            f"by hour of the day (UTC): {spark(d.hour_weights, 24)} at most {max(d.hour_weights):.1f}× the mean"
        )
    if d.weekend_to_weekday_frac is not None:
        lines.append(f"a day at the weekend has {text.percent(d.weekend_to_weekday_frac)} of a working day's requests")
    if d.prefix_reuse_frac is not None:
        lines.append(f"an unlimited prefix cache would hold {text.percent(d.prefix_reuse_frac)} of the prompt tokens")
    if d.sessions is not None:
        s = d.sessions
        lines.append(f"{s.sessions:,} sessions of {s.calls.mean:.1f} calls on average (p90 {s.calls.p90:.0f})")
    return [*lines, *d.notes]

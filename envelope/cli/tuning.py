"""``envelope tuning``: long prompt, retrieval, LoRA, QLoRA or full fine-tuning for a stable behaviour."""

import argparse
from typing import TYPE_CHECKING

from envelope.cli.output import print_table, write_json
from envelope.docstrings import field_docstrings
from envelope.errors import ExitCode

if TYPE_CHECKING:
    from envelope.plan.deployment.tuning import TuningBench

_NUMBERS = {
    "tp": int, "input-tokens": int, "output-tokens": int, "concurrency": int, "prompt-tokens": int,
    "retrieved-tokens": int, "training-tokens": int, "rank": int, "changes-per-year": float, "behaviours": int,
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser, _command: str) -> None:
    """Declare the arguments."""
    from envelope.plan.deployment.tuning import TuningQuery

    parser.add_argument("--model", required=True)
    parser.add_argument("--hardware", required=True)
    parser.add_argument("--requests-per-day", type=float, required=True)
    for name in ("weights", "kv", "engine", "region"):
        parser.add_argument(f"--{name}", default=None)
    meanings = field_docstrings(TuningQuery)
    for name, kind in _NUMBERS.items():
        field = name.replace("-", "_")
        default = TuningQuery.model_fields[field].default
        parser.add_argument(f"--{name}", type=kind, help=f"{meanings.get(field, '')} (default {default:g})")
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")


def run(options: argparse.Namespace, _command: str) -> int:
    """Print the methods side by side."""
    from envelope.plan.deployment.tuning import TuningQuery, tuning_bench
    from envelope.report.text import money, seconds
    from envelope.spec.load import validate

    names = [n for n in TuningQuery.model_fields if getattr(options, n, None) is not None]
    found = tuning_bench(validate(TuningQuery, {n: getattr(options, n) for n in names}, "command line"))
    if options.json:
        write_json(found.model_dump(mode="json"))
        return ExitCode.OK
    rows = [
        (
            r.method, f"{r.prompt_tokens:,}", f"{r.tokens_saved_per_request:,}", seconds(r.ttft_s) if r.ttft_s else "–",
            "–" if r.ttft_saved_s is None else f"{r.ttft_saved_s * 1e3:,.0f} ms", seconds(r.itl_s) if r.itl_s else "–",
            f"${r.serving_usd_per_request:.5f}", money(r.fixed_usd_per_year), money(r.total_usd_per_year),
            "★" if r.method == found.cheapest else "" if r.fits_weights else "changes too often",
        )
        for r in found.rows
    ]  # fmt: skip
    columns = (
        "method",
        "prompt",
        "tokens saved",
        "TTFT",
        "TTFT saved",
        "ITL",
        "a request",
        "fixed a year",
        "a year",
        "",
    )
    print_table(columns, rows, title=f"{found.query.model} on {found.query.hardware}")
    _print_training(found)
    for r in found.rows:
        if r.serving_note:
            print(f"• {r.method}: {r.serving_note}")
    for b in found.break_even:
        when = "never" if b.requests_per_day is None else f"from {b.requests_per_day:,.0f} requests a day"
        print(f"• {b.method} is cheaper than {b.against} {when}")
    for note in found.notes:
        print(f"• {note}")
    return ExitCode.OK


def _print_training(found: "TuningBench") -> None:
    """Print one run of each method that trains, and what stands behind the fixed cost of every method."""
    from envelope.report.text import money

    runs = [
        (
            r.method, f"{r.run.flop:.2e}", f"{r.run.trainable_params / 1e6:,.0f} M",
            f"{r.run.memory_bytes / 1e9:,.0f} GB", str(r.run.devices), f"{r.run.device_hours:,.2f}",
            f"{r.run.hours:,.2f}", f"${r.run.usd:,.2f}",
        )
        for r in found.rows
        if r.run
    ]  # fmt: skip
    heads = ("one run", "FLOP", "trained parameters", "memory", "devices", "device-hours", "hours", "cost")
    print_table(heads, runs, title=f"Training on {found.query.training_tokens:,} tokens")
    lines = list(dict.fromkeys(name for r in found.rows for name in r.fixed_by_line_usd))
    costs = [
        (r.method, *(money(r.fixed_by_line_usd[n]) if n in r.fixed_by_line_usd else "–" for n in lines))
        for r in found.rows
        if r.fixed_by_line_usd
    ]
    often = f"refreshed {found.query.changes_per_year:g} times a year, {found.query.behaviours} behaviours"
    print_table(("fixed a year", *lines), costs, title=f"What does not follow the number of requests: {often}")

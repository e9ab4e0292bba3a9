"""``envelope tuning``: long prompt, retrieval, LoRA, QLoRA or full fine-tuning for a stable behaviour."""

import argparse

from envelope.cli.output import print_table, write_json
from envelope.errors import ExitCode

_NUMBERS = {
    "tp": int, "input-tokens": int, "output-tokens": int, "concurrency": int, "prompt-tokens": int,
    "retrieved-tokens": int, "training-tokens": int, "rank": int, "changes-per-year": float, "behaviours": int,
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser, _command: str) -> None:
    """Declare the arguments."""
    from envelope.plan.tuning import TuningQuery

    parser.add_argument("--model", required=True)
    parser.add_argument("--hardware", required=True)
    parser.add_argument("--requests-per-day", type=float, required=True)
    for name in ("weights", "kv", "engine", "region"):
        parser.add_argument(f"--{name}", default=None)
    for name, kind in _NUMBERS.items():
        field = TuningQuery.model_fields[name.replace("-", "_")]
        parser.add_argument(f"--{name}", type=kind, help=f"{field.description or ''} (default {field.default:g})")
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")


def run(options: argparse.Namespace, _command: str) -> int:
    """Print the methods side by side."""
    from envelope.plan.tuning import TuningQuery, tuning_bench
    from envelope.report.text import money, seconds
    from envelope.spec.load import validate

    names = [n for n in TuningQuery.model_fields if getattr(options, n, None) is not None]
    found = tuning_bench(validate(TuningQuery, {n: getattr(options, n) for n in names}, "command line"))
    if options.json:
        write_json(found.model_dump(mode="json"))
        return ExitCode.OK
    rows = [
        (
            r.method, f"{r.prompt_tokens:,}", seconds(r.ttft_s) if r.ttft_s else "–",
            seconds(r.itl_s) if r.itl_s else "–", f"{r.run.device_hours:,.1f}" if r.run else "–",
            f"{r.run.devices} × {r.run.memory_bytes / r.run.devices / 1e9:,.0f} GB" if r.run else "–",
            f"${r.serving_usd_per_request:.5f}", money(r.fixed_usd_per_year), money(r.total_usd_per_year),
            "★" if r.method == found.cheapest else "" if r.fits_weights else "changes too often",
        )
        for r in found.rows
    ]  # fmt: skip
    columns = ("method", "prompt", "TTFT", "ITL", "device-hours a run", "training memory", "a request", "fixed a year",
               "a year", "")  # fmt: skip
    print_table(columns, rows, title=f"{found.query.model} on {found.query.hardware}")
    for b in found.break_even:
        when = "never" if b.requests_per_day is None else f"from {b.requests_per_day:,.0f} requests a day"
        print(f"• {b.method} is cheaper than {b.against} {when}")
    for note in found.notes:
        print(f"• {note}")
    return ExitCode.OK

"""``envelope sparse``: dense and sparse models side by side for one's own workload."""

import argparse

from envelope.cli.output import print_table, write_json
from envelope.errors import ExitCode


def add_arguments(parser: argparse.ArgumentParser, _command: str) -> None:
    """Declare the arguments."""
    parser.add_argument("scenario", help="scenario file, or the id of one that ships: envelope scenarios")
    parser.add_argument("--models", default="llama-3.3-70b,gpt-oss-120b,deepseek-v4-flash", help="ids, comma-separated")
    parser.add_argument("--hardware", default="nvidia-h100-sxm-80gb", help="device that all are compared on")
    parser.add_argument("--weights", default="native", help="weight format (default: each checkpoint's own)")
    parser.add_argument("--kv", default="bf16", help="KV-cache format")
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")


def run(options: argparse.Namespace, _command: str) -> int:
    """Print the comparison."""
    from envelope.plan.case.scenarios import load_scenario
    from envelope.plan.deployment.sparse import sparse_view

    names = [name.strip() for name in options.models.split(",") if name.strip()]
    scenario = load_scenario(options.scenario)
    found = sparse_view(scenario, names, options.hardware, weights=options.weights, kv=options.kv)
    if options.json:
        write_json(found.model_dump(mode="json"))
        return ExitCode.OK
    rows = []
    for r in found.rows:
        batches = list(r.active_bytes_per_token)
        rows.append(
            (
                r.model, f"{r.params_total / 1e9:,.1f} / {r.params_active / 1e9:,.1f}", "/".join(r.attention),
                f"{r.resident_bytes / 1e9:,.0f} GB",
                " · ".join(f"{r.active_bytes_per_token[b] / 1e9:.3g}" for b in batches),
                " · ".join(f"{v / 1e9:.3g}" for v in r.kv_bytes_per_sequence.values()),
                "none fits" if r.min_devices is None else str(r.min_devices), str(r.sequences_held),
                " · ".join(f"{v:,.0f}" for v in r.output_tokens_per_s.values()),
                f"{r.idle_w:,.0f} W, ${r.idle_usd_per_year:,.0f}",
            )
        )  # fmt: skip
    heads = ("model", "10⁹ parameters, active", "attention", "resident", "GB a token by batch",
               "GB of cache by context", "devices", "requests held", "output tokens/s", "idle, a year")  # fmt: skip
    print(f"batches {', '.join(map(str, found.rows[0].active_bytes_per_token))}; contexts "
          f"{', '.join(f'{c:,}' for c in found.rows[0].kv_bytes_per_sequence)} tokens")  # fmt: skip
    shape = f"{found.input_tokens:,} + {found.output_tokens:,} tokens"
    print_table(heads, rows, title=f"{scenario.name} on {found.hardware}, mean request {shape}")
    for line in found.lines:
        print(f"• {line}")
    return ExitCode.OK

"""``envelope estimate``: one deployment and request shape, or many by ``--batch``."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from envelope.cli.output import print_table, write_json
from envelope.errors import ExitCode, InputError, Problem

_FLAGS: dict[str, tuple[type, str]] = {
    "model": (str, "model id or alias, such as llama-3.1-8b"),
    "hardware": (str, "hardware profile, such as nvidia-h100-sxm-80gb"),
    "count": (int, "devices (default: one replica's worth)"),
    "weights": (str, "weight format (default: the checkpoint's own)"),
    "kv": (str, "KV-cache format (default: bf16)"),
    "tp": (int, "tensor parallelism (default: what count, pp and dp leave)"),
    "ep": (int, "expert parallelism (default: 1)"),
    "pp": (int, "pipeline parallelism (default: 1)"),
    "dp": (int, "data-parallel attention ranks (default: 1)"),
    "dcp": (int, "tensor-parallel ranks that share the tokens of a cache (default: 1)"),
    "engine": (str, "serving engine (default: vllm)"),
    "input": (int, "prompt tokens (default: 1024)"),
    "output": (int, "answer tokens (default: 256)"),
    "concurrency": (int, "requests in flight (default: 1)"),
    "server": (str, "server that holds the devices"),
}
_SETTINGS = {
    "max-num-seqs": int, "max-num-batched-tokens": int, "max-context-tokens": int, "engine-version": str,
    "memory-frac": float, "kv-cache-bytes": float, "kv-blocks": int, "window-pool-ratio": float,
    "state-pool-ratio": float, "draft-tokens": int, "draft-acceptance-frac": float, "draft-weight-bytes": float,
    "offload-layers": int, "offload-expert-layers": int,
}  # fmt: skip

_SWITCHES = ("prefix-cache", "text-only")
_LOAD_FLAGS = ("input", "output", "concurrency")


def add_arguments(parser: argparse.ArgumentParser, _command: str) -> None:
    """Declare the arguments."""
    add_deployment_arguments(parser)
    parser.add_argument("--batch", metavar="ROWS.jsonl", help="one query a line, with these names as keys; - is stdin")
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")


def add_deployment_arguments(parser: argparse.ArgumentParser, *, load: bool = True) -> None:
    """Declare the arguments that name a deployment; ``load`` adds those of the request shape."""
    for name, (kind, help_text) in _FLAGS.items():
        if load or name not in _LOAD_FLAGS:
            parser.add_argument(f"--{name}", type=kind, help=help_text)
    engine = parser.add_argument_group("engine settings")
    for name, kind in _SETTINGS.items():
        engine.add_argument(f"--{name}", type=kind)
    for name in _SWITCHES:
        engine.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=None)


def run(options: argparse.Namespace, _command: str) -> int:
    """Print one estimate, or one JSON line per row of the batch."""
    if options.batch:
        return _batch(options.batch)
    from envelope.plan.deployment.estimate import estimate_row

    row = deployment_row(options)
    row |= {name: value for name in _LOAD_FLAGS if (value := getattr(options, name)) is not None}
    result = estimate_row(row, "command line")
    if options.json:
        write_json(result.to_dict())
    else:
        _show(result, row)
    return ExitCode.OK if result.feasible else ExitCode.INFEASIBLE


def deployment_row(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the arguments say of the deployment, as a row of the batch would.

    Raises ``InputError`` if model or hardware is missing.
    """
    given = vars(options)
    row = {name: given[name] for name in _FLAGS if name not in _LOAD_FLAGS and given[name] is not None}
    missing = [Problem("command line", f"--{n}", None, "is required") for n in ("model", "hardware") if n not in row]
    if missing:
        raise InputError(missing)
    keys = [name.replace("-", "_") for name in (*_SETTINGS, *_SWITCHES)]
    settings = {key: given[key] for key in keys if given[key] is not None}
    if settings:
        row["settings"] = settings
    return row


def _batch(name: str) -> int:
    """Print one result line per input line; a bad line gives an ``error`` object and exit code 4."""
    from envelope.plan.deployment.estimate import estimate_row

    bad = done = 0
    for number, line in _lines(name):
        where = f"{name}:{number}"
        try:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(Problem(where, "", None, f"is not JSON: {error}")) from None
            out = estimate_row(row, where).to_dict()
            out = {"row": number, **out}
        except InputError as error:
            bad += 1
            out = {"row": number, "error": [str(p) for p in error.problems]}
        done += 1
        sys.stdout.write(json.dumps(out, allow_nan=False) + "\n")
    if bad:
        print(f"error: {bad} of {done} rows are wrong; their lines carry 'error'", file=sys.stderr)
    if bad and bad == done:
        return ExitCode.BAD_INPUT
    return ExitCode.PARTIAL if bad else ExitCode.OK


def _lines(name: str) -> Iterator[tuple[int, str]]:
    if name == "-":
        yield from ((i, text) for i, text in enumerate(sys.stdin, 1) if text.strip())
        return
    path = Path(name)
    try:
        with path.open(encoding="utf-8") as file:
            yield from ((i, text) for i, text in enumerate(file, 1) if text.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(Problem("--batch", "", name, f"cannot be read: {error}")) from None


def _show(result: Any, row: dict[str, Any]) -> None:
    from envelope.report import text

    for reason in result.reasons:
        print(f"{'✘' if reason.blocks else '!'} {reason}")
    if result.memory:
        print(result.memory.equation)
        print(result.memory.needed[0].upper() + result.memory.needed[1:] + _admitted(result.memory, text))
        columns = [
            "memory of one device",
            "capacity",
            "weights",
            "KV cache",
            "activations",
            "overhead",
            "requests held",
        ]
        rows = [_memory_row(domain, text) for domain in result.memory.domains]
        print_table(columns, rows)
    if result.feasible:
        print_table(["figure", "value", "error", "meaning"], _figures(result, row, text))
    for limit in _unscored(result):
        print(f"! bands are widened: no scored row had {limit}")
    if result.provenance:
        print(f"Weakest evidence: {result.provenance.evidence}")
        for item in result.provenance.inputs:
            print(f"  {item.input}: {item.evidence} ({item.source})")


def _admitted(memory: Any, text: Any) -> str:
    """Return what the engine counts at start-up, where it differs from what steady decoding holds."""
    if not memory.admitted_tokens:
        return ""
    each = memory.admitted_concurrency
    return (
        f"; at start-up the engine counts {each:,.2f} sequences of its longest context, "
        f"{text.count(memory.admitted_tokens)} tokens"
    )


def _unscored(result: Any) -> list[str]:
    """Return what no scored row had, each once."""
    bands = result.provenance.error_bands.values() if result.provenance else ()
    return list(dict.fromkeys(limit for band in bands for limit in band.outside))


def _memory_row(domain: Any, text: Any) -> list[str]:
    used = (
        domain.capacity_bytes,
        domain.weights_bytes,
        domain.kv_bytes,
        domain.activations_bytes,
        domain.overhead_bytes,
    )
    return [domain.name, *(text.gb(x) for x in used), text.count(domain.max_concurrency)]


def _figures(result: Any, row: dict[str, Any], text: Any) -> list[list[str]]:
    shares = result.bottleneck.get("decode") or {}
    top = ", ".join(f"{k} {v:.0%}" for k, v in sorted(shares.items(), key=lambda kv: -kv[1]) if v >= 0.005)
    bands = result.provenance.error_bands if result.provenance else {}
    rows = (
        ("TTFT", "ttft_s", text.seconds(result.ttft_s), "arrival to first token"),
        ("ITL", "itl_s", text.seconds(result.itl_s), "gap between tokens"),
        ("E2E", "e2e_s", text.seconds(result.e2e_s), "arrival to last token"),
        ("output", "output_tokens_per_s", f"{text.si(result.output_tokens_per_s)} tokens/s",
         f"{row.get('concurrency', 1)} requests in flight"),
        ("prefill", "prefill_tokens_per_s", f"{text.si(result.prefill_tokens_per_s)} tokens/s", "one prompt alone"),
        ("power", "power_w", text.si(result.power_w, "W"), "all devices, mean"),
        ("energy", "energy_per_output_token_j", text.si(result.energy_per_output_token_j, "J"), "per output token"),
    )  # fmt: skip
    shown = [[label, value, text.error_band(bands.get(key)), meaning] for label, key, value, meaning in rows]
    return [*shown, ["decode limit", top, "", "share of a decode step"]]

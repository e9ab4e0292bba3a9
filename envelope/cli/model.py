"""``envelope model import``: a catalog file from a checkpoint's own metadata."""

import argparse
import sys
from pathlib import Path
from typing import Any

from envelope.cli.output import print_table, write_json
from envelope.errors import ExitCode
from envelope.report import text


def add_arguments(parser: argparse.ArgumentParser, _command: str) -> None:
    """Declare the arguments."""
    parser.add_argument("action", choices=["import"], help="what to do")
    parser.add_argument("file", help="config.json (or its folder), or model.gguf; only metadata is read")
    parser.add_argument("--name", help="id of the new record (default: from the file)")
    parser.add_argument("--licence", help="id of its licence; list: envelope licences")
    parser.add_argument("--developer", default="", help="who made it")
    parser.add_argument("--like", metavar="TYPE", help="known model_type whose conventions hold, such as qwen3")
    parser.add_argument("--weights", metavar="FORMAT", help="format of the weights, where the file does not say it")
    parser.add_argument(
        "--trait", action="append", default=[], metavar="NAME=VALUE",
        help="what the file leaves open, such as qkv_bias=yes (repeatable)",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print the record, write no file")
    parser.add_argument("--force", action="store_true", help="overwrite a record, or come before one of the catalog")
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")


def run(options: argparse.Namespace, _command: str) -> int:
    """Import the model and say what came out."""
    from envelope.plan.bring.model_import import import_model

    found = import_model(
        Path(options.file),
        name=options.name,
        licence=options.licence,
        developer=options.developer,
        like=options.like,
        weights=options.weights,
        traits=options.trait,
        save=not options.dry_run,
        force=options.force,
    )
    if options.json:
        write_json(found.model_dump(mode="json"))
        return ExitCode.OK
    if options.dry_run:
        from envelope.spec.yaml_text import to_yaml

        print(to_yaml(found.model), end="")
    else:
        _show(found)
    for note in found.assumptions:
        print(f"! {note}", file=sys.stderr)
    if found.model.licence == "licence-not-read":
        print("! the licence is not known; say --licence ID (list: envelope licences)", file=sys.stderr)
    if found.unread:
        print(f"! fields that nothing here understands: {', '.join(found.unread)}", file=sys.stderr)
    return ExitCode.OK


def _show(found: Any) -> None:
    model = found.model
    active = f", {text.si(found.params_active, digits=3)} per token" if model.moe else ""
    rows = [
        ["type", found.model_type],
        ["parameters", f"{text.si(found.params_total, digits=4)}{active}"],
        ["layers", f"{model.layers} ({', '.join(sorted(str(k.attention) for k in model.layer_counts))})"],
        ["weights", f"{text.si(found.weights_bytes, 'B', digits=3)} as {model.native_format}"],
        ["context", f"{text.count(model.max_context_tokens)} tokens"],
    ]
    if found.params_in_file is not None:
        rows.insert(2, ["… counted in the file", text.si(found.params_in_file, digits=4)])
    if found.bytes_in_file is not None:
        rows.insert(-1, ["… counted in the file", text.si(found.bytes_in_file, "B", digits=3)])
    print_table(["", model.id], rows)
    print(f"Written to {found.path}")
    print(f"envelope estimate --model {model.id} --hardware nvidia-h100-sxm-80gb uses it.", file=sys.stderr)

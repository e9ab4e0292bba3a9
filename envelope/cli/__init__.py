"""The command line: parses arguments, calls the same functions as scripts and the dashboard, prints."""

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from envelope.errors import EnvelopeError, ExitCode, InputError, MissingExtraError, nearest
from envelope.version import __version__

COMMANDS = {
    "compare": "compare the candidates of a scenario: verdict, service level, cost, recommendation",
    "simulate": "candidates under load: latency by class, timelines, limits, faults, and where they break",
    "estimate": "memory, latency, throughput and energy of one deployment",
    "tco": "costs over the years: cash flows, ranges, break-even, workbook",
    "size": "the cheapest deployment that keeps every constraint, with its Pareto set",
    "frontier": "where the line between owning and renting runs, over two inputs",
    "sweep": "thousands of what-ifs: grids, samples, seeds, on all cores or a cluster",
    "sparse": "dense and sparse models side by side for a scenario's work",
    "tuning": "long prompt, retrieval, LoRA or full fine-tuning: cost and break-even",
    "evidence": "private evaluation results: posteriors, gates, trials still needed",
    "ledger": "ecosystems of lines of models: engines, formats, recipes, licences, age",
    "prices": "list prices of the catalog that have become old",
    "replay": "replay a request trace, or a closed-loop load, against one deployment",
    "workload": "describe a log: lengths, burstiness, daily shape, prefix reuse, sessions",
    "import": "turn a log, or a usage export, into a workload for a scenario",
    "probe": "measure this machine, or an endpoint, and write a profile",
    "calibrate": "fit engine constants to an endpoint's measurements",
    "validate": "score predictions against measured results",
    "model": "import a model from its config.json or GGUF header",
    "models": "list open-weight models, or show one",
    "hardware": "list hardware profiles, or show one",
    "servers": "list whole servers, or show one",
    "hosted": "list hosted APIs with their tariffs, or show one",
    "cloud": "list rental prices of devices, or show one",
    "economics": "list the defaults and items behind the cost lines, or show one",
    "licences": "list licences, or show one",
    "formats": "list number formats, or show one",
    "engines": "list serving engines, or show one",
    "presets": "list kinds of work with lengths measured on traces, or show one",
    "scenarios": "list the scenarios that ship with the package",
    "schema": "print the JSON Schema of a kind of data file",
    "doctor": "what is installed, what is measured, what is stale",
    "completion": "print a completion script for bash, zsh or fish",
}
"""Command → one line of help. A command's module is imported only when it is called."""

_SHARED = {
    **dict.fromkeys(("cloud", "schema", "models", "hardware", "servers", "hosted", "licences", "formats", "engines",
                     "presets", "scenarios"), "catalog"),
    "workload": "logs", "import": "logs", "calibrate": "probe",
}  # fmt: skip
MODULES = {name: _SHARED.get(name, name) for name in COMMANDS}
"""Command → its module: the one of its name, unless it shares another's."""


_OBJECTS = 100_000
"""New objects after which unused circles of objects are looked for."""


class _Parser(argparse.ArgumentParser):
    """Argument parser whose errors read like every other error of the package."""

    def error(self, message: str) -> "None":  # type: ignore[override]
        """Print one clear line and leave with exit code 2."""
        self.exit(ExitCode.BAD_INPUT, f"error: {message}; help: {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; console scripts call it without arguments."""
    args = list(sys.argv[1:] if argv is None else argv)
    _speak_utf8()
    # Records live as long as the command: to look for unused circles among them at every 700th takes a sixth of it.
    gc.set_threshold(_OBJECTS, 20, 20)
    try:
        code = int(_run(args))
        sys.stdout.flush()
        return code
    except InputError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return ExitCode.BAD_INPUT
    except MissingExtraError as error:
        print(f"error: {error}", file=sys.stderr)
        return ExitCode.BAD_INPUT
    except EnvelopeError as error:
        print(f"error: {error}", file=sys.stderr)
        return ExitCode.CRASH
    except BrokenPipeError:
        # The reader (head, less) went away; nothing is left to say, not even at interpreter exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except OSError as error:
        # A full disk, above all: what was written before stays, and standard output cannot be flushed at exit.
        print(f"error: {error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.CRASH
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _speak_utf8() -> None:
    """Write UTF-8 whatever the locale or code page: units and marks are beyond ASCII, and JSON is UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        encoding = getattr(stream, "encoding", None) or "utf-8"
        if encoding.lower().replace("-", "") != "utf8" and hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8")


def _run(args: list[str]) -> int:
    top = _top_parser()
    known = top.parse_args(args)
    if known.command is None:
        top.print_help()
        return ExitCode.OK
    if known.command not in COMMANDS:
        close = nearest(known.command, COMMANDS)
        hint = f"; nearest {close[0]!r}" if close else ""
        print(f"error: unknown command {known.command!r}{hint}; list: envelope --help", file=sys.stderr)
        return ExitCode.BAD_INPUT
    parser = _Parser(prog=f"envelope {known.command}", description=COMMANDS[known.command])
    _add_data_dir(parser)
    module = import_module(f"envelope.cli.{MODULES[known.command]}")
    module.add_arguments(parser, known.command)
    options = parser.parse_args(known.rest)
    _use_data_dirs([*(known.data_dir or []), *(options.data_dir or [])])
    return int(module.run(options, known.command))


def _top_parser() -> argparse.ArgumentParser:
    listing = "\n".join(f"  {name:<11} {text}" for name, text in COMMANDS.items())
    parser = _Parser(
        prog="envelope",
        usage="envelope [--data-dir DIR] COMMAND …",
        description="Which deployment of which language model fits: memory, speed, service level, cost.",
        epilog=f"commands:\n{listing}\n\nenvelope COMMAND --help explains a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"envelope {__version__}")
    _add_data_dir(parser)
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    # Everything after the command belongs to it, --help included.
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", action="append", metavar="DIR",
        help="folder with your own models/, hardware_profiles/, scenarios/ …, searched first (repeatable; "
        "also ENVELOPE_DATA)",
    )  # fmt: skip


def _use_data_dirs(dirs: list[str]) -> None:
    if dirs:
        from pathlib import Path

        from envelope.spec.folders import set_data_dirs

        set_data_dirs(tuple(Path(d) for d in dirs))

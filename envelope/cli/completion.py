"""``envelope completion``: a completion script for bash, zsh or fish, made from the parsers of all commands."""

import argparse
from importlib import import_module
from typing import Any

from envelope.errors import ExitCode

_NAMES = {"model": "models", "hardware": "hardware_profiles", "scenario": "scenarios", "server": "servers",
          "weights": "formats", "engine": "engines"}  # fmt: skip
"""Argument → folder whose ids complete it."""
_FILES = {"file", "log", "trace", "batch", "rows", "prices", "evidence"}
"""Arguments that name a file."""
_FOLDERS = {"data_dir", "storage_dir", "out"}


def add_arguments(parser: argparse.ArgumentParser, _command: str) -> None:
    """Declare the arguments."""
    parser.add_argument("shell", choices=["bash", "zsh", "fish"], help='eval "$(envelope completion bash)" loads it')


def run(options: argparse.Namespace, _command: str) -> int:
    """Print the script."""
    import shtab

    parser = _whole_parser(shtab)
    print(shtab.complete(parser, shell=options.shell, preamble=_preamble(options.shell)))
    return ExitCode.OK


def _whole_parser(shtab: Any) -> argparse.ArgumentParser:
    """Return one parser that holds every command, which the command line itself never needs at once."""
    from envelope.cli import COMMANDS, MODULES

    top = argparse.ArgumentParser(prog="envelope")
    top.add_argument("--version", action="store_true", help="print the version")
    _complete(shtab, top.add_argument("--data-dir", metavar="DIR", help="folder with your own records"))
    commands = top.add_subparsers(dest="command")
    for name, help_text in COMMANDS.items():
        parser = commands.add_parser(name, help=help_text, description=help_text)
        import_module(f"envelope.cli.{MODULES[name]}").add_arguments(parser, name)
        for action in parser._actions:
            _complete(shtab, action)
    return top


def _complete(shtab: Any, action: argparse.Action) -> None:
    """Tell how the values of an argument are completed, by its name."""
    if action.dest in _NAMES:
        words = f"_envelope_{_NAMES[action.dest]}"
        action.complete = {"bash": words, "zsh": words}  # type: ignore[attr-defined]
    elif action.dest in _FILES:
        action.complete = shtab.FILE  # type: ignore[attr-defined]
    elif action.dest in _FOLDERS:
        action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]


def _preamble(shell: str) -> str:
    """Return one shell function per kind of record, with the ids known now; paths complete beside scenarios."""
    from envelope.spec.load import ids

    forms = {
        "bash": ('compgen -W "{words}" -- "$1"', 'compgen -f -X "!*.yaml" -- "$1"'),
        "zsh": ("compadd {words}", '_files -g "*.yaml"'),
    }
    if shell not in forms:
        return ""
    names, files = forms[shell]
    lines = []
    for folder in dict.fromkeys(_NAMES.values()):
        body = names.format(words=" ".join(ids(folder))) + (f"; {files}" if folder == "scenarios" else "")
        lines.append(f"_envelope_{folder}() {{ {body}; }}")
    return "\n".join(lines)

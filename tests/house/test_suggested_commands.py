"""A command that a message suggests exists and runs."""

import ast
import re
from pathlib import Path

import pytest

import envelope
from envelope.cli import COMMANDS, main
from envelope.spec.load import LISTING

PACKAGE = Path(envelope.__file__).parent
_SUGGESTED = re.compile(r"\benvelope ([a-z]+)\b")
_ALWAYS = {"file", "path"}


def _texts() -> set[str]:
    """Return every string of the package that is shown or documented."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def _kinds() -> set[str]:
    """Return the kinds of records that a scenario or an argument names, so that a wrong name suggests a list."""
    kinds = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and {k.arg for k in node.keywords} >= _ALWAYS and len(node.args) >= 3:
                kinds |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "unknown_name" and len(node.args) == 5:
                last = node.args[4]
                kinds |= {last.value} if isinstance(last, ast.Constant) else set()
    return kinds


SUGGESTED = {word for text in _texts() for word in _SUGGESTED.findall(text)}
NAMED = _kinds()
LISTED = {LISTING[kind] for kind in NAMED if kind in LISTING} | {k.split(" ")[0] for k in NAMED if k in COMMANDS}


def test_the_search_finds_commands() -> None:
    assert {"compare", "scenarios", "economics", "probe"} <= SUGGESTED
    assert {"models", "hardware", "presets", "hosted", "engines", "servers"} <= LISTED


@pytest.mark.parametrize("command", sorted(SUGGESTED | LISTED))
def test_a_suggested_command_exists_and_runs(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command in COMMANDS
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    assert f"envelope {command}" in capsys.readouterr().out


@pytest.mark.parametrize("command", sorted(LISTED & set(COMMANDS)))
def test_a_suggested_list_is_printed(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 3

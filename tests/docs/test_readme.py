"""Every command and every Python example of the README runs as it stands."""

import json
import re
from pathlib import Path

import pytest

from envelope.cli import main

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    envelope (.+?)(?:\s{2,}#.*|\s+# .*)?$", README, flags=re.MULTILINE)
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder that holds the files that the README mentions."""
    row = {"model": "llama-3.1-8b", "hardware": "nvidia-l40s-48gb", "concurrency": 4}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    trace = "arrival_s,input_tokens,output_tokens\n" + "".join(f"{i},{500 + i},{20 + i % 7}\n" for i in range(50))
    (tmp_path / "trace.csv").write_text(trace, encoding="utf-8")
    (tmp_path / "log.csv").write_text(trace, encoding="utf-8")
    config = Path(__file__).parents[2] / "docs" / "examples" / "config.json"
    (tmp_path / "config.json").write_text(config.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_has_commands_and_examples() -> None:
    assert len(COMMANDS) >= 9
    assert SNIPPETS


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_runs(desk: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main(command.split()) == 0
    out = capsys.readouterr()
    assert out.out or list(desk.iterdir())
    assert "error:" not in out.err


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_an_example_of_the_readme_runs(desk: Path, capsys: pytest.CaptureFixture[str], snippet: str) -> None:
    exec(compile(snippet, "README.md", "exec"), {})
    assert capsys.readouterr().out

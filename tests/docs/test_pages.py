"""Every command and every Python example of the documentation runs, page by page, in one folder per page.

Left out are what needs a quiet machine or a service elsewhere (``probe``, ``calibrate``, ``validate --local``), which run small
in ``tests/sensors/test_probing_page.py``; cost runs take 64 draws in place of 4,096.
"""

import json
import re
import shutil
from pathlib import Path

import pytest

from envelope.cli import main
from envelope.errors import ExitCode
from envelope.spec.folders import forget
from tests.spec.gguf_bytes import LLAMA, header, llama_tensors

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ELSEWHERE = re.compile(r"probe|calibrate|validate --(?:local|start|server)|sweep|.*(--hardware NAME|-calibrated)")

LONG = ("compare", "frontier", "size", "tco")


def commands(text: str) -> list[str]:
    """Return the commands of a page: those after a prompt, and indented ones without their remarks."""
    found = re.findall(r"^ *\$ envelope (.+?)(?: {2,}#.*)?$", text, flags=re.MULTILINE)
    return found + re.findall(r"^    envelope (.+?)(?: {2,}#.*)?$", text, flags=re.MULTILINE)


def pages() -> dict[str, list[str]]:
    """Return page → commands that no earlier page and not the README has; heavy ones run once."""
    seen = set(commands((ROOT / "README.md").read_text(encoding="utf-8")))
    found: dict[str, list[str]] = {}
    for path in sorted(DOCS.rglob("*.md")):
        new = [c for c in commands(path.read_text(encoding="utf-8")) if not ELSEWHERE.match(c)]
        # A page's own order stays; only single-scenario runs are left out when an earlier page has them.
        found[str(path.relative_to(DOCS))] = [c for c in new if c not in seen or not c.startswith(LONG)]
        seen.update(new)
    return {page: listed for page, listed in found.items() if listed}


PAGES = pages()
SNIPPETS = [
    (str(path.relative_to(DOCS)), snippet)
    for path in sorted(DOCS.rglob("*.md"))
    for snippet in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)
]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with the files that the pages mention, and to an empty data folder."""
    shutil.copytree(DOCS / "examples", tmp_path, dirs_exist_ok=True)
    row = {"model": "llama-3.1-8b", "hardware": "nvidia-l40s-48gb", "concurrency": 4}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (tmp_path / "model.gguf").write_bytes(header(LLAMA, llama_tensors()))
    shutil.copy(ROOT / "scenarios" / "field-devices.yaml", tmp_path / "clinic.yaml")
    shutil.copy(ROOT / "scenarios" / "field-devices.yaml", tmp_path / "other.yaml")
    shutil.copy(DOCS / "examples" / "prices.yaml", tmp_path / "contract.yaml")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    forget()
    yield tmp_path
    forget()


def test_the_pages_have_commands_and_examples() -> None:
    assert {"tour/architect.md", "tour/procurement.md", "tour/scripts.md", "howto/model.md"} <= set(PAGES)
    assert len(SNIPPETS) >= 2


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run_in_order(desk: Path, capsys: pytest.CaptureFixture[str], page: str) -> None:
    for command in PAGES[page]:
        words = command.split()
        if words[0] == "tco":
            words += ["--draws", "64"]  # the last one counts
        code = main(words)
        out = capsys.readouterr()
        assert code in (ExitCode.OK, ExitCode.INFEASIBLE), (command, out.err)
        assert out.out or out.err, command


@pytest.mark.parametrize(("page", "snippet"), SNIPPETS, ids=[page for page, _ in SNIPPETS])
def test_an_example_of_a_page_runs(desk: Path, capsys: pytest.CaptureFixture[str], page: str, snippet: str) -> None:
    exec(compile(snippet, page, "exec"), {})
    assert capsys.readouterr().out

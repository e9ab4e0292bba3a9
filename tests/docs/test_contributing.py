"""The worked examples of CONTRIBUTING.md: each is applied to a copy of the package, and its test run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "CONTRIBUTING.md"
_EXAMPLE = re.compile(
    r"^### (?P<title>.+?)\n.*?```diff\n(?P<diff>.*?)\n```\n\n```python\n(?P<test>.*?)\n```", re.M | re.S
)
EXAMPLES = {found["title"]: found for found in _EXAMPLE.finditer(GUIDE.read_text(encoding="utf-8"))}


def test_there_is_an_example_of_every_kind() -> None:
    assert len(EXAMPLES) == GUIDE.read_text(encoding="utf-8").count("\n### ") == 7


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git to apply the examples")
@pytest.mark.parametrize("title", EXAMPLES)
def test_an_example_takes_two_files_and_works(title: str, tmp_path: Path) -> None:
    found = EXAMPLES[title]
    assert len(re.findall(r"^\+\+\+ ", found["diff"], re.M)) <= 2
    for name in ("envelope", "hardware_profiles", "scenarios"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    patch = tmp_path / "example.diff"
    patch.write_text(found["diff"] + "\n", encoding="utf-8")
    apply = ["git", "apply", patch.name]
    made = subprocess.run(apply, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    run = subprocess.run(
        [sys.executable, "-c", found["test"]], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr

"""Rooms import only from what stands before them."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_import_linter_finds_no_broken_contract() -> None:
    # Without its cache, which other runs in this folder write as well.
    command = [str(Path(sys.executable).parent / "lint-imports"), "--config", "pyproject.toml", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "0 broken" in done.stdout, done.stdout + done.stderr


def test_records_are_changed_under_validation_alone() -> None:
    # ``model_copy(update=…)`` skips it; ``Frozen.changed`` does not.
    files = sorted((ROOT / "envelope").rglob("*.py"))
    assert len(files) > 300
    assert not [path for path in files if "model_copy" in path.read_text(encoding="utf-8")]


def test_help_imports_nothing_heavy() -> None:
    # What is imported decides how long --help takes, whatever the machine.
    code = "import sys; from envelope.cli import main; main(['--help']); print(sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numpy", "scipy", "pydantic", "yaml", "rich", "simpy", "streamlit", "numba", "pandas"}
    assert not [name for name in heavy if f"'{name}'" in done.stderr]

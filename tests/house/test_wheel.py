"""The wheel carries its data: installed in an empty environment it runs the main job from any folder."""

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from envelope.serving.warm import prepare

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


def test_the_wheel_holds_every_data_file(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        f"envelope/_data/{p.relative_to(ROOT)}"
        for d in ("hardware_profiles", "scenarios")
        for p in (ROOT / d).glob("*.yaml")
    }
    expected |= {str(p.relative_to(ROOT)) for p in (ROOT / "envelope" / "catalog").rglob("*.yaml")}
    assert len(expected) > 200
    assert expected <= held


_RUN = """
import sys
import envelope
from envelope.cli import main
from envelope.serving.compiled import available, entry
from envelope.serving.warm import prepare
print("package", envelope.__file__, file=sys.stderr)
code = main()
again = sum(entry("run_until", compiled=True).stats.cache_misses.values()) if available() and prepare() else 0
print("compiled again:", again, file=sys.stderr)
sys.exit(code)
"""


def test_an_installed_wheel_runs_the_main_job_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    # Dependencies come from the running environment, so that the test needs no network; the package itself
    # is imported from the unpacked wheel alone.
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [sys.executable, "-c", _RUN, "compare", "scenarios/field-devices.yaml", "--seeds", "1", "--json"]
    homes = {name: os.environ[name] for name in ("HOME", "XDG_CACHE_HOME") if name in os.environ}
    given = {"PYTHONPATH": str(site), "PATH": "", **homes}
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=False, env=given)
    assert f"package {site}" in done.stderr
    # Machine code of the kernel is kept for the machine, not for one installation.
    assert not prepare() or "compiled again: 0" in done.stderr
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["recommended"]


def test_the_wheel_starts_the_dashboard_and_imports_a_model_with_its_own_conventions(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    assert "envelope/_data/app.py" in held
    assert "envelope/catalog/architectures/llama.yaml" in held
    assert {str(p.relative_to(ROOT)) for p in (ROOT / "envelope").rglob("*.py")} <= held


def test_the_source_distribution_holds_what_builds_tests_and_documents_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        held = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {
        "mkdocs.yml",
        "Makefile",
        "app.py",
        "docs/index.md",
        "scenarios/field-devices.yaml",
        "tests/house/test_wheel.py",
    } <= held


def test_the_container_starts_the_dashboard_with_its_settings(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (script,) = re.findall(r"^RUN python -c '(import shutil.+)'$", text, flags=re.MULTILINE)
    home = tmp_path / "home"
    home.mkdir()
    environment = dict(os.environ) | {"PYTHONPATH": str(tmp_path / "site")}
    subprocess.run([sys.executable, "-c", script], cwd=home, env=environment, check=True)
    for name in ("app.py", ".streamlit/config.toml"):
        assert (home / name).read_bytes() == (ROOT / name).read_bytes()


def test_the_container_holds_only_what_runs_and_no_root() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = [
        word
        for line in text.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    ]
    assert all((ROOT / name).exists() for name in copied)
    assert text.index("USER envelope") < text.index('CMD ["streamlit"')
    assert "HEALTHCHECK" in text

"""The documentation site builds without a warning, and a reader without a network sees all of it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("mkdocs", "material", "latex2mathml"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'deployment-envelope[docs]'")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<(script|link|img|iframe)\b[^>]*\b(src|href)=\"?(https?:)?//", text), page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"@import|url\([\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_equations_are_drawn_without_scripts(site: Path) -> None:
    for name in ("perf", "serving", "tco"):
        text = (site / "explain" / f"{name}.html").read_text(encoding="utf-8")
        assert "<math" in text
        assert not re.search(r"\$\$|\\\(", text), name


def test_reference_pages_hold_every_command_and_every_public_name(site: Path) -> None:
    import envelope
    from envelope.cli import COMMANDS

    commands = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    assert all(f'id="envelope-{name}"' in commands for name in COMMANDS)
    python = (site / "reference" / "python.html").read_text(encoding="utf-8")
    assert all(f'id="{name.lower()}"' in python for name in envelope.__all__ if callable(getattr(envelope, name)))
    assert "requests_per_day" in (site / "reference" / "schemas.html").read_text(encoding="utf-8")


def test_the_gallery_has_a_picture_of_every_scenario(site: Path) -> None:
    text = (site / "gallery.html").read_text(encoding="utf-8")
    names = [path.stem for path in (ROOT / "scenarios").glob("*.yaml")]
    assert all(f"images/{name}.svg" in text and (site / "images" / f"{name}.svg").is_file() for name in names)

"""Charts have one home: one folder draws them, and one file holds their colours."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "envelope"
CHARTS = PACKAGE / "report" / "charts"
DRAWING = ("altair", "vl_convert")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def test_only_the_folder_of_charts_imports_what_draws_them() -> None:
    users = {path for path in PACKAGE.rglob("*.py") for name in imported(path) if name in DRAWING}
    assert users
    assert {path.parent for path in users} == {CHARTS}


def test_only_the_palette_has_colours() -> None:
    homes = {
        path.name
        for path in (
            *CHARTS.glob("*.py"),
            *(PACKAGE / "validation").rglob("*.py"),
            *PACKAGE.glob("report/workbook*.py"),
        )
        if re.search(r"#[0-9a-fA-F]{6}\b", path.read_text("utf-8"))
    }
    assert homes == {"palette.py"}


def test_no_chart_is_written_by_hand() -> None:
    # Vega-Lite specifications are the charts; anything that writes SVG elements itself would be a second system.
    assert not [
        path for path in PACKAGE.rglob("*.py") if re.search(r"<(svg|rect|circle|path)\b", path.read_text("utf-8"))
    ]

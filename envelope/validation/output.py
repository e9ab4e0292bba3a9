"""Writing a report to a folder: JSON, CSV, Markdown and scatter charts."""

import csv
import json
from pathlib import Path

from envelope.errors import InputError, Problem
from envelope.report.charts.files import chart_image, need_charts
from envelope.validation.score import ScoredRow
from envelope.validation.tables import report_text
from envelope.validation.validate import ValidationReport

_CSV_FIELDS = (
    "id", "record", "collection", "quantity", "device_class", "architecture", "device", "hardware_id", "model",
    "model_id", "engine", "unit", "measured", "predicted", "ape_frac", "bias_frac", "bound", "overloaded", "reason",
)  # fmt: skip


def write_report(report: ValidationReport, folder: Path) -> list[Path]:
    """Write ``report.json``, ``rows.csv``, ``summary.csv``, ``report.md`` and one chart per quantity; return the files.

    Raises ``InputError`` when the folder cannot be written, ``MissingExtraError`` without the packages of charts.
    """
    drawn = charts(report)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = [
            _write(folder / "report.json", json.dumps(report.to_dict(), indent=1)),
            _write(folder / "report.md", report_text(report)),
            _rows_csv(report, folder / "rows.csv"),
            _summary_csv(report, folder / "summary.csv"),
        ]
        for name, svg in drawn.items():
            (folder / name).write_bytes(svg)
            written.append(folder / name)
    except OSError as error:
        raise InputError(Problem("--out", "", str(folder), f"cannot be written: {error.strerror or error}")) from None
    return written


def charts(report: ValidationReport) -> dict[str, bytes]:
    """Return the scatter charts as SVG by file name, one per quantity.

    Raises ``MissingExtraError`` without the packages that draw charts.
    """
    need_charts()
    from envelope.report.charts.accuracy import accuracy_scatter

    groups: dict[str, list[ScoredRow]] = {}
    for row in report.rows:
        if row.predicted is not None:
            groups.setdefault(row.quantity, []).append(row)
    worst = [row.id for row in report.worst]
    return {
        f"{quantity}.svg": chart_image(accuracy_scatter(rows, worst, quantity.replace("_", " "), _unit(rows)), "svg")
        for quantity, rows in sorted(groups.items())
    }


def _unit(rows: list[ScoredRow]) -> str:
    units = {row.unit for row in rows}
    return next(iter(units)) if len(units) == 1 else "units of the sources"


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _rows_csv(report: ValidationReport, path: Path) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _CSV_FIELDS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(row.model_dump(mode="json") for row in report.rows)
    return path


def _summary_csv(report: ValidationReport, path: Path) -> Path:
    rows = [row.model_dump(mode="json") for row in report.summary]
    fields = list(rows[0]) if rows else ["quantity"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)
    return path

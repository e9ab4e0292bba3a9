"""A comparison as files: JSON, two CSV tables and the terminal's text."""

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from envelope.plan.verdict.results import Comparison, CostFigures
from envelope.report.terminal import print_comparison


def write_comparison(result: Comparison, folder: Path) -> list[Path]:
    """Write ``comparison.json``, ``candidates.csv``, ``cost_lines.csv`` and ``report.txt``; return their paths.

    Each file is complete or absent: it is written beside its place and then moved there.
    """
    text = io.StringIO()
    print_comparison(result, file=text)
    files = {
        "comparison.json": json.dumps(result.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "candidates.csv": csv_text(_CANDIDATE, (_candidate_row(result, c.id) for c in result.candidates)),
        "cost_lines.csv": csv_text(_LINE, _line_rows(result)),
        "report.txt": text.getvalue(),
    }
    return [write_text(folder / name, content) for name, content in files.items()]


_CANDIDATE = (
    "id", "name", "recommended", "feasible", "binding", "slo_attainment_frac", "served_frac", "solved_frac",
    "ttft_p95_s", "itl_mean_s", "expected_npv_usd", "p10_npv_usd", "p90_npv_usd", "signature_usd", "total_usd",
    "usd_per_request", "usd_per_solved_task", "usd_per_seat_month",
    "private_requests_left", "requests_left_per_year", "energy_kwh_per_year", "devices", "evidence",
    "cost_warning",
)  # fmt: skip
_LINE = ("candidate", "line", "label", "present_value_usd", "nominal_usd", "formula", "evidence", "date", "source")


def _candidate_row(result: Comparison, ident: str) -> Sequence[object]:
    c = result.candidate(ident)
    service = c.service
    return (
        c.id, c.name, c.id == result.recommended, c.feasible, c.binding, c.slo_attainment_frac,
        service.served_frac if service else None, c.solved_frac,
        service.ttft.p95_s if service and service.ttft else None,
        service.itl.mean_s if service and service.itl else None,
        *_money(c.cost), c.usd_per_request, c.usd_per_solved_task, c.usd_per_seat_month, c.private_requests_left,
        c.requests_left_per_year, c.energy_kwh_per_year, c.devices, str(c.evidence), c.cost_warning,
    )  # fmt: skip


def _money(cost: CostFigures | None) -> Sequence[float | None]:
    if cost is None:
        return (None,) * 5
    return cost.expected_npv_usd, cost.p10_npv_usd, cost.p90_npv_usd, cost.signature_usd, cost.total_usd


def _line_rows(result: Comparison) -> Iterable[Sequence[object]]:
    for c in result.candidates:
        for line in c.lines:
            yield (
                c.id, line.id, line.label, line.npv_usd, line.nominal_usd, line.formula, str(line.evidence), line.date,
                line.source,
            )  # fmt: skip


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as CSV; ``None`` becomes an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    return out.getvalue()


def write_text(path: Path, content: str) -> Path:
    """Write a file so that it is complete or absent, and return its path."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_text(content, encoding="utf-8")
    temporary.replace(path)
    return path

"""How the report of a validation is drawn."""

from collections.abc import Iterable, Mapping
from typing import Any

from envelope.report.artist import brief, chart, records
from envelope.report.sweep_tables import Table
from envelope.report.text import percent
from envelope.validation.validate import ValidationReport


@records.register
def _(result: ValidationReport) -> Iterable[Mapping[str, Any]]:
    return [row.model_dump(mode="json") for row in result.rows]


@brief.register
def _(result: ValidationReport) -> tuple[str, Table]:
    rows = [
        (s.quantity, s.device_class, str(s.n), percent(s.coverage_frac), percent(s.median_ape_frac, 1),
         percent(s.mean_ape_frac, 1))
        for s in result.totals
    ]  # fmt: skip
    header = ["quantity", "kind", "rows", "covered", "median error", "mean error"]
    return f"Predictions beside measurements: {result.source}", (header, rows)


@chart.register
def _(result: ValidationReport, *, quantity: str | None = None) -> Any:
    from envelope.report.charts.accuracy import accuracy_scatter

    chosen = quantity or max({r.quantity for r in result.rows}, key=lambda q: sum(r.quantity == q for r in result.rows))
    rows = [row for row in result.rows if row.quantity == chosen]
    return accuracy_scatter(rows, [row.id for row in result.worst], chosen, rows[0].unit)

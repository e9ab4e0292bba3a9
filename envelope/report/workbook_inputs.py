"""The sheet of assumptions: every input in a named cell, so that formulas elsewhere can use it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envelope.money.acquire import LEASE_PAYMENT
from envelope.money.derived import RESIDUAL_YEARS, parents
from envelope.money.inputs import Input
from envelope.money.model import Model
from envelope.money.running import TARIFF_SHARE
from envelope.report.charts.palette import GIVEN

SHEET = "Assumptions"
_ALWAYS = ("discount_rate_frac_per_year", "tax_rate_frac", "hosted_commitment_usd_per_year")
_HEADER = ("Input", "Meaning", "Value", "Unit", "Low", "High", "Source", "Date", "Confidence", "Note")
_WIDTHS = (38, 44, 14, 20, 12, 12, 60, 11, 12, 40)


@dataclass(frozen=True, slots=True)
class Names:
    """Names of cells by candidate and input."""

    cells: Mapping[tuple[str, str], str]

    def of(self, candidate: str, name: str) -> str:
        """Return the cell name of an input as one candidate sees it."""
        return self.cells[candidate, name]


@dataclass(frozen=True, slots=True)
class _Row:
    """One cell: an input, or the formula of a derived one."""

    cell: str
    item: Input | None
    name: str
    formula: str = ""


def write_assumptions(book: Any, models: Mapping[str, Model]) -> Names:
    """Write the sheet and return the names of its cells.

    An input with the same number in all candidates has one cell; where candidates differ, each has its own.
    """
    cells: dict[tuple[str, str], str] = {}
    rows: list[_Row] = []
    taken: dict[str, Input] = {}
    for candidate, model in models.items():
        for name in _input_names(model):
            item = model.inputs[name]
            cell = _cell_name(name)
            if cell in taken and taken[cell].spread != item.spread:
                cell = _cell_name(f"{name}__{candidate}")
            if cell not in taken:
                taken[cell] = item
                rows.append(_Row(cell, item, name))
            cells[candidate, name] = cell
    rows += _derived_rows(models, cells)
    _write(book, rows)
    return Names(cells)


def _input_names(model: Model) -> list[str]:
    names = [p for line in model.lines for name in line.input_names for p in parents(name)]
    return list(dict.fromkeys([*_ALWAYS, *names]))


def _cell_name(name: str) -> str:
    return "in_" + re.sub(r"[^A-Za-z0-9_]", "_", name)


def _derived_rows(models: Mapping[str, Model], cells: dict[tuple[str, str], str]) -> list[_Row]:
    """Return the rows of derived inputs and enter their names into ``cells``."""
    rows: dict[str, _Row] = {}
    for candidate, model in models.items():
        for name in dict.fromkeys(n for line in model.lines for n in line.input_names if n not in model.inputs):
            of = {parent: cells[candidate, parent] for parent in parents(name)}
            formula = _derived_formula(name, of, model.economics.lease_months)
            cell = _cell_name(name)
            if cell in rows and rows[cell].formula != formula:
                cell = _cell_name(f"{name}__{candidate}")
            rows[cell] = _Row(cell, None, name, formula)
            cells[candidate, name] = cell
    return list(rows.values())


def _derived_formula(name: str, of: Mapping[str, str], lease_months: int) -> str:
    """Return the spreadsheet formula of a derived input; the Python one is in ``envelope.money.derived``."""
    if name == TARIFF_SHARE:
        return f"=1-{of['hosted_discount_frac']}"
    if name == LEASE_PAYMENT:
        rate = f"((1+{of['lease_rate_frac_per_year']})^(1/12)-1)"
        return f"=IF({rate}=0,1/{lease_months},{rate}/(1-(1+{rate})^(-{lease_months})))"
    years, months = divmod(int(name.removeprefix("residual_after_")[:-1]), 12)
    ends = [of.get(f"residual_after_{y}y", "1") for y in (years, years + 1)]
    if years > RESIDUAL_YEARS or (years == RESIDUAL_YEARS and months):
        return "=0"
    return f"={ends[0]}+({ends[1]}-{ends[0]})*{months}/12" if months else f"={ends[0]}"


def _write(book: Any, rows: list[_Row]) -> None:
    sheet = book.add_worksheet(SHEET)
    bold = book.add_format({"bold": True, "bottom": 1})
    given = book.add_format({"bg_color": GIVEN, "num_format": "#,##0.######"})
    derived = book.add_format({"italic": True, "num_format": "#,##0.######"})
    for column, width in enumerate(_WIDTHS):
        sheet.set_column(column, column, width)
    text = "Change a yellow cell and every sheet follows. Rates and shares are fractions; money is US dollars."
    sheet.write_string(0, 0, text)
    sheet.write_row(2, 0, _HEADER, bold)
    sheet.freeze_panes(3, 3)
    for at, row in enumerate(rows, start=3):
        sheet.write_string(at, 0, row.name)
        if row.item is None:
            sheet.write_string(at, 1, "follows from other inputs")
            sheet.write_formula(at, 2, row.formula, derived)
        else:
            _write_input(sheet, at, row.item, given)
        book.define_name(row.cell, f"={SHEET}!$C${at + 1}")


def _write_input(sheet: Any, at: int, item: Input, given: Any) -> None:
    low, high = item.spread.bounds
    sheet.write_string(at, 1, item.label)
    sheet.write_number(at, 2, item.point, given)
    sheet.write_string(at, 3, item.unit)
    if low < high:
        sheet.write_number(at, 4, low)
        sheet.write_number(at, 5, high)
    sheet.write_string(at, 6, item.source)
    sheet.write_string(at, 7, item.date)
    sheet.write_string(at, 8, "neutral" if item.neutral else item.evidence)
    sheet.write_string(at, 9, "given by the scenario or a price file" if item.overridden else item.note)

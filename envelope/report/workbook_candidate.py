"""One candidate in the workbook: its quantities on the usage sheet, and a sheet of its own with live formulas."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envelope.money.commitment import COMMITMENT
from envelope.money.lines import Line, Term, month_years
from envelope.money.model import Model
from envelope.money.result import LineResult, TcoResult
from envelope.money.tax import TAX, is_bought, write_off_matrix
from envelope.report.workbook_inputs import Names
from envelope.units import MTOK

Floats = NDArray[np.float64]

USAGE = "Usage"
MONEY = "#,##0;[Red]-#,##0"
QUANTITIES = ("requests", "solved_tasks", "mtok", "output_mtok", "seat_months")
"""What unit costs divide by: rows of the usage sheet."""

_PRICE, _GROWTH, _USAGE_MONTHS = 4, 5, 7
_TOTAL, _PRESENT, _MONTHS = 8, 9, 10
_MONTH_ROW, _FACTOR_ROW, _FIRST_LINE = 2, 3, 5
_USAGE_HEADER = ("Candidate", "Line", "Part", "Unit", "Unit price", "Price change per year", "Sum")
_HEADER = (
    "Line", "Meaning", "Group", "Kind", "Payer", "Formula", "Source", "Confidence", "Total, nominal", "Present value",
)  # fmt: skip
_WIDTHS = (30, 40, 12, 8, 12, 40, 40, 11, 16, 16)


def cell(row: int, column: int) -> str:
    """Return the absolute reference of a zero-based position.

    >>> cell(3, 27)
    '$AB$4'
    """
    letters, rest = "", column + 1
    while rest:
        rest, digit = divmod(rest - 1, 26)
        letters = chr(65 + digit) + letters
    return f"${letters}${row + 1}"


_RESERVED = ("summary", "assumptions", "usage", "cash flow", "sensitivity", "break-even", "sources", "history")


def sheet_name(ident: str, taken: Sequence[str]) -> str:
    """Return a sheet name for a candidate: at most 31 characters, unlike those in use whatever the case.

    >>> sheet_name("usage", [])
    'candidate usage'
    """
    name = f"candidate {ident}" if ident.lower() in _RESERVED else ident
    used = {t.lower() for t in taken}
    for number in range(1, 1000):
        tail = f" {number}" if number > 1 else ""
        found = name[: 31 - len(tail)] + tail
        if found.lower() not in used:
            return found
    raise ValueError(f"no free sheet name for {ident!r}")


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a candidate's figures stand, for the other sheets."""

    sheet: str
    horizon_months: int
    total_row: int
    quantity_rows: dict[str, int]
    """Row on the usage sheet of each quantity."""

    @property
    def present_value(self) -> str:
        """Reference to the present value of all costs."""
        return self._at(self.total_row, _PRESENT)

    @property
    def total(self) -> str:
        """Reference to the nominal sum of all costs."""
        return self._at(self.total_row, _TOTAL)

    def month(self, month: int) -> str:
        """Return the reference to the cost of a month."""
        return self._at(self.total_row, _MONTHS + month)

    def kind_total(self, kind: str) -> str:
        """Return a formula for the nominal sum of the ``capex`` or ``opex`` lines."""
        last = self.total_row - 1
        kinds = f"{self._at(_FIRST_LINE, 3)}:{cell(last, 3)}"
        return f'SUMIF({kinds},"{kind}",{self._at(_FIRST_LINE, _TOTAL)}:{cell(last, _TOTAL)})'

    def discounted(self, quantity: str) -> str:
        """Return a formula for the present value of a quantity."""
        row, last = self.quantity_rows[quantity], self.horizon_months
        months = f"{USAGE}!{cell(row, _USAGE_MONTHS)}:{cell(row, _USAGE_MONTHS + last)}"
        return f"SUMPRODUCT({months},{self._at(_FACTOR_ROW, _MONTHS)}:{cell(_FACTOR_ROW, _MONTHS + last)})"

    def _at(self, row: int, column: int) -> str:
        return f"'{self.sheet}'!{cell(row, column)}"


class UsageSheet:
    """The sheet of quantities by month, to which candidates append their rows."""

    def __init__(self, book: Any, horizon_months: int) -> None:
        self._sheet = book.add_worksheet(USAGE)
        self._row = 3
        self._last = _USAGE_MONTHS + horizon_months
        bold = book.add_format({"bold": True, "bottom": 1})
        text = "Quantities by month, from the simulation; unit price and price change follow from the assumptions."
        self._sheet.write_string(0, 0, text)
        self._sheet.write_row(2, 0, [*_USAGE_HEADER, *range(horizon_months + 1)], bold)
        self._number = book.add_format({"num_format": "#,##0.###"})
        self._sheet.set_column(0, 1, 26)
        self._sheet.set_column(2, 3, 14)
        self._sheet.set_column(4, 6, 16)
        self._sheet.set_column(_USAGE_MONTHS, self._last, 12)
        self._sheet.freeze_panes(3, _USAGE_MONTHS)

    def add(self, candidate: str, line: str, part: int, unit: str, quantity: Floats) -> int:
        """Write one row of quantities and return its number."""
        row, self._row = self._row, self._row + 1
        self._sheet.write_row(row, 0, [candidate, line, part, unit])
        formula = f"=SUM({cell(row, _USAGE_MONTHS)}:{cell(row, self._last)})"
        self._sheet.write_formula(row, 6, formula, self._number, float(quantity.sum()))
        self._sheet.write_row(row, _USAGE_MONTHS, quantity.tolist(), self._number)
        return row

    def add_term(self, candidate: str, line: Line, part: int, names: Names) -> int:
        """Write the quantities of one term of a line with the formulas of its price; return the row."""
        term = line.terms[part]
        row = self.add(candidate, line.id, part + 1, line.unit, term.quantity)
        product = f"={term.scale!r}"
        for power in term.factors:
            product += ("*" if power.exponent > 0 else "/") + names.of(candidate, power.name)
        self._sheet.write_formula(row, _PRICE, product)
        growth = names.of(candidate, term.growth) if term.growth and term.has_grown else "0"
        self._sheet.write_formula(row, _GROWTH, f"={growth}")
        return row


class CandidateSheet:
    """A candidate's sheet: one row per cost line, one column per month, all of it formulas."""

    def __init__(self, book: Any, sheet: str, ident: str, model: Model, result: TcoResult, names: Names) -> None:
        self._sheet = book.add_worksheet(sheet)
        self._name = sheet
        self._ident, self._model, self._result, self._names = ident, model, result, names
        self._money = book.add_format({"num_format": MONEY})
        self._bold = book.add_format({"bold": True, "bottom": 1})
        self._sum = book.add_format({"bold": True, "top": 1, "num_format": MONEY})
        self._row = _FIRST_LINE
        self._months = range(model.horizon_months + 1)

    def write(self, usage: UsageSheet) -> Placed:
        """Write the candidate's rows on both sheets and return where its figures stand."""
        self._head()
        shown = {line.id: line for line in self._result.lines}
        rows: dict[str, int] = {}
        for line in self._model.lines:
            terms = [usage.add_term(self._ident, line, i, self._names) for i in range(len(line.terms))]
            parts = [
                [_amount(row, term, month) for row, term in zip(terms, line.terms, strict=True)]
                for month in self._months
            ]
            rows[line.id] = self._line(shown[line.id], ["+".join(p for p in month if p) or "0" for month in parts])
        if COMMITMENT in shown:
            rows[COMMITMENT] = self._line(shown[COMMITMENT], self._commitment(rows))
        if TAX in shown:
            self._line(shown[TAX], self._tax(rows))
        self._total()
        quantities = {name: usage.add(self._ident, name, 0, name, q) for name, q in _quantities(self._model).items()}
        return Placed(self._name, self._model.horizon_months, self._row, quantities)

    def _head(self) -> None:
        sheet = self._sheet
        sheet.write_string(0, 0, f"{self._ident}: cost lines by month, nominal US dollars; a cost is positive")
        for column, width in enumerate(_WIDTHS):
            sheet.set_column(column, column, width)
        sheet.set_column(len(_WIDTHS), len(_WIDTHS) + len(self._months), 12)
        sheet.write_row(_MONTH_ROW, 0, [*_HEADER, *self._months], self._bold)
        sheet.write_string(_FACTOR_ROW, 1, "discount factor")
        rate = self._names.of(self._ident, "discount_rate_frac_per_year")
        for month in self._months:
            at = _MONTHS + month
            factor = (1.0 + self._result.discount_rate_frac_per_year) ** (-month / 12)
            sheet.write_formula(_FACTOR_ROW, at, f"=(1+{rate})^(-{cell(_MONTH_ROW, at)}/12)", None, factor)
        sheet.freeze_panes(_FIRST_LINE, 2)

    def _line(self, line: LineResult, formulas: Sequence[str]) -> int:
        """Write one row and return its number; the values that Python computed are stored beside the formulas."""
        row, self._row = self._row, self._row + 1
        kind = "capex" if line.capex else "opex"
        texts = (line.id, line.label, line.group, kind, line.payer, line.formula, line.source, str(line.evidence))
        for column, text in enumerate(texts):
            self._sheet.write_string(row, column, text)
        for month, formula in enumerate(formulas):
            self._sheet.write_formula(row, _MONTHS + month, f"={formula}", self._money, line.by_month_usd[month])
        last = _MONTHS + self._model.horizon_months
        months, factors = (f"{cell(r, _MONTHS)}:{cell(r, last)}" for r in (row, _FACTOR_ROW))
        self._sheet.write_formula(row, _TOTAL, f"=SUM({months})", self._money, line.total_usd)
        present = f"=SUMPRODUCT({months},{factors})"
        self._sheet.write_formula(row, _PRESENT, present, self._money, line.present_value_usd)
        return row

    def _commitment(self, rows: dict[str, int]) -> list[str]:
        """Return the formulas of what falls short of the promised spend at the end of each year."""
        promise = self._names.of(self._ident, "hosted_commitment_usd_per_year")
        hosted = [rows[line.id] for line in self._model.lines if line.group == "hosted"]
        formulas = []
        for month in self._months:
            formula = "0"
            if month and (month % 12 == 0 or month == self._model.horizon_months):
                first = (month - 1) // 12 * 12 + 1
                spans = (f"SUM({cell(r, _MONTHS + first)}:{cell(r, _MONTHS + month)})" for r in hosted)
                formula = f"MAX(0,{promise}*{month - first + 1}/12-({'+'.join(spans)}))"
            formulas.append(formula)
        return formulas

    def _tax(self, rows: dict[str, int]) -> list[str]:
        """Return the formulas of the tax saved by running costs and by writing off what was bought."""
        rate = self._names.of(self._ident, "tax_rate_frac")
        share = write_off_matrix(self._model.economics, self._model.horizon_months)
        bought = {x.id: x for x in self._model.lines if is_bought(x)}
        formulas = []
        for month in self._months:
            parts = [cell(row, _MONTHS + month) for ident, row in rows.items() if ident not in bought]
            for ident, line in bought.items():
                paid = sorted({int(m) for term in line.terms for m in np.nonzero(term.quantity)[0]})
                parts += [
                    f"{float(share[p, month])!r}*{cell(rows[ident], _MONTHS + p)}" for p in paid if share[p, month]
                ]
            formulas.append(f"-{rate}*({'+'.join(parts) or '0'})")
        return formulas

    def _total(self) -> None:
        row = self._row
        self._sheet.write_string(row, 1, "Total", self._sum)
        months = -self._result.flow_usd
        values = {_TOTAL: self._result.total_usd, _PRESENT: self._result.cost_npv_usd}
        values |= {_MONTHS + month: float(months[month]) for month in self._months}
        for column, value in values.items():
            formula = f"=SUM({cell(_FIRST_LINE, column)}:{cell(row - 1, column)})"
            self._sheet.write_formula(row, column, formula, self._sum, value)


def _amount(row: int, term: Term, month: int) -> str:
    """Return ``quantity × price × (1 + growth)^year`` as a formula; empty for a month without quantity."""
    if term.quantity[month] == 0:
        return ""
    years = month_years(len(term.quantity) - 1) if term.price_year is None else term.price_year
    text = f"{USAGE}!{cell(row, _USAGE_MONTHS + month)}*{USAGE}!{cell(row, _PRICE)}"
    return f"{text}*(1+{USAGE}!{cell(row, _GROWTH)})^{int(years[month])}" if years[month] else text


def _quantities(model: Model) -> dict[str, Floats]:
    """Return what unit costs divide by, by month."""
    years = model.years
    per_year = {
        "requests": [u.served_requests for u in years],
        "solved_tasks": [u.solved_tasks for u in years],
        "mtok": [(u.served_input_tokens + u.served_output_tokens) / MTOK for u in years],
        "output_mtok": [u.served_output_tokens / MTOK for u in years],
        "seat_months": [u.seats * 12.0 for u in years],
    }
    result = {}
    for name in QUANTITIES:
        monthly = np.asarray(per_year[name], dtype=np.float64)[month_years(model.horizon_months)] / 12.0
        monthly[0] = 0.0
        result[name] = monthly
    return result

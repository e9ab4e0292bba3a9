"""The cost model as an Excel workbook whose formulas are alive: a changed assumption recomputes every figure."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envelope.errors import MissingExtraError
from envelope.money.breakeven import BreakEven, break_even_factor, break_even_month
from envelope.money.cashflow import irr
from envelope.money.draws import DRAWS
from envelope.money.evaluate import evaluate_model
from envelope.money.model import Model
from envelope.money.result import TcoResult
from envelope.money.uncertainty import Quantiles, SobolIndex, Uncertainty, tornado, uncertainty
from envelope.report.charts.palette import PALETTE
from envelope.report.workbook_candidate import MONEY, CandidateSheet, Placed, UsageSheet, cell, sheet_name
from envelope.report.workbook_inputs import write_assumptions
from envelope.units import years_of

Floats = NDArray[np.float64]

_BARS = 15
_EXPECTED_ROW = 9
"""Row of the expected present value on the summary."""
_UNIT_FIELDS = (
    "usd_per_request", "usd_per_solved_task", "usd_per_mtok", "usd_per_output_mtok", "usd_per_seat_month",
)  # fmt: skip
"""Fields of ``UnitCosts`` in the order of ``_UNIT_COSTS``."""
_UNIT_COSTS = {
    "US dollars per served request": "requests",
    "US dollars per solved task": "solved_tasks",
    "US dollars per million served tokens": "mtok",
    "US dollars per million served output tokens": "output_mtok",
    "US dollars per seat and month": "seat_months",
}


@dataclass(frozen=True, slots=True)
class Title:
    """What stands at the top of the workbook."""

    name: str
    question: str
    date: str
    version: str
    recommended: str | None = None
    warnings: tuple[str, ...] = ()
    """What the scenario says in vain."""


@dataclass(frozen=True, slots=True)
class Headline:
    """What the summary says of a candidate beside its live formulas: values, as Python found them."""

    fits: str
    """``yes``, or the rules that it breaks."""
    served_frac: float
    slo_attainment_frac: float
    figures: Mapping[str, float]
    """Label → dollars."""
    unit_figures: Mapping[str, float | None]
    """Label → dollars per unit; ``None`` where nothing is served."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What Python draws, and the sheet does not compute."""

    uncertainty: Uncertainty
    volume: Mapping[str, BreakEven]
    """Candidate → factor on the volume of work at which it costs as much as the baseline."""
    month: Mapping[str, BreakEven]
    """Candidate → month from which it stays ahead of the baseline."""
    others: Mapping[str, Mapping[str, BreakEven]] = field(default_factory=dict)
    """Candidate → what it is about → break-even, for those that not every candidate has."""
    sobol: Mapping[str, Sequence[SobolIndex]] = field(default_factory=dict)
    """Candidate → shares of the variance of its cost, the largest first."""


def draw(models: Mapping[str, Model], baseline: str, *, draws: int = DRAWS, seed: int = 1) -> Drawn:
    """Return ranges and break-even of cost models whose machines do not depend on the demand."""
    others = {ident: model for ident, model in models.items() if ident != baseline}
    base = models[baseline]
    return Drawn(
        uncertainty(models, draws=draws, seed=seed),
        {ident: break_even_factor(model, base, high=1.0, seed=seed) for ident, model in others.items()},
        {ident: break_even_month(model, base, seed=seed) for ident, model in others.items()},
    )


def write_workbook(
    path: Path,
    title: Title,
    models: Mapping[str, Model],
    baseline: str,
    drawn: Drawn,
    heads: Mapping[str, Headline],
) -> None:
    """Write the cost models of all candidates to one workbook.

    Sheets: Summary, Assumptions (named cells), Usage, Cash flow, one per candidate, Sensitivity, Break-even,
    Sources. All but Sensitivity and Break-even, which are drawn by Python, are formulas on Assumptions and
    Usage; the expected costs at the top of Summary (``heads``) are values. ``baseline`` is the candidate against which
    savings count. Raises ``MissingExtraError`` without
    xlsxwriter.
    """
    try:
        xlsxwriter = importlib.import_module("xlsxwriter")
    except ImportError:
        raise MissingExtraError("xlsxwriter", "report") from None
    with xlsxwriter.Workbook(str(path), {"strings_to_formulas": False, "strings_to_urls": False}) as book:
        summary = book.add_worksheet("Summary")
        names = write_assumptions(book, models)
        horizon = max(model.horizon_months for model in models.values())
        usage = UsageSheet(book, horizon)
        flow = book.add_worksheet("Cash flow")
        placed: dict[str, Placed] = {}
        results: dict[str, TcoResult] = {}
        for ident, model in models.items():
            sheet = sheet_name(ident, [p.sheet for p in placed.values()])
            results[ident] = evaluate_model(model)
            placed[ident] = CandidateSheet(book, sheet, ident, model, results[ident], names).write(usage)
        _cash_flow(book, flow, placed, results, baseline, horizon)
        rate = names.of(baseline, "discount_rate_frac_per_year")
        row = _headlines(book, summary, title, heads)
        _summary(book, summary, placed, _summary_values(results, baseline), baseline, rate, row)
        _sensitivity(book, models, drawn)
        _break_even(book, baseline, drawn)
        _sources(book, models)


def _summary_values(results: Mapping[str, TcoResult], baseline: str) -> dict[str, list[float | str]]:
    """Return what Python computed for the rows of the summary, in their order, by candidate.

    Readers that do not recalculate on opening (previews, some office programs) show these values.
    """
    base = results[baseline].cost_npv_usd
    values: dict[str, list[float | str]] = {}
    for ident, r in results.items():
        costs = [getattr(r.unit_costs, name) for name in _UNIT_FIELDS]
        money = [r.cost_npv_usd, r.total_usd, r.capex_usd, r.opex_usd, base - r.cost_npv_usd]
        values[ident] = [*money, *("" if cost is None else cost for cost in costs), r.discount_rate_frac_per_year]
    return values


def _headlines(book: Any, sheet: Any, title: Title, heads: Mapping[str, Headline]) -> int:
    """Write the title and the expected figures of every candidate; return the next free row."""
    bold, money = book.add_format({"bold": True, "bottom": 1}), book.add_format({"num_format": MONEY})
    unit, share = book.add_format({"num_format": "#,##0.0000"}), book.add_format({"num_format": "0.0%"})
    wrapped = book.add_format({"text_wrap": True, "valign": "top"})
    sheet.set_column(0, 0, 46)
    sheet.set_column(1, len(heads), 18)
    sheet.write_string(0, 0, title.name, book.add_format({"bold": True, "font_size": 14}))
    sheet.write_string(1, 0, title.question)
    sheet.write_string(2, 0, f"{title.date}; envelope {title.version}; nominal US dollars before value-added tax")
    sheet.write_string(3, 0, f"Recommended: {title.recommended or 'no candidate keeps every rule'}")
    if title.warnings:
        sheet.write_string(4, 0, "; ".join(title.warnings))
    sheet.write_row(5, 0, ["Expected, over the ranges of all inputs (values)", *heads], bold)
    every = list(heads.values())
    rows: list[tuple[str, list[float | str | None], Any]] = [
        ("Keeps every rule", [h.fits for h in every], wrapped),
        ("Share of the requests that are served", [h.served_frac for h in every], share),
        ("Share of the requests that keep their SLO", [h.slo_attainment_frac for h in every], share),
    ]
    rows += [(label, [h.figures[label] for h in every], money) for label in every[0].figures]
    rows += [(label, [h.unit_figures[label] for h in every], unit) for label in every[0].unit_figures]
    for row, (label, values, style) in enumerate(rows, start=6):
        sheet.write_string(row, 0, label)
        for column, value in enumerate(values, start=1):
            sheet.write(row, column, value, style)
    sheet.freeze_panes(6, 1)
    return 6 + len(rows)


def _summary(
    book: Any,
    sheet: Any,
    placed: Mapping[str, Placed],
    values: Mapping[str, list[float | str]],
    baseline: str,
    rate: str,
    above: int,
) -> None:
    """Write what follows from the sheets by formulas, below row ``above``."""
    bold, money = book.add_format({"bold": True, "bottom": 1}), book.add_format({"num_format": MONEY})
    unit, first = book.add_format({"num_format": "#,##0.0000"}), above + 2
    sheet.write_row(above + 1, 0, ["At the middle of every range (live: follows the sheet Assumptions)", *placed], bold)
    rows = _summary_rows(placed, baseline)
    for row, (label, formulas, style) in enumerate(rows, start=first):
        sheet.write_string(row, 0, label)
        for column, (formula, ident) in enumerate(zip(formulas, placed, strict=True), start=1):
            style_of = money if style == "money" else unit
            sheet.write_formula(row, column, f"={formula}", style_of, values[ident][row - first])
    end = first + len(rows) + 1
    sheet.write_string(end, 0, "Discount rate per year")
    sheet.write_formula(end, 1, f"={rate}", book.add_format({"num_format": "0.0%"}), values[baseline][-1])
    chart = book.add_chart({"type": "column"})
    last = len(placed)
    chart.add_series(
        {
            "name": "Expected present value of all costs",
            "categories": ["Summary", 5, 1, 5, last],
            "values": ["Summary", _EXPECTED_ROW, 1, _EXPECTED_ROW, last],
            "fill": {"color": PALETTE[0]},
        }
    )
    chart.set_legend({"none": True})
    chart.set_y_axis({"num_format": "#,##0"})
    sheet.insert_chart(end + 2, 0, chart, {"x_scale": 1.5})


def _summary_rows(placed: Mapping[str, Placed], baseline: str) -> list[tuple[str, list[str], str]]:
    """Return label, one formula per candidate, and style."""
    places = list(placed.values())
    base = placed[baseline].present_value
    rows = [
        ("Present value of all costs", [p.present_value for p in places], "money"),
        ("Sum of all costs, nominal", [p.total for p in places], "money"),
        ("  of which capital", [p.kind_total("capex") for p in places], "money"),
        ("  of which running", [p.kind_total("opex") for p in places], "money"),
        (f"Saved against {baseline}, present value", [f"{base}-{p.present_value}" for p in places], "money"),
    ]
    for label, quantity in _UNIT_COSTS.items():
        costs = [f'IF({p.discounted(quantity)}=0,"",{p.present_value}/{p.discounted(quantity)})' for p in places]
        rows.append((label, costs, "unit"))
    return rows


def _cash_flow(
    book: Any,
    sheet: Any,
    placed: Mapping[str, Placed],
    results: Mapping[str, TcoResult],
    baseline: str,
    horizon: int,
) -> None:
    """Write the flows by month and year (outflows negative), and the return on each against the baseline."""
    bold, money = book.add_format({"bold": True, "bottom": 1}), book.add_format({"num_format": MONEY})
    percent = book.add_format({"num_format": "0.0%"})
    years = years_of(horizon)
    sheet.set_column(0, 0, 44)
    sheet.write_string(
        0, 0, "Cash flow in nominal US dollars; an outflow is negative; month 0 is the start of service."
    )
    first = 3 + years
    header = ["By year and by month", *(f"year {y}" for y in range(years + 1)), "return per year", *range(horizon + 1)]
    sheet.write_row(2, 0, header, bold)
    sheet.set_column(1, len(header), 12)
    row = 3
    for ident, place in placed.items():
        sheet.write_string(row, 0, ident)
        months = [f"-{place.month(m)}" if m <= place.horizon_months else "0" for m in range(horizon + 1)]
        _flow_row(sheet, row, first, months, _padded(results[ident], horizon), money)
        row += 1
    base = 3 + list(placed).index(baseline)
    row += 1
    sheet.write_string(row, 0, f"Difference to {baseline}", bold)
    for i, ident in enumerate(placed):
        if ident == baseline:
            continue
        row += 1
        sheet.write_string(row, 0, ident)
        months = [f"{cell(3 + i, first + m)}-{cell(base, first + m)}" for m in range(horizon + 1)]
        saved = _padded(results[ident], horizon) - _padded(results[baseline], horizon)
        _flow_row(sheet, row, first, months, saved, money)
        flow = f"{cell(row, first)}:{cell(row, first + horizon)}"
        sheet.write_formula(row, first - 1, f'=IFERROR((1+IRR({flow},0.02))^12-1,"none")', percent, _irr_text(saved))
    sheet.freeze_panes(3, 1)


def _padded(result: TcoResult, horizon: int) -> Floats:
    """Return the monthly cash flow of a candidate, with zeros up to the longest horizon."""
    flow = result.flow_usd
    return np.concatenate([flow, np.zeros(horizon + 1 - len(flow))])


def _irr_text(flow: Floats) -> float | str:
    found = irr(flow)
    return "none" if found is None else found


def _flow_row(sheet: Any, row: int, first: int, months: list[str], values: Floats, money: Any) -> None:
    horizon = len(values) - 1
    for month, formula in enumerate(months):
        sheet.write_formula(row, first + month, f"={formula}", money, float(values[month]))
    sheet.write_formula(row, 1, f"={cell(row, first)}", money, float(values[0]))
    for year in range(1, years_of(horizon) + 1):
        begin, last = 12 * (year - 1) + 1, min(12 * year, horizon)
        formula = f"=SUM({cell(row, first + begin)}:{cell(row, first + last)})"
        sheet.write_formula(row, 1 + year, formula, money, float(values[begin : last + 1].sum()))


def _sensitivity(book: Any, models: Mapping[str, Model], found: Drawn) -> None:
    drawn = found.uncertainty
    sheet = book.add_worksheet("Sensitivity")
    bold, money = book.add_format({"bold": True, "bottom": 1}), book.add_format({"num_format": MONEY})
    share = book.add_format({"num_format": "0%"})
    sheet.set_column(0, 0, 44)
    sheet.set_column(1, 12, 16)
    text = f"Drawn by Python ({drawn.draws} Latin-hypercube draws, seed {drawn.seed}): these do not follow the sheet."
    sheet.write_string(0, 0, text)
    sheet.write_row(2, 0, ["Present value of the costs", "P10", "P50", "P90", "mean", "cheapest in"], bold)
    row = 3
    for c in drawn.candidates:
        q = c.cost_npv_usd
        sheet.write_row(row, 0, [c.id, q.p10, q.p50, q.p90, c.mean_cost_npv_usd], money)
        sheet.write(row, 5, c.cheapest_frac, share)
        row += 1
    row += 1
    rivals = drawn.cheaper_frac
    sheet.write_row(row, 0, ["Probability that the row is cheaper than the column (of those that fit)", *rivals], bold)
    for a in rivals:
        row += 1
        sheet.write_string(row, 0, a)
        for column, b in enumerate(rivals, start=1):
            if a != b:
                sheet.write_number(row, column, rivals[a][b], share)
    shares: dict[str, list[tuple[str, float, float]]] = {}
    for ident, model in models.items():
        row += 2
        header = [f"{ident}: present value with the input at its P10 and P90", "P10", "P90", "swing"]
        sheet.write_row(row, 0, header, bold)
        for bar in tornado(model)[:_BARS]:
            row += 1
            sheet.write_row(row, 0, [bar.input, bar.low_usd, bar.high_usd, bar.swing_usd], money)
        for index in found.sobol.get(ident, ())[:_BARS]:
            shares.setdefault(ident, []).append((index.input, index.first, index.total))
    for ident, rows in shares.items():
        row += 2
        sheet.write_row(row, 0, [f"{ident}: share of the variance (Sobol indices)", "first order", "total"], bold)
        for name, first, total in rows:
            row += 1
            sheet.write_string(row, 0, name)
            sheet.write_row(row, 1, [first, total], share)
    sheet.freeze_panes(3, 1)


def _break_even(book: Any, baseline: str, drawn: Drawn) -> None:
    sheet = book.add_worksheet("Break-even")
    bold, plain = book.add_format({"bold": True, "bottom": 1}), book.add_format({"num_format": "#,##0.00"})
    sheet.set_column(0, 0, 84)
    text = "Drawn by Python; these figures do not follow the sheet. Factors multiply the planned volume of work."
    sheet.write_string(0, 0, text)
    header = [f"Equal to {baseline} at", "point", "P10", "P50", "P90", "exists in"]
    sheet.write_row(2, 0, header, bold)
    row = 3
    for ident in drawn.volume:
        _break_even_row(sheet, row, f"{ident}: factor on the volume of work", drawn.volume[ident], plain)
        _break_even_row(sheet, row + 1, f"{ident}: month from which it stays ahead", drawn.month[ident], plain)
        row += 2
        for about, found in drawn.others.get(ident, {}).items():
            _break_even_row(sheet, row, f"{ident}: {about}", found, plain)
            row += 1
    sheet.set_column(1, 5, 12)
    sheet.freeze_panes(3, 1)


def _break_even_row(sheet: Any, row: int, label: str, found: BreakEven, number: Any) -> None:
    q: Quantiles | None = found.quantiles
    values = [found.point, *((q.p10, q.p50, q.p90) if q else (None, None, None)), found.exists_frac]
    sheet.write_string(row, 0, label)
    for column, value in enumerate(values, start=1):
        if value is None:
            sheet.write_string(row, column, "none")
        else:
            sheet.write_number(row, column, value, number)


def _sources(book: Any, models: Mapping[str, Model]) -> None:
    sheet = book.add_worksheet("Sources")
    sheet.set_column(0, 0, 90)
    sheet.set_column(1, 2, 12)
    sheet.set_column(3, 3, 60)
    sheet.freeze_panes(1, 0)
    sheet.write_row(0, 0, ["Source", "Date", "Confidence", "Inputs"], book.add_format({"bold": True, "bottom": 1}))
    origins: dict[tuple[str, str, str], dict[str, None]] = {}
    for model in models.values():
        used = {name for line in model.lines for name in line.input_names}
        for name in sorted(used & model.inputs.keys()):
            item = model.inputs[name]
            if not item.neutral:
                origins.setdefault((item.source, item.date, str(item.evidence)), {})[name] = None
    for row, ((source, date, evidence), names) in enumerate(sorted(origins.items()), start=1):
        for column, text in enumerate((source, date, evidence, ", ".join(names))):
            sheet.write_string(row, column, text)

"""A cost study as files: JSON, CSV tables, a page for the browser, and the workbook."""

import json
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from envelope.errors import MissingExtraError
from envelope.money.breakeven import BreakEven
from envelope.plan.cost.difference import KEY, CostDifference, saved_run
from envelope.plan.cost.models import CostModels
from envelope.plan.cost.study import CandidateCosts, CostStudy
from envelope.plan.rules.rule import in_words
from envelope.report.cost_difference import difference_page
from envelope.report.cost_document import write_document
from envelope.report.cost_page import cost_page, lead
from envelope.report.files import csv_text, write_text
from envelope.report.workbook import Drawn, Headline, Title, write_workbook

_CHARTS = ("altair", "vl_convert")
"""Packages that draw charts."""
_LINE = (
    "candidate", "line", "label", "group", "kind", "payer", "total_usd", "present_value_usd", "quantity", "unit",
    "unit_price_usd", "when", "present_value_p10_usd", "present_value_p90_usd", "formula", "evidence", "date", "source",
)  # fmt: skip


_FLOW = ("candidate", "fits", "broken", "served_frac", "slo_attainment_frac", "expected_npv_usd")


def write_cost_study(
    study: CostStudy, models: CostModels, folder: Path, *, date: str, changes: CostDifference | None = None
) -> list[Path]:
    """Write ``tco.json``, ``tco_lines.csv``, ``tco_cash_flow.csv``, ``tco.html``, ``tco.xlsx`` and ``tco.pdf``.

    With ``changes`` also ``tco_difference.json`` and ``tco_difference.html``. Returns the paths.
    Pages and workbook need the extra ``report``, the document also ``pdf``; without them they are left out,
    and ``missing_extras`` says so.
    """
    run = saved_run(models, date=date, version=study.version)
    files = {
        "tco.json": _json({**study.model_dump(mode="json"), KEY: run.model_dump(mode="json", exclude_unset=True)}),
        "tco_lines.csv": csv_text(_LINE, _lines(study)),
        "tco_cash_flow.csv": csv_text(_flow_header(study), _flows(study)),
    }
    drawn = has(*_CHARTS)
    if drawn:
        files["tco.html"] = cost_page(study, date=date)
    if changes is not None:
        files["tco_difference.json"] = _json(changes.model_dump(mode="json"))
        if drawn:
            files["tco_difference.html"] = difference_page(changes, date=date)
    written = [write_text(folder / name, content) for name, content in files.items()]
    if has("xlsxwriter"):
        title = Title(study.name, study.question, date, study.version, lead(study), study.warnings)
        heads = {c.id: headline(c) for c in study.candidates}
        write_workbook(folder / "tco.xlsx", title, models.models, study.baseline, _drawn(study), heads)
        written.append(folder / "tco.xlsx")
    if drawn and has("typst"):
        write_document(folder / "tco.pdf", study, date=date)
        written.append(folder / "tco.pdf")
    return written


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _drawn(study: CostStudy) -> Drawn:
    return Drawn(
        study.uncertainty,
        {c.id: c.break_even_volume for c in study.candidates if c.break_even_volume is not None},
        {c.id: c.break_even_month for c in study.candidates if c.break_even_month is not None},
        {c.id: _other_break_evens(c) for c in study.candidates},
        {c.id: c.sobol for c in study.candidates},
    )


def headline(c: CandidateCosts) -> Headline:
    """Return what the workbook's summary says of a candidate beside its live formulas."""
    units = c.result.unit_costs
    return Headline(
        fits="yes" if c.feasible else f"no: {', '.join(in_words(name) for name in c.broken)}",
        served_frac=c.served_frac,
        slo_attainment_frac=c.slo_attainment_frac,
        figures={
            "Expected present value": c.cost.expected_npv_usd,
            "  P10": c.cost.p10_npv_usd,
            "  P90": c.cost.p90_npv_usd,
            "Cash at signature, expected": c.cost.signature_usd,
            "Sum of all payments, nominal, expected": c.cost.total_usd,
            "Most cash out at any time, expected": c.cost.peak_cash_usd,
        },
        unit_figures={
            "US dollars per served request, expected": units.usd_per_request,
            "US dollars per solved task, expected": units.usd_per_solved_task,
            "US dollars per million served tokens, expected": units.usd_per_mtok,
        },
    )


def _other_break_evens(c: CandidateCosts) -> dict[str, BreakEven]:
    found = {
        "load of its machines at that volume, share of what they carry within the SLO": c.break_even_utilisation,
        "factor on every hosted tariff": c.break_even_api_price,
    }
    return {about: even for about, even in found.items() if even is not None}


def has(*packages: str) -> bool:
    """Return whether optional packages are installed."""
    return all(find_spec(package) is not None for package in packages)


def missing_extras() -> list[str]:
    """Return one line for each file that is left out for want of a package."""
    report, pdf = dict.fromkeys(_CHARTS, "report"), {"typst": "pdf"}
    wanted = {"tco.html": report, "tco.xlsx": {"xlsxwriter": "report"}, "tco.pdf": {**report, **pdf}}
    return [
        f"{file} left out: {MissingExtraError(package, extra)}"
        for file, packages in wanted.items()
        for package, extra in packages.items()
        if not has(package)
    ]


def _lines(study: CostStudy) -> Iterable[Sequence[object]]:
    drawn = {c.id: {line.id: line.present_usd for line in c.lines} for c in study.uncertainty.candidates}
    for c in study.candidates:
        for x in c.result.lines:
            q = drawn[c.id].get(x.id)
            yield (
                c.id, x.id, x.label, x.group, "capex" if x.capex else "opex", x.payer, x.total_usd,
                x.present_value_usd, x.quantity, x.unit, x.unit_price_usd, x.when, q.p10 if q else None,
                q.p90 if q else None, x.formula, str(x.evidence), x.date, x.source,
            )  # fmt: skip


def _flow_header(study: CostStudy) -> list[str]:
    return [*_FLOW, *(f"month_{m}_usd" for m in range(study.horizon_months + 1))]


def _flows(study: CostStudy) -> Iterable[Sequence[object]]:
    """Return the expected monthly cash flows; an outflow is negative."""
    for c in study.candidates:
        broken = " ".join(c.broken)
        yield (
            c.id, "yes" if c.feasible else "no", broken, c.served_frac, c.slo_attainment_frac, c.cost.expected_npv_usd,
            *c.result.flow_usd.tolist(),
        )  # fmt: skip

"""The workbook: its formulas, recalculated by an independent engine, give what Python gives, to the cent."""

import importlib
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from envelope.money import AnnualUsage, HostedTokens, OwnedAsset, RentedDevices
from envelope.money.evaluate import evaluate_model
from envelope.money.model import Model, build
from envelope.report.workbook import Headline, Title, draw, write_workbook
from envelope.report.workbook_candidate import sheet_name
from envelope.spec.economics import Economics

pytest.importorskip("xlsxwriter", reason="needs the extra 'report'")
openpyxl = pytest.importorskip("openpyxl", reason="reads the workbook back")

TITLE = Title("Test", "Own or rent?", "2026-11-23", "0", "own")


def own_usage(nodes: int) -> AnnualUsage:
    return AnnualUsage(
        owned=(
            OwnedAsset(
                id="nvidia-dgx-h100",
                count=nodes,
                unit_price_usd={"low": 2.5e5, "mode": 3e5, "high": 4e5},
                devices_per_unit=8,
                max_w=10_200,
                rack_units=8,
            ),
            OwnedAsset(id="workstation", kind="device", count=1, unit_price_usd=2e4, leased=True),
        ),
        rented=(RentedDevices(id="gpu", device_hours=200.0, usd_per_device_hour=3.0, mode="spot", devices=1),),
        it_kwh=40_000.0 * nodes,
        requests=5e6,
        input_tokens=2e10,
        output_tokens=2e9,
        solved_tasks=4e6,
        seats=500,
    )


def hosted_usage() -> AnnualUsage:
    tokens = {"input": (1.2e10, 2.0), "cached_input": (0.8e10, 0.1), "output": (2e9, 10.0)}
    hosted = tuple(HostedTokens(api="api", kind=k, tokens=n, usd_per_mtok=usd) for k, (n, usd) in tokens.items())
    return AnnualUsage(hosted=hosted, requests=5e6, solved_tasks=4e6, forced_changes_per_year=0.75)


def models(**inputs: float) -> dict[str, Model]:
    """Return two candidates with everything that a workbook can hold, over a year and a half."""
    fields: dict[str, Any] = {
        "horizon_months": 18,
        "site": "colocation",
        "tax_rate_frac": 0.25,
        "hosted_commitment_usd_per_year": 80_000,
        "hosted_discount_frac": 0.1,
        "lease_months": 12,
        "include": ("oncall", "fine_tuning_lora_8b"),
    }
    own_fields = {name: value for name, value in inputs.items() if name in Economics.model_fields}
    defaults = {name: value for name, value in inputs.items() if name not in Economics.model_fields}
    economics = Economics(**(fields | own_fields), inputs=defaults)
    return {"own": build(economics, [own_usage(1), own_usage(2)]), "usage": build(economics, hosted_usage())}


HEADS = {
    ident: Headline(
        fits="yes", served_frac=1.0, slo_attainment_frac=0.97, figures={"Expected present value": usd},
        unit_figures={"US dollars per served request, expected": None},
    )
    for ident, usd in (("own", 3e6), ("usage", 2e6))
}  # fmt: skip
"""What a study says of the two; its own numbers are tested where it is made."""


@pytest.fixture(scope="module")
def workbook(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("workbook") / "tco.xlsx"
    write_workbook(path, TITLE, models(), "usage", draw(models(), "usage", draws=64), HEADS)
    return path


def with_values(path: Path, values: dict[str, float]) -> Path:
    """Return a copy of the workbook in which a person has typed other numbers into the yellow cells."""
    book = openpyxl.load_workbook(path)
    rows = {row[0].value: row[2] for row in book["Assumptions"].iter_rows(min_row=4)}
    for name, value in values.items():
        rows[name].value = value
    changed = path.with_name("changed.xlsx")
    book.save(changed)
    return changed


def recalculated(path: Path) -> dict[str, Any]:
    """Return the value of every cell, computed anew by the package ``formulas``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        engine = pytest.importorskip("formulas", reason="recalculates the workbook")
        solution = engine.ExcelModel().loads(str(path)).finish().calculate()
        cells = {
            str(key).split("]")[-1].replace("'", ""): getattr(item, "value", item) for key, item in solution.items()
        }
    return {key: value for key, value in cells.items() if key.count("!") == 1 and ":" not in key}


@pytest.fixture(scope="module")
def computed(workbook) -> dict[str, Any]:
    return recalculated(workbook)


@cache
def opened(path: Path) -> Any:
    return openpyxl.load_workbook(path)


def row_of(path: Path, sheet: str, label: str) -> int:
    book = opened(path)
    return next(row[0].row for row in book[sheet].iter_rows() if label in (row[0].value, row[1].value))


def figure(cells: dict[str, Any], reference: str) -> float:
    return float(cells[reference][0][0])


@pytest.mark.parametrize(
    "values",
    [
        {},
        {
            "discount_rate_frac_per_year": 0.05,
            "pue": 1.2,
            "price.nvidia-dgx-h100": 280_000.0,
            "hardware_price_trend_frac_per_year": -0.2,
            "tax_rate_frac": 0.3,
            "hosted_commitment_usd_per_year": 50_000.0,
            "tariff.api.output": 12.0,
            "residual_after_1y": 0.7,
            "lease_rate_frac_per_year": 0.05,
            "fte_base_selfhost": 0.5,
        },
    ],
    ids=["as written", "ten assumptions changed"],
)
def test_an_independent_engine_agrees_to_the_cent(workbook, computed, values):
    path = with_values(workbook, values) if values else workbook
    cells = recalculated(path) if values else computed
    expected = {ident: evaluate_model(model) for ident, model in models(**values).items()}
    for column, (ident, result) in zip("BC", expected.items(), strict=True):
        summary = {
            "Present value of all costs": result.cost_npv_usd,
            "Sum of all costs, nominal": result.total_usd,
            "  of which capital": result.capex_usd,
            "  of which running": result.opex_usd,
            "Saved against usage, present value": expected["usage"].cost_npv_usd - result.cost_npv_usd,
        }
        for label, value in summary.items():
            found = figure(cells, f"SUMMARY!{column}{row_of(path, 'Summary', label)}")
            assert found == pytest.approx(value, abs=0.005), (ident, label)
    per_request = figure(cells, f"SUMMARY!B{row_of(path, 'Summary', 'US dollars per served request')}")
    assert per_request == pytest.approx(expected["own"].unit_costs.usd_per_request, rel=1e-9)


def test_every_line_and_year_agrees_after_recalculation(workbook, computed):
    result = evaluate_model(models()["own"])
    for line in result.lines:
        row = row_of(workbook, "own", line.id)
        assert figure(computed, f"OWN!I{row}") == pytest.approx(line.total_usd, abs=0.005), line.id
        assert figure(computed, f"OWN!J{row}") == pytest.approx(line.present_value_usd, abs=0.005), line.id
    flow = row_of(workbook, "Cash flow", "own")
    for column, cost in zip("BCD", result.by_year_usd, strict=True):
        assert figure(computed, f"CASH FLOW!{column}{flow}") == pytest.approx(-cost, abs=0.005)


def test_a_reader_without_recalculation_sees_the_same_totals(workbook):
    book = openpyxl.load_workbook(workbook, data_only=True)
    for ident, sheet in (("own", "own"), ("usage", "candidate usage")):
        result = evaluate_model(models()[ident])
        row = row_of(workbook, sheet, "Total")
        assert book[sheet].cell(row, 9).value == pytest.approx(result.total_usd)
        assert book[sheet].cell(row, 10).value == pytest.approx(result.cost_npv_usd)


def test_what_is_expected_stands_as_values_above_what_follows_the_assumptions(workbook):
    sheet = openpyxl.load_workbook(workbook)["Summary"]
    rows = {row[0].value: row for row in sheet.iter_rows()}
    assert [cell.value for cell in rows["Expected present value"][1:3]] == [3e6, 2e6]
    assert [cell.value for cell in rows["Keeps every rule"][1:3]] == ["yes", "yes"]
    assert rows["US dollars per served request, expected"][1].value is None
    live = rows["Present value of all costs"]
    assert live[0].row > rows["Expected present value"][0].row
    assert str(live[1].value).startswith("=")


def test_the_sheets_are_those_that_procurement_asks_for(workbook):
    book = openpyxl.load_workbook(workbook)
    assert book.sheetnames[:4] == ["Summary", "Assumptions", "Usage", "Cash flow"]
    assert {"own", "candidate usage", "Sensitivity", "Break-even", "Sources"} <= set(book.sheetnames)
    header = [c.value for c in book["Assumptions"][3]]
    assert header[:9] == ["Input", "Meaning", "Value", "Unit", "Low", "High", "Source", "Date", "Confidence"]
    rows = list(book["Assumptions"].iter_rows(min_row=4, values_only=True))
    assert len(rows) == len(book.defined_names)
    assert all(row[6] and row[7] for row in rows if row[1] != "follows from other inputs")


def test_every_amount_on_a_candidates_sheet_is_a_formula(workbook):
    sheet = openpyxl.load_workbook(workbook)["own"]
    for row in sheet.iter_rows(min_row=6, min_col=9):
        for cell in row:
            assert cell.value is None or str(cell.value).startswith("="), cell.coordinate


def test_text_that_looks_like_a_formula_stays_text(tmp_path):
    path = tmp_path / "text.xlsx"
    title, drawn = Title("=1+1", "=cmd|' /C calc'!A0", "2026", "0"), draw(models(), "usage", draws=16)
    write_workbook(path, title, models(), "usage", drawn, HEADS)
    sheet = openpyxl.load_workbook(path)["Summary"]
    assert (sheet["A1"].data_type, sheet["A2"].data_type) == ("s", "s")


def test_sheet_names_are_short_and_differ_whatever_the_case():
    assert sheet_name("a" * 40, ["A" * 31]) == "a" * 29 + " 2"
    assert sheet_name("summary", []) == "candidate summary"


def test_without_xlsxwriter_the_error_gives_the_command(monkeypatch, tmp_path):
    from envelope.errors import MissingExtraError

    real = importlib.import_module

    def missing(name: str, package: str | None = None) -> Any:
        if name == "xlsxwriter":
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'deployment-envelope\[report\]'"):
        write_workbook(tmp_path / "x.xlsx", TITLE, models(), "usage", draw(models(), "usage", draws=16), HEADS)

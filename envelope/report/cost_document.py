"""A cost study as a dated PDF of at most eight pages, for a director (extra ``pdf``)."""

import importlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from envelope.errors import MissingExtraError
from envelope.plan.cost.study import CandidateCosts, CostStudy
from envelope.report.charts.files import chart_image
from envelope.report.cost_page import (
    BREAK_EVEN_NOTE,
    answer,
    break_even_rows,
    charts,
    legend,
    method,
    risks,
    shown,
    table_rows,
)
from envelope.report.text import money

MAX_PAGES = 8
_WIDTHS = (2.4, 1.9, 0.95, 0.9, 1.1, 2.1, 1.1, 1.0, 1.0, 1.05, 0.8)
"""Widths of the columns of the table of candidates: names and broken rules may wrap, figures may not."""
_LINES, _SOURCES, _SOURCE_CHARACTERS = 14, 40, 220

_TEMPLATE = """
#let d = json("study.json")
#set document(title: d.title)
#set page(paper: "a4", margin: (x: 2cm, y: 2cm), numbering: "1 / 1", header: text(8pt, gray)[#d.title #h(1fr) #d.date])
#set text(10pt, lang: "en")
#set par(justify: false)
#show heading.where(level: 2): it => block(above: 1.4em, below: 0.7em, it)
#let cells(rows) = rows.flatten().map(c => [#c])
= #d.title
#text(12pt)[#d.question]

#text(9pt, gray)[#d.terms]
== Answer
#text(12pt)[#d.answer]
#text(7pt, hyphenate: false, table(columns: d.widths.map(w => w * 1fr), stroke: 0.4pt + luma(200), inset: 3pt,
  align: (x, _) => if x < 2 { left } else { right },
  table.header(..d.header.map(h => [*#h*])), ..cells(d.candidates)))
#text(8pt, gray)[#d.warning]
== Break-even against #d.baseline
#text(7.5pt, table(columns: (1fr,) + (auto,) * (d.even_header.len() - 1), stroke: 0.4pt + luma(200), inset: 3pt,
  align: (x, _) => if x == 0 { left } else { right },
  table.header(..d.even_header.map(h => [*#h*])), ..cells(d.even)))
#text(8pt, gray)[#d.even_note]
== Where the money goes
#for c in d.charts { block(breakable: false, [#strong(c.title) #image(c.file, width: 100%)]) }
== Assumptions behind #d.best
#text(7.5pt, table(columns: (auto, auto, 1fr, auto, auto), stroke: 0.4pt + luma(200), inset: 3pt,
  table.header([*line*], [*present value*], [*formula*], [*evidence*], [*date*]), ..cells(d.lines)))
== Risks
#for r in d.risks [- #r
]
== Method
#d.method
== Sources
#text(7.5pt)[#for s in d.sources [- #s
]]
#context [#metadata(counter(page).final().first()) <pages>]
"""


def write_document(path: Path, study: CostStudy, *, date: str) -> int:
    """Write the PDF and return its number of pages.

    Question, answer, three charts, assumptions, risks, method and sources; what does not fit into eight pages stays
    in the workbook. Raises ``MissingExtraError`` without typst, or without
    the packages that draw charts.
    """
    try:
        typst = importlib.import_module("typst")
    except ImportError:
        raise MissingExtraError("typst", "pdf") from None
    best = shown(study)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content = _content(study, best, date)
        for number, (title, chart) in enumerate(charts(study, best)):
            (folder / f"chart{number}.svg").write_bytes(chart_image(chart, "svg"))
            content["charts"].append({"title": title, "file": f"chart{number}.svg"})
        (folder / "study.typ").write_text(_TEMPLATE, encoding="utf-8")
        sources = content["sources"]
        # Sources are what gives way when the document gets too long.
        for keep in (len(sources), _SOURCES // 2, 0):
            content["sources"] = [*sources[:keep], "all sources: sheet Sources of tco.xlsx"]
            (folder / "study.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
            pages = int(json.loads(typst.query(str(folder / "study.typ"), "<pages>", field="value", one=True)))
            if pages <= MAX_PAGES:
                break
        typst.compile(str(folder / "study.typ"), output=str(path))
    return pages


def _unbroken(cells: Sequence[str]) -> list[str]:
    """Return the cells of a row; only a name, and what it breaks, may run over several lines."""
    return [*cells[:2], *(cell.replace(" ", "\N{NO-BREAK SPACE}") for cell in cells[2:])]


def _content(study: CostStudy, best: CandidateCosts, date: str) -> dict[str, Any]:
    """Return what the template shows, as plain data: nothing in it is read as markup."""
    header, rows = table_rows(study)
    even_header, even = break_even_rows(study)
    lines = sorted(best.result.lines, key=lambda x: -abs(x.present_value_usd))
    sources = dict.fromkeys(part for x in lines for part in x.source.split("; ") if ": " in part)
    return {
        "title": study.name,
        "question": study.question,
        "date": date,
        "terms": f"{date} · envelope {study.version} · {study.horizon_months} months from {study.start} · US dollars, "
        "nominal, before value-added tax",
        "answer": answer(study),
        "header": list(header),
        "widths": [width for width, _ in zip(_WIDTHS, header, strict=True)],
        "candidates": [_unbroken(cells) for _, cells in rows],
        "warning": legend(study),
        "baseline": next(c.name for c in study.candidates if c.id == study.baseline),
        "even_header": list(even_header),
        "even": [_unbroken(cells) for _, cells in even],
        "even_note": BREAK_EVEN_NOTE,
        "charts": [],
        "best": best.name,
        "lines": [[x.label, money(x.present_value_usd), x.formula, str(x.evidence), x.date] for x in lines[:_LINES]],
        "risks": risks(study),
        "method": method(study),
        "sources": [source[:_SOURCE_CHARACTERS] for source in sources][:_SOURCES],
    }

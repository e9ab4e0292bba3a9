"""A sweep as one page that stands alone, and its ranking as a picture."""

from collections.abc import Iterable
from datetime import date
from html import escape
from pathlib import Path
from typing import Any

from envelope.errors import InputError, Problem
from envelope.plan.sweep.ranking import Ranking
from envelope.plan.sweep.results import Sweep
from envelope.plan.sweep.study import Study
from envelope.report.charts.files import chart_image, need_charts, page_svg
from envelope.report.cost_page import STYLE
from envelope.report.sweep_tables import (
    Table,
    correlations_table,
    effects_table,
    figure_name,
    notes,
    ranking_table,
    value_text,
)
from envelope.report.sweep_terminal import failures

_DRAWN = 20
"""Variants in the picture."""


def write_sweep_page(found: Sweep, folder: Path, *, by: str, top: int) -> list[Path]:
    """Write ``report.html`` and ``ranking.svg`` into a folder and return them.

    Raises ``MissingExtraError`` without the packages that draw charts.
    """
    need_charts()
    ranking = found.ranking(by, top=top)
    picture = chart_image(_ranking_chart(ranking, found.study), "svg")
    text = sweep_page(found, ranking)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        page, drawn = folder / "report.html", folder / "ranking.svg"
        page.write_text(text, encoding="utf-8")
        drawn.write_bytes(picture)
    except OSError as error:
        words = f"cannot be written: {error.strerror or error}"
        raise InputError(Problem("command line", "--out", str(folder), words)) from None
    return [page, drawn]


def sweep_page(found: Sweep, ranking: Ranking) -> str:
    """Return the page: ranking, what each axis does, what moves the figure, failures, what was asked."""
    from envelope.report.charts.sweep import correlations_chart, effects_chart

    ranked = page_svg(_ranking_chart(ranking, found.study), "ranking")
    by, leader = ranking.by, ranking.best[0].candidate if ranking.best else ""
    effects, moved = found.effects(by, candidate=leader), found.correlations(by, candidate=leader)
    title = f"Sweep of {', '.join(found.study.scenarios)}"
    parts = [
        f"<h1>{escape(title)}</h1><p class=small>{date.today().isoformat()}</p>",
        "".join(f"<p>{escape(note)}</p>" for note in notes(ranking, found.done, found.failed, found.runs)),
        f"<h2>Best by {escape(figure_name(by))}</h2><figure>{ranked}</figure>",
        _html(ranking_table(ranking, found.study)),
    ]
    if effects:
        parts.append(f"<h2>What each change does to {escape(leader)}, all else equal</h2>")
        drawn = page_svg(effects_chart(effects[:_DRAWN], by, printed=True), "effects")
        parts.append(f"<figure>{drawn}</figure>{_html(effects_table(effects, by))}")
    if moved:
        drawn = page_svg(correlations_chart(moved[:_DRAWN], printed=True), "correlations")
        parts.append(f"<h2>What moves {escape(leader)}</h2><figure>{drawn}</figure>")
        parts.append(_html(correlations_table(moved)))
    if found.failed:
        parts.append(
            f"<h2>Failed runs</h2><ul>{''.join(f'<li>{escape(words)}</li>' for words in failures(found))}</ul>"
        )
    parts.append(f"<h2>What was asked</h2>{_html(_asked(found.study))}")
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>{escape(title)}</title>"
    return (
        f"<!doctype html><html lang=en><head>{head}<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _ranking_chart(ranking: Ranking, study: Study) -> Any:
    from envelope.report.charts.sweep import ranking_chart

    return ranking_chart(ranking.changed(best=ranking.best[:_DRAWN]), study, printed=True)


def _asked(study: Study) -> Table:
    rows: list[tuple[str, ...]]
    rows = [(path, ", ".join(map(value_text, values))) for path, values in study.set.items()]
    rows += [(path, f"{', '.join(map(value_text, v))} (in step)") for group in study.zip for path, v in group.items()]
    for path, between in study.ranges.items():
        how = " by ratio" if between.log else ""
        rows.append((path, f"{value_text(between.low)} to {value_text(between.high)}{how}"))
    if study.sample is not None:
        name = {"lhs": "Latin hypercube", "sobol": "Sobol sequence"}[study.sample.method]
        rows.append(("sample", f"{name} of {study.sample.count:,} points"))
    return ["value", "takes"], rows


def _html(content: Table) -> str:
    header, rows = content
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(_row(row) for row in rows)}</tbody></table>"


def _row(cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"

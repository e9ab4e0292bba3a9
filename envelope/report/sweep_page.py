"""A sweep as one page that stands alone, and its ranking as a picture."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from html import escape
from pathlib import Path

from envelope.errors import InputError, Problem
from envelope.plan.sweep.effects import Correlation, Effect
from envelope.plan.sweep.ranking import Estimated, Ranking
from envelope.plan.sweep.results import Sweep
from envelope.plan.sweep.study import Study
from envelope.report.cost_page import STYLE
from envelope.report.svg_intervals import interval_dots
from envelope.report.sweep_tables import (
    Table,
    changes_text,
    correlations_table,
    effects_table,
    figure_name,
    figure_text,
    notes,
    ranking_table,
    short_paths,
    value_text,
)
from envelope.report.sweep_terminal import failures

_DRAWN = 20
"""Variants in the picture."""


def write_sweep_page(found: Sweep, folder: Path, *, by: str, top: int) -> list[Path]:
    """Write ``report.html`` and ``ranking.svg`` into a folder and return them."""
    ranking = found.ranking(by, top=top)
    picture = ranking_picture(ranking, found.study)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        page, drawn = folder / "report.html", folder / "ranking.svg"
        page.write_text(sweep_page(found, ranking, picture), encoding="utf-8")
        drawn.write_text(picture, encoding="utf-8")
    except OSError as error:
        words = f"cannot be written: {error.strerror or error}"
        raise InputError(Problem("command line", "--out", str(folder), words)) from None
    return [page, drawn]


def sweep_page(found: Sweep, ranking: Ranking, picture: str) -> str:
    """Return the page: ranking, what each axis does, what moves the figure, failures, what was asked."""
    by, leader = ranking.by, ranking.best[0].candidate if ranking.best else ""
    effects, moved = found.effects(by, candidate=leader), found.correlations(by, candidate=leader)
    title = f"Sweep of {', '.join(found.study.scenarios)}"
    parts = [
        f"<h1>{escape(title)}</h1><p class=small>{date.today().isoformat()}</p>",
        "".join(f"<p>{escape(note)}</p>" for note in notes(ranking, found.done, found.failed, found.runs)),
        f"<h2>Best by {escape(figure_name(by))}</h2><figure>{picture}</figure>",
        _html(ranking_table(ranking, found.study)),
    ]
    if effects:
        parts.append(f"<h2>What each change does to {escape(leader)}, all else equal</h2>")
        parts.append(f"<figure>{_effects_picture(effects, by)}</figure>{_html(effects_table(effects, by))}")
    if moved:
        parts.append(f"<h2>What moves {escape(leader)}</h2><figure>{_moved_picture(moved)}</figure>")
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


def ranking_picture(ranking: Ranking, study: Study) -> str:
    """Return the best variants with their intervals as SVG."""
    short = short_paths(study)
    rows = {
        f"{item.rank} {item.candidate} {changes_text(item.changes, short)}": item.value
        for item in ranking.best[:_DRAWN]
    }
    return interval_dots(_bounds(rows), figure_text(ranking.by))


def _effects_picture(found: Sequence[Effect], by: str) -> str:
    rows = {
        f"{', '.join(p.rsplit('.', 1)[-1] for p in e.paths)} {', '.join(map(value_text, e.values))}": e.difference
        for e in found[:_DRAWN]
    }
    return interval_dots(_bounds(rows), figure_text(by), zero=True)


def _moved_picture(found: Sequence[Correlation]) -> str:
    rows = {c.path.rsplit(".", 1)[-1]: (c.low, c.rho, c.high) for c in found[:_DRAWN]}
    return interval_dots(rows, lambda value: f"{value:+.2f}", zero=True)


def _bounds(rows: Mapping[str, Estimated]) -> dict[str, tuple[float, float, float]]:
    return {
        name: (e.mean if e.low is None else e.low, e.mean, e.mean if e.high is None else e.high)
        for name, e in rows.items()
    }


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

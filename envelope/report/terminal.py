"""A comparison as a person reads it in a terminal."""

import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from envelope.plan.verdict.results import CandidateResult, Comparison
from envelope.report import text
from envelope.report.terminal_why import exposure_cell, why_not

_SHOWN_LINES = 12
"""Cost lines shown by name; the smaller ones are summed."""


def print_comparison(result: Comparison, *, file: TextIO | None = None, console: Console | None = None) -> None:
    """Print a comparison: verdict table, cost tables, why not the others, recommendation.

    Goes to ``console``, else to ``file``, else to standard output; without a terminal lines are 140 wide.
    """
    out = console or Console(file=file or sys.stdout, highlight=False)
    if console is None and not out.is_terminal:
        out = Console(file=file or sys.stdout, highlight=False, width=140)
    for part in _parts(result, out.width):
        out.print(part)


def _parts(result: Comparison, width: int) -> Iterable[RenderableType]:
    yield Text(f"\n{result.name}", style="bold")
    yield Text(result.question, style="italic")
    per_day = result.requests_per_year / 365.25
    must_not = result.failure_not_affordable.replace("_", " ")
    yield Text(
        f"{text.count(per_day)} requests a day on average · {result.horizon_years:g} years · "
        f"the failure that must not happen: {must_not}\n"
    )
    yield _verdicts(result, width)
    legend = "SLO met: share of the simulated requests; ±: median error of such predictions; last column: the "
    yield Text(f"  {legend}failure that must not happen\n", "dim")
    yield _costs(result, width)
    if result.recommended is not None:
        yield _lines(result.candidate(result.recommended))
    yield from why_not(result.candidates)
    yield _recommendation(result)
    yield from (Text(f"⚠ {warning}", style="yellow") for warning in result.warnings)


_COLUMNS = (
    ("fits", 0), ("served", 100), ("SLO met", 0), ("TTFT p95", 100), ("ITL mean", 140), ("solved", 80), ("cost", 0),
    ("P10–P90", 120), ("per solved task", 150), ("left", 160),
)  # fmt: skip
"""Columns of the verdict with the width of the terminal from which they are shown."""


def _verdicts(result: Comparison, width: int) -> Table:
    shown = [name for name, least in _COLUMNS if width >= least]
    periods = dict.fromkeys(c.service.period for c in result.candidates if c.service)
    simulated = " or ".join(periods) or "the busiest hour"
    table = Table(title=f"Verdict (service level in {simulated})", box=SIMPLE_HEAD, title_justify="left")
    table.add_column("candidate", min_width=20, overflow="fold")
    for name in shown:
        table.add_column(name, justify="left" if name == "fits" else "right", no_wrap=True)
    failure = result.failure_not_affordable
    table.add_column(failure.replace("_", " "), justify="right", style="magenta")
    for item in result.ordered:
        cells = dict(zip((name for name, _ in _COLUMNS), _cells(item), strict=True))
        exposed = exposure_cell(item.exposure(failure))
        style = "" if item.feasible else "dim"
        table.add_row(_label(result, item), *(cells[name] for name in shown), exposed, style=style)
    return table


def _label(result: Comparison, item: CandidateResult) -> Text:
    if item.id == result.recommended:
        return Text.assemble(("★ ", "bold yellow"), (item.name, "bold"))
    return Text(f"  {item.name}")


def _cells(item: CandidateResult) -> list[RenderableType]:
    service = item.service
    verdict = Text("yes", style="green") if item.feasible else Text("no", style="red")
    left = "–" if service is None else f"{text.si(item.requests_left_per_year)}/year"
    if service is not None and item.requests_left_per_year == 0:
        left = "nothing"
    if item.private_requests_left:
        left = f"{text.si(item.private_requests_left)} PRIVATE/year"
    return [
        verdict,
        text.percent(service.served_frac, 1) if service else "–",
        text.percent(item.slo_attainment_frac, 1),
        _banded(item, "ttft_s", service.ttft.p95_s if service and service.ttft else None),
        _banded(item, "itl_s", service.itl.mean_s if service and service.itl else None),
        text.percent(item.solved_frac),
        text.money(item.cost_npv) + (" ⚠" if item.cost_warning else ""),
        _spread(item),
        text.money(item.usd_per_solved_task),
        left,
    ]


def _spread(item: CandidateResult) -> str:
    cost = item.cost
    return f"{text.money(cost.p10_npv_usd)}–{text.money(cost.p90_npv_usd)}" if cost else "–"


def _banded(item: CandidateResult, figure: str, value_s: float | None) -> str:
    """Return a time with the median error of such predictions, if anybody scored them."""
    band = item.error_bands.get(figure)
    return text.seconds(value_s) + (f" ±{band.median_error_frac:.0%}" if band and value_s is not None else "")


def _costs(result: Comparison, width: int) -> RenderableType:
    priced = [c for c in result.ordered if c.cost_npv is not None]
    if not priced:
        return Text("")
    groups = _largest_groups(priced)
    # What has no room is summed: each heading takes about twelve signs beside the names and the total.
    room = max((width - 44 - (_HEADS_WIDTH if width >= _HEADS_FROM else 0)) // 12, 2)
    groups, summed = (groups, []) if len(groups) <= room else (groups[: room - 1], groups[room - 1 :])
    title = f"Expected cost over {result.horizon_years:g} years (present value, mean over the ranges of all inputs)"
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    table.add_column("candidate", min_width=20, overflow="fold")
    for group in groups:
        table.add_column(group.replace("_", " "), justify="right", no_wrap=True)
    if summed:
        table.add_column("other", justify="right", no_wrap=True)
    table.add_column("total", justify="right", style="bold", no_wrap=True)
    for name in _HEADS if width >= _HEADS_FROM else ():
        table.add_column(name, justify="right", no_wrap=True)
    for item in priced:
        sums = _by_group(item)
        cells = [text.money(sums[g]) if sums.get(g) else "·" for g in groups]
        if summed:
            cells.append(text.money(sum(sums.get(g, 0.0) for g in summed)))
        total = text.money(item.cost_npv) + (" ⚠" if item.cost_warning else "")
        heads = _heads(item) if width >= _HEADS_FROM else ()
        table.add_row(item.name, *cells, total, *heads, style="" if item.feasible else "dim")
    warned = [Text(f"  ⚠ {c.name}: {c.cost_warning}", style="yellow") for c in priced if c.cost_warning]
    return Group(table, *warned, Text("")) if warned else table


_HEADS = ("P10–P90", "at signature", "nominal")
_HEADS_FROM, _HEADS_WIDTH = 110, 46
"""Width of the terminal from which these columns are shown, and what they take."""


def _heads(item: CandidateResult) -> tuple[str, ...]:
    cost = item.cost
    if cost is None:
        return ("–",) * len(_HEADS)
    return _spread(item), text.money(cost.signature_usd), text.money(cost.total_usd)


def _by_group(item: CandidateResult) -> dict[str, float]:
    sums: dict[str, float] = {}
    for line in item.lines:
        sums[line.group] = sums.get(line.group, 0.0) + line.npv_usd
    return sums


def _largest_groups(priced: Sequence[CandidateResult]) -> list[str]:
    """Return the headings of the cost lines, those with the largest share of any candidate's cost first."""
    weight: dict[str, float] = {}
    for item in priced:
        for group, usd in _by_group(item).items():
            weight[group] = max(weight.get(group, 0.0), abs(usd) / max(item.cost_npv or 1.0, 1.0))
    return sorted(weight, key=lambda group: -weight[group])


def _lines(item: CandidateResult) -> RenderableType:
    """Return the recommended candidate's cost line by line, the largest first."""
    ranked = sorted(item.lines, key=lambda line: -abs(line.npv_usd))
    table = Table(title="Its expected cost line by line (present value)", box=SIMPLE_HEAD, title_justify="left")
    table.add_column("line", min_width=20, overflow="fold")
    table.add_column("cost", justify="right", no_wrap=True)
    table.add_column("evidence")
    for line in ranked[:_SHOWN_LINES]:
        table.add_row(line.label, text.money(line.npv_usd), str(line.evidence))
    rest = ranked[_SHOWN_LINES:]
    if rest:
        table.add_row(f"{len(rest)} smaller lines", text.money(sum(line.npv_usd for line in rest)), "")
    return table


def _recommendation(result: Comparison) -> RenderableType:
    if result.recommended is None:
        return Text("\nNo candidate fits. The smallest changes found stand above.\n", style="bold red")
    best = result.candidate(result.recommended)
    lines: list[RenderableType] = [Text.assemble("\nRecommended: ", (best.name, "bold green"))]
    lines += [Padding(Text(f"• {reason}"), (0, 0, 0, 2)) for reason in result.reasons]
    if result.runner_up:
        other = result.candidate(result.runner_up)
        lines.append(
            Text.assemble("Runner-up: ", (other.name, "bold"), f" at {text.money(other.cost_npv)} ({_spread(other)})")
        )
    notes = "; ".join(best.evidence_notes[:3])
    lines.append(Text(f"Weakest evidence behind these figures: {best.evidence}. {notes}\n", style="dim"))
    return Group(*lines)

"""A cost study as one page that stands alone: for a browser, and for print."""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from envelope.money.breakeven import BreakEven
from envelope.plan.rules.rule import in_words
from envelope.plan.verdict.choice import CLOSE_FRAC
from envelope.report.charts.files import need_charts, page_svg
from envelope.report.text import input_label, money, percent

if TYPE_CHECKING:
    from envelope.plan.cost.study import CandidateCosts, CostStudy

_BARS = 10
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2rem auto;padding:0 1rem;color:#1c1c1c}
h1{font-size:1.6rem;margin-bottom:.2rem}h2{margin-top:2rem;border-bottom:1px solid #ccc}
.lead{font-size:1.1rem}.small{color:#555;font-size:.85rem}
table{border-collapse:collapse;width:100%;font-size:.88rem;display:block;overflow-x:auto}
th,td{padding:.3rem .5rem;border-bottom:1px solid #e2e2e2;text-align:left;vertical-align:top}
td.n,th.n{text-align:right;white-space:nowrap}td:first-child{min-width:10rem}td:nth-child(2){min-width:6rem}tr.best{background:#eef6ee}tr.out{color:#888}
figure{margin:1rem 0}figcaption{font-weight:600;margin-bottom:.3rem}svg{width:100%;height:auto}
@media print{body{margin:0;max-width:none}h2{break-after:avoid}figure,tr{break-inside:avoid}}
"""


def cost_page(study: "CostStudy", *, date: str) -> str:
    """Return the page as HTML: question, answer, three charts, assumptions, risks, method and sources.

    Raises ``MissingExtraError`` without the packages that draw charts.
    """
    best = shown(study)
    drawn = charts(study, best)
    parts = [
        f"<h1>{escape(study.name)}</h1><p class=lead>{escape(study.question)}</p>",
        f"<p class=small>{escape(date)} · envelope {escape(study.version)} · {study.horizon_months} months from "
        f"{escape(study.start)} · US dollars, nominal, before value-added tax</p>",
        f"<h2>Answer</h2><p class=lead>{escape(answer(study))}</p>",
        _table(*table_rows(study)),
        f"<p class=small>{escape(legend(study))}</p>",
        f"<h2>Break-even against {escape(study.baseline)}</h2>{_table(*break_even_rows(study))}",
        f"<p class=small>{BREAK_EVEN_NOTE}</p>",
        f"<h2>Where the money goes</h2>{figures(drawn[:1])}<h2>How sure that is</h2>{figures(drawn[1:], 2)}",
        _assumptions(study, best),
        "<h2>Risks</h2><ul>" + "".join(f"<li>{escape(item)}</li>" for item in risks(study)) + "</ul>",
        f"<h2>Method</h2><p>{escape(method(study))}</p>",
        _sources(study),
    ]
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>{escape(study.name)}</title>"
    return (
        f"<!doctype html><html lang=en><head>{head}<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def shown(study: "CostStudy") -> "CandidateCosts":
    """Return the candidate whose lines are shown: the recommended one.

    If none keeps every rule, the cheapest of those that keep the service, else of all.
    """
    if study.recommended is not None:
        return study.candidate(study.recommended)
    keeping = [c for c in study.candidates if c.keeps_service] or list(study.candidates)
    return min(keeping, key=lambda c: c.cost.expected_npv_usd)


def lead(study: "CostStudy") -> str | None:
    """Return the name of the recommended candidate, if any is."""
    return study.candidate(study.recommended).name if study.recommended is not None else None


def answer(study: "CostStudy") -> str:
    """Return the answer in two or three sentences: what ``compare`` recommends, and what it costs."""
    span = f"{study.horizon_months / 12:g} years" if study.horizon_months > 12 else "a year"
    if study.recommended is None:
        nearest = shown(study)
        return (
            f"No candidate keeps every rule. {nearest.name}, which breaks {_broken_words(nearest)}, is expected to "
            f"cost {_spread(nearest)} over {span}."
        )
    best = study.candidate(study.recommended)
    text = (
        f"{best.name} is recommended: it keeps every rule and is expected to cost {_spread(best)} over {span}, "
        f"{money(best.cost.signature_usd)} of it at signature; {money(best.cost.total_usd)} in nominal dollars."
    )
    if study.runner_up is None:
        return f"{text} No other candidate keeps every rule."
    second = study.candidate(study.runner_up)
    saved = second.cost.expected_npv_usd - best.cost.expected_npv_usd
    chance = study.uncertainty.cheaper_frac[best.id][second.id]
    if saved < 0:
        text += f" {second.name} would cost {money(-saved)} less and ranks second: {' '.join(study.reasons[1:2])}."
    else:
        text += f" It is cheaper than the next, {second.name}, in {percent(chance)} of the draws of uncertain prices."
    if abs(saved) < CLOSE_FRAC * best.cost.expected_npv_usd:
        text += (
            f" The difference of {money(abs(saved))} is a near tie: it lies well inside the error of the "
            "simulated speed, which the draws leave as it is."
        )
    return text


def _spread(c: "CandidateCosts") -> str:
    return (
        f"{money(c.cost.expected_npv_usd)} in present value ({money(c.cost.p10_npv_usd)} to "
        f"{money(c.cost.p90_npv_usd)} in eight of ten cases)"
    )


def _broken_words(c: "CandidateCosts") -> str:
    return ", ".join(in_words(name) for name in c.broken)


def legend(study: "CostStudy") -> str:
    """Return what the marks of the table of candidates mean, and what the scenario says in vain."""
    marks = (
        f"★ recommended, as envelope compare says. Saved: expected present value against {study.baseline}. ✘ (grey): "
        "breaks the rules that are named, so that its cost is no alternative. Unit costs are per request served and "
        "task solved."
    )
    return " ".join([marks, *(f"⚠ {warning}." for warning in study.warnings)])


def table_rows(study: "CostStudy") -> tuple[Sequence[str], list[tuple[str, list[str]]]]:
    """Return the header of the table of candidates and its rows, each with its kind.

    The recommended one comes first, then those that keep every rule, the cheapest at the top.
    """
    header = ("candidate", "fits", "served", "SLO", "expected present value", "P10 – P90", "at signature", "nominal",
              "per solved task", "saved", "return")  # fmt: skip
    rows = []
    for c in sorted(study.candidates, key=lambda c: (c.id != study.recommended, not c.feasible,
                                                     c.cost.expected_npv_usd)):  # fmt: skip
        versus, best = c.against_baseline, c.id == study.recommended
        rows.append(
            (
                "best" if best else "" if c.feasible else "out",
                [
                    f"★ {c.name}" if best else c.name, "✔" if c.feasible else f"✘ {_broken_words(c)}",
                    percent(c.served_frac, 1), percent(c.slo_attainment_frac, 1), money(c.cost.expected_npv_usd),
                    f"{money(c.cost.p10_npv_usd)} – {money(c.cost.p90_npv_usd)}", money(c.cost.signature_usd),
                    money(c.cost.total_usd), money(c.result.unit_costs.usd_per_solved_task),
                    money(versus.saving_npv_usd) if versus else "baseline",
                    _rate(versus.irr_frac_per_year) if versus else "",
                ],
            )
        )  # fmt: skip
    return header, rows


def break_even_rows(study: "CostStudy") -> tuple[Sequence[str], list[tuple[str, list[str]]]]:
    """Return the header of the table of break-evens against the baseline and its rows."""
    header = ("candidate", "volume of work", "utilisation", "API price", "month")
    rows = []
    for c in study.candidates:
        if c.id == study.baseline:
            continue
        cells = [
            _break_even(c.break_even_volume, lambda x: f"{x:.2g} ×"),
            _break_even(c.break_even_utilisation, percent),
            _break_even(c.break_even_api_price, lambda x: f"{x:.2g} ×"),
            _break_even(c.break_even_month, lambda x: f"{x:.0f}" if x >= 0.5 else "start"),
        ]
        rows.append(("" if c.feasible else "out", [c.name, *cells]))
    return header, rows


BREAK_EVEN_NOTE = (
    "Where a candidate costs as much as the baseline, with P10 to P90 of the draws that have such a point. Volume: "
    "factor on the planned work, up to 16; machines are added as the simulated capacity asks for them. Utilisation: "
    "the simulated load at that volume, as a share of what its machines carry within the SLO. API price: factor "
    "on every hosted tariff. Month: from then on the cumulated costs stay below."
)


def _rate(irr_frac: float | None) -> str:
    """Return a rate of return; an investment that is not earned back has none worth telling."""
    return percent(irr_frac) if irr_frac is not None and irr_frac > 0 else "–"


def _break_even(found: BreakEven | None, words: Callable[[float], str]) -> str:
    if found is None:
        return "–"
    point = words(found.point) if found.point is not None else "none"
    q = found.quantiles
    spread = f" ({words(q.p10)} – {words(q.p90)})" if q is not None and q.p10 < q.p90 else ""
    return point + (spread if found.point is not None or found.exists_frac > 0.1 else "")


def charts(study: "CostStudy", best: "CandidateCosts") -> list[tuple[str, Any]]:
    """Return the title of each of the three charts, and the chart.

    Raises ``MissingExtraError`` without Altair.
    """
    need_charts()
    from envelope.report.charts.cost import cost_by_heading
    from envelope.report.charts.cost_ranges import cost_ranges, tornado

    return [
        ("Expected present value by group of cost lines", cost_by_heading(study, printed=True)),
        ("Present value: P10 to P90 (bar), P50 (tick), expected (diamond)", cost_ranges(study, printed=True)),
        (f"{best.name}: cost with one input at its P10 and P90", tornado(best, bars=_BARS, printed=True)),
    ]


def figures(found: Iterable[tuple[str, Any]], start: int = 1) -> str:
    """Return charts with their titles as figures of a page; ``start`` is the number of the first on it."""
    return "".join(
        f"<figure><figcaption>{escape(title)}</figcaption>{page_svg(chart, f'chart{number}')}</figure>"
        for number, (title, chart) in enumerate(found, start)
    )


def _assumptions(study: "CostStudy", best: "CandidateCosts") -> str:
    lines = sorted(best.result.lines, key=lambda x: -abs(x.present_value_usd))[:15]
    rows = [
        ("", [x.label, money(x.present_value_usd), x.formula, str(x.evidence), x.date, x.source[:160]]) for x in lines
    ]
    header = ("line", "present value", "formula", "evidence", "date", "source")
    return f"<h2>Assumptions behind {escape(best.name)}</h2>{_table(header, rows)}"


def risks(study: "CostStudy") -> list[str]:
    """Return what a reader should distrust."""
    unchecked = [c.result.assumed_frac for c in study.candidates]
    items = [
        f"{percent(min(unchecked))} to {percent(max(unchecked))} of a candidate's cost rests on inputs that nobody has "
        "checked against a source (evidence: assumed)."
    ]
    best = shown(study)
    if best.sobol and best.sobol[0].total > 0:
        parts = ", ".join(f"{input_label(s.input)} {percent(s.total)}" for s in best.sobol[:3])
        items.append(f"What moves the cost of {best.name} most, by its share of the variance: {parts}.")
    for c in study.candidates:
        if c.broken:
            items.append(f"{c.name} breaks {_broken_words(c)}.")
        if not c.keeps_service:
            items.append(
                f"{c.name} serves {percent(c.served_frac)} of the requests and keeps the SLO for "
                f"{percent(c.slo_attainment_frac)}: its cost is that of less work and no alternative."
            )
        if len(set(c.replicas_by_year)) > 1:
            path = ", ".join(str(count) for count in c.replicas_by_year)
            items.append(f"{c.name} grows with the work: {path} replicas in the years of the horizon.")
    return items + [f"{ident} was left out: {why}" for ident, why in study.left_out.items()]


def method(study: "CostStudy") -> str:
    """Return how the figures came about, in one paragraph."""
    rate = study.candidates[0].result.discount_rate_frac_per_year
    periods = " or ".join(dict.fromkeys(c.period for c in study.candidates))
    return (
        f"Quantities come from a simulation of each candidate in {periods}. Every cost line is a quantity times "
        "prices; purchases are paid at the start, running costs at the end of each month, and prices move once a "
        f"year. Present values use {rate:.1%} a year, nominal. The expected present value is the mean over the ranges "
        f"of all inputs ({study.uncertainty.draws:,} draws, Latin hypercube, the same for all candidates, inputs "
        "independent of each other), the error of the simulated hour among them; as most ranges reach further up than "
        "down, it lies above the value at the middle of every range (the live formulas of the workbook). The ranges do "
        "not hold the error of the simulated speed. The workbook tco.xlsx holds the same model as live formulas."
    )


def _sources(study: "CostStudy") -> str:
    found = dict.fromkeys(
        part for c in study.candidates for x in c.result.lines for part in x.source.split("; ") if ": " in part
    )
    return "<h2>Sources</h2><ul class=small>" + "".join(f"<li>{escape(s)}</li>" for s in sorted(found)) + "</ul>"


def _table(header: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    def is_number(text: str) -> bool:
        return text[:1] in "$−–<>0123456789"

    head = "".join(f"<th>{escape(h)}</th>" for h in header)
    body = "".join(
        f'<tr class="{kind}">'
        + "".join(f"<td{' class=n' if is_number(c) else ''}>{escape(c)}</td>" for c in cells)
        + "</tr>"
        for kind, cells in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

"""A scenario diff as a page and as rows of a table."""

from html import escape

from envelope.money.difference import QUANTITY, Step, Waterfall
from envelope.plan.cost.difference import CostDifference
from envelope.report.charts.files import need_charts, page_svg
from envelope.report.cost_page import STYLE
from envelope.report.text import money, signed_money

_LABEL = 28
SHOWN = 12
"""Changes shown by name; the smaller ones are summed."""


def difference_page(found: CostDifference, *, date: str) -> str:
    """Return the waterfalls of all candidates as one page that stands alone.

    Raises ``MissingExtraError`` without the packages that draw charts.
    """
    need_charts()
    from envelope.report.charts.cost_ranges import waterfall

    title = f"{found.after} against {found.before}"
    parts = [
        f"<h1>{escape(title)}</h1><p class=small>{escape(date)} · present value of all costs, US dollars; "
        "where changes are small the bars of the totals are cut off at the left</p>"
    ]
    for number, (ident, way) in enumerate(found.waterfalls.items(), start=1):
        steps = [(step_label(step), step.change_usd) for step in way.largest(SHOWN)]
        chart = page_svg(waterfall(way.before_usd, steps, way.after_usd), f"chart{number}")
        change = signed_money(way.after_usd - way.before_usd)
        parts.append(f"<h2>{escape(found.names[ident])}: {escape(change)}</h2><figure>{chart}</figure>")
    head = f"<meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def difference_rows(way: Waterfall) -> list[tuple[str, str, str, str]]:
    """Return step, value before, value after and change, from the total before to the total after."""
    rows = [("before", "", "", money(way.before_usd))]
    for step in way.largest(SHOWN):
        old, new = ("" if v is None else f"{v:,.6g}" for v in (step.before, step.after))
        rows.append((step_label(step), old, new, signed_money(step.change_usd)))
    return [*rows, ("after", "", "", money(way.after_usd))]


def step_label(step: Step) -> str:
    """Return what changed, in words."""
    if step.name.startswith(QUANTITY):
        line = step.name.removeprefix(QUANTITY).removeprefix("hosted.")
        # The kind of token stands last, and charts cut long labels.
        return f"quantity: {line}" if len(line) <= _LABEL else f"quantity: …{line[1 - _LABEL :]}"
    return step.name.replace("_", " ")

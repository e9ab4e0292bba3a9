"""Small charts as SVG text: stacked bars, ranges and tornado, for pages that stand alone."""

from collections.abc import Mapping, Sequence
from html import escape

from envelope.report.text import money

COLOURS = ("#2f6f9f", "#e08e3c", "#4f9d69", "#b2596a", "#7d6bb0", "#8a8f98", "#c7a93b", "#4fb3bf", "#a86f3e", "#5b6f3a")
_WIDTH, _LABEL, _ROW, _BAR = 940, 270, 34, 20


def stacked_bars(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Return horizontal bars of parts that add up; negative parts (money back) stand left of zero.

    ``rows`` maps a bar to its parts by name; equal names have equal colours.
    """
    names = list(dict.fromkeys(name for parts in rows.values() for name in parts))
    colour = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    highest = max((sum(v for v in parts.values() if v > 0) for parts in rows.values()), default=1.0) or 1.0
    lowest = min((sum(v for v in parts.values() if v < 0) for parts in rows.values()), default=0.0)
    scale = _Scale(lowest, highest)
    body = []
    for i, (label, parts) in enumerate(rows.items()):
        y = i * _ROW
        body.append(_label(label, y))
        right, left = 0.0, 0.0
        for name, value in parts.items():
            start, right, left = (right, right + value, left) if value >= 0 else (left + value, right, left + value)
            body.append(_bar(scale, start, abs(value), y, colour[name], f"{label}, {name}: {money(value)}"))
        body.append(_text(scale.x(right) + 6, y, money(sum(parts.values()))))
    legend = _legend(colour, len(rows) * _ROW + 14)
    return _figure(body + legend, len(rows) * _ROW + 14 + 22 * -(-len(colour) // 5))


def ranges(rows: Mapping[str, tuple[float, float, float, float]]) -> str:
    """Return P10–P90 bars with a mark at P50 and a diamond at the point estimate, ``(p10, p50, p90, point)``."""
    highest = max((max(values) for values in rows.values()), default=1.0) or 1.0
    scale = _Scale(min(0.0, *(min(values) for values in rows.values())) if rows else 0.0, highest)
    body = []
    for i, (label, (p10, p50, p90, point)) in enumerate(rows.items()):
        y = i * _ROW
        told = f"{label}: P10 {money(p10)}, P50 {money(p50)}, P90 {money(p90)}, point {money(point)}"
        body += [_label(label, y), _bar(scale, p10, p90 - p10, y, "#9fc0d8", told)]
        body.append(_bar(scale, p50, 0.0, y, "#17415f", told))
        x, middle = scale.x(point), y + _ROW / 2
        body.append(f'<path d="M{x:.1f} {middle - 6:.1f}l5 6l-5 6l-5 -6z" fill="#e08e3c"/>')
        body.append(_text(scale.x(p90) + 8, y, f"{money(p10)} – {money(p90)}"))
    return _figure(body, len(rows) * _ROW)


def tornado_bars(rows: Sequence[tuple[str, float, float]], point: float) -> str:
    """Return bars from the cost at an input's P10 to that at its P90, around the point estimate."""
    values = [v for _, low, high in rows for v in (low, high)] + [point]
    pad = (max(values) - min(values)) * 0.05 or 1.0
    scale = _Scale(min(values) - pad, max(values) + pad)
    body = []
    for i, (label, low, high) in enumerate(rows):
        y, told = i * _ROW, f"{label}: {money(low)} at P10, {money(high)} at P90"
        body.append(_label(label, y))
        body.append(_bar(scale, min(low, point), abs(low - point), y, "#4f9d69" if low < point else "#b2596a", told))
        body.append(_bar(scale, min(high, point), abs(high - point), y, "#4f9d69" if high < point else "#b2596a", told))
        body.append(_text(scale.x(max(low, high)) + 6, y, f"{money(min(low, high))} – {money(max(low, high))}"))
    x = scale.x(point)
    body.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{len(rows) * _ROW}" stroke="#333"/>')
    return _figure(body, len(rows) * _ROW)


def waterfall_bars(start: float, steps: Sequence[tuple[str, float]], end: float) -> str:
    """Return the way from one total to another: a bar for each change, where the one before it ended."""
    levels = [start]
    for _, change in steps:
        levels.append(levels[-1] + change)
    low, high = min(0.0, *levels, end), max(*levels, end)
    # Small changes of a large sum would be hairs on a scale that begins at zero.
    if min(*levels, end) > 0.5 * high:
        low = min(*levels, end) - 0.3 * (high - min(*levels, end))
    scale = _Scale(low, high)
    body = [_label("before", 0), _bar(scale, max(low, 0.0), start - max(low, 0.0), 0, "#8a8f98", money(start))]
    body.append(_text(scale.x(max(start, low)) + 6, 0, money(start)))
    for i, (label, change) in enumerate(steps, start=1):
        y, told = i * _ROW, f"{label}: {'+' if change > 0 else ''}{money(change)}"
        left = min(levels[i - 1], levels[i])
        body += [_label(label, y), _bar(scale, left, abs(change), y, "#b2596a" if change > 0 else "#4f9d69", told)]
        body.append(_text(scale.x(left + abs(change)) + 6, y, f"{'+' if change > 0 else ''}{money(change)}"))
    y = (len(steps) + 1) * _ROW
    body += [_label("after", y), _bar(scale, max(low, 0.0), end - max(low, 0.0), y, "#8a8f98", money(end))]
    body.append(_text(scale.x(max(end, low)) + 6, y, money(end)))
    return _figure(body, (len(steps) + 2) * _ROW)


class _Scale:
    """Maps dollars to horizontal positions."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.span = low, (high - low) or 1.0

    def x(self, value: float) -> float:
        """Return the position of a value."""
        return _LABEL + (value - self.low) / self.span * (_WIDTH - _LABEL - 150)


def _bar(scale: _Scale, start: float, length: float, y: float, colour: str, told: str) -> str:
    x, width = scale.x(start), max(2.0, scale.x(start + length) - scale.x(start))
    top = y + (_ROW - _BAR) / 2
    rect = f'<rect x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{_BAR}" fill="{colour}">'
    return f"{rect}<title>{escape(told)}</title></rect>"


def _label(text: str, y: float) -> str:
    short = text if len(text) <= 38 else text[:37] + "…"
    return f'<text x="{_LABEL - 8}" y="{y + _ROW / 2 + 4:.1f}" text-anchor="end">{escape(short)}</text>'


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y + _ROW / 2 + 4:.1f}" class="value">{escape(text)}</text>'


def _legend(colours: Mapping[str, str], top: float) -> list[str]:
    marks = []
    for i, (name, colour) in enumerate(colours.items()):
        x, y = _LABEL + (i % 5) * 130, top + (i // 5) * 22
        marks.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colour}"/>')
        marks.append(f'<text x="{x + 17}" y="{y + 10}">{escape(name.replace("_", " "))}</text>')
    return marks


def _figure(body: Sequence[str], height: float) -> str:
    size = f'viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" height="{height:.0f}"'
    style = 'font-family="system-ui, Helvetica, Arial, sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>{"".join(body)}</svg>'

"""Points with their intervals, one to a row, as SVG."""

from collections.abc import Callable, Mapping
from html import escape

_WIDTH, _LABEL, _ROW, _RIGHT = 940, 360, 28, 170
_INK, _MARK = "#17415f", "#9fc0d8"


def interval_dots(
    rows: Mapping[str, tuple[float, float, float]], words: Callable[[float], str], *, zero: bool = False
) -> str:
    """Return rows of ``(low, mean, high)`` on one axis; ``zero`` draws a line there, for differences."""
    numbers = [value for row in rows.values() for value in row] + ([0.0] if zero else [])
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    pad = (high - low) * 0.03 or 1.0
    low, high = low - pad, high + pad

    def x(value: float) -> float:
        return _LABEL + (value - low) / (high - low) * (_WIDTH - _LABEL - _RIGHT)

    body = []
    if zero:
        body.append(f'<path d="M{x(0):.1f} 0V{len(rows) * _ROW}" stroke="#8a8f98" stroke-dasharray="4 3"/>')
    for index, (label, (left, mean, right)) in enumerate(rows.items()):
        y = index * _ROW + _ROW / 2
        short = label if len(label) <= 52 else f"{label[:51]}…"
        told = f"{label}: {words(mean)}, 95 % interval {words(left)} to {words(right)}"
        body.append(f"<g><title>{escape(told)}</title>")
        body.append(f'<text x="{_LABEL - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(short)}</text>')
        bar = max(x(right) - x(left), 1.0)
        body.append(f'<rect x="{x(left):.1f}" y="{y - 4:.1f}" width="{bar:.1f}" height="8" fill="{_MARK}"/>')
        body.append(f'<circle cx="{x(mean):.1f}" cy="{y:.1f}" r="4" fill="{_INK}"/>')
        body.append(f'<text x="{x(right) + 8:.1f}" y="{y + 4:.1f}">{escape(words(mean))}</text></g>')
    height = max(len(rows), 1) * _ROW
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    style = 'font-family="system-ui, Helvetica, Arial, sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style} role="img">{"".join(body)}</svg>'

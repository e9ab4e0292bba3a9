"""Predicted against measured as scatter charts, written as plain SVG so that no chart library is needed."""

import math
from collections.abc import Iterable, Sequence
from html import escape

from envelope.validation.score import ScoredRow

_SIZE, _LEFT, _TOP, _PLOT = 560, 70, 40, 440
_COLOURS = {
    "datacenter_gpu": "#4477aa",
    "workstation_gpu": "#66ccee",
    "consumer_gpu": "#228833",
    "unified": "#ccbb44",
    "cpu": "#ee6677",
    "edge": "#aa3377",
}
_OTHER = "#888888"


def scatter_svg(rows: Iterable[ScoredRow], title: str, unit: str) -> str:
    """Return a log-log scatter chart with the diagonal and the lines at a factor of 1.25 either way.

    Values are in ``unit``; points are coloured by device class and shaped by architecture (a ring is a mixture of
    experts).
    """
    points = [r for r in rows if r.measured and r.predicted]
    low, high = _limits(points)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_SIZE + 120} {_SIZE}" font-family="sans-serif">',
        f'<rect width="{_SIZE + 120}" height="{_SIZE}" fill="white"/>',
        f'<text x="{_LEFT}" y="24" font-size="15">{escape(title)} ({len(points)} rows)</text>',
        *_axes(low, high, unit),
        *(_line(low, high, factor) for factor in (1.0, 1.25, 0.8)),
        *(_point(r, low, high) for r in points),
        *_legend(points),
        "</svg>",
    ]
    return "\n".join(parts)


def _limits(points: Sequence[ScoredRow]) -> tuple[float, float]:
    values = [v for r in points for v in (r.measured, r.predicted) if v]
    if not values:
        return 0.1, 10.0
    return 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)) + 1e-9)


def _x(value: float, low: float, high: float) -> float:
    return _LEFT + _PLOT * math.log(value / low) / math.log(high / low)


def _y(value: float, low: float, high: float) -> float:
    return _TOP + _PLOT * (1 - math.log(value / low) / math.log(high / low))


def _axes(low: float, high: float, unit: str) -> list[str]:
    parts = [
        f'<rect x="{_LEFT}" y="{_TOP}" width="{_PLOT}" height="{_PLOT}" fill="none" stroke="#444"/>',
        f'<text x="{_LEFT + _PLOT / 2}" y="{_SIZE - 12}" text-anchor="middle" font-size="13">'
        f"measured, {escape(unit)}</text>",
        f'<text x="16" y="{_TOP + _PLOT / 2}" text-anchor="middle" font-size="13" '
        f'transform="rotate(-90 16 {_TOP + _PLOT / 2})">predicted, {escape(unit)}</text>',
    ]
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        value = 10.0**power
        x, y, label = _x(value, low, high), _y(value, low, high), f"{value:g}"
        parts.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{_TOP + _PLOT}" stroke="#ddd"/>')
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_LEFT + _PLOT}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{_TOP + _PLOT + 18}" text-anchor="middle" font-size="11">{label}</text>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" font-size="11">{label}</text>')
    return parts


def _line(low: float, high: float, factor: float) -> str:
    """Return the line predicted = factor · measured, cut to the plot."""
    start, end = max(low, low / factor), min(high, high / factor)
    dash = "" if factor == 1.0 else ' stroke-dasharray="4 4"'
    return (
        f'<line x1="{_x(start, low, high):.1f}" y1="{_y(start * factor, low, high):.1f}" '
        f'x2="{_x(end, low, high):.1f}" y2="{_y(end * factor, low, high):.1f}" stroke="#999"{dash}/>'
    )


def _point(row: ScoredRow, low: float, high: float) -> str:
    measured, predicted = row.measured or low, row.predicted or low
    colour = _COLOURS.get(row.device_class, _OTHER)
    fill = "none" if row.architecture == "moe" else colour
    label = escape(f"{row.id}: {row.model} on {row.device}, measured {measured:.4g}, predicted {predicted:.4g}")
    return (
        f'<circle cx="{_x(measured, low, high):.1f}" cy="{_y(predicted, low, high):.1f}" r="3" fill="{fill}" '
        f'stroke="{colour}" fill-opacity="0.6"><title>{label}</title></circle>'
    )


def _legend(points: Sequence[ScoredRow]) -> list[str]:
    parts: list[str] = []
    for i, name in enumerate(sorted({r.device_class for r in points})):
        y = _TOP + 12 + 18 * i
        colour = _COLOURS.get(name, _OTHER)
        parts.append(f'<circle cx="{_LEFT + _PLOT + 16}" cy="{y}" r="4" fill="{colour}"/>')
        label = escape(name.replace("_", " "))
        parts.append(f'<text x="{_LEFT + _PLOT + 26}" y="{y + 4}" font-size="11">{label}</text>')
    return parts

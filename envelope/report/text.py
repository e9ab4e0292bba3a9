"""Numbers and units as people read them."""

from collections.abc import Mapping
from typing import Protocol

from envelope.spec.economic_facts import facts
from envelope.units import GB, GIB


def si(value: float | None, unit: str = "", digits: int = 3) -> str:
    """Return a number with an SI prefix.

    >>> si(3.35e12, "B/s")
    '3.35 TB/s'
    >>> si(0.0123, "s")
    '12.3 ms'
    """
    if value is None:
        return "–"
    if value == 0:
        return f"0 {unit}".strip()
    scale, prefix = 1e-9, "n"
    for step, name in _PREFIXES:
        if abs(value) >= step * 0.9995:
            scale, prefix = step, name
    return f"{value / scale:.{digits}g} {prefix}{unit}".strip() if abs(value / scale) < 1000 else f"{value:.3g} {unit}"


_PREFIXES = (
    (1e-9, "n"),
    (1e-6, "µ"),
    (1e-3, "m"),
    (1.0, ""),
    (1e3, "k"),
    (1e6, "M"),
    (1e9, "G"),
    (1e12, "T"),
    (1e15, "P"),
)


def gb(value_bytes: float | None) -> str:
    """Return bytes as decimal gigabytes (10⁹)."""
    return "–" if value_bytes is None else f"{value_bytes / GB:,.1f} GB"


def gib(value_bytes: float | None) -> str:
    """Return bytes as binary gibibytes (2³⁰)."""
    return "–" if value_bytes is None else f"{value_bytes / GIB:,.1f} GiB"


def percent(frac: float | None, digits: int = 0) -> str:
    """Return a fraction as a percentage; never rounds a shortfall up to 100 % or a remainder down to 0 %."""
    if frac is None:
        return "–"
    shown = round(100 * frac, digits)
    if shown == 100 and frac < 1:
        return f">{100 - 10**-digits:.{digits}f} %"
    if shown == 0 and frac > 0:
        return f"<{10**-digits:.{digits}f} %"
    return f"{shown:.{digits}f} %"


def money(usd: float | None) -> str:
    """Return dollars rounded to what a reader can use.

    >>> money(1234567), money(45678), money(989.14), money(12.3), money(0.0421), money(0)
    ('$1.23 M', '$45.7 k', '$989', '$12.30', '$0.0421', '$0')
    """
    if usd is None:
        return "–"
    sign, size = ("−" if usd < 0 else ""), abs(usd)
    if size >= 1e9:
        return f"{sign}${size / 1e9:.3g} B"
    if size >= 999_500:
        return f"{sign}${size / 1e6:.3g} M"
    if size >= 9_995:
        return f"{sign}${size / 1e3:.3g} k"
    if size >= 100 or size == 0:
        return f"{sign}${size:,.0f}"
    return f"{sign}${size:.2f}" if size >= 0.0995 else f"{sign}${size:.3g}"


def seconds(value_s: float | None) -> str:
    """Return a duration in the unit that suits it.

    >>> seconds(0.0213), seconds(2.5), seconds(400)
    ('21.3 ms', '2.50 s', '6.7 min')
    """
    if value_s is None:
        return "–"
    if value_s < 0.9995:
        return f"{value_s * 1e3:.3g} ms"
    if value_s < 120:
        return f"{value_s:.3g} s" if value_s >= 100 else f"{value_s:.2f} s"
    return f"{value_s / 60:.1f} min" if value_s < 7200 else f"{value_s / 3600:.1f} h"


class Banded(Protocol):
    """What an error band offers to a reader."""

    @property
    def median_error_frac(self) -> float:
        """Error of half of the scored rows at most."""
        ...

    @property
    def p90_error_frac(self) -> float:
        """Error of nine of ten scored rows at most."""
        ...


def error_band(band: Banded | None) -> str:
    """Return an error band: the median error, and the one that nine of ten scored predictions keep."""
    if band is None:
        return "not scored"
    return f"±{band.median_error_frac:.0%} (9 of 10: ±{band.p90_error_frac:.0%})"


def count(value: float | None) -> str:
    """Return a count with thousands separators."""
    return "–" if value is None else f"{value:,.0f}"


def flat(record: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return nested mappings as one level of dotted keys."""
    out: dict[str, object] = {}
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            out.update(flat(value, f"{name}."))
        else:
            out[name] = value
    return out


def input_label(name: str) -> str:
    """Return an input as its label in the catalog, or its own name without its unit."""
    known = facts()
    specific = next((names[name] for names in known.regions.values() if name in names), name)
    default = known.defaults.get(specific)
    if default is None or specific != name:
        return name.removesuffix("_per_year").removesuffix("_frac").replace("_", " ")
    return default.label


def signed_money(usd: float) -> str:
    """Return dollars with their sign."""
    return f"+{money(usd)}" if usd > 0 else money(usd)

"""Which numbers an input of the money may take: no negative prices, no shares above one."""

from envelope.spec.economics import PRICE_PREFIXES
from envelope.spec.ranges import Spread

_PER_YEAR = "1/year"
_FIELDS: dict[str, tuple[float, float]] = {
    "hosted_commitment_usd_per_year": (0.0, float("inf")),
    "hosted_discount_frac": (0.0, 1.0),
    "demand_factor": (0.0, float("inf")),
    "electricity_usd_per_kwh": (0.0, float("inf")),
    "pue": (1.0, float("inf")),
    "pue_average": (1.0, float("inf")),
    "colocation_usd_per_kw_month": (0.0, float("inf")),
    "tax_rate_frac": (0.0, 1.0),
    "lease_rate_frac_per_year": (0.0, 10.0),
}
"""Lowest and highest value of inputs by name; a site's PUE is at least 1, since its computers are part of it."""


def out_of_bounds(name: str, spread: Spread, unit: str | None = None) -> str | None:
    """Return what is wrong with the numbers of an input, or ``None``.

    ``unit`` is that of the catalog's default, if there is one: prices and efforts cannot be negative, nor fractions
    exceed 1; changes per year lie above -1.
    """
    numbers = spread.numbers
    low, high = _FIELDS.get(name) or _by_unit(name, unit)
    bad = next((x for x in numbers if not low <= x <= high), None)
    if bad is None:
        return None
    limits = f"at least {low:g}" if high == float("inf") else f"between {low:g} and {high:g}"
    return f"{bad:g} must be {limits}"


def _by_unit(name: str, unit: str | None) -> tuple[float, float]:
    if name.endswith("_frac_per_year") or unit == _PER_YEAR:
        return -1.0, float("inf")
    if unit is not None and unit.startswith("fraction"):
        return 0.0, 1.0
    return (0.0 if unit is not None or name.startswith(PRICE_PREFIXES) else -float("inf")), float("inf")

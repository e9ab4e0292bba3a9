"""Conversions between what people write in files and the SI units used inside.

Inside the package everything is SI: seconds, bytes, FLOP, watts, joules. GB is 10**9 bytes and GiB is
2**30 bytes; the two are never mixed.
"""

from typing import Final

GB: Final = 10**9
"""Bytes in a gigabyte (decimal)."""
GIB: Final = 2**30
"""Bytes in a gibibyte (binary)."""
MIB: Final = 2**20
"""Bytes in a mebibyte (binary)."""
MTOK: Final = 10**6
"""Tokens in the unit in which hosted prices are quoted."""
J_PER_KWH: Final = 3_600_000.0
"""Joules in a kilowatt-hour."""
SECONDS_PER_DAY: Final = 86_400.0
DAYS_PER_YEAR: Final = 365.25
HOURS_PER_YEAR: Final = 8_766.0
"""Hours in a mean (Julian) year, 365.25 days."""
SECONDS_PER_YEAR: Final = HOURS_PER_YEAR * 3600.0


def years_of(months: int) -> int:
    """Return the years that hold so many months, the last of which may be a part of one.

    >>> years_of(36), years_of(37)
    (3, 4)
    """
    return -(-months // 12)

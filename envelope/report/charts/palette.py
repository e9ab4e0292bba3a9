"""The colours, dashes and shapes of every chart, on a page, in a document and in the workbook: nowhere else are any."""

from collections.abc import Sequence
from typing import TypeVar

_Item = TypeVar("_Item")

PALETTE = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B87D00", "#3C93C8", "#9A8F00", "#AA4499", "#7F7F7F", "#A5603C",
    "#4E8F3A", "#6F6FD0", "#B5545A",
)  # fmt: skip
"""Colours after Okabe and Ito (Color Universal Design, 2008); their orange, sky blue and yellow are darkened so that
each has a contrast of at least 3:1 both on white and on a dark page."""
DASHES: tuple[tuple[int, ...], ...] = (
    (1, 0),
    (6, 3),
    (2, 2),
    (8, 3, 2, 3),
    (12, 3),
    (4, 6),
    (1, 3),
    (10, 2, 2, 2, 2, 2),
)
"""Dash patterns of lines; they repeat after as many lines, when the colour still differs."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Letters that name candidates where colour alone would not tell them apart."""
NEUTRAL = "#7F7F7F"
"""Marks that belong to no series: limits, diagonals, today's position."""
DEARER, CHEAPER = PALETTE[1], PALETTE[2]
"""What raises a cost, and what lowers it."""
EMPTY, NOBODY = "#C8C8C8", "#B8B8B8"
"""Room that is left free, and places where nothing fits."""
INK, PAPER = "#000000", "#FFFFFF"
"""Lines and letters on coloured ground, and what stands off from them."""
SHADES = ("#CFE6F5", "#004B78")
"""The least and the most of one quantity."""
GIVEN = "#FFF7D6"
"""Ground of the workbook's cells that the reader may change."""


def cycled(items: Sequence[_Item], count: int) -> list[_Item]:
    """Return so many items, at least one; they repeat when there are fewer.

    >>> cycled("ab", 3)
    ['a', 'b', 'a']
    """
    return [items[i % len(items)] for i in range(max(count, 1))]

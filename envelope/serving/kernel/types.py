"""Types of the kernel's flat arrays: lists in plain mode, numpy arrays in compiled mode."""

from collections.abc import MutableSequence
from typing import Annotated, TypeAlias

Ints: TypeAlias = MutableSequence[int]
Floats: TypeAlias = MutableSequence[float]
Rows: TypeAlias = Annotated[MutableSequence[int], "int32"]
"""Integers of the requests, 32 bits wide in compiled mode: there may be millions of them."""

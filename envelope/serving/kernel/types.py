"""Types of the kernel's flat arrays: lists in plain mode, numpy arrays in compiled mode."""

from collections.abc import MutableSequence
from typing import TypeAlias

Ints: TypeAlias = MutableSequence[int]
Floats: TypeAlias = MutableSequence[float]

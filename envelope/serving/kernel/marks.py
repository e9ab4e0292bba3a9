"""Marks by which the compiled mode finds what belongs to the kernel."""

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Mark a function as part of the kernel, so that the compiled mode finds it."""
    function.__kernel__ = True  # type: ignore[attr-defined]
    return function


def entry_point(function: F) -> F:
    """Mark a kernel function that Python calls; its machine code is kept on disk."""
    function.__entry__ = True  # type: ignore[attr-defined]
    return kernel(function)

"""Two ways to run the kernel: as plain Python on lists, or compiled by numba on arrays, with the same result."""

import hashlib
import os
import tempfile
import types
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

MODULES = ("layout", "blocks", "clock", "heaps", "batch", "leave", "replica", "hosted", "route", "events")
"""Files of the kernel, those that others use first."""

LOAD_REQUESTS = 10_000
"""Runs of more requests than this gain by loading machine code from disk (about a second)."""

COMPILE_REQUESTS = 200_000
"""Runs of more requests than this gain even if the kernel must be compiled first (about 20 seconds)."""


def kernel(function: F) -> F:
    """Mark a function as part of the kernel, so that the compiled mode finds it."""
    function.__kernel__ = True  # type: ignore[attr-defined]
    return function


def available() -> bool:
    """Return whether numba is installed."""
    return find_spec("numba") is not None


def entry(name: str, *, compiled: bool) -> Callable[..., Any]:
    """Return the kernel function ``name``, compiled or as it stands."""
    found: Callable[..., Any] = (_compiled() if compiled else _plain())[name]
    return found


def prepare() -> bool:
    """Compile the kernel now and keep it on disk, so that no later run waits; returns whether numba is there.

    Takes about 20 seconds the first time and under a second afterwards.
    """
    if not available():
        return False
    from envelope.serving.warm import compile_all

    compile_all()
    return True


def worth_compiling(requests: int) -> bool:
    """Return whether a run of so many requests should use the compiled kernel."""
    if not available():
        return False
    if _compiled.cache_info().currsize:
        return True
    return requests > (LOAD_REQUESTS if _on_disk() else COMPILE_REQUESTS)


@cache
def _plain() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for module in MODULES:
        names.update(vars(import_module(f"envelope.serving.kernel.{module}")))
    return names


@cache
def _compiled() -> dict[str, Any]:
    """Return the kernel's names with each function compiled in one shared namespace.

    numba's disk cache looks only at the file of the function that is called, so the folder is named after the
    content of all files.
    """
    import numba

    names = dict(_plain())
    folder = _folder()
    config: Any = numba.config
    old = config.CACHE_DIR
    config.CACHE_DIR = "" if folder is None else str(folder)
    try:
        for name, function in _plain().items():
            if getattr(function, "__kernel__", False):
                copy = types.FunctionType(function.__code__, names, name, function.__defaults__)
                copy.__module__ = function.__module__
                keep = folder is not None and getattr(function, "__entry__", False)
                names[name] = numba.njit(cache=keep, error_model="numpy")(copy)
    finally:
        config.CACHE_DIR = old
    return names


def entry_point(function: F) -> F:
    """Mark a kernel function that Python calls; its machine code is kept on disk."""
    function.__entry__ = True  # type: ignore[attr-defined]
    return kernel(function)


@cache
def _folder() -> Path | None:
    """Return a writable folder for machine code, named after the kernel's source."""
    here = Path(__file__).parent / "kernel"
    text = b"".join((here / f"{m}.py").read_bytes() for m in MODULES)
    name = hashlib.sha256(text).hexdigest()[:16]
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    for base in (Path(home), Path(tempfile.gettempdir())):
        folder = base / "deployment-envelope" / "kernel" / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return None


def _on_disk() -> bool:
    folder = _folder()
    return folder is not None and any(folder.rglob("*run_until*.nbi"))

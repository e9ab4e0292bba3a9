"""Two ways to run the kernel: as plain Python on lists, or compiled by numba on arrays, with the same result."""

import hashlib
import os
import sys
import tempfile
import types
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from envelope.processor import processor_flags, processor_name

F = TypeVar("F", bound=Callable[..., Any])

MODULES = (
    "layout", "draws", "blocks", "clock", "heaps", "adapters", "drafts", "batch", "policy", "leave", "replica", "ranks",
    "hosted", "route", "events",
)  # fmt: skip
"""Files of the kernel, those that others use first."""

LOAD_REQUESTS = 2_500
"""Runs of more requests than this load machine code from disk (about a second), since more runs often follow."""

COMPILE_REQUESTS = 200_000
"""Runs of more requests than this gain even if the kernel must be compiled first (about 17 seconds)."""


def kernel(function: F) -> F:
    """Mark a function as part of the kernel, so that the compiled mode finds it."""
    function.__kernel__ = True  # type: ignore[attr-defined]
    return function


@cache
def available() -> bool:
    """Return whether numba is installed and works with this Python and numpy (else plain mode serves)."""
    if find_spec("numba") is None:
        return False
    try:
        import_module("numba")
    except (ImportError, SystemError):
        return False
    return True


def entry(name: str, *, compiled: bool) -> Callable[..., Any]:
    """Return the kernel function ``name``, compiled or as it stands."""
    found: Callable[..., Any] = (_compiled() if compiled else _plain())[name]
    return found


def prepare() -> bool:
    """Compile the kernel now and keep it on disk, so that no later run waits; returns whether numba is there.

    Takes about 17 seconds the first time and under a second afterwards.
    """
    if not available():
        return False
    from envelope.serving.warm import compile_all

    compile_all()
    return True


def worth_compiling(requests: int, replicas: int = 1) -> bool:
    """Return whether a run of so many requests should use the compiled kernel.

    Every request looks at all replicas, so that many of them weigh like more requests.
    """
    requests = requests * (8 + replicas) // 8
    if _compiled.cache_info().currsize:
        return True
    return requests > (LOAD_REQUESTS if on_disk() else COMPILE_REQUESTS) and available()


def is_ready() -> bool:
    """Return whether machine code is at hand, in memory or on disk, so that no run waits for the compiler."""
    return bool(_compiled.cache_info().currsize) or on_disk()


def ready_for(requests: int) -> bool:
    """Compile the kernel if a command that will simulate so many requests in all gains by it.

    Single runs decide for themselves, but many short ones would each stay in plain mode. Returns whether the
    kernel was compiled now.
    """
    if is_ready() or requests <= COMPILE_REQUESTS:
        return False
    return prepare()


@cache
def _plain() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for module in MODULES:
        names.update(vars(import_module(f"envelope.serving.kernel.{module}")))
    return names


@cache
def _compiled() -> dict[str, Any]:
    """Return the kernel's names with each function compiled in one shared namespace."""
    import numba

    names = dict(_plain())
    folder = _folder()
    source = None if folder is None else _whole_source(folder)
    config: Any = numba.config
    old = config.CACHE_DIR
    config.CACHE_DIR = "" if folder is None else str(folder)
    ready = on_disk()
    functions = {n: f for n, f in _plain().items() if getattr(f, "__kernel__", False)}
    try:
        for name, function in functions.items():
            names[name] = _jitted(numba, function, names, source)
        done: set[str] = set()
        for name, function in functions.items():
            if not ready or getattr(function, "__entry__", False):
                _compile(numba, name, functions, names, done, callees=not ready)
    finally:
        config.CACHE_DIR = old
    return names


def _jitted(numba: Any, function: Any, names: dict[str, Any], source: Path | None) -> Any:
    """Return a copy of ``function`` in the namespace ``names`` that numba compiles, and keeps if ``source`` is there.

    numba finds its machine code by the path and the date of the function's file alone. The copy therefore says that
    it is from ``source``, so that every installation of the same kernel on this machine uses the same code.
    """
    code = function.__code__ if source is None else function.__code__.replace(co_filename=str(source))
    copy = types.FunctionType(code, names, function.__name__, function.__defaults__)
    copy.__module__ = function.__module__
    if getattr(function, "__entry__", False):
        return numba.njit(cache=source is not None, error_model="numpy")(copy)
    return numba.njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(copy)


def _compile(
    numba: Any, name: str, functions: dict[str, Any], names: dict[str, Any], done: set[str], *, callees: bool
) -> None:
    """Compile a function for the types of its annotations alone, what it calls first.

    Fixed types keep numba from compiling a variant for every constant argument. An entry point whose machine code
    is on disk needs no callees compiled: it contains them.
    """
    if name in done:
        return
    done.add(name)
    if callees:
        for called in functions[name].__code__.co_names:
            if called in functions:
                _compile(numba, called, functions, names, done, callees=True)
    names[name].compile(_signature(numba, functions[name]))
    names[name].disable_compile()


def _signature(numba: Any, function: Any) -> Any:
    t = numba.types
    known = {
        "Ints": t.int64[::1],
        "Rows": t.int32[::1],
        "Floats": t.float64[::1],
        "int": t.int64,
        "float": t.float64,
        "bool": t.boolean,
        "None": t.void,
        "tuple[int, int]": t.UniTuple(t.int64, 2),
    }
    named = {str(k): v for k, v in function.__annotations__.items()}
    result = known[_text(named.pop("return"))]
    return result(*(known[_text(v)] for v in named.values()))


def _text(annotation: Any) -> str:
    """Return an annotation as it is written in the kernel's files."""
    if annotation is None:
        return "None"
    text = getattr(annotation, "__name__", str(annotation)) if isinstance(annotation, type) else str(annotation)
    if "int32" in text:
        return "Rows"
    if "MutableSequence" in text:
        return "Ints" if "[int]" in text else "Floats"
    return text


def entry_point(function: F) -> F:
    """Mark a kernel function that Python calls; its machine code is kept on disk."""
    function.__entry__ = True  # type: ignore[attr-defined]
    return kernel(function)


@cache
def _folder() -> Path | None:
    """Return a writable folder for machine code, named after what it depends on: source, numba, Python, processor."""
    given = [_source(), *(version(name) for name in ("numba", "llvmlite", "numpy") if find_spec(name))]
    given += [sys.implementation.cache_tag, processor_name(), *sorted(processor_flags())]
    name = hashlib.sha256("\0".join(given).encode()).hexdigest()[:16]
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


def _source() -> str:
    """Return the text of all files of the kernel."""
    here = Path(__file__).parent / "kernel"
    return "\n".join((here / f"{name}.py").read_text(encoding="utf-8") for name in MODULES)


def _whole_source(folder: Path) -> Path:
    """Return the kernel's text as one file in the folder of its machine code, whose date is always the same."""
    path = folder / "kernel.py"
    if not path.exists():
        new = folder / f"kernel.{os.getpid()}.new"
        new.write_text(_source(), encoding="utf-8")
        os.utime(new, (_DATE_S, _DATE_S))
        new.replace(path)
    return path


_DATE_S = 1e9


def on_disk() -> bool:
    """Return whether machine code of this kernel was kept by an earlier run, so that loading it takes a second."""
    folder = _folder()
    return folder is not None and any(folder.rglob("*run_until*.nbi"))

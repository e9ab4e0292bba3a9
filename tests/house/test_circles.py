"""No circles of imports, one direction between the rooms of plan, and one home for each library that has one."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOMES = {
    "yaml": ("envelope/spec/yaml_text.py",),
    "pyarrow": ("envelope/parquet.py",),
    "xlsxwriter": ("envelope/report",),
    "typst": ("envelope/report",),
    "altair": ("envelope/report/charts",),
    "vl_convert": ("envelope/report",),
    "numba": ("envelope/serving",),
    "simpy": ("envelope/serving",),
    "onnx": ("envelope/sensors",),
    "pynvml": ("envelope/sensors",),
    "psutil": ("envelope/sensors",),
    "shtab": ("envelope/cli",),
    "rapidfuzz": ("envelope/errors.py",),
    "genai_prices": ("envelope/money",),
    "distributed": ("envelope/plan/sweep",),
    "streamlit": ("envelope/dashboard",),
}
"""Library → beginnings of the paths of the files that may import it."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted((ROOT / "envelope").rglob("*.py"))}


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what runs, in functions as well: all but what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other
                yield from statements(other)
            continue
        yield child
        yield from statements(child)


def imported(text: str, module: str, *, is_package: bool) -> Iterator[str]:
    """Yield every dotted name that a module imports, with what it takes from there, and names given as text."""
    for node in statements(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: None if is_package and node.level == 1 else -node.level + is_package]
            base = ".".join([*(above if node.level else []), *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str))


def graph() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for module, path in FILES.items():
        names = imported(path.read_text("utf-8"), module, is_package=path.name == "__init__.py")
        inside = {name if name in FILES else name.rpartition(".")[0] for name in names}
        found[module] = {name for name in inside if name in FILES and name != module}
    return found


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Return one circle of a graph; empty if there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import a.b\ndef f():\n    from c import d", {"a.b", "c.d"}),
        ("if TYPE_CHECKING:\n    import a\nelse:\n    import b", {"b"}),
        ("from . import x\nfrom ..y import z", {"p.q.x", "p.y.z"}),
        ("importlib.import_module('a.b')", {"a.b"}),
    ],
)
def test_imports_are_seen(text: str, found: set[str]) -> None:
    assert set(imported(text, "p.q.m", is_package=False)) == found
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert not circle({"a": {"b", "c"}, "b": {"c"}, "c": set()})


def test_no_modules_import_each_other_in_a_circle() -> None:
    edges = graph()
    assert len(edges) > 400
    assert sum(map(len, edges.values())) > 1500
    assert not circle(edges)


def test_the_rooms_of_plan_import_in_one_direction() -> None:
    rooms: dict[str, set[str]] = defaultdict(set)
    for module, others in graph().items():
        for other in others:
            mine, theirs = module.split("."), other.split(".")
            if mine[:2] == theirs[:2] == ["envelope", "plan"] and mine[2:3] != theirs[2:3]:
                rooms[mine[2]].add(theirs[2])
    assert len(rooms) > 8
    assert not circle(dict(rooms))


def test_a_library_with_a_home_is_imported_there_alone() -> None:
    users: dict[str, set[str]] = defaultdict(set)
    for module, path in FILES.items():
        for name in imported(path.read_text("utf-8"), module, is_package=path.name == "__init__.py"):
            users[name.split(".")[0]].add(path.relative_to(ROOT).as_posix())
    assert len(HOMES.keys() & users.keys()) > 10
    for library, homes in HOMES.items():
        assert not [file for file in users[library] if not file.startswith(homes)], library

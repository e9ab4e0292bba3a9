"""Docstrings of the fields of a record, read from its source when somebody asks.

Python keeps none of them, so that they must be found in the text of the module. That takes a fifth of the start of a
command, and only help, schemas and documentation show them.
"""

import ast
import inspect
import sys
from functools import cache

from pydantic import BaseModel


@cache
def field_docstrings(record: type[BaseModel]) -> dict[str, str]:
    """Return the fields of a record, a class in a module's own scope, with the strings below them.

    A field that a class declares anew has the docstring that stands there, if any; fields without one are left out, and
    so are all where there is no source to read.
    """
    declared: dict[str, str] = {}
    for cls in reversed(record.__mro__):
        if issubclass(cls, BaseModel) and cls is not BaseModel:
            declared |= _classes(cls.__module__).get(cls.__qualname__, {})
    return {name: declared[name] for name in record.model_fields if declared.get(name)}


@cache
def _classes(module: str) -> dict[str, dict[str, str]]:
    """Return class → field → docstring, empty if it has none, for the classes of a module."""
    try:
        source = inspect.getsource(sys.modules[module])
    except (OSError, TypeError):
        return {}
    classes = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    return {node.name: _fields(node) for node in classes}


def _fields(node: ast.ClassDef) -> dict[str, str]:
    found: dict[str, str] = {}
    for statement, following in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            found[statement.target.id] = _text(following)
    return found


def _text(statement: ast.stmt | None) -> str:
    """Return the text of a statement that is a string alone, else nothing."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        value = statement.value.value
        return inspect.cleandoc(value) if isinstance(value, str) else ""
    return ""

"""Hooks of MkDocs: equations become MathML, and the reference pages are made from the code and its schemas."""

import argparse
import importlib
import inspect
import re
from typing import Any

import latex2mathml.converter
from mkdocs.structure.files import File, Files

from envelope.cli import COMMANDS, MODULES
from envelope.cli.catalog import SCHEMAS

_MODULES = (
    "envelope.perf.roofline", "envelope.perf.gemm", "envelope.perf.moe", "envelope.perf.comms", "envelope.perf.memory",
    "envelope.perf.power", "envelope.tco.cashflow", "envelope.tco.lines", "envelope.tco.uncertainty", "envelope.units",
)  # fmt: skip
"""Modules whose formulas the Python page documents beside the public functions."""


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    for name, text in (
        ("reference/commands.md", commands_page()),
        ("reference/python.md", python_page()),
        ("reference/schemas.md", schemas_page()),
    ):
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    r"""Replace ``$$…$$`` by block and ``\(…\)`` by inline MathML, which browsers draw without any script."""
    markdown = re.sub(r"^\$\$\n(.+?)\n\$\$$", lambda m: _math(m[1], "block"), markdown, flags=re.M | re.S)
    return re.sub(r"\\\((.+?)\\\)", lambda m: _math(m[1], "inline"), markdown)


def _math(latex: str, display: str) -> str:
    found = latex2mathml.converter.convert(latex.strip(), display=display)
    return f"\n<p>{found}</p>\n" if display == "block" else found


def commands_page() -> str:
    """Return the help of every command."""
    parts = ["# Commands\n"]
    for name, text in COMMANDS.items():
        parser = argparse.ArgumentParser(prog=f"envelope {name}", formatter_class=_Wide)
        importlib.import_module(f"envelope.cli.{MODULES[name]}").add_arguments(parser, name)
        parts.append(f"## envelope {name}\n\n{text[0].upper()}{text[1:]}.\n\n```text\n{parser.format_help()}```\n")
    return "\n".join(parts)


class _Wide(argparse.HelpFormatter):
    """Formatter whose width does not depend on the terminal of the build."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=100, max_help_position=30)


def python_page() -> str:
    """Return signatures and docstrings of the public functions and of the formulas."""
    import envelope

    parts = ["# Python\n", "`import envelope` gives these names; everything else is internal.\n"]
    for name in envelope.__all__:
        found = getattr(envelope, name)
        if callable(found):
            parts.append(_entry(name, found))
    parts.append("## Formulas\n\nThe functions behind the explanations, with their equations and sources.\n")
    for module_name in _MODULES:
        module = importlib.import_module(module_name)
        parts.append(f"### {module_name}\n\n{inspect.cleandoc(module.__doc__ or '')}\n")
        public = [(n, f) for n, f in vars(module).items() if inspect.isfunction(f) and not n.startswith("_")]
        parts += [_entry(n, f, level=4) for n, f in public if f.__module__ == module_name]
    return "\n".join(parts)


def _entry(name: str, found: Any, level: int = 2) -> str:
    try:
        signature = f"{name}{inspect.signature(found)}"
    except (TypeError, ValueError):
        signature = name
    text = inspect.cleandoc(found.__doc__ or "")
    return f"{'#' * level} {name}\n\n```text\n{signature}\n```\n\n```text\n{text}\n```\n"


def schemas_page() -> str:
    """Return the fields of every kind of data file, from the schemas that check them."""
    about = (
        "Every record is one YAML file, checked against these fields; `envelope schema KIND` prints the JSON Schema."
    )
    parts = ["# Data files\n", f"{about}\n"]
    for kind, (module, name) in SCHEMAS.items():
        schema = getattr(importlib.import_module(module), name).model_json_schema()
        parts.append(f"## {kind}\n\n{_text(schema)}\n\n{_fields(schema)}")
        for inner, each in sorted(schema.get("$defs", {}).items()):
            if "properties" in each:
                parts.append(f"### {kind}: {inner}\n\n{_text(each)}\n\n{_fields(each)}")
    return "\n".join(parts)


def _fields(schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for name, each in schema.get("properties", {}).items():
        default = "required" if name in required else f"`{str(each.get('default', '–'))[:40]}`".replace("|", "\\|")
        rows.append(f"| `{name}` | {_type(each)} | {default} | {_text(each)} |")
    return "\n".join(rows) + "\n"


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "enum" in schema:
        return " or ".join(f"`{v}`" for v in schema["enum"][:12])
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return " or ".join(dict.fromkeys(_type(option) for option in options))
    if schema.get("type") == "array" and isinstance(schema.get("items"), dict):
        return f"list of {_type(schema['items'])}"
    return str(schema.get("const", schema.get("type", "any")))


def _text(schema: dict[str, Any]) -> str:
    return " ".join(str(schema.get("description", "")).split()).replace("|", "\\|").replace("<", "&lt;")

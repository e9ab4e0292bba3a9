"""Hooks of MkDocs: equations become MathML, and the reference pages are made from the code and its schemas."""

import argparse
import importlib
import inspect
import itertools
import re
from typing import Any

import latex2mathml.converter
from mkdocs.structure.files import File, Files

from envelope.cli import COMMANDS, MODULES
from envelope.cli.catalog import SCHEMAS
from envelope.display import Displayed

_MODULES = (
    "envelope.perf.roofline", "envelope.perf.gemm", "envelope.perf.moe", "envelope.perf.comms", "envelope.perf.memory",
    "envelope.perf.power", "envelope.money.cashflow", "envelope.money.lines", "envelope.money.uncertainty",
    "envelope.units",
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
        super().__init__(prog, width=80, max_help_position=26)


def python_page() -> str:
    """Return signatures and docstrings of the public functions and of the formulas."""
    import envelope

    parts = ["# Python\n", "`import envelope` gives these names; everything else is internal.\n"]
    for name in envelope.__all__:
        found = getattr(envelope, name)
        if callable(found):
            parts.append(_entry(name, getattr(found, "__wrapped__", found)))
        if name == "Scenario":
            parts.append("Its fields are those of the [data file](schemas.md#scenario).\n")
            parts.append(_entry("Scenario.replace", found.replace, level=3))
    parts.append("## Formulas\n\nThe functions behind the explanations, with their equations and sources.\n")
    for module_name in _MODULES:
        module = importlib.import_module(module_name)
        parts.append(f"### {module_name}\n\n{inspect.cleandoc(module.__doc__ or '')}\n")
        public = [(n, f) for n, f in vars(module).items() if inspect.isfunction(f) and not n.startswith("_")]
        parts += [_entry(n, f, level=4) for n, f in public if f.__module__ == module_name]
    return "\n".join(parts)


def _entry(name: str, found: Any, level: int = 2) -> str:
    shown = f"```python\n{_signature(name, found)}\n```\n\n" if inspect.isroutine(found) else ""
    return f"{'#' * level} {name}\n\n{shown}{_prose(inspect.getdoc(found) or '')}\n\n{_result(found)}"


def _signature(name: str, found: Any) -> str:
    """Return a call with one argument a line and types by their last names."""
    signature = inspect.signature(found)
    parts = []
    for kind, group in itertools.groupby(signature.parameters.values(), lambda p: p.kind):
        parts += ["*"] if kind is inspect.Parameter.KEYWORD_ONLY else []
        parts += [_argument(str(parameter)) for parameter in group if parameter.name != "self"]
    returned = inspect.formatannotation(signature.return_annotation)
    line = f"{name}({', '.join(parts)}) -> {_argument(returned)}"
    if len(line) <= _COLUMNS:
        return line
    return f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f") -> {_argument(returned)}"


_COLUMNS = 76


def _argument(text: str) -> str:
    """Return an argument without the modules of its types and without long defaults."""
    text = re.sub(r"Union\[(float, Literal\['peak'\]), NoneType\]|Optional\[(Literal\[.+?\])\]", _or_none, text)
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Za-z])", "", re.sub(r" = [A-Z]\w+\(.{20,}\)$", " = …", text))


def _or_none(found: "re.Match[str]") -> str:
    return f"{(found[1] or found[2]).replace(', Literal', ' | Literal')} | None"


def _prose(text: str) -> str:
    """Return a docstring as Markdown: examples as code, names in typewriter, all else as it stands."""
    return "\n\n".join(
        f"```python\n{part}\n```" if part.startswith(">>>") or part.startswith("    ") else _paragraph(part)
        for part in re.split(r"\n{2,}", text)
    )


def _paragraph(text: str) -> str:
    pieces = re.split(r"(``.+?``)", text, flags=re.S)
    plain = {"*": r"\*", "<": "&lt;", "_": r"\_"}
    return "".join(
        piece.replace("``", "`") if piece.startswith("``") else "".join(plain.get(c, c) for c in piece)
        for piece in pieces
    )


def _result(found: Any) -> str:
    """Return what a public function gives back: its methods and the fields of the record."""
    kind = inspect.signature(found).return_annotation if inspect.isfunction(found) else None
    if not inspect.isclass(kind) or not issubclass(kind, Displayed):
        return ""
    methods = "`.to_frame()`, `.to_dict()`, `.plot()`, and shows itself in a terminal with rich and in a notebook"
    lead = f"Returns `{kind.__name__}`. {_paragraph(inspect.getdoc(kind) or '')} It has {methods}.\n\n"
    return lead + (
        _fields(kind.model_json_schema(mode="serialization"), defaults=False)
        if hasattr(kind, "model_json_schema")
        else ""
    )


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


def _fields(schema: dict[str, Any], *, defaults: bool = True) -> str:
    required = set(schema.get("required", ()))
    header = ["field", "type", "default", "meaning"] if defaults else ["field", "type", "meaning"]
    rows = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for name, each in schema.get("properties", {}).items():
        default = "required" if name in required else f"`{_brief(each.get('default', '–'))}`".replace("|", "\\|")
        cells = [f"`{name}`", _type(each), *([default] if defaults else []), _text(each)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _brief(value: Any) -> str:
    """Return a default; that of a group of fields stands in the group's own table."""
    return "{…}" if isinstance(value, dict) and value else str(value)[:40]


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

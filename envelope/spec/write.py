"""Writing YAML: the only place that does."""

from typing import Any

import yaml
from pydantic import BaseModel


def to_yaml(record: BaseModel) -> str:
    """Return a record as the text of its data file; defaults are left out."""
    return yaml_text(record.model_dump(mode="json", exclude_defaults=True))


def yaml_text(data: Any, *, width: int = 110, short_lists: bool = False) -> str:
    """Return plain data as YAML, its keys in their order, in lines of about ``width`` characters.

    ``short_lists`` puts what holds only plain values on one line.
    """
    style = None if short_lists else False
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=width, default_flow_style=style)
    return str(text)


def flow_text(value: Any) -> str:
    """Return a plain value as YAML on one line."""
    shown = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10**9)
    return str(shown).removesuffix("\n").removesuffix("\n...")

"""Descriptions in schemas are the docstrings under the fields, as pydantic itself would read them."""

from pydantic import BaseModel, ConfigDict

from envelope.docstrings import field_docstrings
from envelope.provenance import Frozen


class _Said(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid", title="Said")

    length_m: float
    """Length
    in metres."""
    width_m: float = 1.0
    inner: "_Inner | None" = None
    """Of a part."""


class _Inner(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid", title="Inner")

    count: int
    """How many."""


class _Plain(Frozen):
    model_config = ConfigDict(title="Said")

    length_m: float
    """Length
    in metres."""
    width_m: float = 1.0
    inner: "_PlainInner | None" = None
    """Of a part."""


class _PlainInner(Frozen):
    model_config = ConfigDict(title="Inner")

    count: int
    """How many."""


class _Child(_Plain):
    """Declares one field anew, without a docstring, and one of its own."""

    length_m: float = 2.0
    height_m: float
    """Height."""


def test_a_schema_describes_the_fields_as_pydantic_does() -> None:
    ours, theirs = str(_Plain.model_json_schema()), str(_Said.model_json_schema())
    assert ours.replace("_Plain", "_") == theirs.replace("_Said", "_")
    assert "How many." in ours


def test_a_field_that_is_declared_anew_has_its_own_docstring() -> None:
    assert field_docstrings(_Child) == {"inner": "Of a part.", "height_m": "Height."}


def test_a_class_inside_a_function_has_none() -> None:
    class Inside(Frozen):
        length_m: float
        """Length."""

    assert field_docstrings(Inside) == {}

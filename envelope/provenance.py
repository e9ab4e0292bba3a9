"""Where a number came from: its source, its date and the class of evidence behind it."""

from collections.abc import Iterable
from datetime import date as Date
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)  # fmt: skip
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from envelope.docstrings import field_docstrings


def _year_text(value: object) -> object:
    """Return a bare year as text: YAML reads ``2026`` as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _in_calendar(text: str) -> str:
    """Return the text of a date that the calendar has."""
    parts = [int(part) for part in text.split("-")]
    try:
        Date(*parts, *[1] * (3 - len(parts)))
    except ValueError:
        raise ValueError(f"no date of the calendar: {text!r}") from None
    return text


DateText = Annotated[
    str,
    BeforeValidator(_year_text),
    Field(pattern=r"^\d{4}(-(0[1-9]|1[0-2])(-\d{2})?)?$"),
    AfterValidator(_in_calendar),
]
"""A date of the calendar as year, year-month or year-month-day."""


class Evidence(StrEnum):
    """How a number was got, strongest first."""

    MEASURED = "measured"
    """By a probe on that very device or service."""
    FITTED = "fitted"
    """From measured tables of that device."""
    INTERPOLATED = "interpolated"
    """From measurements of neighbours of the same family."""
    DATASHEET = "datasheet"
    """From the vendor's or provider's own published figure."""
    ASSUMED = "assumed"
    """Recalled, derived or judged; nobody has checked it against a source."""


_ORDER = {e: i for i, e in enumerate(Evidence)}


def weakest(evidence: Iterable[Evidence]) -> Evidence:
    """Return the weakest link of a chain of evidence (``MEASURED`` for an empty chain).

    >>> weakest([Evidence.MEASURED, Evidence.DATASHEET, Evidence.FITTED])
    <Evidence.DATASHEET: 'datasheet'>
    """
    return max(evidence, key=_ORDER.__getitem__, default=Evidence.MEASURED)


class Frozen(BaseModel):
    """Immutable record that forbids unknown keys and non-finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema with the docstrings of the fields, which pydantic itself would read at every start."""
        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        fields = handler.resolve_ref_schema(schema).get("properties", {})
        for name, text in field_docstrings(cls).items():
            if name in fields:
                fields[name]["description"] = text
        return schema

    def changed(self, **fields: Any) -> Self:
        """Return the record with other values in some fields, validated as one that is read from a file.

        Raises ``ValidationError`` for values that the record cannot have.
        """
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self).model_validate({**given, **fields})


class Source(Frozen):
    """Origin of one or several numbers."""

    source: str = Field(min_length=3)
    """Document, dataset or URL that the number was read from."""
    date: DateText
    """When it was published or, failing that, read."""
    evidence: Evidence = Evidence.DATASHEET
    """How the number was got."""
    note: str = ""
    """What a reader must know, such as a disagreement between sources."""


class Sourced(Frozen):
    """A record whose numbers name their sources.

    ``sources`` maps a field path to its origin; ``default`` covers the rest. The longest matching prefix
    wins, so ``price`` covers ``price.usd``.
    """

    sources: dict[str, Source]
    """Origin of the record's numbers by field path; ``default`` is the origin of all others."""

    @model_validator(mode="after")
    def _paths_exist(self) -> Self:
        if "default" not in self.sources:
            raise ValueError("sources needs a 'default' entry")
        fields = type(self).model_fields
        unknown = [p for p in self.sources if p != "default" and p.split(".")[0].split("[")[0] not in fields]
        if unknown:
            raise ValueError(f"sources names unknown fields: {', '.join(unknown)}")
        return self

    def source_of(self, path: str) -> Source:
        """Return the origin of the number at ``path`` (longest matching prefix, else the default)."""
        parts = path.split(".")
        for end in range(len(parts), 0, -1):
            found = self.sources.get(".".join(parts[:end]))
            if found is not None:
                return found
        return self.sources["default"]

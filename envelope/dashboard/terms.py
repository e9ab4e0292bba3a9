"""Help on terms: the docstrings of the attributes that hold them, written once beside the fields."""

from functools import cache
from typing import Any

from pydantic import BaseModel

_TERMS = {
    "TTFT": "time to first token: from a request's arrival to its first token, the queue included",
    "ITL": "inter-token latency: each gap between two tokens of an answer",
    "TPOT": "time per output token: (E2E − TTFT) / (tokens − 1)",
    "E2E": "end to end: from a request's arrival to its last token",
    "SLO": "service-level objective: the limits that each request of a task class must keep",
    "goodput": "requests per second that meet every limit of their SLO",
    "KV cache": "keys and values of the tokens so far, kept in the device's memory for every running request",
    "NPV": "net present value: all payments over the horizon, later ones discounted; a cost counts positive",
    "IRR": "internal rate of return: the discount rate at which the saving is worth nothing",
    "capex": "capital expenditure: what is bought and lasts",
    "opex": "operating expenditure: what is paid to run it",
    "P10": "one of ten draws of the uncertain inputs lies below",
    "P50": "half of the draws of the uncertain inputs lie below",
    "P90": "nine of ten draws of the uncertain inputs lie below",
    "TP": "tensor parallelism: each layer is split over so many devices",
    "EP": "expert parallelism: the experts are spread over so many devices",
}


def term(name: str) -> str:
    """Return what a term means, as a sentence. Raises ``KeyError`` for a term without an entry."""
    text = _TERMS[name]
    return f"{name} – {text}."


def help_of(record: type[BaseModel], field: str) -> str:
    """Return the docstring of an attribute, or that of a property, as help without code marks.

    Raises ``KeyError`` for a name that the record does not have.
    """
    return _docs(record)[field]


@cache
def _docs(record: type[BaseModel]) -> dict[str, str]:
    found: dict[str, Any] = {name: info.description for name, info in record.model_fields.items()}
    for name, value in vars(record).items():
        if isinstance(value, property):
            found[name] = value.__doc__
    return {name: _plain(text or name.replace("_", " ")) for name, text in found.items()}


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "`").split())

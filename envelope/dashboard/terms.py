"""Help on terms: the docstrings of the attributes that hold them, written once beside the fields."""

from functools import cache
from importlib import import_module
from typing import Any

from pydantic import BaseModel

from envelope.docstrings import field_docstrings

HOMES = {
    "SLO": ("envelope.spec.workload", "Slo", ""),
    "TTFT": ("envelope.spec.workload", "Slo", "ttft_s"),
    "TPOT": ("envelope.spec.workload", "Slo", "tpot_s"),
    "E2E": ("envelope.spec.workload", "Slo", "e2e_s"),
    "ITL": ("envelope.plan.verdict.results", "ServiceLevel", "itl"),
    "goodput": ("envelope.plan.service.run_result", "RunClass", "goodput_per_s"),
    "KV cache": ("envelope.perf.estimate", "DomainUse", "kv_bytes"),
    "NPV": ("envelope.plan.verdict.results", "CandidateResult", "cost_npv"),
    "IRR": ("envelope.money.result", "Comparison", "irr_frac_per_year"),
    "capex": ("envelope.money.result", "TcoResult", "capex_usd"),
    "opex": ("envelope.money.result", "TcoResult", "opex_usd"),
    "P10": ("envelope.money.uncertainty", "Quantiles", "p10"),
    "P50": ("envelope.money.uncertainty", "Quantiles", "p50"),
    "P90": ("envelope.money.uncertainty", "Quantiles", "p90"),
    "TP": ("envelope.spec.deployment", "Parallelism", "tp"),
    "EP": ("envelope.spec.deployment", "Parallelism", "ep"),
}
"""Term → module, record and attribute whose docstring says what it means; no attribute for the record's own."""


def term(name: str) -> str:
    """Return what a term means: the first sentence of its docstring. Raises ``KeyError`` for a term without a home."""
    module, record, field = HOMES[name]
    holder: type[BaseModel] = getattr(import_module(module), record)
    said = help_of(holder, field) if field else _plain(holder.__doc__ or "")
    return f"{name} – {said.split('. ')[0].removesuffix('.')}."


def help_of(record: type[BaseModel], field: str) -> str:
    """Return the docstring of an attribute, or that of a property, as help without code marks.

    Raises ``KeyError`` for a name that the record does not have.
    """
    return _docs(record)[field]


@cache
def _docs(record: type[BaseModel]) -> dict[str, str]:
    meanings = field_docstrings(record)
    found: dict[str, Any] = {name: meanings.get(name) for name in record.model_fields}
    for name, value in vars(record).items():
        if isinstance(value, property):
            found[name] = value.__doc__
    return {name: _plain(text or name.replace("_", " ")) for name, text in found.items()}


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "`").split())

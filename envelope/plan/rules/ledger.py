"""The ecosystem ledger: lines of models side by side, and its limits as constraints; no score is made of it."""

from collections.abc import Sequence
from datetime import date

from envelope.plan.rules.rule import ConstraintResult
from envelope.provenance import Evidence, Frozen, weakest
from envelope.spec.ledger import Ledger, LedgerRules
from envelope.spec.load import load_all
from envelope.spec.model import Model

_DAYS_PER_MONTH = 365.25 / 12
FIELDS = ("engines", "formats", "adapter_recipes", "community_quants", "guard_models", "hiring_pool")
"""Facts of a line that its own file states; the rest is computed from its models."""


class LedgerRow(Frozen):
    """One line of models, with what its releases say."""

    ledger: Ledger
    models: tuple[str, ...]
    """Models of the line in the catalog."""
    first_release: str | None
    last_release: str | None
    age_months: float | None
    """Since the last release."""
    cadence_months: float | None
    """Median time between release days."""
    licences: tuple[str, ...]
    """Licences of its releases, in their order."""
    licence_changes: int
    """Times that a release came under another licence than the one before; releases of one day count once."""
    evidence: dict[str, Evidence]
    """Field → weakest class of evidence among its entries."""
    sourced_frac: dict[str, float]
    """Field → share of its entries that were read from a source; 1 without entries."""


def ledger_rows(*, today: date) -> list[LedgerRow]:
    """Return every line of the ledger with what the catalog's models say about its releases."""
    return [_row(ledger, today) for ledger in load_all(Ledger, "ledger")]


def ledger_of(model: Model) -> Ledger | None:
    """Return the line that a model belongs to, or ``None`` if the ledger has none."""
    return next((x for x in load_all(Ledger, "ledger") if _belongs(model, x)), None)


def ledger_constraints(rules: LedgerRules, models: Sequence[Model], start: str) -> list[ConstraintResult]:
    """Return the limits of the ledger applied to the models that a candidate runs itself.

    A model whose line is not in the ledger breaks every limit that asks for something the ledger would show.
    """
    found = []
    for model in models:
        line = ledger_of(model)
        row = _row(line, _day(start)) if line else None
        found += [c for c in _applied(rules, model, line, row, start) if c is not None]
    return found


def _applied(
    rules: LedgerRules, model: Model, line: Ledger | None, row: LedgerRow | None, start: str
) -> list[ConstraintResult | None]:
    who = line.name if line else f"{model.name} (not in the ledger)"
    age = (_day(start) - _day(str(model.release_date))).days / _DAYS_PER_MONTH if model.release_date else 0.0
    known = " by a source" if rules.sourced_only else ""

    def entries(field: str) -> tuple[str, ...]:
        if line is None:
            return ()
        return line.sourced(field) if rules.sourced_only else tuple(getattr(line, field))

    people = (line.hiring_pool,) if line is not None and line.hiring_pool else ()
    return [
        _at_least(
            f"ledger.engines.{model.id}", len(entries("engines")), rules.engines_min, f"engines{known} support {who}"
        ),
        _at_least(f"ledger.age.{model.id}", age, rules.age_min_months, f"months since the release of {model.name}"),
        _at_most(
            f"ledger.licences.{model.id}", len(row.licences) if row else None, rules.licences_max,
            f"licences so far of {who}",
        ),
        _at_most(
            f"ledger.cadence.{model.id}", row.cadence_months if row else None, rules.cadence_max_months,
            f"months between releases of {who}",
        ),
        _has(
            f"ledger.adapters.{model.id}", rules.adapter_recipe, entries("adapter_recipes"),
            f"recipe{known} for {who}",
        ),
        _has(f"ledger.guard.{model.id}", rules.guard_model, entries("guard_models"), f"guard model{known} of {who}"),
        _has(
            f"ledger.quants.{model.id}", rules.community_quant, entries("community_quants"), f"quants{known} of {who}"
        ),
        _has(f"ledger.hiring.{model.id}", rules.hiring_pool, people, f"figure of people who work with {who}"),
    ]  # fmt: skip


def _at_least(ident: str, value: float, limit: float | None, what: str) -> ConstraintResult | None:
    if limit is None:
        return None
    return ConstraintResult(
        id=ident, satisfied=value >= limit, value=value, limit=limit, margin_frac=value / limit - 1 if limit else None,
        explanation=f"{value:.3g} {what}, at least {limit:g} are asked for",
    )  # fmt: skip


def _at_most(ident: str, value: float | None, limit: float | None, what: str) -> ConstraintResult | None:
    if limit is None:
        return None
    known = "no figure" if value is None else f"{value:.3g}"
    return ConstraintResult(
        id=ident, satisfied=value is not None and value <= limit, value=value, limit=limit,
        margin_frac=-1.0 if value is None else 1 - value / limit,
        explanation=f"{known} {what}, at most {limit:g} are asked for",
    )  # fmt: skip


def _has(ident: str, asked: bool, found: tuple[str, ...], what: str) -> ConstraintResult | None:
    if not asked:
        return None
    text = f"{', '.join(found)}: {what}" if found else f"no {what} is known"
    return ConstraintResult(id=ident, satisfied=bool(found), margin_frac=0.0 if found else -1.0, explanation=text)


def _row(ledger: Ledger, today: date) -> LedgerRow:
    models = [m for m in load_all(Model, "models") if _belongs(m, ledger)]
    dated = sorted((str(m.release_date), m.licence) for m in models if m.release_date)
    days = sorted({_day(day) for day, _ in dated})
    gaps = sorted((b - a).days / _DAYS_PER_MONTH for a, b in zip(days, days[1:], strict=False))
    by_day: dict[str, set[str]] = {}
    for day, licence in dated:
        by_day.setdefault(day, set()).add(licence)
    steps = list(by_day.values())
    return LedgerRow(
        ledger=ledger,
        models=tuple(m.id for m in models),
        first_release=dated[0][0] if dated else None,
        last_release=dated[-1][0] if dated else None,
        age_months=(today - days[-1]).days / _DAYS_PER_MONTH if days else None,
        cadence_months=gaps[len(gaps) // 2] if gaps else None,
        licences=tuple(dict.fromkeys(licence for _, licence in dated)),
        licence_changes=sum(not a & b for a, b in zip(steps, steps[1:], strict=False)),
        evidence={name: _evidence(ledger, name) for name in FIELDS},
        sourced_frac={name: _sourced_frac(ledger, name) for name in FIELDS if name != "hiring_pool"},
    )


def _evidence(ledger: Ledger, field: str) -> Evidence:
    if field == "hiring_pool":
        return ledger.source_of(field).evidence if ledger.hiring_pool else Evidence.ASSUMED
    return weakest(ledger.source_of(f"{field}.{name}").evidence for name in getattr(ledger, field))


def _sourced_frac(ledger: Ledger, field: str) -> float:
    every = getattr(ledger, field)
    return len(ledger.sourced(field)) / len(every) if every else 1.0


def _belongs(model: Model, ledger: Ledger) -> bool:
    return model.developer in ledger.developers and any(model.family.startswith(f) for f in ledger.families)


def _day(text: str) -> date:
    parts = [int(p) for p in text.split("-")] + [1, 1]
    return date(parts[0], parts[1], parts[2])

"""The ecosystem ledger: lines of models side by side, and its limits as constraints; no score is made of it."""

from collections.abc import Sequence
from datetime import date

from envelope.plan.results import ConstraintResult
from envelope.provenance import Evidence, Frozen
from envelope.spec.ledger import Ledger, LedgerRules
from envelope.spec.load import load_all
from envelope.spec.model import Model

_DAYS_PER_MONTH = 365.25 / 12


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
    """Field → class of its evidence."""


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
    engines = len(line.engines) if line else 0
    licences = len(row.licences) if row else 0
    age = (_day(start) - _day(str(model.release_date))).days / _DAYS_PER_MONTH if model.release_date else 0.0
    return [
        _at_least(f"ledger.engines.{model.id}", engines, rules.engines_min, f"engines support {who}"),
        _at_least(f"ledger.age.{model.id}", age, rules.age_min_months, f"months since the release of {model.name}"),
        _at_most(f"ledger.licences.{model.id}", licences, rules.licences_max, f"licences so far of {who}", line),
        _has(
            f"ledger.adapters.{model.id}",
            rules.adapter_recipe,
            line.adapter_recipes if line else None,
            f"recipe for {who}",
        ),
        _has(
            f"ledger.guard.{model.id}", rules.guard_model, line.guard_models if line else None, f"guard model of {who}"
        ),
    ]


def _at_least(ident: str, value: float, limit: float | None, what: str) -> ConstraintResult | None:
    if limit is None:
        return None
    return ConstraintResult(
        id=ident, satisfied=value >= limit, value=value, limit=limit, margin_frac=value / limit - 1 if limit else None,
        explanation=f"{value:.3g} {what}, at least {limit:g} are asked for",
    )  # fmt: skip


def _at_most(ident: str, value: float, limit: float | None, what: str, line: Ledger | None) -> ConstraintResult | None:
    if limit is None:
        return None
    kept = line is not None and value <= limit
    return ConstraintResult(
        id=ident, satisfied=kept, value=value, limit=limit, margin_frac=1 - value / limit if line else -1.0,
        explanation=f"{value:g} {what}, at most {limit:g} are asked for",
    )  # fmt: skip


def _has(ident: str, asked: bool, found: tuple[str, ...] | None, what: str) -> ConstraintResult | None:
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
    fields = ("engines", "formats", "adapter_recipes", "community_quants", "guard_models", "hiring_pool")
    return LedgerRow(
        ledger=ledger,
        models=tuple(m.id for m in models),
        first_release=dated[0][0] if dated else None,
        last_release=dated[-1][0] if dated else None,
        age_months=(today - days[-1]).days / _DAYS_PER_MONTH if days else None,
        cadence_months=gaps[len(gaps) // 2] if gaps else None,
        licences=tuple(dict.fromkeys(licence for _, licence in dated)),
        licence_changes=sum(not a & b for a, b in zip(steps, steps[1:], strict=False)),
        evidence={name: ledger.source_of(name).evidence for name in fields},
    )


def _belongs(model: Model, ledger: Ledger) -> bool:
    return model.developer in ledger.developers and any(model.family.startswith(f) for f in ledger.families)


def _day(text: str) -> date:
    parts = [int(p) for p in text.split("-")] + [1, 1]
    return date(parts[0], parts[1], parts[2])

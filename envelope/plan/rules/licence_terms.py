"""Licences of the models that a candidate runs itself, against the facts of the company and of the candidate."""

from collections.abc import Iterator

from envelope.plan.rules.rule import ConstraintResult
from envelope.spec.hosted import HostedModel
from envelope.spec.licence import Licence
from envelope.spec.load import ids, load
from envelope.spec.model import Model
from envelope.spec.scenario import Candidate, Company, Scenario

_EU = {
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT", "LU", "LV",
    "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
}  # fmt: skip
"""Members of the European Union (ISO 3166 codes); a licence that excludes the EU excludes them."""

_WEIGHTS_KEPT = {"none", "prompt", "retrieval", "rag", "few-shot"}
"""Adaptations that leave the weights as they are; every other makes derived weights."""

_MONTHS_PER_YEAR = 12


def licence_constraint(scenario: Scenario, candidate: Candidate, model: Model, licence: Licence) -> ConstraintResult:
    """Return whether a licence grants the use: users, revenue, territory, adapted and redistributed weights, hosting.

    The margin is that of the licence's cap that is nearest; terms that are no number are kept or broken whole.
    """
    company, ident = scenario.company, f"licence.{model.id}"
    caps = list(_caps(company, licence))
    value, limit, unit = min(caps, key=lambda c: 1 - c[0] / c[1], default=(None, None, ""))
    margin = None if value is None or limit is None else 1 - value / limit
    breaches = [*_cap_breaches(caps), *_term_breaches(company, candidate, model, licence)]
    if breaches:
        return ConstraintResult(
            id=ident, satisfied=False, value=value, limit=limit, unit=unit,
            margin_frac=margin if margin is not None and margin < 0 else -1.0,
            explanation=f"{licence.name}: {'; '.join(breaches)}",
            fix="choose a model under another licence, or ask the licensor",
        )  # fmt: skip
    room = f"; {value:,.0f} of at most {limit:,.0f} {unit}" if limit else ""
    duties = "; ".join(_duties(company, candidate, licence))
    return ConstraintResult(
        id=ident, satisfied=True, value=value, limit=limit, unit=unit, margin_frac=margin,
        explanation=f"{licence.name} allows the use{room}" + (f" – with duties: {duties}" if duties else ""),
    )  # fmt: skip


def changes_weights(candidate: Candidate) -> bool:
    """Return whether the candidate runs weights that were derived from the published ones."""
    return bool(candidate.trained_on) or candidate.adaptation not in _WEIGHTS_KEPT


def _caps(company: Company, licence: Licence) -> Iterator[tuple[float, float, str]]:
    """Yield (what the company has, what is allowed, unit) of each cap above which rights end."""
    if licence.user_cap and licence.user_cap_effect == "licence_needed":
        yield company.licence_users, licence.user_cap, "monthly users"
    if licence.revenue_cap_usd_per_month and licence.revenue_cap_effect == "licence_needed":
        monthly = (company.annual_revenue_usd or 0.0) / _MONTHS_PER_YEAR
        yield monthly, licence.revenue_cap_usd_per_month, "USD of revenue a month"


def _cap_breaches(caps: list[tuple[float, float, str]]) -> Iterator[str]:
    for value, limit, unit in caps:
        if value > limit:
            yield f"{value:,.0f} {unit} are above its cap of {limit:,.0f}"


def _term_breaches(company: Company, candidate: Candidate, model: Model, licence: Licence) -> Iterator[str]:
    if not licence.commercial_use:
        yield "no commercial use"
    if company.serves_third_parties and not licence.hosting_allowed:
        yield "offering it as a service to others needs another licence"
    if company.redistributes_weights and not licence.redistribution_allowed:
        yield "weights may not be passed on"
    if changes_weights(candidate) and not licence.derivatives_allowed:
        yield f"weights may not be adapted ({candidate.adaptation})"
    yield from _teacher_breaches(candidate, model)
    for place in licence.excluded_territories:
        covers = place.territory == company.territory or (place.territory == "EU" and company.territory in _EU)
        if covers and (not place.modalities or set(place.modalities) & set(model.modalities)):
            yield f"grants no rights in {place.territory} {place.scope}".strip()


def _teacher_breaches(candidate: Candidate, model: Model) -> Iterator[str]:
    """Yield the teachers whose outputs may not train this model; what nobody has read counts as not allowed."""
    for name in candidate.trained_on:
        if name in ids("hosted"):
            api = load(HostedModel, "hosted", name, file=candidate.id, path="trained_on")
            yield f"whether outputs of {api.name} may train other models is not known"
            continue
        teacher = load(Model, "models", name, file=candidate.id, path="trained_on")
        terms = load(Licence, "licences", teacher.licence, file=candidate.id, path="trained_on")
        # Licences that forbid it all except models of their own line.
        if terms.output_training_allowed is True or teacher.licence == model.licence:
            continue
        known = "may not" if terms.output_training_allowed is False else "are not known to be allowed to"
        yield f"outputs of {teacher.name} {known} train other models ({terms.name})"


def _duties(company: Company, candidate: Candidate, licence: Licence) -> Iterator[str]:
    """Yield what the licence asks for in return, as far as it concerns this use."""
    if licence.display_name and (licence.display_name_always or _above_display_cap(company, licence)):
        yield f'show "{licence.display_name}"'
    if company.redistributes_weights and licence.attribution:
        yield licence.attribution
    if changes_weights(candidate):
        if licence.derivative_name_prefix:
            yield f'the names of adapted models start with "{licence.derivative_name_prefix}"'
        if licence.derivative_terms:
            yield licence.derivative_terms


def _above_display_cap(company: Company, licence: Licence) -> bool:
    users = licence.user_cap_effect == "display_name" and company.licence_users > (licence.user_cap or 0)
    cap = licence.revenue_cap_usd_per_month if licence.revenue_cap_effect == "display_name" else None
    return users or (cap is not None and (company.annual_revenue_usd or 0.0) / _MONTHS_PER_YEAR > cap)

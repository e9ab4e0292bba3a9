"""A hard rule applied to one candidate: whether it is kept, by how much, and what would mend it."""

from collections.abc import Sequence

from envelope.provenance import Frozen


class ConstraintResult(Frozen):
    """One hard constraint applied to one candidate."""

    id: str
    """Name of the rule, such as ``memory`` or ``slo_attainment``."""
    satisfied: bool
    value: float | None = None
    """What the candidate has or needs, in ``unit``."""
    limit: float | None = None
    """What the rule allows, in ``unit``."""
    unit: str = ""
    margin_frac: float | None = None
    """Distance to the limit as a fraction of it; negative when broken."""
    explanation: str
    """One sentence with the numbers."""
    basis: str = ""
    """What the value rests on or stands for, where that is not plain from the name."""
    fix: str | None = None
    """Smallest change found that would satisfy the rule."""


_WORDS = {
    "slo_attainment": "the SLO", "served": "requests served", "solved": "tasks solved", "budget": "the budget",
    "pinned_model": "a pinned model", "data_terms": "the terms on data", "offline": "working offline",
}  # fmt: skip


def in_words(ident: str) -> str:
    """Return the name of a constraint as it stands in a sentence.

    >>> in_words("slo_attainment"), in_words("rack_space"), in_words("ledger.age.qwen3-32b")
    ('the SLO', 'rack space', 'ledger: age (qwen3-32b)')
    """
    head, _, rest = ident.partition(".")
    if head == "ledger":
        rule, _, model = rest.partition(".")
        return f"ledger: {rule} ({model})"
    words = _WORDS.get(head, head.replace("_", " "))
    return f"{words} ({rest})" if rest else words


def binding(constraints: Sequence[ConstraintResult]) -> str | None:
    """Return the id of the broken constraint furthest from its limit; without one, of the closest to it."""
    broken = [c for c in constraints if not c.satisfied]
    rated = [c for c in (broken or constraints) if c.margin_frac is not None]
    if rated:
        return min(rated, key=lambda c: c.margin_frac or 0.0).id
    return broken[0].id if broken else None

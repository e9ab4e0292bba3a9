"""Why a candidate fits or does not, as a person reads it in a terminal: constraints, margins, exposures, fixes."""

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from envelope.plan.rules.exposure import Exposure
from envelope.plan.rules.rule import ConstraintResult, in_words
from envelope.plan.verdict.results import CandidateResult, Fix
from envelope.report import text
from envelope.spec.scenario import Failure

_FIXES = 2
"""Fixes shown for each candidate: of the deployment, and of the limits."""

_UNITS: dict[Failure, str] = {
    "leak": "leaks/yr", "wrong_answer": "wrong/yr", "unsafe_tool_use": "unsafe/yr", "downtime": "h/yr",
    "silent_model_change": "days/yr", "cost_overrun": "over",
}  # fmt: skip


def exposure_cell(found: Exposure | None) -> str:
    """Return how much of a failure a candidate lets happen, in few letters."""
    if found is None:
        return "–"
    if found.failure == "cost_overrun":
        return text.money(found.value)
    return f"{text.si(found.value)} {_UNITS[found.failure]}"


def margin_text(rule: ConstraintResult) -> str:
    """Return the distance to the limit as a share of it; a rule that is no number has none."""
    if rule.margin_frac is None or (rule.value is None and rule.limit is None):
        return "–"
    return f"{100 * rule.margin_frac:+.1f} %"


def why_not(candidates: Sequence[CandidateResult]) -> Iterable[RenderableType]:
    """Yield for each infeasible candidate what binds it, by how much, what else is broken, and the smallest fixes."""
    broken = [c for c in candidates if not c.feasible]
    if broken:
        yield Text("Why not the others", style="bold")
    for item in broken:
        yield Text(f"  {item.name}", style="red")
        first, *rest = _ordered(item)
        yield Padding(Text.assemble("✘ ", first.explanation, (_short_by(first), "bold")), (0, 0, 0, 4))
        if rest:
            also = "; ".join(f"{in_words(r.id)} {_short_by(r).strip(' –')}".strip() for r in rest)
            yield Padding(Text(f"also broken: {also}", style="dim"), (0, 0, 0, 6))
        yield from (Padding(_fix(f), (0, 0, 0, 6)) for f in item.fixes[:_FIXES])
        if not item.fixes and first.fix:
            yield Padding(Text(f"→ {first.fix} (alone not enough)", style="cyan"), (0, 0, 0, 6))


def print_why(item: CandidateResult, console: Console) -> None:
    """Print one candidate line by line: every constraint with its margin, exposures, fixes, evidence."""
    for part in _detail(item):
        console.print(part)


def _detail(item: CandidateResult) -> Iterable[RenderableType]:
    verdict = ("fits", "bold green") if item.feasible else ("does not fit", "bold red")
    yield Text.assemble(f"\n{item.name} ", verdict, f" · binding: {item.binding or 'nothing'}")
    table = Table(title="Constraints", box=SIMPLE_HEAD, title_justify="left")
    table.add_column("")
    table.add_column("rule", overflow="fold")
    table.add_column("margin", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for rule in item.constraints:
        mark = Text("✔", "green") if rule.satisfied else Text("✘", "red")
        table.add_row(mark, _name(rule), margin_text(rule), rule.explanation)
    yield table
    yield from _exposures(item)
    if item.failure is not None:
        yield Text(f"If a node fails: {item.failure.text}\n")
    if len(item.years) > 1:
        yield _years(item)
    if item.fixes:
        yield Text("Smallest changes that make it fit", style="bold")
        yield from (Padding(_fix(f), (0, 0, 0, 2)) for f in item.fixes)
    notes = "; ".join(item.evidence_notes)
    yield Text(f"Weakest evidence: {item.evidence}. {notes}\n", style="dim")


def _years(item: CandidateResult) -> Table:
    table = Table(title="Years (≈: not simulated itself)", box=SIMPLE_HEAD, title_justify="left")
    for name in ("year", "replicas", "requests", "SLO met", "served", "kept"):
        table.add_column(name, justify="right")
    for year in item.years:
        about = "" if year.simulated else "≈ "
        table.add_row(
            str(year.year), str(year.replicas or "–"), text.si(year.requests_per_year),
            about + text.percent(year.slo_attainment_frac, 1), about + text.percent(year.served_frac, 1),
            "yes" if year.keeps_service else "no",
        )  # fmt: skip
    return table


def _exposures(item: CandidateResult) -> Iterable[RenderableType]:
    if not item.exposures:
        return
    table = Table(title="Exposure to failures", box=SIMPLE_HEAD, title_justify="left")
    for name in ("failure", "how much", "rests on"):
        table.add_column(name, overflow="fold")
    for found in item.exposures:
        table.add_row(found.failure.replace("_", " "), found.text, f"{found.basis} ({found.evidence})")
    yield table


def _ordered(item: CandidateResult) -> list[ConstraintResult]:
    """Return the broken constraints, the binding one first."""
    broken = [c for c in item.constraints if not c.satisfied]
    return sorted(broken, key=lambda c: c.id != item.binding)


def _short_by(rule: ConstraintResult) -> str:
    """Return by how much a limit is missed; a rule that is simply broken says so in its explanation."""
    if not rule.margin_frac or not rule.limit or margin_text(rule) == "–":
        return ""
    off = -100 * rule.margin_frac
    return f" – {off:.0f} % off" if off >= 10 else f" – {off:.2g} % off"


def _name(rule: ConstraintResult) -> str:
    return rule.id.replace("_", " ")


def _fix(fix: Fix) -> RenderableType:
    tail = f" ({text.money(fix.cost_npv)})" if fix.cost_npv is not None else ""
    kind = "if limits give way: " if fix.concession and not fix.text.startswith("if ") else ""
    return Group(Text.assemble("→ ", kind, (fix.text, ""), (tail, "dim"), style="cyan"))

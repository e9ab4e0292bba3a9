"""Trying changes of a scenario: each set is judged once, and no further than to the rules that keep it out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from envelope.errors import InputError
from envelope.plan.chain import judged
from envelope.plan.verdict.figures import candidate_result
from envelope.plan.verdict.results import CandidateResult, Change
from envelope.spec.scenario import Candidate, Scenario

Option = tuple[Change, ...]
"""Changes that belong together and count as one."""

Tick = Callable[[str], object]


def applied(scenario: Scenario, changes: Iterable[Change]) -> Scenario:
    """Return a scenario with changes made to it, all at once.

    Raises ``InputError`` for a change that the rules of a scenario's file do not allow.
    """
    return scenario.replace({change.path: change.value for change in changes})


@dataclass(frozen=True, slots=True)
class Trial:
    """Options that were tried together, and what came of it."""

    options: tuple[Option, ...]
    result: CandidateResult
    mended: dict[str, str] = field(default_factory=dict)
    """Constraint → the changes that were made to mend it, in words."""

    @property
    def changes(self) -> tuple[Change, ...]:
        """All changes; of two of the same value the later counts."""
        kept = {change.path: change for option in self.options for change in option}
        return tuple(kept.values())

    @property
    def broken(self) -> tuple[str, ...]:
        """Ids of the broken constraints."""
        return tuple(c.id for c in self.result.constraints if not c.satisfied)

    @property
    def size(self) -> int:
        """Options that change anything."""
        return len({tuple(change.path for change in option) for option in self.options})


@dataclass(slots=True)
class Trials:
    """Evaluations of one candidate under changes, each kept; at most ``most`` of them."""

    scenario: Scenario
    ident: str
    seeds: int
    tick: Tick
    most: int
    known: dict[str, CandidateResult | None] = field(default_factory=dict)

    def trial(self, options: tuple[Option, ...], mended: dict[str, str] | None = None) -> Trial | None:
        """Return what comes of options, or ``None`` if they are not allowed or enough was tried."""
        bare = Trial(options, _nothing(self.ident))
        key = repr(sorted((c.path, repr(c.value)) for c in bare.changes))
        if key not in self.known:
            if len(self.known) >= self.most:
                return None
            self.known[key] = self._evaluated(bare.changes)
        found = self.known[key]
        return None if found is None else Trial(options, found, mended or {})

    def candidate(self, options: tuple[Option, ...]) -> tuple[Scenario, Candidate]:
        """Return the scenario and the candidate after the changes."""
        changed = applied(self.scenario, Trial(options, _nothing(self.ident)).changes)
        return changed, next(c for c in changed.candidates if c.id == self.ident)

    def _evaluated(self, changes: Option) -> CandidateResult | None:
        try:
            scenario = applied(self.scenario, changes)
            candidate = next(c for c in scenario.candidates if c.id == self.ident)
            said = next((change.text for change in reversed(changes) if change.text), "")
            self.tick(f"{candidate.name}: {said}?" if said else candidate.name)
            found = judged(scenario, candidate, seeds=self.seeds, tick=self.tick, until="service")
            return candidate_result(found)
        except InputError:
            return None  # Not an answer: no price for such devices, a split that cannot be.


def _nothing(ident: str) -> CandidateResult:
    return CandidateResult(id=ident, name=ident, feasible=False, constraints=())

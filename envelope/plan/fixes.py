"""The smallest changes after which an infeasible candidate keeps every constraint, found by trying them."""

from collections.abc import Callable, Sequence

from envelope.errors import InputError
from envelope.plan.evaluate import evaluate_candidate
from envelope.plan.fixes_options import (
    Option,
    deployment_options,
    limit_options,
    replica_option,
    slo_option,
)
from envelope.plan.fixes_path import applied
from envelope.plan.results import CandidateResult, Change, ConstraintResult, Fix
from envelope.spec.scenario import Scenario

MOST_TIMES = 8
"""Multiple of the replicas that is tried at most."""
SLOWEST = 16.0
"""Factor on the limits of an SLO that is tried at most."""
EVALUATIONS = 48
SEAT_EVALUATIONS = 14
"""Evaluations of changed scenarios that the search for one candidate may take."""
_NEAR_FRAC = 0.6
"""Share of the limit below which devices that are mostly idle are taken to be too slow for the work."""
_IDLE_FRAC = 0.5
_ROUNDS = 6
"""Constraints that are mended one after the other at most."""
_TRIED = 4
"""Deployments that are simulated for one constraint; of those that mend it the cheapest is taken."""

Tick = Callable[[str], object]


def with_fixes(scenario: Scenario, result: CandidateResult, *, seeds: int, tick: Tick) -> CandidateResult:
    """Return an infeasible result with its fixes, and each broken constraint with the change that mends it.

    There are two searches: one changes the deployment where that helps, the other moves the limits. Constraints are
    mended one after the other; for each the cheapest working change of the deployment is taken, or the limit is
    moved just as far as needed. Every fix is verified by evaluating the changed scenario.
    """
    if result.feasible:
        return result
    known: dict[str, CandidateResult] = {}
    search = _Search(scenario, result, seeds, tick, False, known)
    first = search.fix()
    second = _Search(scenario, result, seeds, tick, True, known).fix()
    fixes = {tuple(c.text for c in f.changes): f for f in (second, first) if f is not None}
    constraints = tuple(
        c.model_copy(update={"fix": search.mended[c.id]}) if c.id in search.mended and c.id != "budget" else c
        for c in result.constraints
    )
    ordered = tuple(sorted(fixes.values(), key=lambda f: (f.concession, len(f.changes))))
    return result.model_copy(update={"fixes": ordered, "constraints": constraints})


class _Search:
    """One search for one candidate; ``mended`` holds the words for each constraint that was mended.

    ``known`` holds outcomes by the changes that led to them, for several searches together.
    """

    def __init__(
        self,
        scenario: Scenario,
        result: CandidateResult,
        seeds: int,
        tick: Tick,
        concede: bool,
        known: dict[str, CandidateResult],
    ) -> None:
        self.scenario, self.result, self.seeds, self.tick, self.concede = scenario, result, seeds, tick, concede
        self.known, self.original = known, scenario
        self.mended: dict[str, str] = {}
        self.done: dict[str, object] = {}

    def fix(self) -> Fix | None:
        """Return the changes that make the candidate feasible, or ``None`` if none were found."""
        changes: list[Change] = []
        for _ in range(_ROUNDS):
            broken = next((c for c in self.result.constraints if not c.satisfied), None)
            if broken is None:
                return _fix(changes, self.result)
            option = self._mend(broken)
            if option is None:
                return None
            self.mended.setdefault(broken.id, ", ".join(c.text for c in option))
            changes = [c for c in changes if c.path not in {o.path for o in option}] + list(option)
        done = all(c.satisfied for c in self.result.constraints)
        return _fix(changes, self.result) if done else None

    def _mend(self, broken: ConstraintResult) -> Option | None:
        ways = (self._concession, self._deployment) if self.concede else (self._deployment, self._concession)
        for way in ways:
            found = way(broken)
            if found is not None:
                option, self.scenario, self.result = found
                self.done |= {c.path: c.value for c in option}
                return option
        return None

    def _deployment(self, broken: ConstraintResult) -> tuple[Option, Scenario, CandidateResult] | None:
        candidate = next(c for c in self.scenario.candidates if c.id == self.result.id)
        if _hopeless(self.result, broken):
            return None
        options = list(deployment_options(self.scenario, candidate, broken))[:_TRIED]
        tried = [self._more(broken), *(self._try(option, broken) for option in options)]
        working = [t for t in tried if t is not None]
        return min(working, key=lambda t: (not t[2].feasible, t[2].cost_npv or 0.0), default=None)

    def _concession(self, broken: ConstraintResult) -> tuple[Option, Scenario, CandidateResult] | None:
        if broken.id == "slo_attainment":
            slower = self._slower(broken)
            if slower is not None:
                return slower
        for option in limit_options(self.original, broken):
            found = self._try(option, broken)
            if found is not None:
                return found
        return None

    def _more(self, broken: ConstraintResult) -> tuple[Option, Scenario, CandidateResult] | None:
        """Return the fewest further replicas that mend a service level, or the most that keep power and space."""
        candidate = next(c for c in self.scenario.candidates if c.id == self.result.id)
        if not candidate.pools or candidate.pools[0].role == "seat":
            return None
        now = candidate.pools[0].replicas
        if broken.id in {"power", "rack_space"} and broken.value and broken.limit and now > 1:
            fewer = int(now * broken.limit / broken.value)
            return self._try(replica_option(candidate, fewer), broken) if 0 < fewer < now else None
        if broken.id not in {"slo_attainment", "served", "growth"}:
            return None
        too_few, count = now, min(now * 2, now * MOST_TIMES)
        found = self._try(replica_option(candidate, count), broken)
        while found is None and count < now * MOST_TIMES:
            too_few, count = count, count * 2
            found = self._try(replica_option(candidate, count), broken)
        while found is not None and count - too_few > 1:
            middle = (too_few + count) // 2
            smaller = self._try(replica_option(candidate, middle), broken)
            too_few, count, found = (too_few, middle, smaller) if smaller else (middle, count, found)
        return found

    def _slower(self, broken: ConstraintResult) -> tuple[Option, Scenario, CandidateResult] | None:
        """Return the shortest limits, longer than now for the classes that miss theirs, that mend the SLO."""
        found, low, high = self._try(slo_option(self.scenario, self.result, SLOWEST), broken), 1.0, SLOWEST
        while found is not None and high / low > 1.05:
            middle = (low * high) ** 0.5
            shorter = self._try(slo_option(self.scenario, self.result, middle), broken)
            low, high, found = (low, middle, shorter) if shorter else (middle, high, found)
        return found

    def _budget(self) -> int:
        """Return the evaluations that one candidate may take; a fleet of seats is slow to simulate."""
        pools = next(c for c in self.scenario.candidates if c.id == self.result.id).pools
        return SEAT_EVALUATIONS if any(p.role == "seat" for p in pools) else EVALUATIONS

    def _try(self, option: Option, broken: ConstraintResult) -> tuple[Option, Scenario, CandidateResult] | None:
        """Return the outcome of an option if it mends the constraint and breaks no other that held."""
        if not option:
            return None
        self.tick(f"{self.result.name}: {option[0].text}?")
        held = {c.id for c in self.result.constraints if c.satisfied}
        key = repr(sorted((self.done | {c.path: c.value for c in option}).items()))
        try:
            scenario = applied(self.scenario, option)
            candidate = next(c for c in scenario.candidates if c.id == self.result.id)
            if key not in self.known and len(self.known) >= self._budget():
                return None
            if key not in self.known:
                self.known[key] = evaluate_candidate(scenario, candidate, seeds=self.seeds, tick=self.tick)
        except InputError:
            return None  # Not an answer: no price for such devices, a split that cannot be.
        outcome = self.known[key]
        failed = {c.id for c in outcome.constraints if not c.satisfied}
        # Limits that money can lift may break on the way; they are mended in a later round.
        worse = (failed & held) - {"budget", "power", "rack_space", "growth"}
        return None if broken.id in failed or worse else (option, scenario, outcome)


def _hopeless(result: CandidateResult, broken: ConstraintResult) -> bool:
    """Return whether more or lighter replicas cannot mend a service level.

    Either what is not served is too long for the model, or a seat's own device is far too slow.
    """
    service = result.service
    if service is None or broken.id not in {"slo_attainment", "served", "growth"} or not broken.limit:
        return False
    offered = max(sum(c.requests for c in service.classes), 1)
    too_long = sum(c.too_long_frac * c.requests for c in service.classes) / offered
    alone = broken.value is not None and result.devices >= 1 and broken.value < _NEAR_FRAC * broken.limit
    slow = alone and service.device_utilisation_frac is not None and service.device_utilisation_frac < _IDLE_FRAC
    return too_long > 1.0 - broken.limit or slow


def _fix(changes: Sequence[Change], result: CandidateResult) -> Fix:
    return Fix(
        changes=tuple(changes),
        text=", ".join(c.text for c in changes),
        concession=any(c.concession for c in changes),
        cost_npv=result.cost_npv,
    )

"""Gates: how sure one must be, from trials, that a candidate fails seldom enough, and how many trials are missing."""

from collections.abc import Sequence

from envelope.plan.case.measured import is_about, parts_of
from envelope.plan.rules.rule import ConstraintResult
from envelope.provenance import Frozen
from envelope.spec.evidence import EvidenceRecord, EvidenceSet, Gate
from envelope.spec.scenario import Candidate, Scenario

MOST_TRIALS = 10_000_000
"""Further trials beyond which a gate counts as out of reach."""


class GateStatus(Frozen):
    """One gate applied to one candidate."""

    gate: str
    task: str
    candidate: str
    passed: bool
    hard: bool
    failures: int
    trials: int
    upper_frac: float
    """Upper bound of the failure rate at the gate's confidence."""
    limit_frac: float
    confidence_frac: float
    further_trials: int | None
    """Fewest further trials that would pass the gate if none of them failed; ``None`` if out of reach."""
    further_trials_at_rate: int | None
    """The same if trials went on failing at the rate seen so far; ``None`` if that rate never passes."""
    public_only: bool = False
    """Whether only public scores exist, which do not count here."""


def upper_bound_frac(
    failures: float, trials: float, confidence_frac: float, *, prior: tuple[float, float] = (0.5, 0.5)
) -> float:
    """Return the one-sided upper bound of the failure rate: the posterior's quantile at ``confidence_frac``."""
    from scipy.special import betaincinv

    return float(betaincinv(prior[0] + failures, prior[1] + trials - failures, confidence_frac))


def further_trials(
    failures: int,
    trials: int,
    gate: Gate,
    *,
    rate_frac: float = 0.0,
    prior: tuple[float, float] = (0.5, 0.5),
) -> int | None:
    """Return the fewest further trials, failing at ``rate_frac``, after which the gate passes; ``None`` if none do."""

    def passes(more: int) -> bool:
        total = trials + more
        bound = upper_bound_frac(failures + rate_frac * more, total, gate.confidence_frac, prior=prior)
        return bound < gate.max_failure_frac and total >= gate.min_trials

    if passes(0):
        return 0
    if rate_frac >= gate.max_failure_frac:
        return None
    high = 1
    while not passes(high):
        high *= 2
        if high > MOST_TRIALS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def gate_status(gate: Gate, records: Sequence[EvidenceRecord], candidate: str, evidence: EvidenceSet) -> GateStatus:
    """Return whether the records of one candidate pass a gate, and how many trials are missing."""
    prior = (evidence.prior_failures, evidence.prior_passes)
    mine = [r for r in records if r.task == gate.task]
    counted = [r for r in mine if gate.public_counts or r.kind == "private"]
    failures, trials = sum(r.failures for r in counted), sum(r.trials for r in counted)
    bound = upper_bound_frac(failures, trials, gate.confidence_frac, prior=prior)
    return GateStatus(
        gate=gate.id,
        task=gate.task,
        candidate=candidate,
        passed=trials >= max(gate.min_trials, 1) and bound < gate.max_failure_frac,
        hard=gate.hard,
        failures=failures,
        trials=trials,
        upper_frac=bound,
        limit_frac=gate.max_failure_frac,
        confidence_frac=gate.confidence_frac,
        further_trials=further_trials(failures, trials, gate, prior=prior),
        further_trials_at_rate=further_trials(
            failures, trials, gate, rate_frac=failures / trials if trials else 0.0, prior=prior
        ),
        public_only=bool(mine) and not counted,
    )


def gate_constraint(status: GateStatus) -> ConstraintResult:
    """Return a gate as a hard constraint."""
    seen = f"{status.failures} of {status.trials:,} trials failed"
    bound = f"upper {status.confidence_frac:.0%} bound of the failure rate {status.upper_frac:.2%}"
    text = f"{seen}; {bound}, must lie below {status.limit_frac:.2%}"
    if status.public_only:
        text += "; public scores exist but do not settle a gate"
    more = status.further_trials
    fix = None if status.passed else _trials_text(more, status)
    return ConstraintResult(
        id=f"evidence.{status.gate}", satisfied=status.passed, value=status.upper_frac, limit=status.limit_frac,
        unit="failure rate", margin_frac=1 - status.upper_frac / status.limit_frac if status.passed
        else min(1 - status.upper_frac / status.limit_frac, -0.01),
        explanation=text, fix=fix,
    )  # fmt: skip


def _trials_text(more: int | None, status: GateStatus) -> str:
    if more is None:
        return "no number of further trials settles it: choose another model"
    tail = ""
    if status.failures and status.further_trials_at_rate is not None:
        tail = f"; about {status.further_trials_at_rate:,} at the rate seen so far"
    return f"run {more:,} further trials without a failure{tail}"


def gates_of(scenario: Scenario, candidate: Candidate) -> list[GateStatus]:
    """Return every gate of the scenario applied to one candidate; of several models the worst decides."""
    found = []
    for gate in scenario.evidence.gates:
        each = [
            gate_status(
                gate,
                [r for r in scenario.evidence.records if is_about(r, part, candidate, True)],
                candidate.id,
                scenario.evidence,
            )
            for part in parts_of(candidate)
        ]
        found.append(max(each, key=lambda s: (not s.passed, s.upper_frac)))
    return found

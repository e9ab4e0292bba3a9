"""From trials to verdicts: posteriors of failure rates, gates, trials still needed, and measured difficulty."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from envelope.plan.rules.static import ASSUMED_DIFFICULTY
from envelope.plan.verdict.results import ConstraintResult
from envelope.provenance import Evidence, Frozen, Source
from envelope.spec.evidence import EvidenceRecord, EvidenceSet, Gate, QuantizationPrior
from envelope.spec.hosted import HostedModel
from envelope.spec.load import ids, load
from envelope.spec.model import Model
from envelope.spec.scenario import Candidate, Scenario, Tier

MOST_TRIALS = 10_000_000
"""Further trials beyond which a gate counts as out of reach."""


class FailureRate(Frozen):
    """Posterior of a failure rate: Beta(prior + failures, prior + passes)."""

    failures: int
    trials: int
    mean_frac: float
    low_frac: float
    high_frac: float
    """Central 90 % of the posterior."""


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


class TaskEvidence(Frozen):
    """What difficulty a candidate is given on one task class, and where it comes from."""

    candidate: str
    task: str
    tier: Tier
    assumed_frac: float
    """Probability to fail that the scenario assumes for the tier."""
    used_frac: float
    basis: str
    evidence: Evidence
    rate: FailureRate | None = None


def failure_rate(failures: int, trials: int, *, prior: tuple[float, float] = (0.5, 0.5)) -> FailureRate:
    """Return the posterior of a failure rate after ``failures`` in ``trials``.

    Beta(a + f, b + n − f) with the prior Beta(a, b); 0.5, 0.5 is Jeffreys' (L. D. Brown, T. T. Cai, A. DasGupta,
    *Interval Estimation for a Binomial Proportion*, 2001, section 3.2).
    """
    from scipy.stats import beta  # slow to import, and most commands need none

    after = beta(prior[0] + failures, prior[1] + trials - failures)
    return FailureRate(
        failures=failures,
        trials=trials,
        mean_frac=float(after.mean()),
        low_frac=float(after.ppf(0.05)),
        high_frac=float(after.ppf(0.95)),
    )


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


@dataclass(frozen=True, slots=True)
class _Part:
    """One model in one format that takes part in a candidate."""

    name: str
    weights: str
    tier: Tier


def candidate_records(scenario: Scenario, candidate: Candidate) -> list[EvidenceRecord]:
    """Return the records about the models of a candidate in the formats in which it runs them."""
    return [r for part in _parts(candidate) for r in scenario.evidence.records if _is_about(r, part, candidate, True)]


def gates_of(scenario: Scenario, candidate: Candidate) -> list[GateStatus]:
    """Return every gate of the scenario applied to one candidate; of several models the worst decides."""
    found = []
    for gate in scenario.evidence.gates:
        each = [
            gate_status(
                gate,
                [r for r in scenario.evidence.records if _is_about(r, part, candidate, True)],
                candidate.id,
                scenario.evidence,
            )
            for part in _parts(candidate)
        ]
        found.append(max(each, key=lambda s: (not s.passed, s.upper_frac)))
    return found


def measured_work(scenario: Scenario, candidate: Candidate) -> tuple[Scenario, list[TaskEvidence]]:
    """Return the scenario with the difficulty that evidence shows for this candidate, and what was used where.

    Where there is no record the scenario's assumption holds. A record of another format of the same model counts
    with the sourced prior of what quantization loses; so does the assumption itself.
    """
    used = [
        _task_evidence(scenario, candidate, part, index)
        for index in range(len(scenario.workload.tasks))
        for part in dict.fromkeys(_parts(candidate))
    ]
    changed: dict[str, dict[str, float]] = {}
    for item in used:
        levels = changed.setdefault(item.task, {})
        levels[item.tier] = max(levels.get(item.tier, 0.0), item.used_frac)
    tasks = tuple(
        task.model_copy(update={"difficulty": task.difficulty.model_copy(update=changed[task.id])})
        for task in scenario.workload.tasks
    )
    workload = scenario.workload.model_copy(update={"tasks": tasks})
    return scenario.model_copy(update={"workload": workload}), used


def difficulty_basis(used: Sequence[TaskEvidence]) -> str:
    """Return in words what the share of solved tasks rests on."""
    measured = list(dict.fromkeys(t.task for t in used if t.rate is not None))
    if not measured:
        prior = next((t for t in used if t.used_frac != t.assumed_frac), None)
        return ASSUMED_DIFFICULTY + (", with a prior for the loss by quantization" if prior else "")
    rest = {t.task for t in used if t.rate is None} - set(measured)
    text = f"difficulty from evidence on {', '.join(measured)}"
    return f"{text}, assumed on {', '.join(sorted(rest))}" if rest else text


def _task_evidence(scenario: Scenario, candidate: Candidate, part: _Part, index: int) -> TaskEvidence:
    task = scenario.workload.tasks[index]
    assumed = float(getattr(task.difficulty, part.tier))
    prior = (scenario.evidence.prior_failures, scenario.evidence.prior_passes)
    about = [r for r in scenario.evidence.records if r.task == task.id and r.kind == "private"]
    exact = [r for r in about if _is_about(r, part, candidate, True)]
    other = exact or [r for r in about if _is_about(r, part, candidate, False)]
    loss, origin = quantization_loss(part.name, part.weights)
    common = {"candidate": candidate.id, "task": task.id, "tier": part.tier, "assumed_frac": assumed}
    if not other:
        text = "as the scenario assumes"
        if loss > 0:
            text += f", and {loss:.0%} of the solved tasks lost by {part.weights} ({origin.source})"
        used = 1 - (1 - assumed) * (1 - loss) if loss > 0 else assumed
        return TaskEvidence(
            **common, used_frac=used, basis=text, evidence=Evidence.ASSUMED
        )  # fmt: skip
    rate = failure_rate(sum(r.failures for r in other), sum(r.trials for r in other), prior=prior)
    text = f"{rate.failures} of {rate.trials:,} trials failed"
    if exact:
        return TaskEvidence(
            **common, used_frac=rate.mean_frac, basis=text, evidence=Evidence.MEASURED, rate=rate
        )  # fmt: skip
    text += f" in {other[0].weights}; {part.weights} loses {loss:.0%} of the solved tasks ({origin.source})"
    return TaskEvidence(
        **common, used_frac=1 - (1 - rate.mean_frac) * (1 - loss), basis=text, evidence=origin.evidence, rate=rate
    )  # fmt: skip


def _parts(candidate: Candidate) -> list[_Part]:
    parts = [_Part(_catalog_id(pool.model), pool.weights, candidate.tier) for pool in candidate.pools]
    if candidate.hosted is not None:
        parts.append(_Part(_catalog_id(candidate.hosted.api), "native", candidate.hosted.tier))
    return parts


def _is_about(record: EvidenceRecord, part: _Part, candidate: Candidate, exact: bool) -> bool:
    same = _catalog_id(record.model) == part.name and record.adaptation == candidate.adaptation
    return same and (not exact or _format(part.name, record.weights) == _format(part.name, part.weights))


def _format(model: str, weights: str) -> str:
    """Return the number format meant by ``native``, so that naming it is no other evidence."""
    if weights != "native" or model not in ids("models"):
        return weights
    return load(Model, "models", model, file="evidence", path="model").native_format


@cache
def _id_cached(name: str, _stamp: int) -> str:
    if name in ids("hosted"):
        return load(HostedModel, "hosted", name, file="evidence", path="model").id
    return load(Model, "models", name, file="evidence", path="records.model").id


def _catalog_id(name: str) -> str:
    """Return the catalog's id of a model or hosted API.

    Raises ``InputError`` for an unknown name.
    """
    return _id_cached(name, len(ids("models")) + len(ids("hosted")))


def quantization_loss(model: str, weights: str) -> tuple[float, Source]:
    """Return the share of the solved tasks that a weight format loses against the checkpoint, with its source."""
    prior = load(QuantizationPrior, "quality", "quantization-loss", file="evidence", path="quantization")
    if weights == "native" or _format(model, "native") == weights:
        return 0.0, prior.source_of("losses[0]")
    for index, item in enumerate(prior.losses):
        if weights in item.formats:
            return item.loss_frac, prior.source_of(f"losses[{index}]")
    return 0.0, prior.source_of("default")

"""What a candidate was measured to solve: posteriors of failure rates, and the difficulty that they make of a task."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from envelope.identity import Same
from envelope.provenance import Evidence, Frozen, Source
from envelope.spec.evidence import EvidenceRecord, QuantizationPrior
from envelope.spec.hosted import HostedModel
from envelope.spec.load import ids, load
from envelope.spec.model import Model
from envelope.spec.scenario import Candidate, Scenario, Tier

ASSUMED_DIFFICULTY = "difficulty as the scenario assumes"
"""What a share of solved tasks rests on where the scenario has no evidence."""


class FailureRate(Frozen):
    """Posterior of a failure rate: Beta(prior + failures, prior + passes)."""

    failures: int
    trials: int
    mean_frac: float
    low_frac: float
    high_frac: float
    """Central 90 % of the posterior."""


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


@dataclass(frozen=True, slots=True)
class Part:
    """One model in one format that takes part in a candidate."""

    name: str
    weights: str
    tier: Tier


def candidate_records(scenario: Scenario, candidate: Candidate) -> list[EvidenceRecord]:
    """Return the records about the models of a candidate in the formats in which it runs them."""
    return [r for part in parts_of(candidate) for r in scenario.evidence.records if is_about(r, part, candidate, True)]


def measured_work(scenario: Scenario, candidate: Candidate) -> tuple[Scenario, list[TaskEvidence]]:
    """Return the scenario with the difficulty that evidence shows for this candidate, and what was used where.

    Where there is no record the scenario's assumption holds. A record of another format of the same model counts
    with the sourced prior of what quantization loses; so does the assumption itself.
    """
    used = [
        _task_evidence(scenario, candidate, part, index)
        for index in range(len(scenario.workload.tasks))
        for part in dict.fromkeys(parts_of(candidate))
    ]
    changed: dict[str, dict[Tier, float]] = {}
    for item in used:
        levels = changed.setdefault(item.task, {})
        levels[item.tier] = max(levels.get(item.tier, 0.0), item.used_frac)
    return _measured(Same(scenario), tuple((task, tuple(levels.items())) for task, levels in changed.items())), used


_Levels = tuple[tuple[str, tuple[tuple[Tier, float], ...]], ...]
"""Task → tier → probability to fail, for a cache."""


@lru_cache(maxsize=256)
def _measured(assumed: Same[Scenario], levels: _Levels) -> Scenario:
    """Return a scenario with other difficulties; kept, since candidates of the same tiers share it."""
    scenario, found = assumed.record, dict(levels)
    tasks = tuple(
        task.changed(difficulty=task.difficulty.changed(**dict(found[task.id]), measured=True))
        for task in scenario.workload.tasks
    )
    return scenario.changed(workload=scenario.workload.changed(tasks=tasks))


def difficulty_basis(used: Sequence[TaskEvidence]) -> str:
    """Return in words what the share of solved tasks rests on."""
    measured = list(dict.fromkeys(t.task for t in used if t.rate is not None))
    if not measured:
        prior = next((t for t in used if t.used_frac != t.assumed_frac), None)
        return ASSUMED_DIFFICULTY + (", with a prior for the loss by quantization" if prior else "")
    rest = {t.task for t in used if t.rate is None} - set(measured)
    text = f"difficulty from evidence on {', '.join(measured)}"
    return f"{text}, assumed on {', '.join(sorted(rest))}" if rest else text


def _task_evidence(scenario: Scenario, candidate: Candidate, part: Part, index: int) -> TaskEvidence:
    task = scenario.workload.tasks[index]
    assumed = float(getattr(task.difficulty, part.tier))
    prior = (scenario.evidence.prior_failures, scenario.evidence.prior_passes)
    about = [r for r in scenario.evidence.records if r.task == task.id and r.kind == "private"]
    exact = [r for r in about if is_about(r, part, candidate, True)]
    other = exact or [r for r in about if is_about(r, part, candidate, False)]
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


def parts_of(candidate: Candidate) -> list[Part]:
    """Return the models that take part in a candidate: its pools' and the hosted one."""
    parts = [Part(_catalog_id(pool.model), pool.weights, candidate.tier) for pool in candidate.pools]
    if candidate.hosted is not None:
        parts.append(Part(_catalog_id(candidate.hosted.api), "native", candidate.hosted.tier))
    return parts


def is_about(record: EvidenceRecord, part: Part, candidate: Candidate, exact: bool) -> bool:
    """Return whether a record is about a part of a candidate; ``exact`` asks for the same format too."""
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

"""Evidence: what private evaluations and public benchmarks found about a model, and the gates it must pass."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from envelope.provenance import DateText, Frozen, Sourced

Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=80)]


class EvidenceRecord(Frozen):
    """Trials of one model in one format on one kind of task, and how many it passed."""

    model: str
    """Id or alias of a model, or id of a hosted API, in the catalog."""
    weights: str = "native"
    """Weight format that was evaluated; ``native`` is the checkpoint's own."""
    adaptation: str = "none"
    """What was changed for the work: ``none``, ``prompt``, ``retrieval``, ``lora`` … as the candidate names it."""
    task: Name
    """Task class of the scenario, or the name of a probe such as ``leak-probe`` or ``recovery``."""
    trials: int = Field(ge=1, le=1_000_000_000)
    passes: int = Field(ge=0)
    kind: Literal["private", "public"] = "private"
    """``public`` benchmark scores are weather reports: shown, and never enough for a gate unless it says so."""
    date: DateText
    revision: str = ""
    """Pinned revision of the weights, or snapshot name of the hosted model, that was evaluated."""
    harness: str = ""
    """Program that ran the trials, with its version."""
    source: str = ""
    """Where the result stands: file, run id or URL."""
    note: str = ""

    @model_validator(mode="after")
    def _passes_within_trials(self) -> Self:
        if self.passes > self.trials:
            raise ValueError(f"passes={self.passes} is more than trials={self.trials}")
        if self.kind == "public" and not self.source:
            raise ValueError("a public score needs its source")
        return self

    @property
    def failures(self) -> int:
        """Trials that were not passed."""
        return self.trials - self.passes


class Gate(Frozen):
    """A bound on the rate of failure that the evidence must show before a candidate is let in."""

    id: Name
    task: Name
    """Task or probe whose records count."""
    max_failure_frac: float = Field(gt=0, lt=1)
    """The upper bound of the failure rate must lie below this."""
    confidence_frac: float = Field(default=0.95, gt=0.5, lt=1)
    """One-sided probability of that upper bound."""
    min_trials: int = Field(default=0, ge=0)
    """Trials that are asked for whatever their outcome."""
    public_counts: bool = False
    """Whether public benchmark scores may settle it."""
    hard: bool = True
    """Whether a candidate without enough evidence is infeasible; otherwise the gate is shown only."""
    note: str = ""


class EvidenceSet(Frozen):
    """All evidence beside one scenario, and its gates."""

    records: tuple[EvidenceRecord, ...] = ()
    gates: tuple[Gate, ...] = ()
    prior_failures: float = Field(default=0.5, gt=0)
    prior_passes: float = Field(default=0.5, gt=0)
    """Parameters of the Beta prior of the failure rate; 0.5 and 0.5 is Jeffreys' prior."""

    @model_validator(mode="after")
    def _ids_differ(self) -> Self:
        seen = [gate.id for gate in self.gates]
        if len(set(seen)) != len(seen):
            raise ValueError("two gates have the same id")
        return self


class QuantizationLoss(Frozen):
    """Share of the tasks solved in the checkpoint's own format that is lost in these formats."""

    formats: tuple[str, ...] = Field(min_length=1)
    loss_frac: Fraction
    low_frac: Fraction
    high_frac: Fraction


class QuantizationPrior(Sourced):
    """What quantization costs in quality where nobody has measured it on one's own work."""

    id: str
    name: str
    losses: tuple[QuantizationLoss, ...]
    note: str = ""

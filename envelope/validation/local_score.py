"""Runs of a decoder beside their predictions, and the errors of groups of them.

A run counts as disturbed when others used the processor while it was timed, or when memory was slower then than it was
for most of the probe: neighbours on the same host are seen only by the memory that they take. The targets hold on a
quiet machine, so they are judged by the undisturbed runs; the errors over all runs stand beside them. Where most runs
were disturbed, all of them together can still meet a target, for noise only adds to errors, but not miss it.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from pydantic import computed_field

from envelope.provenance import Frozen
from envelope.sensors.timing import QUIET_FRAC

Phase = Literal["decode", "prefill"]
Group = Literal["decode", "prefill", "experts"]
Runner = Literal["onnxruntime", "llama.cpp", "torch"]
"""What ran the decoders."""

SLOW_MEMORY_FRAC = 0.88
"""Share of the profile's read bandwidth below which somebody else was using the memory."""
_TARGETS: dict[Group, tuple[float, float | None]] = {
    "decode": (0.10, 0.25), "prefill": (0.12, None), "experts": (0.20, None),
}  # fmt: skip
"""Median and 90th percentile of the error that a quiet machine should reach."""


class LocalRow(Frozen):
    """One run beside its prediction."""

    runner: Runner = "onnxruntime"
    decoder: str
    number_format: str
    phase: Phase
    batch: int
    new_tokens: int
    """Per sequence: 1 in decode, the prompt's length in prefill."""
    depth_tokens: int
    """Tokens in the cache before the step."""
    predicted_s: float
    measured_s: float
    """Median of the repeats that others left alone."""
    spread_frac: float | None
    """(median − best) / best of the repeats; ``None`` of a long run that was made once."""
    noise_frac: float
    """Processor time that others took during the quietest series."""
    memory_frac: float | None = None
    """Read bandwidth of the memory around the run over the profile's median; ``None`` where it was not read."""
    experts: bool

    @computed_field  # type: ignore[prop-decorator]
    @property
    def error_frac(self) -> float:
        """(predicted − measured) / measured."""
        return (self.predicted_s - self.measured_s) / self.measured_s

    @computed_field  # type: ignore[prop-decorator]
    @property
    def disturbed(self) -> bool:
        """Whether others slowed this run in all its series."""
        return is_disturbed(self.noise_frac, self.memory_frac)


def is_disturbed(noise_frac: float, memory_frac: float | None) -> bool:
    """Return whether a run was slowed by others, by their share of the processor or by the memory left."""
    return noise_frac > QUIET_FRAC or (memory_frac is not None and memory_frac < SLOW_MEMORY_FRAC)


class Errors(Frozen):
    """Absolute errors of some runs."""

    runs: int
    median_frac: float
    p90_frac: float
    worst_frac: float
    bias_frac: float
    """Median of the signed errors: above 0 predictions are too slow."""


class LocalSummary(Frozen):
    """Errors of one group of runs."""

    runner: Runner
    group: Group
    everything: Errors
    undisturbed: Errors | None
    """Of the runs that nobody disturbed; ``None`` without any."""
    disturbed_runs: int
    target_median_frac: float
    target_p90_frac: float | None
    met: bool | None
    """Whether the runs that are judged reach the target; ``None`` if they do not and most of them were disturbed."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def judged(self) -> Literal["undisturbed", "everything"]:
        """Which runs are judged: the undisturbed ones if they are half or more of all."""
        enough = self.undisturbed is not None and 2 * self.undisturbed.runs >= self.everything.runs
        return "undisturbed" if enough else "everything"


def errors_of(rows: Sequence[LocalRow]) -> Errors | None:
    """Return the errors of some runs, ``None`` without any."""
    if not rows:
        return None
    absolute = sorted(abs(r.error_frac) for r in rows)
    return Errors(
        runs=len(rows),
        median_frac=statistics.median(absolute),
        p90_frac=absolute[min(int(0.9 * len(absolute)), len(absolute) - 1)],
        worst_frac=absolute[-1],
        bias_frac=statistics.median(r.error_frac for r in rows),
    )


def summaries(rows: Sequence[LocalRow]) -> Iterator[LocalSummary]:
    """Yield the errors of dense decode, dense prefill and sparse decoders for each runner."""
    groups: dict[Group, Callable[[LocalRow], bool]] = {
        "decode": lambda r: r.phase == "decode" and not r.experts,
        "prefill": lambda r: r.phase == "prefill" and not r.experts,
        "experts": lambda r: r.experts,
    }
    for runner in dict.fromkeys(r.runner for r in rows):
        for group, belongs in groups.items():
            own = [r for r in rows if r.runner == runner and belongs(r)]
            everything, quiet = errors_of(own), errors_of([r for r in own if not r.disturbed])
            if everything is not None:
                yield _summary(runner, group, everything, quiet)


def _summary(runner: Runner, group: Group, everything: Errors, quiet: Errors | None) -> LocalSummary:
    target, target_p90 = _TARGETS[group]
    found = LocalSummary(
        runner=runner, group=group, everything=everything, undisturbed=quiet,
        disturbed_runs=everything.runs - (quiet.runs if quiet else 0), target_median_frac=target,
        target_p90_frac=target_p90, met=None,
    )  # fmt: skip
    judged = quiet if found.judged == "undisturbed" and quiet is not None else everything
    reached = judged.median_frac <= target and (target_p90 is None or judged.p90_frac <= target_p90)
    return found.changed(met=reached if reached or found.judged == "undisturbed" else None)

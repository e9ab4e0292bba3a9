"""Predicted beside measured, load by load, and the errors that the targets are about."""

import statistics
from collections.abc import Sequence

from pydantic import computed_field

from envelope.provenance import Frozen
from envelope.validation.server.load import Measured
from envelope.validation.server.plan import Load
from envelope.validation.server.predict import Figures

QUANTITIES = {
    "ttft": ("TTFT", "ttft_s"), "itl": ("ITL", "itl_s"), "e2e": ("E2E", "e2e_s"),
    "throughput": ("output tokens/s", "output_tokens_per_s"),
}  # fmt: skip
"""Quantity → its name in tables, and the figure that holds it."""
TARGET_FRAC = 0.12
"""Median error of TTFT and E2E below saturation that a calibrated prediction should reach on a quiet machine."""
TARGET_SATURATION_FRAC = 0.10
DISTURBED_FRAC = 0.10
"""Share of the processor that others may take during a load before it counts as disturbed."""


class LoadRow(Frozen):
    """One load: measured, predicted from op probes alone, and predicted after calibration."""

    load: str
    text: str
    """The load in words."""
    role: str
    below_saturation: bool
    turns: int
    measured: Figures
    """Medians over the turns."""
    spread_frac: dict[str, float]
    """(largest − smallest) / median over the turns, by quantity; 0 of a single turn."""
    noise_frac: float | None
    """Most of the processor that others took during a turn; ``None`` where it was not seen."""
    probed: Figures
    calibrated: Figures | None

    def error_frac(self, quantity: str, *, calibrated: bool) -> float | None:
        """(predicted − measured) / measured; ``None`` without a calibration."""
        predicted = self.calibrated if calibrated else self.probed
        if predicted is None:
            return None
        field = QUANTITIES[quantity][1]
        return float(getattr(predicted, field) / getattr(self.measured, field) - 1.0)


class Verdict(Frozen):
    """Median errors of the scored loads below saturation, and the error of the saturated rate."""

    calibrated: bool
    loads: int
    median_error_frac: dict[str, float]
    """By quantity, of all scored loads below saturation."""
    bias_frac: dict[str, float]
    """Median of the signed errors."""
    saturation_measured_per_s: float | None
    """Requests per second that the burst was served at."""
    saturation_predicted_per_s: float | None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def saturation_error_frac(self) -> float | None:
        """(predicted − measured) / measured."""
        if self.saturation_measured_per_s is None or self.saturation_predicted_per_s is None:
            return None
        return self.saturation_predicted_per_s / self.saturation_measured_per_s - 1.0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def met(self) -> bool:
        """Whether TTFT, E2E and the saturated rate are within the targets."""
        times = all(self.median_error_frac.get(q, 1.0) <= TARGET_FRAC for q in ("ttft", "e2e"))
        saturation = self.saturation_error_frac
        return times and saturation is not None and abs(saturation) <= TARGET_SATURATION_FRAC


def row_of(
    load: Load, turns: Sequence[Measured], measured: Figures, probed: Figures, calibrated: Figures | None
) -> LoadRow:
    """Return the row of a load."""
    each = {
        "ttft": [t.median_s("ttft") for t in turns], "itl": [t.median_s("itl") for t in turns],
        "e2e": [t.median_s("e2e") for t in turns], "throughput": [t.output_tokens_per_s for t in turns],
    }  # fmt: skip
    noises = [t.noise_frac for t in turns if t.noise_frac is not None]
    return LoadRow(
        load=load.id, text=load.describe(), role=load.role, below_saturation=load.below_saturation, turns=len(turns),
        measured=measured, probed=probed, calibrated=calibrated, noise_frac=max(noises, default=None),
        spread_frac={q: (max(v) - min(v)) / statistics.median(v) for q, v in each.items()},
    )  # fmt: skip


def verdict(rows: Sequence[LoadRow], *, calibrated: bool) -> Verdict:
    """Return the errors of the loads that nothing was fitted on."""
    scored = [r for r in rows if r.role == "score"]
    below = [r for r in scored if r.below_saturation]
    errors = {q: [e for r in below if (e := r.error_frac(q, calibrated=calibrated)) is not None] for q in QUANTITIES}
    burst = next((r for r in scored if not r.below_saturation), None)
    figures = None if burst is None else burst.calibrated if calibrated else burst.probed
    return Verdict(
        calibrated=calibrated,
        loads=len(below),
        median_error_frac={q: statistics.median(abs(e) for e in found) for q, found in errors.items() if found},
        bias_frac={q: statistics.median(found) for q, found in errors.items() if found},
        saturation_measured_per_s=None if burst is None else burst.measured.requests_per_s,
        saturation_predicted_per_s=None if figures is None else figures.requests_per_s,
    )

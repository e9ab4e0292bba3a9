"""How far each figure of a prediction may be off: scored bands, what follows from them, and where they end."""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

from envelope.perf.kv import cache_kind
from envelope.perf.replica import ReplicaSpec
from envelope.perf.steady import Steady
from envelope.spec.error_band import Band, BandQuantity, ErrorBand, find_band

_SPEED: dict[str, BandQuantity] = {
    "ttft_s": "ttft", "itl_s": "decode", "e2e_s": "e2e", "output_tokens_per_s": "throughput",
    "prefill_tokens_per_s": "prefill", "power_w": "power", "energy_per_output_token_j": "energy",
}  # fmt: skip
_MEMORY: dict[str, BandQuantity] = {
    "weights_bytes": "weights", "kv_bytes": "kv_memory", "max_concurrency": "concurrency",
}  # fmt: skip
"""Figure of an estimate → quantity that validation scores."""


def error_bands(
    replica: ReplicaSpec, *, batch: float | None = None, input_tokens: float | None = None
) -> dict[str, Band]:
    """Return the error band of each figure, of the narrowest class that has been scored.

    Where the question lies outside what was scored – another weight format or device architecture, more requests a
    device or longer prompts than any row had – the band is the wider one of the rows that were furthest off.
    """
    hardware, model = replica.hardware, replica.model
    kind = "moe" if model.moe is not None else "dense"
    found = dict(_bands(hardware.device_class, kind, cache_kind(model)))
    asked = _Asked(replica, batch, input_tokens)
    return {figure: _widened(band, asked) for figure, band in found.items()}


@lru_cache(maxsize=128)
def _bands(device_class: str, kind: str, cache: str) -> tuple[tuple[str, ErrorBand], ...]:
    speed = ((figure, find_band(quantity, device_class, kind)) for figure, quantity in _SPEED.items())
    memory = ((figure, find_band(quantity, device_class, cache)) for figure, quantity in _MEMORY.items())
    return tuple((figure, band) for figure, band in (*speed, *memory) if band is not None)


class _Asked:
    """The settings of a question that a band's rows may not have had."""

    def __init__(self, replica: ReplicaSpec, batch: float | None, input_tokens: float | None) -> None:
        self.weights = replica.weights.id if replica.weights is not None else replica.model.native_format
        self.architecture = replica.hardware.architecture
        self.batch_per_device = None if batch is None else batch / replica.parallelism.devices
        self.input_tokens = input_tokens

    def outside(self, band: ErrorBand) -> Iterator[str]:
        """Yield what of the question no row behind the band had."""
        scored = band.scored
        if scored.formats and self.weights not in scored.formats:
            yield f"weights in {self.weights}"
        if scored.architectures and self.architecture not in scored.architectures:
            yield f"devices of {self.architecture}"
        if _above(self.batch_per_device, scored.max_batch_per_device):
            yield f"more than {scored.max_batch_per_device:,.0f} requests a device"
        if _above(self.input_tokens, scored.max_input_tokens):
            yield f"prompts above {scored.max_input_tokens:,.0f} tokens"


def _above(asked: float | None, most: float | None) -> bool:
    return asked is not None and most is not None and asked > most


def _widened(band: ErrorBand, asked: _Asked) -> Band:
    """Return the band, or the wider one where the question lies outside what was scored."""
    outside = tuple(asked.outside(band))
    worst = band.worst_ape_frac if band.worst_ape_frac is not None else 2 * band.p90_ape_frac
    median, p90 = (band.p90_ape_frac, max(worst, band.p90_ape_frac)) if outside else (
        band.median_ape_frac, band.p90_ape_frac
    )  # fmt: skip
    return Band(
        median_error_frac=median, p90_error_frac=p90, rows=band.n,
        scored_on=f"{band.device_class.replace('_', ' ')}, {band.architecture}", outside=outside,
    )  # fmt: skip


def answered_bands(
    replica: ReplicaSpec, state: Steady, input_tokens: int, output_tokens: int, batch: float
) -> dict[str, Band]:
    """Return the bands of an answer, so that they follow from each other.

    E2E is the first token and the gaps after it, so its band is theirs by their shares of the time, not a figure
    scored on other rows; the rate of a closed loop is one over E2E, and energy per token watts over that rate. Errors
    of the first token and the gaps share their cause (the step time) and are added; those of power and rate do not.
    """
    found = error_bands(replica, batch=batch, input_tokens=float(input_tokens))
    first, gaps = found.get("ttft_s"), found.get("itl_s")
    if first is None or gaps is None:
        return found
    share = min(state.ttft_s / state.e2e_s, 1.0) if output_tokens > 1 else 1.0
    e2e = _of(first, gaps, lambda a, b: share * a + (1.0 - share) * b, "from TTFT and ITL")
    found |= {"e2e_s": e2e, "output_tokens_per_s": e2e}
    power = found.get("power_w")
    if power is not None:
        found["energy_per_output_token_j"] = _of(power, e2e, math.hypot, "from power and rate")
    return found


def _of(one: Band, other: Band, join: Callable[[float, float], float], scored_on: str) -> Band:
    return Band(
        median_error_frac=join(one.median_error_frac, other.median_error_frac),
        p90_error_frac=join(one.p90_error_frac, other.p90_error_frac),
        rows=min(one.rows, other.rows),
        scored_on=scored_on,
        outside=tuple(dict.fromkeys((*one.outside, *other.outside))),
    )

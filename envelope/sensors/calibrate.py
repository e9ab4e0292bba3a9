"""Engine constants from a measured endpoint: what a running deployment takes beyond the predicted kernels.

The prediction of the same load with all engine overheads at zero is subtracted from the measured times; what remains is
regressed on the number of sequences in flight. Intervals come from resampling the levels, their times moved within
their standard errors (bootstrap).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from envelope.errors import InputError, Problem
from envelope.perf.estimate import estimate
from envelope.perf.replica import ReplicaSpec
from envelope.provenance import Evidence, Frozen, Source
from envelope.sensors.endpoint_load import EndpointResult, LevelResult, Quantiles
from envelope.sensors.onnx_graph import Array
from envelope.spec.engine import Engine

_RESAMPLES = 2000
_LEAST_SCALE = 0.2
"""Least ratio of measured to predicted kernel time; wild measurements must not give kernels that take no time."""
_SCALE_WEIGHT = 0.03 / 0.10
"""Weight of the belief that the kernels are as predicted: scatter of measurements over doubt about the scale."""
_FITTED = ("step_overhead_s", "sequence_overhead_s", "request_overhead_s")
_OVERHEADS = (*_FITTED, "prefill_overhead_s")


class Constant(Frozen):
    """One fitted constant with its 90 % interval."""

    value: float
    low: float
    high: float


class Calibration(Frozen):
    """Engine constants that make the predictions meet the measurements, for one engine on one device."""

    engine: str
    """Id of the engine that was fitted; the constants mean nothing to another."""
    device: str
    """Id of the device profile; the kernel scale holds on it alone."""
    levels: int
    step_overhead_s: Constant
    sequence_overhead_s: Constant
    request_overhead_s: Constant
    kernel_scale: Constant
    """Measured over predicted kernel time; above 1 the device or engine is slower than its profile."""
    itl_error_before_frac: float
    itl_error_after_frac: float
    """Median |predicted − measured| / measured of the mean time per output token, before and after."""


@dataclass(frozen=True, slots=True)
class _Level:
    sequences: float
    kernel_s: float
    """Predicted time per output token without engine overheads."""
    tpot_s: float
    ttft_kernel_s: float
    ttft_s: float
    shipped_s: float
    """Predicted with the engine's constants as they are."""
    tpot_sigma_ln: float
    """Standard error of the logarithm of the measured median, from the spread between requests."""
    ttft_sigma_ln: float


def calibrate(result: EndpointResult, replica: ReplicaSpec) -> Calibration:
    """Return the constants of ``replica``'s engine that fit the measured levels best.

    Per output token ``tpot = scale·kernel + step + sequences·sequence`` (non-negative, relative errors), then per
    request ``ttft = scale·prefill + step + request``. Needs at least two levels of different concurrency.
    """
    levels = [_level(x, replica) for x in result.levels if x.tpot is not None and x.ttft is not None]
    if len({x.sequences for x in levels}) < 2:
        rule = "needs answered requests at two or more concurrencies"
        raise InputError(Problem(result.url, "levels", len(levels), rule, "probe with --concurrency 1,4,16"))
    best = _fit(levels)
    random = np.random.default_rng(0)
    draws = []
    for _ in range(_RESAMPLES):
        picked = [_redrawn(levels[i], random) for i in random.integers(0, len(levels), len(levels))]
        if len({x.sequences for x in picked}) > 1:
            draws.append(_fit(picked))
    low, high = np.quantile(np.array(draws), [0.05, 0.95], axis=0)
    named = [
        Constant(value=float(v), low=min(float(a), float(v)), high=max(float(b), float(v)))
        for v, a, b in zip(best, low, high, strict=True)
    ]
    before = np.median([abs(x.shipped_s - x.tpot_s) / x.tpot_s for x in levels])
    after = np.median([abs(_tpot(best, x) - x.tpot_s) / x.tpot_s for x in levels])
    return Calibration(
        engine=replica.engine.id,
        device=replica.hardware.id,
        levels=len(levels),
        kernel_scale=named[0],
        step_overhead_s=named[1],
        sequence_overhead_s=named[2],
        request_overhead_s=named[3],
        itl_error_before_frac=float(before),
        itl_error_after_frac=float(after),
    )


def _level(measured: LevelResult, replica: ReplicaSpec) -> _Level:
    bare = _bare(replica)
    inputs, outputs = max(round(measured.input_tokens_mean), 1), max(round(measured.output_tokens_mean), 2)
    kernel = estimate(bare, inputs, outputs, measured.concurrency)
    shipped = estimate(replica, inputs, outputs, measured.concurrency)
    if kernel.itl_s is None or kernel.ttft_s is None or shipped.itl_s is None:
        reasons = "; ".join(reason.text for reason in kernel.reasons)
        raise InputError(Problem("deployment", "", None, f"cannot run this load: {reasons}"))
    if measured.tpot is None or measured.ttft is None:
        raise ValueError("a level without answered requests")
    return _Level(
        sequences=float(measured.concurrency),
        kernel_s=kernel.itl_s,
        tpot_s=measured.tpot.p50_s,
        ttft_kernel_s=kernel.ttft_s,
        ttft_s=measured.ttft.p50_s,
        shipped_s=shipped.itl_s,
        tpot_sigma_ln=_standard_error(measured.tpot),
        ttft_sigma_ln=_standard_error(measured.ttft),
    )


def _standard_error(times: Quantiles) -> float:
    """Return the standard error of a median of log-normal times, 1.25 σ/√n."""
    return 1.25 * times.sigma_ln / math.sqrt(max(times.count, 1))


def _redrawn(level: _Level, random: np.random.Generator) -> _Level:
    """Return the level with its times moved within their standard errors."""
    tpot = level.tpot_s * math.exp(random.normal(0.0, level.tpot_sigma_ln))
    return replace(level, tpot_s=tpot, ttft_s=level.ttft_s * math.exp(random.normal(0.0, level.ttft_sigma_ln)))


def _bare(replica: ReplicaSpec) -> ReplicaSpec:
    """Return the replica without what is fitted; an earlier calibration of this device goes too."""
    changed = {**dict.fromkeys(_OVERHEADS, 0.0), "kernel_scale_by_device": {}}
    return replace(replica, engine=replica.engine.changed(**changed))


def _fit(levels: Sequence[_Level]) -> Array:
    """Return kernel scale, step, sequence and request overhead.

    Kernel time hardly changes with few sequences, so scale and step overhead cannot be told apart well: one more
    equation says that the scale is 1 give or take 10 % where measurements scatter by 3 %.
    """
    from scipy.optimize import nnls

    measured = np.array([x.tpot_s for x in levels])
    columns = [[x.kernel_s for x in levels], [1.0] * len(levels), [x.sequences for x in levels]]
    matrix = np.vstack([np.array(columns).T / measured[:, None], [_SCALE_WEIGHT, 0.0, 0.0]])
    target = np.array([*np.ones(len(levels)), _SCALE_WEIGHT])
    norms = np.linalg.norm(matrix, axis=0)
    # Not below the least scale: what is fitted is what comes on top of it.
    solution = nnls(matrix / norms, target - _LEAST_SCALE * matrix[:, 0])[0] / norms
    scale, step = _LEAST_SCALE + float(solution[0]), float(solution[1])
    rest = [x.ttft_s - scale * x.ttft_kernel_s - step for x in levels]
    return np.array([scale, step, float(solution[2]), max(float(np.median(rest)), 0.0)])


def _tpot(constants: Array, level: _Level) -> float:
    return float(constants[0] * level.kernel_s + constants[1] + level.sequences * constants[2])


def calibrated_engine(calibration: Calibration, engine: Engine, ident: str, *, date: str, url: str) -> Engine:
    """Return the engine's record with the fitted constants under a new id.

    The kernel scale is stored for the calibrated device only; each source states the 90 % interval. Raises
    ``InputError`` if the calibration is that of another engine.
    """
    if engine.id != calibration.engine:
        rule = f"was fitted to {calibration.engine!r} and holds for no other engine"
        raise InputError(Problem("calibration", "engine", engine.id, rule))
    fitted = {name: getattr(calibration, name) for name in _FITTED}
    sources = {name: _source(calibration, constant, date, url) for name, constant in fitted.items()}
    # What a step with prefill adds is part of the fitted time per request.
    sources["prefill_overhead_s"] = sources["request_overhead_s"]
    sources["kernel_scale_by_device"] = _source(calibration, calibration.kernel_scale, date, url)
    changed = {
        **{name: constant.value for name, constant in fitted.items()},
        "prefill_overhead_s": 0.0,
        "kernel_scale_by_device": {calibration.device: calibration.kernel_scale.value},
        "id": ident,
        "name": f"{engine.name}, calibrated",
        "aliases": (),
        "default_on": (),  # a record for one endpoint stands for no class of devices
        "sources": {**engine.sources, **sources},
        "note": f"probed at {url} on {calibration.device}",
    }
    return Engine.model_validate({**engine.model_dump(), **changed})


def _source(calibration: Calibration, constant: Constant, date: str, url: str) -> Source:
    interval = f"90 % interval {constant.low:.3g} to {constant.high:.3g}"
    text = f"envelope calibrate at {url} on {calibration.device}, {calibration.levels} levels; {interval}"
    return Source(source=text, date=date, evidence=Evidence.MEASURED)

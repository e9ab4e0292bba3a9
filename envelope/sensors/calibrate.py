"""Engine constants from a measured endpoint: what a running deployment takes beyond the predicted kernels.

The constants are those with which the prediction of the same loads meets the measured times best, in the time to first
token and the time per output token at once. Intervals come from resampling the levels, their times moved within their
standard errors (bootstrap).
"""

import math
from collections.abc import Callable, Iterator, Sequence
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
_SCALE_WEIGHT = 0.03 / 0.30
"""Weight of the belief that the kernels are as predicted: scatter of measurements over doubt about the scale."""
_FITTED = ("step_overhead_s", "sequence_overhead_s", "request_overhead_s")
_ROUNDS = 6
"""Rounds of the linear fit; times of a closed loop are nearly linear in the constants, their logarithms less so."""
_USUAL_ERROR = 0.1
"""Error from which a level counts less."""
_LEAST_STEPS = np.array([0.02, 1e-4, 1e-5, 1e-3])
"""Changes of the constants by which their effect is told, at least."""


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
    ttft_error_before_frac: float
    ttft_error_after_frac: float
    """The same of the time to first token."""


Predict = Callable[[ReplicaSpec, LevelResult], tuple[float, float]]
"""Returns median time to first token and time per output token of a level on a replica, in seconds."""


@dataclass(frozen=True, slots=True)
class _Equations:
    """Two times of each level: what they are, and how they grow with each constant."""

    measured_s: Array
    """[levels, 2] time to first token, time per output token."""
    sigma_ln: Array
    """[levels, 2] standard error of the logarithm of each, from the spread between requests."""
    around: Array
    """[4] kernel scale, step, sequence and request overhead that the equations are linear around."""
    predicted_s: Array
    """[levels, 2] the times that these give."""
    slopes: Array
    """[levels, 2, 4] seconds per unit of each constant."""

    def some(self, picked: Array, random: np.random.Generator) -> "_Equations":
        """Return some of the levels, their times moved within their standard errors."""
        moved = np.exp(random.normal(0.0, 1.0, self.sigma_ln[picked].shape) * self.sigma_ln[picked])
        return _Equations(
            self.measured_s[picked] * moved, self.sigma_ln[picked], self.around, self.predicted_s[picked],
            self.slopes[picked],
        )  # fmt: skip


def by_estimate(replica: ReplicaSpec, level: LevelResult) -> tuple[float, float]:
    """Return times of a level in the steady state of a closed loop (``envelope estimate``)."""
    found = estimate(replica, *lengths_of(level), level.concurrency)
    if found.itl_s is None or found.ttft_s is None:
        reasons = "; ".join(reason.text for reason in found.reasons)
        raise InputError(Problem("deployment", "", None, f"cannot run this load: {reasons}"))
    return found.ttft_s, found.itl_s


def lengths_of(level: LevelResult) -> tuple[int, int]:
    """Return mean prompt and answer of a level in whole tokens, an answer of two at least."""
    return max(round(level.input_tokens_mean), 1), max(round(level.output_tokens_mean), 2)


def calibrate(result: EndpointResult, replica: ReplicaSpec, predict: Predict = by_estimate) -> Calibration:
    """Return the constants of ``replica``'s engine that fit the measured levels best.

    Both times of every level are fitted at once, in proportion and with non-negative constants: how the
    time to first token grows with the prompt tells the kernels' scale from the time per request, how the time per
    output token grows with the concurrency tells it from the time per step. ``predict`` gives the times of a level; the
    equations are linear in the constants around the last solution, and a few rounds settle them. Needs at least two
    levels of different concurrency.
    """
    levels = [x for x in result.levels if x.tpot is not None and x.ttft is not None]
    if len({x.concurrency for x in levels}) < 2:
        rule = "needs answered requests at two or more concurrencies"
        raise InputError(Problem(result.url, "levels", len(levels), rule, "probe with --concurrency 1,4,16"))
    shipped = np.array([predict(replica, x) for x in levels])
    best, equations = np.array([1.0, *(getattr(replica.engine, name) for name in _FITTED)]), None
    for _ in range(_ROUNDS):
        equations = _equations(levels, replica, predict, best)
        best = _fit(equations)
    assert equations is not None
    random = np.random.default_rng(0)
    draws = [_fit(equations.some(picked, random)) for picked in _resamples(levels, random)]
    low, high = np.quantile(np.array(draws), [0.05, 0.95], axis=0)
    named = [
        Constant(value=float(v), low=min(float(a), float(v)), high=max(float(b), float(v)))
        for v, a, b in zip(best, low, high, strict=True)
    ]
    after = np.array([predict(_with(replica, best), x) for x in levels])
    errors = [np.median(np.abs(times / equations.measured_s - 1.0), axis=0) for times in (shipped, after)]
    return Calibration(
        engine=replica.engine.id,
        device=replica.hardware.id,
        levels=len(levels),
        kernel_scale=named[0],
        step_overhead_s=named[1],
        sequence_overhead_s=named[2],
        request_overhead_s=named[3],
        itl_error_before_frac=float(errors[0][1]),
        itl_error_after_frac=float(errors[1][1]),
        ttft_error_before_frac=float(errors[0][0]),
        ttft_error_after_frac=float(errors[1][0]),
    )


def _resamples(levels: Sequence[LevelResult], random: np.random.Generator) -> Iterator[Array]:
    """Yield choices of as many levels as there are, those of a single concurrency left out."""
    concurrency = np.array([x.concurrency for x in levels])
    for _ in range(_RESAMPLES):
        picked = random.integers(0, len(levels), len(levels))
        if len(set(concurrency[picked])) > 1:
            yield picked


def _equations(levels: Sequence[LevelResult], replica: ReplicaSpec, predict: Predict, around: Array) -> _Equations:
    """Return the equations of all levels, linear around some constants."""
    base = np.array([predict(_with(replica, around), x) for x in levels])
    slopes = np.empty((*base.shape, len(around)))
    steps = np.maximum(0.1 * around, _LEAST_STEPS)
    for at, step in enumerate(steps):
        moved = around.copy()
        moved[at] += step
        slopes[:, :, at] = (np.array([predict(_with(replica, moved), x) for x in levels]) - base) / step
    times = [(x.ttft, x.tpot) for x in levels if x.ttft is not None and x.tpot is not None]
    return _Equations(
        measured_s=np.array([[ttft.p50_s, tpot.p50_s] for ttft, tpot in times]),
        sigma_ln=np.array([[_standard_error(ttft), _standard_error(tpot)] for ttft, tpot in times]),
        around=around,
        predicted_s=base,
        slopes=slopes,
    )


def _with(replica: ReplicaSpec, constants: Array) -> ReplicaSpec:
    """Return the replica with these constants in place of its own and of an earlier calibration of this device."""
    changed = dict(zip(_FITTED, (float(v) for v in constants[1:]), strict=True))
    scale = {replica.hardware.id: max(float(constants[0]), _LEAST_SCALE)}
    # What a step with prefill adds is part of the fitted time per request.
    engine = replica.engine.changed(**changed, prefill_overhead_s=0.0, kernel_scale_by_device=scale)
    return replace(replica, engine=engine)


def _standard_error(times: Quantiles) -> float:
    """Return the standard error of a median of log-normal times, 1.25 σ/√n."""
    return 1.25 * times.sigma_ln / math.sqrt(max(times.count, 1))


def _fit(equations: _Equations) -> Array:
    """Return kernel scale, step, sequence and request overhead.

    Logarithms of predicted over measured are made small: twice too slow counts as much as twice too fast, and a level
    that nothing fits counts less (soft L1). Where prompts are of one length and sequences few, scale and overheads
    cannot be told apart well: one more equation says that the scale is 1 give or take 30 % where measurements scatter
    by 3 %.
    """
    from scipy.optimize import nnls

    predicted = equations.predicted_s.ravel()
    off = np.log(predicted / equations.measured_s.ravel())
    weight = (1.0 + (off / _USUAL_ERROR) ** 2) ** -0.25
    slopes = equations.slopes.reshape(len(predicted), -1) / predicted[:, None]
    matrix = slopes * weight[:, None]
    target = (slopes @ equations.around - off) * weight
    matrix = np.vstack([matrix, [_SCALE_WEIGHT, *([0.0] * (matrix.shape[1] - 1))]])
    target = np.array([*target, _SCALE_WEIGHT])
    norms = np.linalg.norm(matrix, axis=0)
    norms[norms == 0] = 1.0
    # Not below the least scale: what is fitted is what comes on top of it.
    solution = nnls(matrix / norms, target - _LEAST_SCALE * matrix[:, 0])[0] / norms
    return np.asarray(solution + np.array([_LEAST_SCALE, *([0.0] * (len(solution) - 1))]))


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

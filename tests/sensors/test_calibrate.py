"""Calibration gives back the constants that made the times."""

from dataclasses import replace

import pytest

from envelope.errors import InputError
from envelope.perf.estimate import estimate
from envelope.perf.replica import ReplicaSpec, resolve
from envelope.sensors.calibrate import calibrate, calibrated_engine
from envelope.sensors.endpoint_load import EndpointResult, LevelResult, Quantiles

TRUTH = {"step_overhead_s": 0.004, "sequence_overhead_s": 2e-4, "request_overhead_s": 0.02, "prefill_overhead_s": 0.0}


@pytest.fixture(scope="module")
def replica() -> ReplicaSpec:
    return resolve(model="llama-3.1-8b", hardware="nvidia-h100-sxm-80gb", engine="vllm")


def times(value: float) -> Quantiles:
    return Quantiles(p50_s=value, p90_s=value, p99_s=value, mean_s=value, sigma_ln=0.0, count=8)


def level(real: ReplicaSpec, concurrency: int) -> LevelResult:
    """What a server of the true constants would show, by the estimator itself."""
    found = estimate(real, 512, 128, concurrency)
    return LevelResult(
        concurrency=concurrency, prompt_tokens=512, input_tokens_mean=512, output_tokens_mean=128, completed=8,
        rate_limited=0, dropped=0, errors=0, wall_s=1.0, output_tokens_per_s=1.0, ttft=times(found.ttft_s),
        itl=times(found.itl_s), tpot=times(found.itl_s),
    )  # fmt: skip


def with_truth(replica: ReplicaSpec) -> ReplicaSpec:
    return replace(replica, engine=replica.engine.model_copy(update=TRUTH))


def result(levels: list[LevelResult]) -> EndpointResult:
    return EndpointResult(
        url="http://127.0.0.1/v1", model="m", date="2026-11-23", levels=tuple(levels), requests=8, input_tokens=1,
        output_tokens=1, usd=0.0,
    )  # fmt: skip


def test_constants_come_back(replica: ReplicaSpec) -> None:
    found = calibrate(result([level(with_truth(replica), c) for c in (1, 4, 16, 64)]), replica)
    assert found.itl_error_after_frac < 0.03
    assert found.itl_error_before_frac > found.itl_error_after_frac
    assert found.kernel_scale.value == pytest.approx(1.0, abs=0.02)
    assert found.step_overhead_s.value == pytest.approx(0.004, rel=0.05)
    assert found.sequence_overhead_s.value == pytest.approx(2e-4, rel=0.05)
    for constant in (found.step_overhead_s, found.sequence_overhead_s, found.kernel_scale):
        assert constant.low <= constant.value <= constant.high


def test_a_calibrated_engine_predicts_what_was_measured_on_its_device_alone(replica: ReplicaSpec) -> None:
    """The server's kernels take a tenth longer than predicted, which no overhead can stand for at long contexts."""
    slower = {**TRUTH, "kernel_scale_by_device": {replica.hardware.id: 1.1}}
    real = replace(replica, engine=replica.engine.model_copy(update=slower))
    measured = [level(real, c) for c in (1, 4, 16, 64, 128)]
    found = calibrate(result(measured), replica)
    assert (found.engine, found.device) == ("vllm", "nvidia-h100-sxm-80gb")
    engine = calibrated_engine(found, replica.engine, "vllm-here", date="2026-11-23", url="http://127.0.0.1/v1")
    assert list(engine.kernel_scale_by_device) == ["nvidia-h100-sxm-80gb"]
    for shown in measured:
        itl_s = estimate(replace(replica, engine=engine), 512, 128, shown.concurrency).itl_s
        assert itl_s == pytest.approx(shown.tpot.p50_s, rel=0.03)
    elsewhere = resolve(model="llama-3.1-8b", hardware="nvidia-h200-sxm-141gb", engine=engine)
    unscaled = replace(elsewhere, engine=engine.model_copy(update={"kernel_scale_by_device": {}}))
    assert estimate(elsewhere, 512, 128, 16) == estimate(unscaled, 512, 128, 16)


def test_a_kernel_scale_slows_every_kernel_alike(replica: ReplicaSpec) -> None:
    none = dict.fromkeys((*TRUTH, "eager_layer_s"), 0.0)
    scaled = {**none, "kernel_scale_by_device": {replica.hardware.id: 1.5}}
    bare, slow = (replace(replica, engine=replica.engine.model_copy(update=u)) for u in (none, scaled))
    for concurrency in (1, 64):
        one, other = (estimate(r, 2048, 128, concurrency) for r in (bare, slow))
        # Sampling, norms' traffic and the like read memory outside any curve.
        assert other.itl_s == pytest.approx(1.5 * one.itl_s, rel=0.03)
        assert other.ttft_s == pytest.approx(1.5 * one.ttft_s, rel=0.03)


def test_the_calibrated_engine_is_a_record_with_its_source(replica: ReplicaSpec) -> None:
    found = calibrate(result([level(with_truth(replica), c) for c in (1, 16)]), replica)
    engine = calibrated_engine(found, replica.engine, "vllm-here", date="2026-11-23", url="http://127.0.0.1/v1")
    assert engine.id == "vllm-here"
    assert engine.step_overhead_s == found.step_overhead_s.value
    source = engine.source_of("step_overhead_s")
    assert source.evidence == "measured"
    assert f"90 % interval {found.step_overhead_s.low:.3g} to {found.step_overhead_s.high:.3g}" in source.source
    assert engine.source_of("memory_frac") == replica.engine.source_of("memory_frac")
    other = resolve(model="llama-3.1-8b", hardware="nvidia-h100-sxm-80gb", engine="sglang").engine
    with pytest.raises(InputError, match="fitted to 'vllm'"):
        calibrated_engine(found, other, "x", date="2026-11-23", url="http://127.0.0.1/v1")


def test_one_concurrency_is_not_enough(replica: ReplicaSpec) -> None:
    with pytest.raises(InputError, match="two or more concurrencies"):
        calibrate(result([level(replica, 4)]), replica)

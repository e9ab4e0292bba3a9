"""Calibration gives back the constants that made the times."""

from dataclasses import replace

import pytest

from envelope.errors import InputError
from envelope.perf.estimate import estimate
from envelope.perf.replica import ReplicaSpec, resolve
from envelope.probe.calibrate import calibrate, calibrated_engine
from envelope.probe.endpoint_load import EndpointResult, LevelResult, Quantiles

TRUTH = {"step_overhead_s": 0.004, "sequence_overhead_s": 2e-4, "request_overhead_s": 0.02, "prefill_overhead_s": 0.0}


@pytest.fixture(scope="module")
def replica() -> ReplicaSpec:
    return resolve(model="llama-3.1-8b", hardware="nvidia-h100-sxm-80gb", engine="vllm")


def times(value: float) -> Quantiles:
    return Quantiles(p50_s=value, p90_s=value, p99_s=value, mean_s=value, sigma_ln=0.0, count=8)


def level(replica: ReplicaSpec, concurrency: int) -> LevelResult:
    """What a server with the true overheads would show, by the estimator itself."""
    real = replace(replica, engine=replica.engine.model_copy(update=TRUTH))
    found = estimate(real, 512, 128, concurrency)
    return LevelResult(
        concurrency=concurrency, prompt_tokens=512, input_tokens_mean=512, output_tokens_mean=128, completed=8,
        rate_limited=0, dropped=0, errors=0, wall_s=1.0, output_tokens_per_s=1.0, ttft=times(found.ttft_s),
        itl=times(found.itl_s), tpot=times(found.itl_s),
    )  # fmt: skip


def result(levels: list[LevelResult]) -> EndpointResult:
    return EndpointResult(
        url="http://127.0.0.1/v1", model="m", date="2026-11-23", levels=tuple(levels), requests=8, input_tokens=1,
        output_tokens=1, usd=0.0,
    )  # fmt: skip


def test_constants_come_back(replica: ReplicaSpec) -> None:
    found = calibrate(result([level(replica, c) for c in (1, 4, 16, 64)]), replica)
    assert found.itl_error_after_frac < 0.03
    assert found.itl_error_before_frac > found.itl_error_after_frac
    assert found.kernel_scale.value_s == pytest.approx(1.0, abs=0.02)
    assert found.step_overhead.value_s == pytest.approx(0.004, rel=0.05)
    assert found.sequence_overhead.value_s == pytest.approx(2e-4, rel=0.05)
    for constant in (found.step_overhead, found.sequence_overhead, found.kernel_scale):
        assert constant.low_s <= constant.value_s <= constant.high_s


def test_the_calibrated_engine_is_a_record_with_its_source(replica: ReplicaSpec) -> None:
    found = calibrate(result([level(replica, c) for c in (1, 16)]), replica)
    engine = calibrated_engine(found, replica.engine, "vllm-here", date="2026-11-23", url="http://127.0.0.1/v1")
    assert engine.id == "vllm-here"
    assert engine.step_overhead_s == found.step_overhead.value_s
    assert engine.source_of("step_overhead_s").evidence == "measured"
    assert engine.source_of("memory_frac") == replica.engine.source_of("memory_frac")


def test_one_concurrency_is_not_enough(replica: ReplicaSpec) -> None:
    with pytest.raises(InputError, match="two or more concurrencies"):
        calibrate(result([level(replica, 4)]), replica)

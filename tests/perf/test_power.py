"""Watts stay between idle and limit and grow with use."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope.perf.efficiency import Chosen
from envelope.perf.estimate import estimate
from envelope.perf.power import device_w
from envelope.perf.replica import resolve
from envelope.provenance import Evidence
from envelope.spec.deployment import Parallelism
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import load

H100 = load(HardwareProfile, "hardware_profiles", "nvidia-h100-sxm-80gb", file="test", path="hardware")
CURVE = Chosen(
    "power",
    {"active": 0.42, "keep": 0.85, "memory": 0.25, "compute": 0.7, "exponent": 0.4},
    None,
    Evidence.FITTED,
    "test",
)


def watts(compute: float, memory: float, waiting: float) -> float:
    return float(device_w(H100, CURVE, np.array(compute), np.array(memory), np.array(waiting)))


@given(compute=st.floats(0, 1), memory=st.floats(0, 1), waiting=st.floats(0, 1))
def test_power_lies_between_idle_and_limit(compute, memory, waiting):
    assert H100.power.idle_w <= watts(compute, memory, waiting) <= H100.power.max_w


def test_a_waiting_device_keeps_most_of_its_active_power():
    # 77 W idle, 700 W limit: 77 + 623 · 0.42 · 0.85
    assert watts(0.0, 0.0, 1.0) == pytest.approx(299.4, abs=0.1)
    assert watts(1.0, 1.0, 0.0) == 700


@given(use=st.floats(0, 0.9), more=st.floats(0, 0.1))
def test_more_use_never_draws_less(use, more):
    assert watts(use + more, 0.3, 0.1) >= watts(use, 0.3, 0.1)
    assert watts(0.3, use + more, 0.1) >= watts(0.3, use, 0.1)


def test_energy_per_token_is_power_over_rate():
    found = estimate(resolve(model="llama-3.1-8b", hardware="nvidia-h100-sxm-80gb"), 500, 300, 64)
    assert found.energy_per_output_token_j == pytest.approx(found.power_w / found.output_tokens_per_s)


def test_batching_saves_energy_per_token():
    replica = resolve(
        model="llama-3.3-70b", hardware="nvidia-h100-sxm-80gb", weights="fp8", parallelism=Parallelism(tp=4)
    )
    alone, together = estimate(replica, 500, 300, 1), estimate(replica, 500, 300, 64)
    assert together.energy_per_output_token_j < 0.2 * alone.energy_per_output_token_j

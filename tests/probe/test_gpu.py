"""GPUs: none is a normal case; with one, a profile comes out of whatever the backend can do."""

import time

import pytest

from envelope.probe import gpu_kernels
from envelope.probe.gpu import GpuFacts, gpu_facts
from envelope.probe.gpu_kernels import Unsupported
from envelope.probe.gpu_measure import measure_gpu
from envelope.probe.gpu_profile import gpu_id, gpu_profile
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import parse_yaml, to_yaml, validate

FACTS = GpuFacts(
    index=0, name="NVIDIA H100 80GB HBM3", memory_bytes=85e9, architecture="9.0", sm_clock_hz=1.98e9,
    memory_clock_hz=2.6e9, temperature_c=40.0, power_w=80.0, power_limit_w=700.0, ecc=True, mig=False, nvlinks=18,
    nvlink_version=4, pcie_generation=5, pcie_lanes=16, driver="570.0",
)  # fmt: skip


class PretendGpu:
    """A backend that sleeps as long as a device of 100 GB/s and 10 TFLOP/s would work; it has no fp8."""

    name = "pretend"

    def __init__(self, devices: int) -> None:
        self._devices = devices

    def synchronize(self) -> None:
        pass

    def device_count(self) -> int:
        return self._devices

    def _takes(self, flop: float, moved: float):
        seconds = min(max(flop / 1e16, moved / 1e14), 2e-3)
        return lambda: time.sleep(seconds)

    def read(self, moved_bytes):
        return self._takes(0, moved_bytes)

    def product(self, key, m, n, k, copies):
        if key in ("fp8", "tf32"):
            raise Unsupported(key)
        return self._takes(2.0 * m * n * k * copies, 2.0 * n * k * copies)

    def attention(self, batch, new, context, heads, kv_heads, width):
        return self._takes(4.0 * batch * new * context * heads * width, 4.0 * batch * context * kv_heads * width)

    def host_copy(self, moved_bytes, to_device):
        return self._takes(0, moved_bytes)

    def peer_copy(self, moved_bytes):
        return self._takes(0, moved_bytes)

    def all_reduce(self, moved_bytes, devices):
        return self._takes(0, moved_bytes)


def test_facts_are_records_or_one_line() -> None:
    found = gpu_facts()
    assert found
    if isinstance(found, str):
        assert found.startswith("no GPU probed: ")
        assert "\n" not in found
    else:
        assert all(f.memory_bytes > 0 for f in found)


def test_kernels_are_a_backend_or_one_line() -> None:
    found = gpu_kernels.backend()
    assert isinstance(found, str) or found.device_count() >= 1


@pytest.mark.parametrize("devices", [1, 4])
def test_a_profile_comes_out_of_what_the_backend_can_do(devices: int) -> None:
    found = measure_gpu(PretendGpu(devices), "quick", lambda _share, _what: None)
    assert found.complete
    assert set(found.linear) == {"fp32", "bf16", "fp16", "int8"}
    assert len(found.unsupported) == 2
    assert set(found.all_reduce) == ({2, 4} if devices == 4 else set())
    profile = gpu_profile(FACTS, found, gpu_id(FACTS), idle_w=75.0, loaded_w=600.0, units=132)
    assert validate(HardwareProfile, parse_yaml(to_yaml(profile), "x"), "x") == profile
    assert profile.id == "nvidia-h100-80gb-hbm3-probed"
    assert profile.architecture == "hopper"
    assert profile.power.idle_w == 75.0
    assert {c.op for c in profile.efficiency} >= {"gemm", "decode_attention", "prefill_attention"}
    assert (profile.link("nvlink") is not None) == (devices == 4)
    assert profile.conditions is not None
    assert any("fp8" in line for line in profile.conditions.warnings)
    for curve in profile.efficiency:
        assert all(0 < v <= 1 for k, v in curve.constants.items() if k in ("eff_b", "eff_c"))


def test_ctrl_c_keeps_what_the_gpu_gave() -> None:
    def stop_at_links(_share: float, what: str) -> None:
        if what == "GPU links":
            raise KeyboardInterrupt

    found = measure_gpu(PretendGpu(1), "quick", stop_at_links)
    assert not found.complete
    assert found.linear
    assert not found.host_bytes_per_s

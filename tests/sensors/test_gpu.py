"""GPUs: none is a normal case; with one, a profile comes out of whatever the backend can do."""

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from envelope.errors import EnvelopeError
from envelope.perf.replica import resolve
from envelope.perf.steady import context_s
from envelope.perf.step import compile_step
from envelope.sensors import gpu_kernels
from envelope.sensors.gpu import GpuFacts, gpu_facts, gpu_watts, kinds
from envelope.sensors.gpu_kernels import AttentionShape, Unsupported, position
from envelope.sensors.gpu_measure import QUICK_GPU, GpuAttention, GpuPlan, measure_gpu
from envelope.sensors.gpu_profile import gpu_id, gpu_profile
from envelope.sensors.timing import Effort, of_times
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import validate
from envelope.spec.yaml_text import parse_yaml, to_yaml

FACTS = GpuFacts(
    index=0, name="NVIDIA H100 80GB HBM3", memory_bytes=85e9, architecture="9.0", sm_clock_hz=1.98e9,
    memory_clock_hz=2.6e9, temperature_c=40.0, power_w=80.0, power_limit_w=700.0, ecc=True, mig=False, nvlinks=18,
    nvlink_version=4, pcie_generation=5, pcie_lanes=16, driver="570.0",
)  # fmt: skip


class PretendGpu:
    """A backend that sleeps as long as a device of 100 GB/s and 10 TFLOP/s would work; it has no fp8."""

    name = "pretend"
    index = 0

    def __init__(self, devices: int) -> None:
        self._devices = devices

    def synchronize(self) -> None:
        pass

    def device_count(self) -> int:
        return self._devices

    def units(self) -> int:
        return 132

    def memory(self) -> tuple[float, float]:
        return 4e9, 80e9

    def _takes(self, flop: float, moved: float):
        seconds = min(max(flop / 1e16, moved / 1e14), 2e-3)
        return lambda: time.sleep(seconds)

    def read(self, moved_bytes):
        assert moved_bytes <= 1e9, "beyond a quarter of the free memory"
        return self._takes(0, moved_bytes)

    def product(self, key, m, n, k, copies):
        if key in ("fp8", "tf32"):
            raise Unsupported(key)
        return self._takes(2.0 * m * n * k * copies, 2.0 * n * k * copies)

    def attention(self, shape, copies):
        flop = 4.0 * shape.batch * shape.new * shape.context * shape.heads * shape.width
        return self._takes(copies * flop, copies * shape.cache_bytes)

    def host_copy(self, moved_bytes, to_device):
        return self._takes(0, moved_bytes)

    def peer_copy(self, moved_bytes, other):
        return self._takes(0, moved_bytes * (1 + other))

    def all_reduce(self, moved_bytes, devices):
        return self._takes(0, moved_bytes)


TINY_GPU = GpuPlan(
    mode="custom", effort=Effort(2, 0.01, 0), read_bytes=(1 << 20, 1 << 22), rows=(1, 16, 256),
    shapes=((64, 64), (128, 64)), decode=((1, 64), (2, 128)), prefill=(32, 64), heads=(4, 2, 32), cold_bytes=1 << 18,
    link_bytes=1 << 20, reduce_bytes=(1 << 10, 1 << 14),
)  # fmt: skip


class NvmlError(Exception):
    pass


class DriverRecord:
    """Answers of a driver with two joined H100s, the second one in slices and without NVLink queries."""

    NVMLError = NvmlError
    NVML_NVLINK_MAX_LINKS = 18
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    NVML_P2P_CAPS_INDEX_NVLINK, NVML_P2P_STATUS_OK = 2, 0

    def __init__(self) -> None:
        self.open = 0
        self.watts = 83_512

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlSystemGetDriverVersion(self):
        return b"570.124.06"

    def nvmlDeviceGetName(self, handle):
        return b"NVIDIA H100 80GB HBM3" if handle == 0 else "NVIDIA H100 80GB HBM3"

    def nvmlDeviceGetUUID(self, handle):
        return f"GPU-0000000{handle}-1111-2222-3333-444444444444"

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(total=85_520_809_984)

    def nvmlDeviceGetCudaComputeCapability(self, handle):
        return (9, 0)

    def nvmlDeviceGetClockInfo(self, handle, kind):
        return {1: 1980, 2: 2619}[kind]

    def nvmlDeviceGetTemperature(self, handle, sensor):
        return 31

    def nvmlDeviceGetPowerUsage(self, handle):
        if handle == 1:
            raise NvmlError("Not Supported")
        return self.watts

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):
        return 700_000

    def nvmlDeviceGetEccMode(self, handle):
        return [1, 1]

    def nvmlDeviceGetMigMode(self, handle):
        return [handle, handle]

    def nvmlDeviceGetNvLinkState(self, handle, link):
        if handle == 1:
            raise NvmlError("Not Supported")
        return 1 if link < 12 else 0

    def nvmlDeviceGetNvLinkVersion(self, handle, link):
        return 4

    def nvmlDeviceGetMaxPcieLinkGeneration(self, handle):
        return 5

    def nvmlDeviceGetMaxPcieLinkWidth(self, handle):
        return 16

    def nvmlDeviceGetP2PStatus(self, one, other, index):
        if one == 1:
            raise NvmlError("Not Supported")
        return 0

    def nvmlDeviceGetTopologyCommonAncestor(self, one, other):
        return 30


def test_what_the_driver_answers_becomes_si_units() -> None:
    driver = DriverRecord()
    first, second = gpu_facts(driver)
    assert driver.open == 0
    assert (first.sm_clock_hz, first.memory_clock_hz) == (1.98e9, 2.619e9)
    assert (first.power_w, first.power_limit_w) == (pytest.approx(83.512), 700.0)
    assert (first.name, first.driver, first.architecture) == ("NVIDIA H100 80GB HBM3", "570.124.06", "9.0")
    assert (first.ecc, first.mig, first.nvlinks, first.nvlink_version) == (True, False, 12, 4)
    assert (first.pcie_generation, first.pcie_lanes) == (5, 16)
    assert first.near == ("self", "nvlink")
    # What a device refuses to say is unknown, and the rest is still there.
    assert (second.power_w, second.nvlinks, second.nvlink_version, second.mig) == (None, 0, None, True)
    assert second.near == ("host bridge", "self")
    assert [gpu.index for gpu in kinds([first, second])] == [0, 1]
    assert [gpu.index for gpu in kinds([first, replace(first, index=1)])] == [0]


def test_watts_are_read_at_rest_and_under_load() -> None:
    driver = DriverRecord()
    assert gpu_watts(0, None, 0.05, driver) == pytest.approx(83.512)

    def work() -> None:
        driver.watts = 650_000

    assert gpu_watts(0, work, 0.01, driver) == pytest.approx(650.0)
    assert gpu_watts(1, None, 0.01, driver) is None
    assert driver.open == 0


def test_a_machine_without_a_driver_says_so_in_one_line() -> None:
    class NoDriver(DriverRecord):
        def nvmlInit(self) -> None:
            raise NvmlError("Driver Not Loaded")

    found = gpu_facts(NoDriver())
    assert isinstance(found, str)
    assert found.startswith("no GPU probed: ")
    assert gpu_watts(0, None, 0.01, NoDriver()) is None


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
    found = measure_gpu(PretendGpu(devices), QUICK_GPU, lambda _share, _what: None)
    assert found.complete
    assert set(found.linear) == {"fp32", "bf16", "fp16", "int8"}
    assert len(found.unsupported) == 2
    assert set(found.all_reduce) == ({2, 4} if devices == 4 else set())
    assert set(found.peer_bytes_per_s) == set(range(1, devices))
    profile = gpu_profile(FACTS, found, gpu_id(FACTS), idle_w=75.0, loaded_w=600.0)
    assert validate(HardwareProfile, parse_yaml(to_yaml(profile), "x"), "x") == profile
    assert profile.id == "nvidia-h100-80gb-hbm3-probed"
    assert (profile.architecture, profile.units) == ("hopper", 132)
    assert profile.power.idle_w == 75.0
    # The slice that the backend sees, not the whole board.
    assert profile.device_memory.capacity_bytes == 80e9
    assert {c.op for c in profile.efficiency} >= {"gemm", "decode_attention", "prefill_attention"}
    assert (profile.link("nvlink") is not None) == (devices == 4)
    if devices == 4:
        assert profile.link("nvlink").bandwidth_bytes_per_s == min(found.peer_bytes_per_s.values())
    assert profile.conditions is not None
    assert any("fp8" in line for line in profile.conditions.warnings)
    for curve in profile.efficiency:
        assert all(0 < v <= 1 for k, v in curve.constants.items() if k in ("eff_b", "eff_c"))


def test_decode_attention_of_the_profile_gives_back_what_was_timed() -> None:
    """2 µs to start and the cache at 80 % of the bandwidth, with nothing bound by arithmetic."""
    found = measure_gpu(PretendGpu(1), QUICK_GPU, lambda _share, _what: None)
    bandwidth = max(found.read_bytes_per_s)
    found.attention = [
        GpuAttention(shape, of_times([2e-6 + shape.cache_bytes / (0.8 * bandwidth)]), 1)
        for shape in (AttentionShape(b, 1, c, 32, 8, 128) for b, c in ((1, 1024), (4, 8192), (64, 2048)))
    ]
    profile = gpu_profile(FACTS, found, "gpu", idle_w=75.0, loaded_w=600.0)
    (curve,) = (c for c in profile.efficiency if c.op == "decode_attention")
    assert curve.constants["eff_b"] == pytest.approx(0.8, rel=1e-3)
    assert curve.constants["t0_s"] == pytest.approx(2e-6, rel=1e-2)
    tables = compile_step(resolve(model="llama-3.1-8b", hardware=profile))
    slow, fast = (context_s(tables, 16, n) for n in (4096, 512))
    # 16 sequences, 3,584 tokens more each in 32 layers of 4 kB a token.
    assert slow - fast == pytest.approx(16 * 3584 * 32 * 4096 / (0.8 * bandwidth), rel=0.01)


class FailingGpu(PretendGpu):
    """A device that runs out of memory in some of its kernels, as PyTorch tells it."""

    def __init__(self, formats: tuple[str, ...]) -> None:
        super().__init__(1)
        self._formats = formats

    def product(self, key, m, n, k, copies):
        if key in self._formats:
            raise RuntimeError("CUDA out of memory\nTried to allocate")
        return super().product(key, m, n, k, copies)


def test_a_kernel_that_fails_is_noted_and_leaves_the_others() -> None:
    found = measure_gpu(FailingGpu(("bf16",)), TINY_GPU, lambda _share, _what: None)
    assert "GPU products bf16: CUDA out of memory" in found.unsupported
    assert found.complete
    assert "fp16" in found.linear
    with pytest.raises(EnvelopeError, match=r"no kernel ran on the GPU: .*out of memory"):
        measure_gpu(FailingGpu(("fp32", "bf16", "fp16", "int8")), TINY_GPU, lambda _share, _what: None)


def test_ctrl_c_keeps_what_the_gpu_gave() -> None:
    def stop_at_links(_share: float, what: str) -> None:
        if what == "GPU host link":
            raise KeyboardInterrupt

    found = measure_gpu(PretendGpu(1), QUICK_GPU, stop_at_links)
    assert not found.complete
    assert found.linear
    assert not found.host_bytes_per_s


def test_a_device_is_found_by_its_uuid_whatever_the_order() -> None:
    assert position(0, "GPU-aa", ["bb", "aa"]) == 1
    assert position(1, "", ["bb", "aa"]) == 1
    assert position(2, "", ["bb", "aa"]) is None
    # Hidden by CUDA_VISIBLE_DEVICES.
    assert position(0, "GPU-aa", ["bb"]) is None


def test_torch_kernels_run_and_give_a_profile_on_the_processor() -> None:
    """The code that times a GPU, on a device that every machine has."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from envelope.sensors.gpu_torch import TorchBackend

    found = measure_gpu(TorchBackend(torch, torch.device("cpu")), TINY_GPU, lambda _share, _what: None)
    assert found.complete
    assert {"fp32", "bf16"} <= set(found.linear)
    assert {a.shape.new for a in found.attention} == {1, 32, 64}
    assert set(found.host_bytes_per_s) == {"to", "from"}
    profile = gpu_profile(FACTS, found, "cpu-as-gpu", idle_w=None, loaded_w=None)
    assert validate(HardwareProfile, parse_yaml(to_yaml(profile), "x"), "x") == profile


def test_onnx_runtime_kernels_run_on_the_processor() -> None:
    pytest.importorskip("onnxruntime", reason="the probe extra is not installed")
    from envelope.sensors.gpu_ort import OrtCudaBackend

    backend = OrtCudaBackend(0, provider="CPUExecutionProvider", device="cpu")
    found = measure_gpu(backend, TINY_GPU, lambda _share, _what: None)
    assert found.complete
    assert set(found.linear) == {"fp32", "fp16"}
    assert len(found.read_bytes_per_s) == 2

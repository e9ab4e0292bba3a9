"""What the NVIDIA driver says about the GPUs: names, memory, clocks, watts, links, error correction, MIG.

A machine without a GPU or a driver is a normal case and answers with one line.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """One GPU as the driver describes it; ``None`` where this device or this user may not read a value."""

    index: int
    name: str
    memory_bytes: float
    architecture: str
    """Compute capability such as ``9.0``."""
    sm_clock_hz: float | None
    memory_clock_hz: float | None
    temperature_c: float | None
    power_w: float | None
    power_limit_w: float | None
    ecc: bool | None
    mig: bool | None
    nvlinks: int
    """Active NVLink connections."""
    nvlink_version: int | None
    pcie_generation: int | None
    pcie_lanes: int | None
    driver: str


def gpu_facts() -> list[GpuFacts] | str:
    """Return the facts of every GPU, or one line saying why there are none."""
    try:
        import pynvml
    except ImportError:
        return "no GPU probed: nvidia-ml-py is not installed (pip install 'deployment-envelope[probe]')"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return f"no GPU probed: {type(error).__name__.removeprefix('NVMLError_')} (no NVIDIA driver on this machine)"
    try:
        count = pynvml.nvmlDeviceGetCount()
        if not count:
            return "no GPU probed: the driver reports no device"
        return [_facts(pynvml, index) for index in range(count)]
    except pynvml.NVMLError as error:
        return f"no GPU probed: {error}"
    finally:
        pynvml.nvmlShutdown()


def _facts(nvml: Any, index: int) -> GpuFacts:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def read(name: str, *args: Any) -> Any:
        """Ask for a value that not every device knows."""
        try:
            return getattr(nvml, name)(handle, *args)
        except nvml.NVMLError:
            return None

    capability = read("nvmlDeviceGetCudaComputeCapability") or (0, 0)
    ecc, mig = read("nvmlDeviceGetEccMode"), read("nvmlDeviceGetMigMode")
    links = [i for i in range(18) if read("nvmlDeviceGetNvLinkState", i) == 1]
    return GpuFacts(
        index=index,
        name=_text(read("nvmlDeviceGetName")),
        memory_bytes=float(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        architecture=f"{capability[0]}.{capability[1]}",
        sm_clock_hz=_scaled(read("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM), 1e6),
        memory_clock_hz=_scaled(read("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM), 1e6),
        temperature_c=_scaled(read("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU), 1.0),
        power_w=_scaled(read("nvmlDeviceGetPowerUsage"), 1e-3),
        power_limit_w=_scaled(read("nvmlDeviceGetEnforcedPowerLimit"), 1e-3),
        ecc=None if ecc is None else bool(ecc[0]),
        mig=None if mig is None else bool(mig[0]),
        nvlinks=len(links),
        nvlink_version=read("nvmlDeviceGetNvLinkVersion", links[0]) if links else None,
        pcie_generation=read("nvmlDeviceGetMaxPcieLinkGeneration"),
        pcie_lanes=read("nvmlDeviceGetMaxPcieLinkWidth"),
        driver=_text(nvml.nvmlSystemGetDriverVersion()),
    )


def gpu_watts(index: int, busy: Callable[[], object] | None, seconds: float = 2.0) -> float | None:
    """Return the mean watts of a GPU at rest (``busy`` is ``None``) or while ``busy`` is called over and over.

    ``busy`` must return only when its kernels are done.
    """
    import pynvml

    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        readings: list[float] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            if busy is None:
                time.sleep(0.05)
            else:
                busy()
            readings.append(pynvml.nvmlDeviceGetPowerUsage(handle) * 1e-3)
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()
    # The driver's gauge averages over some 100 ms, so the first half still shows what was before.
    late = readings[len(readings) // 2 :]
    return float(sum(late) / len(late))


def _scaled(value: Any, scale: float) -> float | None:
    return None if value is None else float(value) * scale


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")

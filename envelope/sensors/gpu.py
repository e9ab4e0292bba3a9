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
    uuid: str = ""
    """Names the device whatever order a library counts in."""
    near: tuple[str, ...] = ()
    """How each GPU is joined to this one, by index: ``self``, ``nvlink``, ``pcie switch``, ``host bridge`` …"""


def gpu_facts(nvml: Any = None) -> list[GpuFacts] | str:
    """Return the facts of every GPU, or one line saying why there are none.

    ``nvml`` is the driver's library; by default nvidia-ml-py, if it is installed.
    """
    library = nvml or _nvml()
    if library is None:
        return "no GPU probed: nvidia-ml-py is not installed (pip install 'deployment-envelope[probe]')"
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        return f"no GPU probed: {_reason(error)} (no usable NVIDIA driver on this machine)"
    try:
        count = library.nvmlDeviceGetCount()
        if not count:
            return "no GPU probed: the driver reports no device"
        return [_facts(library, index, count) for index in range(count)]
    except library.NVMLError as error:
        return f"no GPU probed: {_reason(error)}"
    finally:
        library.nvmlShutdown()


def _nvml() -> Any:
    try:
        import pynvml
    except ImportError:
        return None
    return pynvml


def _reason(error: Exception) -> str:
    """Return an error of the library in words, such as ``LibraryNotFound``."""
    return type(error).__name__.removeprefix("NVMLError_") if type(error).__name__ != "NVMLError" else str(error)


def kinds(facts: list[GpuFacts]) -> list[GpuFacts]:
    """Return the first GPU of each kind: equal ones need one profile."""
    found: dict[tuple[str, float, bool | None], GpuFacts] = {}
    for gpu in facts:
        found.setdefault((gpu.name, gpu.memory_bytes, gpu.mig), gpu)
    return list(found.values())


def _facts(nvml: Any, index: int, count: int) -> GpuFacts:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def read(name: str, *args: Any) -> Any:
        """Ask for a value that not every device knows."""
        try:
            return getattr(nvml, name)(handle, *args)
        except nvml.NVMLError:
            return None

    capability = read("nvmlDeviceGetCudaComputeCapability") or (0, 0)
    ecc, mig = read("nvmlDeviceGetEccMode"), read("nvmlDeviceGetMigMode")
    links = [i for i in range(nvml.NVML_NVLINK_MAX_LINKS) if read("nvmlDeviceGetNvLinkState", i) == 1]
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
        uuid=_text(read("nvmlDeviceGetUUID")),
        near=tuple(_nearness(nvml, index, other) for other in range(count)),
    )


_LEVELS = ((0, "same board"), (10, "pcie switch"), (20, "pcie switches"), (30, "host bridge"), (40, "same socket"))
"""NVML_TOPOLOGY_* up to which two GPUs are joined so; beyond, the traffic crosses sockets."""


def _nearness(nvml: Any, index: int, other: int) -> str:
    """Return how two GPUs are joined."""
    if index == other:
        return "self"
    pair = [nvml.nvmlDeviceGetHandleByIndex(i) for i in (index, other)]
    try:
        if nvml.nvmlDeviceGetP2PStatus(*pair, nvml.NVML_P2P_CAPS_INDEX_NVLINK) == nvml.NVML_P2P_STATUS_OK:
            return "nvlink"
    except nvml.NVMLError:
        # Old drivers do not know this question; the PCIe tree still answers.
        pass
    try:
        level = nvml.nvmlDeviceGetTopologyCommonAncestor(*pair)
    except nvml.NVMLError:
        return "unknown"
    return next((text for most, text in _LEVELS if level <= most), "across sockets")


def gpu_watts(index: int, busy: Callable[[], object] | None, seconds: float = 2.0, nvml: Any = None) -> float | None:
    """Return the mean watts of a GPU at rest (``busy`` is ``None``) or while ``busy`` is called over and over.

    ``busy`` must return only when its kernels are done. ``None`` where the driver shows no watts.
    """
    library = nvml or _nvml()
    if library is None:
        return None
    try:
        library.nvmlInit()
    except library.NVMLError:
        return None
    readings: list[float] = []
    try:
        handle = library.nvmlDeviceGetHandleByIndex(index)
        end = time.perf_counter() + seconds
        while not readings or time.perf_counter() < end:
            if busy is None:
                time.sleep(min(0.05, seconds))
            else:
                busy()
            readings.append(library.nvmlDeviceGetPowerUsage(handle) * 1e-3)
    except library.NVMLError:
        return None
    finally:
        library.nvmlShutdown()
    # The driver's gauge averages over up to a second, so the first half still shows what was before.
    late = readings[len(readings) // 2 :]
    return float(sum(late) / len(late))


def _scaled(value: Any, scale: float) -> float | None:
    return None if value is None else float(value) * scale


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")

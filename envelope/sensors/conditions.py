"""The circumstances of a measurement: who else used the processors, libraries, clocks, temperature."""

import ctypes
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

_LIBRARIES = ("numpy", "onnxruntime", "onnx", "psutil", "nvidia-ml-py", "torch", "cupy")
_OVERRIDES = ("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that change the speed of BLAS; a forgotten one can halve it."""


@dataclass(frozen=True, slots=True)
class CpuClock:
    """Counters of processor time since boot, in seconds over all cores, and of this process."""

    busy_s: float
    steal_s: float
    total_s: float
    own_s: float


@dataclass(frozen=True, slots=True)
class Noise:
    """What others took of the machine's processor time between two readings."""

    foreign_frac: float
    steal_frac: float


def cpu_clock(stat: Path = Path("/proc/stat")) -> CpuClock | None:
    """Return the counters, or ``None`` where the system has no ``/proc/stat``."""
    try:
        words = stat.read_text(encoding="ascii").split("\n", 1)[0].split()
    except OSError:
        return None
    if not words or words[0] != "cpu" or len(words) < 9:
        return None
    ticks = [float(w) for w in words[1:9]]
    hertz = float(os.sysconf("SC_CLK_TCK"))
    user, nice, system, idle, iowait, irq, softirq, steal = ticks
    own = os.times()
    return CpuClock(
        busy_s=(user + nice + system + irq + softirq) / hertz,
        steal_s=steal / hertz,
        total_s=(user + nice + system + idle + iowait + irq + softirq + steal) / hertz,
        own_s=own.user + own.system + own.children_user + own.children_system,
    )


def noise_between(first: CpuClock | None, last: CpuClock | None) -> Noise | None:
    """Return the shares of processor time that other processes and the hypervisor took."""
    if first is None or last is None or last.total_s <= first.total_s:
        return None
    span = last.total_s - first.total_s
    foreign = (last.busy_s - first.busy_s) - (last.own_s - first.own_s)
    return Noise(max(foreign, 0.0) / span, max(last.steal_s - first.steal_s, 0.0) / span)


def library_versions() -> dict[str, str]:
    """Return the versions of the interpreter, the kernel and the libraries that do the timed work."""
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.release()}"}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def blas_text() -> str:
    """Return numpy's BLAS and the core architecture it runs for, such as ``openblas 0.3.30 SkylakeX``."""
    import numpy as np

    build: Any = np.show_config(mode="dicts")
    blas = build.get("Build Dependencies", {}).get("blas", {})
    parts = [str(blas.get("name", "unknown")), str(blas.get("version", "")), _openblas_core()]
    return " ".join(p for p in parts if p)


def _openblas_core() -> str:
    """Ask the loaded OpenBLAS for its kernel architecture; empty if it is another library."""
    for path in _loaded_libraries("openblas"):
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        for name in ("scipy_openblas_get_corename64_", "scipy_openblas_get_corename", "openblas_get_corename"):
            function = getattr(library, name, None)
            if function is not None:
                function.restype = ctypes.c_char_p
                return bytes(function() or b"").decode("ascii", errors="replace")
    return ""


def _loaded_libraries(part: str) -> list[str]:
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    paths = {line.split()[-1] for line in lines if part in line}
    return sorted(p for p in paths if p.startswith("/"))


def warnings_of_environment() -> list[str]:
    """Return a line for each environment variable that changes BLAS or OpenMP speed."""
    return [f"{name}={os.environ[name]} is set and changes BLAS speed" for name in _OVERRIDES if name in os.environ]


def load_1min() -> float | None:
    """Return the load average of the last minute, if the system has one."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def clock_hz() -> float | None:
    """Return the current mean clock of the cores, if readable (virtual machines often hide it)."""
    import psutil

    try:
        found = psutil.cpu_freq()
    except (AttributeError, OSError, NotImplementedError):
        return None
    return found.current * 1e6 if found and found.current else None


def temperature_c() -> float | None:
    """Return the hottest CPU sensor, if there is one."""
    import psutil

    read = getattr(psutil, "sensors_temperatures", None)
    try:
        sensors = read() if read else {}
    except OSError:
        return None
    names = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "acpitz")
    values = [entry.current for name in names for entry in sensors.get(name, [])]
    return max(values, default=None)


def probed_name(device: str, threads: int | None = None) -> str:
    """Return the name of the profile that a probe writes: of a GPU, or of a processor with so many threads."""
    return f"{device} (probed)" if threads is None else f"{device}, {threads} cores (probed)"


def last_level_cache_bytes(root: Path = Path("/"), cpus: Iterable[int] | None = None) -> float | None:
    """Return the last-level cache of the processors that this process may use, every block of it counted once.

    Large processors have one block for every few cores; ``cpus`` replaces the affinity mask.
    """
    allowed = usable_cpus() if cpus is None else cpus
    blocks: dict[tuple[int, str], float] = {}
    for cpu in allowed:
        for index in sorted((root / f"sys/devices/system/cpu/cpu{cpu}/cache").glob("index*")):
            level, shared, size = (_line(index / name) for name in ("level", "shared_cpu_list", "size"))
            scale = {"K": 2**10, "M": 2**20, "G": 2**30}.get(size[-1:], 1)
            digits = size.rstrip("KMG")
            if digits.isdigit():
                blocks[int(level) if level.isdigit() else 0, shared or str(cpu)] = float(digits) * scale
    last = max((level for level, _ in blocks), default=0)
    return sum(size for (level, _), size in blocks.items() if level == last) or None


def usable_cpus() -> tuple[int, ...]:
    """Return the numbers of the processors that the affinity mask allows."""
    try:
        return tuple(sorted(os.sched_getaffinity(0)))
    except AttributeError:
        return tuple(range(os.cpu_count() or 1))


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""

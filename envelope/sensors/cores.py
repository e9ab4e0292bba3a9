"""How many cores and how much memory this process may really use: affinity, cgroup v1 and v2, the machine."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

LimitedBy = Literal["machine", "affinity", "cgroup v1", "cgroup v2"]

_NO_LIMIT_BYTES = 1 << 60
"""cgroup v1 writes an enormous number for "no limit"."""


@dataclass(frozen=True, slots=True)
class CoreLimit:
    """Cores that the process may use, and what limits them."""

    cores: float
    limited_by: LimitedBy
    online: int

    @property
    def threads(self) -> int:
        """Threads worth starting: the cores rounded down, at least 1."""
        return max(1, int(self.cores + 1e-9))


def core_limit(root: Path = Path("/"), affinity: int | None = None, online: int | None = None) -> CoreLimit:
    """Return the smallest of the online cores, the affinity mask and every cgroup quota above the process.

    ``root`` stands for the file system's root; ``affinity`` and ``online`` replace what the system says.
    """
    count = online or os.cpu_count() or 1
    allowed = affinity or _affinity() or count
    best: tuple[float, LimitedBy] = (float(count), "machine")
    if allowed < count:
        best = (float(allowed), "affinity")
    for cores, source in _quotas(root):
        if cores < best[0]:
            best = (cores, source)
    return CoreLimit(best[0], best[1], count)


def memory_limit_bytes(root: Path = Path("/"), machine_bytes: float | None = None) -> float:
    """Return the smaller of the machine's memory and every cgroup limit above the process."""
    limits = [machine_bytes if machine_bytes is not None else _machine_bytes(root)]
    for folder in _folders(root, "memory", version=1):
        limits.append(_number(folder / "memory.limit_in_bytes", _NO_LIMIT_BYTES))
    for folder in _folders(root, "", version=2):
        limits.append(_number(folder / "memory.max", _NO_LIMIT_BYTES))
    return min(limits)


def memory_available_bytes(root: Path = Path("/")) -> float:
    """Return what can still be allocated: MemAvailable, and what the cgroup limits leave above current use."""
    free = _meminfo(root, "MemAvailable") or _machine_bytes(root) / 2
    pairs = (("memory", 1, "limit_in_bytes", "usage_in_bytes"), ("", 2, "max", "current"))
    for controller, version, limit, used in pairs:
        for folder in _folders(root, controller, version=version):
            top = _number(folder / f"memory.{limit}", _NO_LIMIT_BYTES)
            if top < _NO_LIMIT_BYTES:
                free = min(free, max(top - _number(folder / f"memory.{used}", 0.0), 0.0))
    return free


def _quotas(root: Path) -> Iterator[tuple[float, LimitedBy]]:
    """Yield the CPU quota, in cores, of every cgroup from the process up to the root."""
    for folder in _folders(root, "cpu", version=1):
        quota = _number(folder / "cpu.cfs_quota_us", -1.0)
        period = _number(folder / "cpu.cfs_period_us", 100_000.0)
        if quota > 0 and period > 0:
            yield quota / period, "cgroup v1"
    for folder in _folders(root, "", version=2):
        words = _text(folder / "cpu.max").split()
        if len(words) == 2 and words[0] != "max":
            quota, period = _float(words[0], -1.0), _float(words[1], 0.0)
            if quota > 0 and period > 0:
                yield quota / period, "cgroup v2"
    for folder in _folders(root, "cpuset", version=1):
        count = _cpu_count(_text(folder / "cpuset.effective_cpus") or _text(folder / "cpuset.cpus"))
        if count:
            yield float(count), "cgroup v1"
    for folder in _folders(root, "", version=2):
        count = _cpu_count(_text(folder / "cpuset.cpus.effective"))
        if count:
            yield float(count), "cgroup v2"


def _folders(root: Path, controller: str, *, version: int) -> list[Path]:
    """Return the process's cgroup folders of a controller, innermost first, up to the hierarchy's mount point.

    Inside a container the path in /proc/self/cgroup is often that of the host and does not exist; the mount
    point itself then is the container's own group.
    """
    inner = _group_path(root, controller, version)
    if inner is None:
        return []
    found: list[Path] = []
    for mount in _mounts(root, controller, version):
        path = mount / inner.strip("/")
        chain = [path, *path.parents] if path.is_dir() else [mount]
        found.extend(p for p in chain if p == mount or mount in p.parents)
    return found


def _group_path(root: Path, controller: str, version: int) -> str | None:
    """Return the process's group of a controller: lines read ``id:controllers:path``, v2 has no controllers."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        names = parts[1].split(",")
        if (version == 2 and parts[1] == "") or (version == 1 and controller in names):
            return parts[2]
    return None


def _mounts(root: Path, controller: str, version: int) -> list[Path]:
    base = root / "sys/fs/cgroup"
    if version == 2:
        return [p for p in (base, base / "unified") if (p / "cgroup.controllers").is_file()]
    if not base.is_dir():
        return []
    return [p for p in sorted(base.iterdir()) if p.is_dir() and not p.is_symlink() and controller in p.name.split(",")]


def _affinity() -> int | None:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return None


def _cpu_count(text: str) -> int:
    """Return the number of CPUs in a list such as ``0-3,8``; 0 for an empty or broken one.

    >>> _cpu_count("0-3,8")
    5
    """
    count = 0
    for part in text.strip().split(","):
        low, _, high = part.partition("-")
        if not low.isdigit() or (high and not high.isdigit()):
            return 0
        count += int(high or low) - int(low) + 1
    return count


def _machine_bytes(root: Path) -> float:
    found = _meminfo(root, "MemTotal")
    if found is None and root == Path("/"):
        import psutil

        found = float(psutil.virtual_memory().total)
    return found if found is not None else float(_NO_LIMIT_BYTES)


def _meminfo(root: Path, key: str) -> float | None:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith(f"{key}:"):
            return _float(line.split()[1], 0.0) * 1024.0
    return None


def _number(path: Path, otherwise: float) -> float:
    return _float(_text(path).strip(), otherwise)


def _float(text: str, otherwise: float) -> float:
    try:
        return float(text)
    except ValueError:
        return otherwise


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

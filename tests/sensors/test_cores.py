"""Limits of containers, on copies of the kernel's files."""

from pathlib import Path

import pytest

from envelope.sensors.cores import CoreLimit, core_limit, memory_available_bytes, memory_limit_bytes

V2 = "sys/fs/cgroup"
V1_CPU, V1_MEMORY = "sys/fs/cgroup/cpu,cpuacct/docker/abc", "sys/fs/cgroup/memory/docker/abc"
MEMINFO = "MemTotal:       16777216 kB\nMemFree:  1000000 kB\nMemAvailable:    8388608 kB\n"


def tree(root: Path, groups: str, *files: tuple[str, str], v2: str = "") -> Path:
    """Lay out a process's groups, the files of the kernel, and the mark of a v2 mount below ``v2``."""
    mark = ((f"{v2}/cgroup.controllers", "cpu memory"),) if v2 else ()
    for name, text in (("proc/self/cgroup", groups), ("proc/meminfo", MEMINFO), *mark, *files):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def test_without_cgroups_the_machine_limits(tmp_path: Path) -> None:
    assert core_limit(tmp_path, affinity=8, online=8) == CoreLimit(8.0, "machine", 8)


def test_affinity_limits(tmp_path: Path) -> None:
    assert core_limit(tmp_path, affinity=3, online=8) == CoreLimit(3.0, "affinity", 8)


@pytest.mark.parametrize(
    ("text", "cores", "by"),
    [("150000 100000", 1.5, "cgroup v2"), ("max 100000", 8.0, "machine"), ("rubbish", 8.0, "machine")],
)
def test_v2_quota(tmp_path: Path, text: str, cores: float, by: str) -> None:
    root = tree(tmp_path, "0::/app/worker", (f"{V2}/app/worker/cpu.max", text), v2=V2)
    found = core_limit(root, affinity=8, online=8)
    assert (found.cores, found.limited_by) == (cores, by)


def test_v2_limit_of_a_parent_counts(tmp_path: Path) -> None:
    pod = f"{V2}/pod"
    limits = (f"{pod}/cpu.max", "200000 100000"), (f"{pod}/app/cpu.max", "max 100000")
    memory = (
        (f"{pod}/memory.max", "4294967296"),
        (f"{pod}/memory.current", "1073741824"),
        (f"{pod}/app/memory.max", "max"),
    )
    root = tree(tmp_path, "0::/pod/app", *limits, *memory, v2=V2)
    assert core_limit(root, affinity=8, online=8).cores == 2.0
    assert memory_limit_bytes(root) == 4 * 2**30
    assert memory_available_bytes(root) == 3 * 2**30


def test_v2_inside_a_container_the_mount_is_the_group(tmp_path: Path) -> None:
    root = tree(tmp_path, "0::/host/path/that/is/not/visible", (f"{V2}/cpu.max", "400000 100000"), v2=V2)
    assert core_limit(root, affinity=16, online=16) == CoreLimit(4.0, "cgroup v2", 16)


def test_v2_cpuset(tmp_path: Path) -> None:
    root = tree(tmp_path, "0::/app", (f"{V2}/app/cpuset.cpus.effective", "0-2,5"), v2=V2)
    assert core_limit(root, affinity=16, online=16) == CoreLimit(4.0, "cgroup v2", 16)


def test_v1_quota_and_memory(tmp_path: Path) -> None:
    quota = (f"{V1_CPU}/cpu.cfs_quota_us", "250000"), (f"{V1_CPU}/cpu.cfs_period_us", "100000")
    memory = (f"{V1_MEMORY}/memory.limit_in_bytes", "2147483648"), (f"{V1_MEMORY}/memory.usage_in_bytes", "2000000000")
    root = tree(tmp_path, "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc", *quota, *memory)
    found = core_limit(root, affinity=8, online=8)
    assert (found.cores, found.limited_by, found.threads) == (2.5, "cgroup v1", 2)
    assert memory_limit_bytes(root) == 2 * 2**30
    assert memory_available_bytes(root) == 2**31 - 2e9


def test_v1_without_quota_and_with_the_enormous_no_limit(tmp_path: Path) -> None:
    root = tree(
        tmp_path, "5:memory:/\n4:cpu:/\n3:cpuset:/", (f"{V2}/cpu/cpu.cfs_quota_us", "-1"),
        (f"{V2}/cpuset/cpuset.cpus", "0-1,6"), (f"{V2}/memory/memory.limit_in_bytes", "9223372036854771712"),
    )  # fmt: skip
    assert core_limit(root, affinity=8, online=8) == CoreLimit(3.0, "cgroup v1", 8)
    assert memory_limit_bytes(root) == 16 * 2**30


def test_the_tightest_limit_wins(tmp_path: Path) -> None:
    v1 = (f"{V2}/cpu/cpu.cfs_quota_us", "300000"), (f"{V2}/cpu/cpu.cfs_period_us", "100000")
    root = tree(tmp_path, "4:cpu:/\n0::/", *v1, (f"{V2}/unified/cpu.max", "50000 100000"), v2=f"{V2}/unified")
    found = core_limit(root, affinity=4, online=8)
    assert found == CoreLimit(0.5, "cgroup v2", 8)
    assert found.threads == 1

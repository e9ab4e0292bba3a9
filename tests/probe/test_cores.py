"""Limits of containers, on copies of the kernel's files."""

from pathlib import Path

import pytest

from envelope.probe.cores import CoreLimit, core_limit, memory_available_bytes, memory_limit_bytes


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = "MemTotal:       16777216 kB\nMemFree:  1000000 kB\nMemAvailable:    8388608 kB\n"


def test_without_cgroups_the_machine_limits(tmp_path: Path) -> None:
    assert core_limit(tmp_path, affinity=8, online=8) == CoreLimit(8.0, "machine", 8)


def test_affinity_limits(tmp_path: Path) -> None:
    assert core_limit(tmp_path, affinity=3, online=8) == CoreLimit(3.0, "affinity", 8)


@pytest.mark.parametrize(
    ("text", "cores", "by"),
    [("150000 100000\n", 1.5, "cgroup v2"), ("max 100000\n", 8.0, "machine"), ("rubbish\n", 8.0, "machine")],
)
def test_v2_quota(tmp_path: Path, text: str, cores: float, by: str) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/app/worker\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
            "sys/fs/cgroup/app/worker/cpu.max": text,
        },
    )
    found = core_limit(root, affinity=8, online=8)
    assert (found.cores, found.limited_by) == (cores, by)


def test_v2_limit_of_a_parent_counts(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/app\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
            "sys/fs/cgroup/pod/cpu.max": "200000 100000\n",
            "sys/fs/cgroup/pod/app/cpu.max": "max 100000\n",
            "sys/fs/cgroup/pod/memory.max": "4294967296\n",
            "sys/fs/cgroup/pod/memory.current": "1073741824\n",
            "sys/fs/cgroup/pod/app/memory.max": "max\n",
            "proc/meminfo": MEMINFO,
        },
    )
    assert core_limit(root, affinity=8, online=8).cores == 2.0
    assert memory_limit_bytes(root) == 4 * 2**30
    assert memory_available_bytes(root) == 3 * 2**30


def test_v2_inside_a_container_the_mount_is_the_group(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/host/path/that/is/not/visible\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu\n",
            "sys/fs/cgroup/cpu.max": "400000 100000\n",
        },
    )
    assert core_limit(root, affinity=16, online=16) == CoreLimit(4.0, "cgroup v2", 16)


def test_v1_quota_and_memory(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n",
            "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "2147483648\n",
            "sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes": "2000000000\n",
            "proc/meminfo": MEMINFO,
        },
    )
    found = core_limit(root, affinity=8, online=8)
    assert (found.cores, found.limited_by, found.threads) == (2.5, "cgroup v1", 2)
    assert memory_limit_bytes(root) == 2 * 2**30
    assert memory_available_bytes(root) == 2**31 - 2e9


def test_v1_without_quota_and_with_the_enormous_no_limit(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/\n4:cpu:/\n3:cpuset:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpuset/cpuset.cpus": "0-1,6\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "proc/meminfo": MEMINFO,
        },
    )
    assert core_limit(root, affinity=8, online=8) == CoreLimit(3.0, "cgroup v1", 8)
    assert memory_limit_bytes(root) == 16 * 2**30


def test_the_tightest_limit_wins(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "4:cpu:/\n0::/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/unified/cgroup.controllers": "\n",
            "sys/fs/cgroup/unified/cpu.max": "50000 100000\n",
        },
    )
    found = core_limit(root, affinity=4, online=8)
    assert found == CoreLimit(0.5, "cgroup v2", 8)
    assert found.threads == 1

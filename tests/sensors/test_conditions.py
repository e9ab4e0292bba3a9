from pathlib import Path

import pytest

from envelope.errors import EnvelopeError
from envelope.processor import processor_flags, processor_name
from envelope.sensors.conditions import (
    CpuClock,
    blas_text,
    cpu_clock,
    last_level_cache_bytes,
    library_versions,
    noise_between,
    warnings_of_environment,
)
from envelope.sensors.cpu import cold_bytes


def test_what_others_took_is_busy_time_less_our_own() -> None:
    first = CpuClock(busy_s=10.0, steal_s=1.0, total_s=100.0, own_s=2.0)
    last = CpuClock(busy_s=18.0, steal_s=2.0, total_s=120.0, own_s=6.0)
    noise = noise_between(first, last)
    assert noise is not None
    assert (noise.foreign_frac, noise.steal_frac) == (0.2, 0.05)


def test_counters_are_read_from_the_kernels_format(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 0 100 800 0 0 0 50 0 0\ncpu0 1 1 1 1\n")
    clock = cpu_clock(stat)
    assert clock is not None
    assert clock.steal_s / clock.total_s == pytest.approx(50 / 1050)
    assert clock.busy_s / clock.total_s == pytest.approx(200 / 1050)


@pytest.mark.parametrize("text", ["", "cpu 1 2\n", "nonsense"])
def test_unreadable_counters_give_none(tmp_path: Path, text: str) -> None:
    stat = tmp_path / "stat"
    stat.write_text(text)
    assert cpu_clock(stat) is None
    assert noise_between(None, cpu_clock(stat)) is None
    assert cpu_clock(tmp_path / "absent") is None


def test_a_forgotten_blas_setting_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    assert any("OPENBLAS_CORETYPE=Prescott" in line for line in warnings_of_environment())


def test_processor_is_described_from_the_kernels_files(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor: 0\nmodel name\t: AMD Ryzen 9 9950X\nflags\t: avx2 avx512f\n")
    cache = tmp_path / "sys/devices/system/cpu/cpu0/cache"
    for level, size in enumerate(("48K", "1024K", "32M"), start=1):
        (cache / f"index{level}").mkdir(parents=True)
        (cache / f"index{level}/size").write_text(f"{size}\n")
        (cache / f"index{level}/level").write_text(f"{level}\n")
    assert processor_name(tmp_path) == "AMD Ryzen 9 9950X"
    assert processor_flags(tmp_path) == {"avx2", "avx512f"}
    assert last_level_cache_bytes(tmp_path, [0]) == 32 * 2**20
    assert last_level_cache_bytes(tmp_path, [7]) is None


def test_every_block_of_a_divided_cache_counts_once(tmp_path: Path) -> None:
    """Four cores, two by two on a block of 32 MiB, as on processors made of chiplets."""
    for cpu in range(4):
        for level, size in ((2, "1024K"), (3, "32768K")):
            index = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/cache/index{level}"
            index.mkdir(parents=True)
            first = cpu // 2 * 2
            shared = f"{first}-{first + 1}" if level == 3 else str(cpu)
            for name, text in (("size", size), ("level", str(level)), ("shared_cpu_list", shared)):
                (index / name).write_text(f"{text}\n")
    assert last_level_cache_bytes(tmp_path, range(4)) == 2 * 32 * 2**20
    assert last_level_cache_bytes(tmp_path, [0, 1]) == 32 * 2**20


def test_weights_exceed_a_large_cache_several_times() -> None:
    assert cold_bytes(256e6, 1e11, 32e6) == 256e6
    assert cold_bytes(256e6, 1e11, 384e6) == 4 * 384e6
    # Memory pressure comes first.
    assert cold_bytes(256e6, 1e9, 384e6) == 1e8
    with pytest.raises(EnvelopeError, match="too little free memory"):
        cold_bytes(256e6, 1e8, 32e6)


def test_libraries_are_named() -> None:
    assert "numpy" in library_versions()
    assert blas_text()

from pathlib import Path

import pytest

from envelope.probe.conditions import (
    CpuClock,
    blas_text,
    cpu_clock,
    last_level_cache_bytes,
    library_versions,
    noise_between,
    processor_flags,
    processor_name,
    warnings_of_environment,
)


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
    for index, size in enumerate(("48K", "1024K", "32M")):
        (cache / f"index{index}").mkdir(parents=True)
        (cache / f"index{index}/size").write_text(f"{size}\n")
    assert processor_name(tmp_path) == "AMD Ryzen 9 9950X"
    assert processor_flags(tmp_path) == {"avx2", "avx512f"}
    assert last_level_cache_bytes(tmp_path) == 32 * 2**20


def test_libraries_are_named() -> None:
    assert "numpy" in library_versions()
    assert blas_text()

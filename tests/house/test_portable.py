"""What is not everywhere: modules and calls of POSIX, other time zones and locales, folders that cannot be written, a full disk."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from envelope.cli import main

ROOT = Path(__file__).parents[2]
WITHOUT_POSIX = """
import importlib, importlib.abc, os, pkgutil, pwd, sys, types

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in {"fcntl", "resource", "grp", "termios", "syslog"}:
            raise ModuleNotFoundError(name, name=name)

import numpy, pydantic, rich.console, scipy.stats, simpy, multiprocessing.util, subprocess, socket, tempfile
for name in ("sched_getaffinity", "getloadavg", "fork", "getuid", "posix_fadvise"):
    delattr(os, name)
sys.modules.pop("fcntl", None)
sys.meta_path.insert(0, Hidden())
sys.modules["msvcrt"] = types.ModuleType("msvcrt")
import envelope
for module in pkgutil.walk_packages(envelope.__path__, "envelope."):
    if module.name.endswith("__main__"):
        continue
    # The lock of a results folder asks which system it is on; the libraries around it must not.
    sys.platform = "win32" if module.name == "envelope.plan.sweep.lock" else "linux"
    importlib.import_module(module.name)
sys.platform = "linux"
from envelope.cli import main
sys.exit(main(["estimate", "--model", "llama-3.1-8b", "--hardware", "nvidia-l40s-48gb", "--json"]))
"""


def simulated(**environment: str) -> str:
    command = [sys.executable, "-m", "envelope", "simulate", "field-devices", "--seeds", "1", "--json"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        env=dict(os.environ) | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_imports_and_estimates_without_what_only_posix_has() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_POSIX], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["itl_s"] > 0


def test_time_zone_and_locale_change_no_figure() -> None:
    here = simulated(TZ="UTC", LC_ALL="C.UTF-8", PYTHONHASHSEED="1")
    assert here == simulated(TZ="Pacific/Kiritimati", LC_ALL="de_DE.UTF-8", PYTHONHASHSEED="2", PYTHONUTF8="0")


@pytest.mark.parametrize("command", [
    ["tco", "field-devices", "--draws", "64", "--out"],
    ["import", "log.csv", "--out"],
    ["simulate", "field-devices", "--seeds", "1", "--table"],
    ["sweep", "field-devices", "--set", "workload.seats=10", "--executor", "here", "--out"],
], ids=lambda words: words[0])  # fmt: skip
def test_a_place_that_cannot_be_written_is_one_clear_error(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Below a file nobody can write, root neither, who may write to read-only folders.
    (tmp_path / "log.csv").write_text(
        "arrival_s,input_tokens,output_tokens\n" + "".join(f"{i},500,20\n" for i in range(50))
    )
    monkeypatch.chdir(tmp_path)
    assert main([*command, str(tmp_path / "log.csv" / "below.csv")]) == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_not_a_success() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "envelope", "models", "--json"]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode != 0
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_trace_of_a_million_requests_is_read(tmp_path: Path) -> None:
    from envelope.plan.bring.trace_file import read_trace

    path = tmp_path / "million.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("arrival_s,input_tokens,output_tokens\n")
        for start in range(0, 1_000_000, 10_000):
            file.write("".join(f"{i * 0.01:.2f},512,64\n" for i in range(start, start + 10_000)))
    trace = read_trace(path)
    assert len(trace.arrival_s) == 1_000_000
    assert trace.arrival_s[-1] == pytest.approx(9999.99)
    assert trace.input_tokens.sum() == 512_000_000

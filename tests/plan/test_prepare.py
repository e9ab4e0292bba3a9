"""Telling of the compilation: before a big run on a machine without compiled kernel, and only then."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from envelope.serving.compiled import available

CODE = """
import sys
from envelope.plan.service.prepare import announce
announce(int(sys.argv[1]), 1, print)
"""


def told(folder: Path, requests: int) -> str:
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder)}
    command = [sys.executable, "-c", CODE, str(requests)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not available(), reason="numba is not installed")
def test_only_a_big_run_on_a_new_machine_tells_of_the_compilation(tmp_path: Path) -> None:
    assert "compiling" in told(tmp_path, 10**6)
    assert told(tmp_path, 1000) == ""

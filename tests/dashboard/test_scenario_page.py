"""Building a scenario: form and text follow each other, errors are those of the command, nothing is lost."""

from pathlib import Path

import pytest

from envelope.errors import InputError
from envelope.plan.case.scenarios import find_scenario, load_scenario, read_scenario
from envelope.spec.edit import edited

pytest.importorskip("streamlit", reason="the dashboard's extra is not installed")
from opening import again, open_page, query_of

NAME = "field-devices"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path / "envelope"


def test_the_form_writes_into_the_text_and_leaves_the_rest() -> None:
    app = open_page("scenario", scenario=NAME)
    before = app.text_area(key="yaml").value
    app.number_input(key="form-company-seats").set_value(77)
    after = again(app).text_area(key="yaml").value
    assert after == edited(before, ["company", "seats"], 77)
    assert app.number_input(key="form-company-seats").value == 77
    assert any("not saved" in warning.value for warning in app.warning)


def test_a_wrong_text_says_what_the_command_says() -> None:
    app = open_page("scenario", scenario=NAME)
    wrong = edited(app.text_area(key="yaml").value, ["company", "seets"], 5)
    app.text_area(key="yaml").set_value(wrong)
    again(app)
    with pytest.raises(InputError) as told:
        read_scenario(wrong, find_scenario(NAME))
    shown = [error.value.replace(r"\$", "$") for error in app.error]
    assert [str(problem) for problem in told.value.problems] == shown
    assert any("seats" in line for line in shown)


def test_undo_brings_back_what_was_there() -> None:
    app = open_page("scenario", scenario=NAME)
    before = app.text_area(key="yaml").value
    app.number_input(key="form-company-seats").set_value(77)
    again(app).button(key="undo").click()
    assert again(app).text_area(key="yaml").value == before
    assert "draft" not in query_of(app)


def test_a_link_shows_the_same_text_in_another_session() -> None:
    app = open_page("scenario", scenario=NAME)
    app.number_input(key="form-company-seats").set_value(78)
    link = query_of(again(app))
    other = open_page("scenario", session="other", **link)
    assert other.text_area(key="yaml").value == app.text_area(key="yaml").value


def test_a_duplicate_is_saved_where_the_command_finds_it_and_can_be_deleted_and_restored() -> None:
    app = open_page("scenario", scenario=NAME)
    app.number_input(key="form-company-seats").set_value(79)
    again(app).text_input(key=f"new-name-{NAME}").set_value("mine")
    again(app).button(key="duplicate").click()
    assert query_of(again(app)) | {"candidate": ""} == {"scenario": "mine", "candidate": ""}
    assert load_scenario("mine").company.seats == 79
    assert load_scenario("mine").id == "mine"
    app.button(key="delete").click()
    again(app)
    with pytest.raises(InputError):
        load_scenario("mine")
    app.button(key="restore-mine").click()
    again(app)
    assert load_scenario("mine").company.seats == 79


def test_a_save_does_not_overwrite_what_somebody_else_saved(folder: Path) -> None:
    app = open_page("scenario", scenario=NAME)
    app.text_input(key=f"new-name-{NAME}").set_value("shared")
    again(app).button(key="duplicate").click()
    again(app).number_input(key="form-company-seats").set_value(80)
    again(app)
    file = folder / "scenarios" / "shared.yaml"
    theirs = edited(file.read_text(encoding="utf-8"), ["company", "seats"], 5)
    file.write_text(theirs, encoding="utf-8")
    app.button(key="save").click()
    again(app)
    assert any("somebody else" in toast.value for toast in app.toast)
    assert file.read_text(encoding="utf-8") == theirs


def test_a_change_made_before_the_browser_heard_of_the_last_one_is_kept() -> None:
    app = open_page("scenario", scenario=NAME)
    app.number_input(key="form-company-seats").set_value(70)
    before = query_of(again(app))
    app.number_input(key="form-company-seats").set_value(71)
    again(app)
    assert query_of(app) != before
    app.number_input(key="form-company-seats").set_value(72)
    for key, value in before.items():
        app.query_params[key] = value
    assert again(app).number_input(key="form-company-seats").value == 72


def test_back_in_the_browser_shows_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from envelope.dashboard import address

    monkeypatch.setattr(address, "_ECHO_S", 0.0)
    app = open_page("scenario", scenario=NAME)
    app.number_input(key="form-company-seats").set_value(70)
    before = query_of(again(app))
    app.number_input(key="form-company-seats").set_value(71)
    again(app)
    for key, value in before.items():
        app.query_params[key] = value
    assert again(app).number_input(key="form-company-seats").value == 70

"""Reading data files: one clear error per problem, the nearest name, nothing half-read."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from envelope.errors import InputError, nearest
from envelope.provenance import Evidence, Frozen, Source, Sourced, weakest
from envelope.spec import folders, load, yaml_text


class Inner(Frozen):
    width_m: float = Field(gt=0)


class Thing(Sourced):
    id: str
    aliases: tuple[str, ...] = ()
    weight_kg: float = Field(ge=0)
    parts: tuple[Inner, ...] = ()


GOOD = "id: chair\naliases: [Seat, org/My Chair]\nweight_kg: 4\nsources: {default: {source: the maker, date: '2026'}}\n"


@pytest.fixture
def shelf(tmp_path: Path):
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "chair.yaml").write_text(GOOD)
    folders.set_data_dirs((tmp_path,))
    yield tmp_path
    folders.set_data_dirs(())


def problems(text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        load.validate(Thing, yaml_text.parse_yaml(text, "thing.yaml"), "thing.yaml")
    return [str(p) for p in caught.value.problems]


@pytest.mark.parametrize("name", ["chair", "Chair", "seat", "org/My Chair", "my_chair", "my-chair"])
def test_a_record_answers_to_its_id_and_aliases_in_any_spelling(shelf: Path, name: str) -> None:
    assert load.load(Thing, "things", name, file="f", path="p").weight_kg == 4


def test_an_unknown_name_says_where_it_stands_and_what_is_near(shelf: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"s\.yaml: pools\[0\]\.device: 'chiar' unknown; nearest 'chair'",
    ):
        load.load(Thing, "things", "chiar", file="s.yaml", path="pools[0].device")


def test_every_problem_is_reported_at_once() -> None:
    found = problems(
        "id: chair\nweight_kg: -1\nparts: [{width_m: 2}, {width_m: 0, colour: red}]\nsources: {default: {source: abc, date: '2026'}}"
    )
    assert len(found) == 3
    assert any("weight_kg: -1" in f for f in found)
    assert any("parts[1].width_m: 0" in f for f in found)
    assert any("parts[1].colour: unknown field" in f for f in found)


def test_a_misspelt_field_is_answered_with_the_nearest() -> None:
    found = problems(GOOD.replace("weight_kg", "wieght_kg"))
    assert any("wieght_kg: unknown field; nearest 'weight_kg'" in f for f in found)


@pytest.mark.parametrize("bad", [".nan", ".inf", "-.inf"])
def test_numbers_must_be_finite(bad: str) -> None:
    assert any("weight_kg" in f and "finite" in f for f in problems(GOOD.replace("4", bad)))


def test_a_number_without_source_is_refused() -> None:
    assert any("sources" in f for f in problems("id: chair\nweight_kg: 4\n"))


def test_broken_yaml_names_line_and_column() -> None:
    with pytest.raises(InputError, match=r"x\.yaml: line 3, column \d+: is not valid YAML"):
        yaml_text.parse_yaml("a: 1\nb: [1, 2\nc: }", "x.yaml")


def test_a_missing_file_is_answered_with_the_nearest(shelf: Path) -> None:
    with pytest.raises(InputError, match=r"no such file; nearest .*chair\.yaml"):
        yaml_text.read_yaml(shelf / "things" / "chairs.yaml")


def test_the_id_must_be_the_file_name(shelf: Path) -> None:
    (shelf / "things" / "table.yaml").write_text(GOOD)
    with pytest.raises(InputError, match="must equal the file name 'table'"):
        load.load_file(Thing, shelf / "things" / "table.yaml")


def test_yaml_cannot_run_code() -> None:
    with pytest.raises(InputError, match="not valid YAML"):
        yaml_text.parse_yaml("!!python/object/apply:os.getcwd []", "evil.yaml")


@given(st.text(max_size=200))
def test_any_text_is_either_data_or_a_clear_error(text: str) -> None:
    found: tuple[object, ...] = ()
    try:
        load.validate(Thing, yaml_text.parse_yaml(text, "any.yaml"), "any.yaml")
    except InputError as error:
        found = error.problems
    assert all(str(p).startswith("any.yaml:") for p in found)


def test_the_longest_prefix_decides_the_source() -> None:
    base = {"source": "datasheet", "date": "2025"}
    thing = Thing(
        id="t",
        weight_kg=1,
        sources={
            "default": Source(**base),
            "weight_kg": Source(source="a scale", date="2026", evidence=Evidence.MEASURED),
        },
    )
    assert thing.source_of("weight_kg").source == "a scale"
    assert thing.source_of("parts").source == "datasheet"


def test_the_weakest_link_counts() -> None:
    assert weakest([Evidence.MEASURED, Evidence.ASSUMED, Evidence.FITTED]) is Evidence.ASSUMED
    assert weakest([]) is Evidence.MEASURED


def test_nearest_prefers_the_closest_name() -> None:
    assert (
        nearest("h100-sxm", ["nvidia-a100-sxm-80gb", "nvidia-h100-sxm-80gb", "apple-m1"])[0] == "nvidia-h100-sxm-80gb"
    )


def test_dates_stay_text() -> None:
    assert yaml_text.parse_yaml("day: 2026-11-23\nmonth: 2026-11", "d.yaml") == {
        "day": "2026-11-23",
        "month": "2026-11",
    }

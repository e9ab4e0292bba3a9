"""The pages on decisions and money draw, and their figures are those of the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from envelope.cli import main
from envelope.report import text
from envelope.spec.edit import edited

pytest.importorskip("streamlit", reason="the dashboard's extra is not installed")
from opening import again, finished, open_page, query_of

NAME = "field-devices"


@pytest.fixture(autouse=True)
def _own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


def command(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    main([*words, "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def table(app: Any, column: str) -> Any:
    return next(frame.value for frame in app.dataframe if column in frame.value.columns)


def test_verdict_shows_the_recommendation_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    expected = command(capsys, "compare", NAME)
    best = next(c for c in expected["candidates"] if c["id"] == expected["recommended"])
    assert command(capsys, "tco", NAME)["recommended"] == best["id"]
    app = open_page("verdict", scenario=NAME)
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Cost over 3 years"] == text.money(best["cost_npv"])
    assert shown["Cash at signature"] == text.money(best["cost"]["signature_usd"])
    assert shown["SLO met"] == text.percent(best["slo_attainment_frac"], 1)
    assert shown["Tasks solved"] == text.percent(best["solved_frac"])
    assert best["name"] in app.success[0].value
    bindings = {c["name"]: (c["binding"] or "").replace("_", " ") for c in expected["candidates"]}
    rows = table(app, "binding constraint")
    assert dict(zip(rows["candidate"], rows["binding constraint"], strict=True)) == bindings


def test_compare_shows_every_candidate_as_the_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    expected = {c["name"]: c for c in command(capsys, "compare", NAME)["candidates"]}
    ids = ",".join(c["id"] for c in expected.values())
    app = open_page("compare", scenario=NAME, **{"with": ids})
    rows = table(app, "").set_index("")
    assert set(rows.columns) == set(expected)
    for name, c in expected.items():
        assert rows[name]["Expected cost (NPV)"].removesuffix(" ⚠") == text.money(c["cost_npv"])
        assert rows[name]["SLO met"] == text.percent(c["slo_attainment_frac"], 1)


def test_two_versions_of_a_scenario_differ_in_what_was_changed() -> None:
    first = open_page("scenario", scenario=NAME)
    first.text_area(key="yaml").set_value(edited(first.text_area(key="yaml").value, ["company", "seats"], 123))
    changed = query_of(again(first))
    app = open_page("compare", **changed, compare="Two scenarios")
    rows = table(app, "where").set_index("where")
    assert rows.loc["company.seats"]["after"] == "123"


def test_costs_are_those_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    expected = {c["name"]: c for c in command(capsys, "tco", NAME)["candidates"]}
    app = open_page("tco", scenario=NAME)
    rows = table(app, "expected present value")
    shown = {
        name.removeprefix("★ "): usd
        for name, usd in zip(rows["candidate"], rows["expected present value"], strict=True)
    }
    assert shown == {name: text.money(c["cost"]["expected_npv_usd"]) for name, c in expected.items()}


@pytest.mark.parametrize("part", ["Cost lines", "Tornado", "Fan chart", "Break-even", "Ranges"])
def test_every_part_of_the_costs_draws(part: str) -> None:
    app = open_page("tco", scenario=NAME, part=part)
    assert not app.error
    assert query_of(app)["part"] == part


def test_later_payments_count_less_at_a_higher_rate_which_can_be_kept() -> None:
    app = open_page("tco", scenario=NAME, part="What if", assumption="discount_rate_frac_per_year")
    slider = next(s for s in app.main.slider)
    slider.set_value(slider.max)
    rows = table(again(app), "then")
    assert all(change.startswith("−$") for change in rows["change"] if change != "–")
    assert any(change != "–" for change in rows["change"])
    app.button(key="keep-value").click()
    assert "draft" in query_of(again(app))


def test_assumptions_name_their_source_and_can_be_searched() -> None:
    app = open_page("assumptions", scenario=NAME)
    assert not app.error
    app.text_input(key="search").set_value("no such assumption")
    assert any("No assumption matches" in info.value for info in again(app).info)


def test_assumptions_weigh_what_the_lines_of_the_command_say(capsys: pytest.CaptureFixture[str]) -> None:
    expected: dict[str, float] = {}
    for candidate in command(capsys, "tco", NAME)["candidates"]:
        for line in candidate["result"]["lines"]:
            for name in line["inputs"]:
                expected[name] = expected.get(name, 0.0) + line["present_value_usd"]
    rows = table(open_page("assumptions", scenario=NAME), "assumption").set_index("input")["costs that rest on it"]
    # The discount rate weighs every line, so that no line names it.
    shown = {name: usd for name, usd in rows.items() if name != "discount_rate_frac_per_year"}
    assert len(shown) > 10
    assert shown == pytest.approx({name: expected[name] for name in shown})


def test_a_link_to_the_assumptions_carries_the_search() -> None:
    app = open_page("assumptions", scenario=NAME)
    app.text_input(key="search").set_value("electricity_")
    app.multiselect(key="basis").set_value(["datasheet"])
    link = query_of(again(app))
    other = open_page("assumptions", session="other", **link)
    rows = table(other, "assumption")
    assert set(rows["input"]) == {"electricity_usd_per_kwh", "electricity_growth_frac_per_year"}
    assert set(rows["evidence"]) == {"○ datasheet"}


def test_the_map_has_the_regions_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    axes = {"x": "discount_rate", "y": "power_price"}
    expected = command(capsys, "frontier", NAME, "--x", axes["x"], "--y", axes["y"])
    app = finished(open_page("line", scenario=NAME, **axes), "frontier-start")
    rows = table(app, "cheapest feasible")
    assert list(rows["cheapest feasible"]) == [r["name"] for r in expected["regions"]]
    assert list(rows["share of the map"]) == [text.percent(r["frac"]) for r in expected["regions"]]
    # A link to the map draws it without a button.
    assert query_of(app)["map"]


def test_the_line_names_the_axes_and_waits_for_its_button() -> None:
    app = open_page("line", scenario=NAME, x="api_price", y="discount_rate")
    assert app.button(key="frontier-start").label == "Draw the map"
    assert any("--x api_price --y discount_rate" in code.value for code in app.code)


def test_a_link_to_the_line_carries_the_ends_of_its_axes() -> None:
    app = open_page("line", scenario=NAME, x="api_price", y="discount_rate")
    app.number_input(key="x-low-api_price").set_value(0.25)
    link = query_of(again(app))
    other = open_page("line", session="other", **link)
    assert other.number_input(key="x-low-api_price").value == 0.25
    assert any("--x-range 0.25:" in code.value for code in other.code)
    # The ends belong to their axis.
    app = open_page("line", session="third", **{**link, "x": "requests_per_day"})
    assert app.number_input(key="x-low-requests_per_day").value is None


def test_a_wrong_axis_is_told_as_the_command_tells_it() -> None:
    from envelope.errors import InputError
    from envelope.plan.case.scenarios import load_scenario
    from envelope.plan.frontier.axes import axis

    with pytest.raises(InputError, match="nearest"):
        axis(load_scenario(NAME), "api_prise")

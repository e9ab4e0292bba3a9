"""The pages on fit, service, models, machines, evidence and accuracy draw, with the figures of the command line."""

import json
from typing import Any

import pytest

from envelope.cli import main
from envelope.report import text
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import load

pytest.importorskip("streamlit", reason="the dashboard's extra is not installed")
from opening import finished, open_page

CANDIDATE = "own-v4-flash"


def opened(name: str, **query: str) -> Any:
    app = open_page(name, **query)
    assert not app.error, app.error[0].value
    return app


def figures(app: Any) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def said(app: Any) -> str:
    parts = (*app.markdown, *app.caption, *app.success, *app.code)
    return "\n".join(str(part.value) for part in parts)


def command_line(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    main([*words, "--json"])
    return json.loads(capsys.readouterr().out)


def test_fit_shows_the_memory_and_the_equation_of_the_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    app = opened("fit", pool=f"{CANDIDATE}.0", weights="native", kv="fp8", at_once="32")
    command = next(code.value for code in app.code if code.value.startswith("envelope estimate"))
    expected = command_line(capsys, *command.replace("\\\n", " ").split()[1:])
    memory = expected["memory"]
    assert memory["equation"] in said(app)
    shown = figures(app)
    assert shown["Weights per device"] == text.gb(memory["domains"][0]["weights_bytes"])
    assert shown["Time per token"] == text.seconds(expected["itl_s"])
    assert shown["Requests held"] == text.count(memory["max_concurrency"])


def test_latency_shows_what_the_simulation_found(capsys: pytest.CaptureFixture[str]) -> None:
    app = opened("latency", candidate=CANDIDATE, load="2")
    command = next(code.value for code in app.code if code.value.startswith("envelope simulate"))
    expected = command_line(capsys, *command.split()[1:])
    found = expected["candidates"][0]
    shown = figures(app)
    assert shown["SLO met"] == text.percent(found["slo_attainment"]["mean"], 1)
    assert shown["TTFT p95"] == text.seconds(found["overall"]["ttft_s"]["p95"])
    assert shown["ITL mean"] == text.seconds(found["overall"]["itl_s"]["mean"])


def test_faults_shows_the_failure_beside_the_calm_hour(capsys: pytest.CaptureFixture[str]) -> None:
    app = opened("faults", candidate=CANDIDATE)
    expected = command_line(capsys, "simulate", "coding-assistant", CANDIDATE, "--horizon", "hour",
                            "--fail-node-at", "peak")  # fmt: skip
    found = expected["candidates"][0]
    shown = {metric.label: metric for metric in app.metric}
    assert shown["SLO met"].value == text.percent(found["slo_attainment"]["mean"], 1)
    assert float(shown["SLO met"].delta.split()[0]) < 0
    app = opened("faults", candidate=CANDIDATE, tab="Events")
    assert any("failure" in str(cell) for table in app.dataframe for cell in table.value.to_numpy().ravel())


def test_sparse_says_what_the_command_says(capsys: pytest.CaptureFixture[str]) -> None:
    app = opened("sparse", models="llama-3.3-70b,gpt-oss-120b")
    expected = command_line(capsys, "sparse", "coding-assistant", "--models", "llama-3.3-70b,gpt-oss-120b")
    for line in expected["lines"]:
        assert line.replace("$", r"\$") in said(app)
    table = app.dataframe[0].value
    assert list(table["resident weights"]) == [f"{r['resident_bytes'] / 1e9:,.0f} GB" for r in expected["rows"]]


def test_tuning_names_the_cheapest_and_its_cost(capsys: pytest.CaptureFixture[str]) -> None:
    app = opened(
        "tuning", model="llama-3.1-8b", device="nvidia-h100-sxm-80gb", tp="1", weights="native", a_day="200000"
    )
    command = next(code.value for code in app.code if code.value.startswith("envelope tuning"))
    expected = command_line(capsys, *command.replace("\\\n", " ").split()[1:])
    table = app.dataframe[0].value
    cheapest = [r["method"] == expected["cheapest"] for r in expected["rows"]]
    assert list(table[""] == "★") == cheapest
    assert list(table["a year"]) == [text.money(r["total_usd_per_year"]) for r in expected["rows"]]


def test_evidence_shows_every_difficulty(capsys: pytest.CaptureFixture[str]) -> None:
    app = opened("evidence")
    expected = command_line(capsys, "evidence", "coding-assistant")
    table = next(t.value for t in app.dataframe if "assumed to fail" in t.value)
    assert list(table["used"]) == [text.percent(t["used_frac"], 1) for t in expected["tasks"]]


def test_hardware_shows_the_profile_of_the_command_and_compares_machines(capsys: pytest.CaptureFixture[str]) -> None:
    app = opened("hardware", device="nvidia-h100-sxm-80gb")
    profile = load(HardwareProfile, "hardware_profiles", "nvidia-h100-sxm-80gb", file="test", path="device")
    expected = command_line(capsys, "hardware", "nvidia-h100-sxm-80gb")
    shown = figures(app)
    assert shown["Memory"] == text.gb(expected["memory"][0]["capacity_bytes"])
    assert shown["Bandwidth"] == text.si(expected["memory"][0]["bandwidth_bytes_per_s"], "B/s")
    assert shown["Power"] == f"{expected['power']['max_w']:,.0f} W"
    assert f"memory: ○ datasheet, {profile.source_of('memory').source[:30]}" in said(app)
    app = opened("hardware", device="nvidia-h100-sxm-80gb", tab="Compare machines")
    machines = next(t.value for t in app.dataframe if "device" in t.value)
    assert profile.name in list(machines["device"])


def test_accuracy_shows_the_bands_that_ship() -> None:
    from envelope.spec.error_band import find_band

    app = opened("accuracy")
    band = find_band("decode", "any", "any")
    assert band is not None
    assert figures(app)["decode"] == f"±{text.percent(band.median_ape_frac)}"


def test_accuracy_scores_as_the_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    expected = command_line(capsys, "validate")["totals"]
    app = finished(opened("accuracy"), "accuracy-start")
    table = next(t.value for t in app.dataframe if "rows from" in t.value)
    assert list(table["rows"]) == [text.count(t["n"]) for t in expected]
    assert list(table["median error"]) == [text.percent(t["median_ape_frac"], 1) for t in expected]


@pytest.mark.parametrize(
    ("secrets", "offered"),
    [
        ({}, True), ({"access": {"password": "p"}}, False), ({"auth": {"client_id": "i"}}, False),
        ({"access": {"password": "p", "probe": True}}, True), ({"access": {"probe": False}}, False),
    ],
)  # fmt: skip
def test_a_server_for_others_is_not_loaded_by_its_readers_unless_allowed(secrets: Any, offered: bool) -> None:
    tabs = [tab.label for tab in open_page("hardware", secrets=secrets).tabs]
    assert ("Probe this machine" in tabs) == offered


def test_a_scenario_without_machines_has_nothing_to_fit_or_fail() -> None:
    """Every page must answer for a scenario whose candidates are all hosted."""
    import envelope
    from envelope.dashboard import tasks_detail

    scenario = envelope.load_scenario("coding-assistant")
    hosted = scenario.model_copy(update={"candidates": tuple(c for c in scenario.candidates if not c.pools)})
    assert hosted.candidates
    assert tasks_detail.memory(hosted, progress=lambda _share, _what: None) == ()


@pytest.mark.parametrize("name", ["fit", "latency", "faults", "sparse", "tuning", "evidence"])
def test_pages_draw_for_a_scenario_on_devices_in_the_field(name: str) -> None:
    opened(name, scenario="field-devices")

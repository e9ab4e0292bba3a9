"""The public surface: what it is, and that results become frames, charts and notebook tables."""

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import envelope
from envelope.errors import EnvelopeError
from envelope.plan.deployment.estimate import Asked, EstimateQuery
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import load
from envelope.validation.validate import shipped_facts

SURFACE = {
    "load_scenario", "Scenario", "estimate", "simulate", "compare", "tco", "size", "frontier", "sweep", "probe",
    "validate", "InputError", "__version__",
}  # fmt: skip
TUTOR = envelope.load_scenario("math-tutor").replace("simulation.max_requests", 200)
ONE = "own-llama-8b"

RESULTS: dict[str, Callable[[], Any]] = {
    "estimate": lambda: envelope.estimate(model="llama-3.1-8b", hardware="nvidia-l40s-48gb", concurrency=8),
    "compare": lambda: envelope.compare(TUTOR, seeds=1, only=[ONE]),
    "simulate": lambda: envelope.simulate(TUTOR, ONE, seeds=1, hours=0.02),
    "tco": lambda: envelope.tco(TUTOR, seeds=1, only=[ONE, "hosted-frontier"], draws=64),
    "sweep": lambda: envelope.sweep(
        TUTOR, set={"company.seats": [10, 20]}, only=[ONE], seeds=2, executor="here"
    ),
    "size": lambda: envelope.size(TUTOR, ONE, tp=[1], replicas=[4], acquire=["purchase"], explore=0),
    "frontier": lambda: envelope.frontier(TUTOR, "requests_per_day", "api_price", cells=3, draws=8),
    "validate": lambda: envelope.validate(select=lambda row: row.id in FEW, workers=1),
    # What ``probe`` returns is a profile; measuring one takes half a minute and is tested in tests/sensors.
    "probe": lambda: load(HardwareProfile, "hardware_profiles", "nvidia-l40s-48gb", file="test", path=""),
}  # fmt: skip
FEW = {row.id for row in shipped_facts().rows[:4]}


def test_all_is_the_whole_surface_and_documented() -> None:
    assert set(envelope.__all__) == SURFACE == set(dir(envelope))
    for name in SURFACE - {"__version__"}:
        assert len(inspect.getdoc(getattr(envelope, name)) or "") > 20, name


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'swep'"):
        envelope.swep  # noqa: B018


def test_functions_with_the_name_of_a_room_can_be_called_in_whatever_order_things_are_imported() -> None:
    script = (
        "import envelope; import envelope.money.model as m; import envelope.sensors.save; import inspect\n"
        "assert 'baseline' in inspect.signature(envelope.tco).parameters, inspect.signature(envelope.tco)\n"
        "assert 'quick' in inspect.signature(envelope.probe).parameters\n"
        "try: envelope.tco(envelope.load_scenario('field-devices'), only=['nobody'])\n"
        "except envelope.InputError as e: print(e, m.__name__)"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "'nobody' unknown" in told.stdout
    assert "envelope.money.model" in told.stdout


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_a_frame_a_chart_a_table_and_plain_data(name: str) -> None:
    result = RESULTS[name]()
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert len(result.to_frame()) >= 1
    chart = result.plot().to_dict()
    assert chart["description"]
    assert result._repr_html_().startswith("<div><b>")
    assert result.__rich__().row_count >= 1


def test_frames_hold_the_figures_of_the_results() -> None:
    compared = envelope.compare(TUTOR, seeds=1, only=[ONE])
    frame = compared.to_frame().set_index("id")
    assert frame.loc[ONE, "cost_npv"] == compared.candidates[0].cost_npv
    swept = RESULTS["sweep"]()
    assert swept.to_frame()["cost_npv_usd"].tolist() == [row.cost_npv_usd for row in swept.rows()]


def test_arguments_are_named_and_typed_without_anything_else_to_import() -> None:
    assert (
        set(Asked.__annotations__)
        == set(EstimateQuery.model_fields)
        == set(inspect.signature(envelope.estimate).parameters)
    )
    with pytest.raises(envelope.InputError, match="nearest 'concurrency'"):
        envelope.estimate(model="llama-3.1-8b", hardware="nvidia-l40s-48gb", concurency=8)
    with pytest.raises(envelope.InputError, match="nearest 'replicas'"):
        envelope.size(TUTOR, ONE, replica=[2])
    for name in SURFACE - {"InputError", "Scenario", "__version__"}:
        untyped = [
            p.name for p in inspect.signature(getattr(envelope, name)).parameters.values() if p.annotation is p.empty
        ]
        assert not untyped, name


def test_words_of_a_scenario_are_escaped_in_a_notebook() -> None:
    nasty = TUTOR.replace({"name": "<script>x</script>", f"candidates.{ONE}.name": "a & <b>"})
    shown = envelope.compare(nasty, seeds=1, only=[ONE])._repr_html_()
    assert "<script>" not in shown
    assert "a &amp; &lt;b&gt;" in shown


def test_without_an_extra_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    result = RESULTS["estimate"]()
    monkeypatch.setattr("envelope.display.find_spec", lambda _name: None)
    for show, extra in ((result.to_frame, "frames"), (result.plot, "report")):
        with pytest.raises(EnvelopeError, match=rf"deployment-envelope\[{extra}\]"):
            show()

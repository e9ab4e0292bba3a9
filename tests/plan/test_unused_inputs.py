"""Nothing of a scenario's money is accepted in silence: what touches no cost line is named, what cannot be is refused."""

from pathlib import Path

import pytest

from envelope.errors import InputError
from envelope.money.prices import with_price_file
from envelope.plan.case.scenarios import load_scenario
from envelope.plan.compare import compare
from envelope.plan.cost.models import cost_models
from envelope.plan.cost.study import cost_study
from envelope.report.cost_page import legend
from envelope.spec.scenario import Scenario
from tests.plan.drawn import TUTOR

ONLY = ["own-qwen3-32b", "hosted-mistral"]
QUICK = TUTOR.replace("simulation", {"seeds": 1, "max_requests": 300})


def warned(scenario: Scenario) -> list[str]:
    """Return the paths that ``compare`` warns of."""
    said = compare(scenario, only=ONLY).warnings
    assert all(text.endswith("changes no cost line of any candidate that can run") or ": `per" in text for text in said)
    return [text.split(" ")[0].removeprefix("economics.") for text in said]


def test_a_shipped_scenario_says_nothing_in_vain() -> None:
    for ident in ("math-tutor", "field-devices", "deepseek-production"):
        scenario = load_scenario(ident).replace("simulation", {"seeds": 1, "max_requests": 300})
        assert compare(scenario).warnings == (), ident


@pytest.mark.parametrize(
    ("inputs", "vain"),
    [
        ({"laptop_cycle": 9}, ["inputs.laptop_cycle"]),
        ({"perf_per_dollar_gain": 0.9, "staff_mlops": 90_000}, ["inputs.perf_per_dollar_gain"]),
        ({"price.nvidia-dgx-h100": 1e6}, ["inputs.price.nvidia-dgx-h100"]),
        ({"price.nvidia-l40s-4gpu-server": 30_000}, []),
        ({"rent.nvidia-h200-sxm-141gb.on_demand": 3.0}, ["inputs.rent.nvidia-h200-sxm-141gb.on_demand"]),
        ({"residual_after_3y": 0.2}, []),
        ({"staff_mlops": 100_000, "residual_after_5y": 0.1}, ["inputs.residual_after_5y"]),
    ],
)
def test_an_input_that_no_line_uses_is_named(inputs: dict, vain: list[str]) -> None:
    assert warned(QUICK.replace("economics.inputs", inputs)) == vain


def test_settings_and_items_without_effect_are_named() -> None:
    item = {"id": "licences", "label": "Licences", "group": "software", "factors": [300]}
    for per, vain in (("seat", ["extra.licences"]), ("user", []), ("candidate", [])):
        assert warned(QUICK.replace("economics.extra", [{**item, "per": per}])) == vain
    changed = QUICK.replace(
        {"economics.lease_months": 24, "economics.depreciation_years": 7, "economics.skip": ["oncall"],
         "economics.usd_per_currency": {"CHF": 1.1, "EUR": 1.2}}
    )  # fmt: skip
    assert warned(changed) == ["skip.oncall", "usd_per_currency.CHF", "depreciation_years", "lease_months"]


def test_an_item_per_user_counts_the_people_on_every_bench() -> None:
    item = {"id": "licences", "label": "Licences", "group": "software", "factors": [100], "per": "user"}
    free = QUICK.replace({"economics.extra": [item], "economics.discount_rate_frac_per_year": 0})
    for candidate in compare(free, only=ONLY).candidates:
        assert candidate.cost_by_line["licences"] == pytest.approx(100 * free.company.seats * 3)


def test_the_cost_study_and_its_pages_repeat_the_warning() -> None:
    changed = QUICK.replace("economics.inputs", {"laptop_cycle": 9})
    study = cost_study(cost_models(changed, only=ONLY, volumes=False), draws=64)
    assert study.warnings == compare(changed, only=ONLY).warnings
    assert "economics.inputs.laptop_cycle changes no cost line" in legend(study)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("economics.inputs", {"price.nvidia-l40s-4gpu-server": -1}, "economics.inputs.price.nvidia-l40s-4gpu-server"),
        ("economics.inputs", {"staff_mlops": {"low": -5, "high": 9}}, "economics.inputs.staff_mlops: -5 must be at"),
        ("economics.inputs", {"residual_after_3y": 1.2}, "residual_after_3y: 1.2 must be between 0 and 1"),
        ("economics.inputs", {"eur_usd": {"low": 1.0, "high": 1.2}}, "exchange rates have no range"),
        (
            "economics.usd_per_currency",
            {"EUR": {"low": 1.0, "high": 1.2}},
            "usd_per_currency.EUR: must be one positive",
        ),
        ("economics.pue", 0.5, "economics.pue: 0.5 must be at least 1"),
        ("economics.tax_rate_frac", 30, "economics.tax_rate_frac: 30 must be between 0 and 1"),
        ("economics.electricity_usd_per_kwh", -0.2, "electricity_usd_per_kwh: -0.2 must be at least 0"),
        ("economics.start", "2026-13", "economics.start: '2026-13'"),
        ("economics.start", "2026-02-30", "no date of the calendar: '2026-02-30'"),
        ("economics.inputs", {"wacc": {"value": 0.1, "date": "2024-20"}}, "economics.inputs.wacc.date: '2024-20'"),
    ],
)
def test_numbers_and_dates_that_cannot_be_are_refused(path: str, value: object, said: str) -> None:
    with pytest.raises(InputError) as caught:
        TUTOR.replace(path, value)
    assert said in str(caught.value)


def test_prices_may_fall_and_wages_too() -> None:
    changed = TUTOR.replace("economics.inputs", {"inflation": -0.01, "wage_growth": -0.02, "gpu_rental_trend": -0.5})
    assert changed.economics.inputs["inflation"].point == -0.01


def test_a_price_file_is_held_to_the_same_rules(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    quoted = "source: quote 7, date: 2026-10-01"
    path.write_text(
        f"prices:\n  price.nvidia-l40s-4gpu-server: {{value: -3, {quoted}}}\n  wax: {{value: 3, {quoted}}}\n"
    )
    with pytest.raises(InputError) as caught:
        with_price_file(TUTOR.economics, path)
    first, second = str(caught.value).splitlines()
    assert "prices.wax: 'wax' unknown; nearest" in first
    assert "prices.yaml: prices.price.nvidia-l40s-4gpu-server: -3 must be at least 0" in second

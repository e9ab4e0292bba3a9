"""Workloads: what is accepted, what is refused and how, and what presets fill in."""

import math

import pytest

from envelope.errors import InputError
from envelope.spec.lengths import Empirical, LognormalMixture, Quantiles, Uniform, mean_of
from envelope.spec.load import load_all, validate
from envelope.spec.workload import RateCurve, Workload, WorkloadPreset

CHAT = {"id": "chat", "preset": "chat"}


def workload(**changes: object) -> Workload:
    return validate(Workload, {"tasks": [CHAT], "requests_per_day": 1000, **changes}, "w.yaml")


@pytest.mark.parametrize("preset", load_all(WorkloadPreset, "workloads"), ids=lambda p: p.id)
def test_every_preset_is_sourced_and_makes_a_task(preset: WorkloadPreset) -> None:
    assert preset.sources["default"].date
    made = workload(tasks=[{"id": "a", "preset": preset.id}])
    assert made.tasks[0].output_tokens == preset.task.output_tokens
    assert mean_of(made.tasks[0].output_tokens) > 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"requests_per_day": 0}, "greater than 0"),
        ({"requests_per_day": -3}, "greater than 0"),
        ({"requests_per_day": math.nan}, "finite number"),
        ({"requests_per_day": None}, "either requests_per_day or seats"),
        ({"seats": 5, "requests_per_seat_day": 3}, "either requests_per_day or seats"),
        ({"tasks": []}, "at least 1 item"),
        ({"tasks": [CHAT, CHAT]}, "same id"),
        ({"tasks": [{"id": "a", "preset": "chatt"}]}, "nearest 'chat'"),
        ({"tasks": [{"id": "a"}]}, "needs input_tokens"),
        ({"tasks": [{**CHAT, "share": 0}]}, "greater than 0"),
        ({"tasks": [{**CHAT, "sensitivity": {"private": 0.5}}]}, "sum to 1"),
        ({"tasks": [{**CHAT, "sensitivity": "secret"}]}, "private"),
        ({"tasks": [{**CHAT, "difficulty": {"small": 0.1, "frontier": 0.9}}]}, "larger tier must not fail"),
        ({"tasks": [{**CHAT, "slo": {"ttft": 1}}]}, "nearest 'ttft_s'"),
        ({"tasks": [{**CHAT, "output_tokens": {"kind": "uniform", "low": 5, "high": 3}}]}, "below low"),
        ({"tasks": [{**CHAT, "output_tokens": {"kind": "fixed", "value": math.nan}}]}, "finite number"),
        ({"arrivals": {"kind": "gamma", "cv": -1}}, "greater than 0"),
    ],
)
def test_bad_input_is_refused_with_the_reason(change: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        workload(**change)


def test_a_class_overrides_its_preset_field_by_field() -> None:
    made = workload(tasks=[{**CHAT, "slo": {"ttft_s": 0.7}}]).tasks[0]
    assert made.slo.ttft_s == 0.7
    assert made.slo.tpot_s == 0.1
    other = workload(tasks=[{**CHAT, "input_tokens": {"kind": "fixed", "value": 10}}]).tasks[0]
    assert mean_of(other.input_tokens) == 10


@pytest.mark.parametrize(
    ("distribution", "mean"),
    [
        (Uniform(kind="uniform", low=2, high=4), 3.0),
        (LognormalMixture(kind="lognormal_mixture", mu=(1.0,), sigma=(0.5,)), math.exp(1.125)),
        (Empirical(kind="empirical", values=(1, 3), weights=(3, 1)), 1.5),
        (Quantiles(kind="quantiles", values=(0, 1, 4)), 0.5 * 0.5 + 0.5 * 2.5),
        (Quantiles(kind="quantiles", values=(0, 10), tail={"0.9": 1}), 0.9 * 0.5 + 0.1 * 5.5),
    ],
    ids=["uniform", "lognormal", "empirical", "quantiles", "quantiles with tail"],
)
def test_means_are_those_of_the_distribution(distribution: object, mean: float) -> None:
    assert mean_of(distribution) == pytest.approx(mean)


def test_rate_follows_seats_and_the_curve() -> None:
    weekday = [0.0] * 24
    weekday[10] = 24.0
    curve = RateCurve(weekday_hours=tuple(weekday), weekend_hours=(1.0,) * 24, weekend_to_weekday_frac=0.0)
    made = workload(requests_per_day=None, seats=100, requests_per_seat_day=7, arrivals={"curve": curve.model_dump()})
    assert made.daily_requests == 700
    assert sum(made.hour_weights) == pytest.approx(168)
    assert made.peak_hour == 10
    assert made.peak_rate_per_s * 3600 * 5 == pytest.approx(7 * 700)


def test_growth_compounds() -> None:
    assert workload(growth_frac_per_year=0.5).rate_in_year(2) == pytest.approx(2.25)


def test_arrivals_take_day_and_week_from_a_preset() -> None:
    made = workload(arrivals={"preset": "code-completion", "rate_noise_cv": 0.3})
    assert made.arrivals.rate_noise_cv == 0.3
    assert made.peak_hour == 19, "the source's busiest hour, UTC"
    assert max(made.hour_weights) > 2.5
    with pytest.raises(InputError, match="says nothing about arrivals"):
        workload(arrivals={"preset": "tutoring"})

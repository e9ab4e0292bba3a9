"""The form beside the YAML text: one widget for each of the values that are changed most, with help and limits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import streamlit as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from envelope.dashboard import edits
from envelope.dashboard.opened import Opened
from envelope.dashboard.terms import help_of
from envelope.spec.edit import Step
from envelope.spec.load import ids
from envelope.spec.scenario import Candidate, Scenario


@dataclass(frozen=True, slots=True)
class _Field:
    """One widget: where the value stands, and what it is called."""

    path: tuple[Step, ...]
    label: str
    kind: str = ""
    """Kind of record that the value names (``models`` …), else empty."""


def work(opened: Opened, scenario: Scenario) -> None:
    """Draw how much work there is, and the service level of each class of tasks."""
    volume = "requests_per_seat_day" if scenario.workload.requests_per_seat_day is not None else "requests_per_day"
    _draw(
        opened, scenario,
        _Field(("company", "seats"), "Seats"),
        _Field(("workload", "seats"), "Seats that use it"),
        _Field(("workload", volume), "Requests per seat and day" if "seat" in volume else "Requests per day"),
        _Field(("workload", "growth_frac_per_year"), "Growth per year (fraction)"),
        _Field(("failure_not_affordable",), "Failure that cannot be afforded"),
    )  # fmt: skip
    st.caption("Classes of tasks: share of the requests and limits of their service level")
    for index, task in enumerate(scenario.workload.tasks):
        limits = (
            [n for n in type(task.slo).model_fields if n.endswith("_s") and getattr(task.slo, n) is not None]
            if task.slo
            else []
        )
        fields = [_Field(("workload", "tasks", index, "share"), f"{task.id}: share")]
        fields += [
            _Field(("workload", "tasks", index, "slo", n), f"{task.id}: {n.removesuffix('_s')} (s)") for n in limits
        ]
        _draw(opened, scenario, *fields)


def limits(opened: Opened, scenario: Scenario) -> None:
    """Draw what a candidate must keep."""
    _draw(
        opened, scenario,
        _Field(("constraints", "private_stays"), "Private requests stay inside"),
        _Field(("constraints", "offline"), "Must work offline"),
        _Field(("constraints", "pinned_model"), "Model must not change"),
        _Field(("constraints", "slo_attainment_min_frac"), "Requests that meet their SLO, at least"),
        _Field(("constraints", "served_min_frac"), "Requests served, at least"),
        _Field(("constraints", "solved_min_frac"), "Tasks solved, at least"),
        _Field(("constraints", "budget_usd"), "Budget (US dollars, present value)"),
        _Field(("constraints", "max_power_w"), "Power of the site (W)"),
    )  # fmt: skip


def money(opened: Opened, scenario: Scenario) -> None:
    """Draw horizon, region and site; single prices stand on the page of the assumptions."""
    _draw(
        opened, scenario,
        _Field(("economics", "horizon_months"), "Horizon (months)"),
        _Field(("economics", "hardware_life_months"), "Life of machines (months)"),
        _Field(("economics", "site"), "Site"),
        _Field(("economics", "start"), "Service begins (year-month)"),
    )  # fmt: skip


def candidate(opened: Opened, scenario: Scenario, index: int) -> None:
    """Draw one candidate: what is bought or rented, and how many."""
    chosen: Candidate = scenario.candidates[index]
    at = ("candidates", index)
    _draw(opened, scenario, _Field((*at, "name"), "Name"), _Field((*at, "tier"), "Tier of its model"))
    for number in range(len(chosen.pools)):
        pool = (*at, "pools", number)
        _draw(
            opened, scenario,
            _Field((*pool, "model"), "Model", "models"),
            _Field((*pool, "hardware"), "Device", "hardware_profiles"),
            _Field((*pool, "weights"), "Weights", "formats"),
            _Field((*pool, "kv"), "KV cache", "formats"),
            _Field((*pool, "engine"), "Engine", "engines"),
            _Field((*pool, "replicas"), "Replicas"),
            _Field((*pool, "parallelism", "tp"), "Tensor parallelism"),
        )  # fmt: skip
    if chosen.pools:
        _draw(opened, scenario, _Field((*at, "acquisition", "kind"), "How it is paid for"))
    if chosen.hosted is not None:
        _draw(opened, scenario, _Field((*at, "hosted", "api"), "Hosted API", "hosted"))


def _draw(opened: Opened, scenario: Scenario, *fields: _Field) -> None:
    columns = st.columns(2)
    for number, entry in enumerate(fields):
        record, value = _record(scenario, entry.path)
        name = str(entry.path[-1])
        if record is None or name not in type(record).model_fields:
            continue
        with columns[number % 2]:
            _widget(opened, entry, value, type(record).model_fields[name], help_of(type(record), name))


def _record(scenario: Scenario, path: Sequence[Step]) -> tuple[BaseModel | None, Any]:
    """Return the record that holds the value at a path, and the value."""
    holder: Any = None
    value: Any = scenario
    for step in path:
        holder = value
        value = value[step] if isinstance(step, int) else getattr(value, step, None)
    return (holder if isinstance(holder, BaseModel) else None), value


def _widget(opened: Opened, entry: _Field, value: Any, info: FieldInfo, help: str) -> None:
    key = "form-" + "-".join(map(str, entry.path))
    common: dict[str, Any] = {"key": key, "help": help, "on_change": _changed, "args": (opened, entry.path, key)}
    options = ids(entry.kind) if entry.kind else _literals(info)
    if options:
        shown = list(options) if value in options else [value, *options]
        _set(key, value)
        st.selectbox(entry.label, shown, shown.index(value), format_func=lambda x: str(x).replace("_", " "), **common)
    elif isinstance(value, bool):
        _set(key, value)
        st.toggle(entry.label, value, **common)
    elif isinstance(value, str):
        _set(key, value)
        st.text_input(entry.label, value, **common)
    else:
        whole = int in (info.annotation, *get_args(info.annotation))
        kind = int if whole else float
        start = None if value is None else kind(value)
        _set(key, start)
        low, high = _bounds(info)
        st.number_input(
            entry.label,
            min_value=None if low is None else kind(low),
            max_value=None if high is None else kind(high),
            value=start,
            step=1 if whole else _step(value),
            placeholder="no limit",
            **common,
        )


def _set(key: str, value: Any) -> None:
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value


def _changed(opened: Opened, path: Sequence[Step], key: str) -> None:
    edits.change(opened, path, st.session_state[key])


def _literals(info: FieldInfo) -> tuple[Any, ...]:
    annotation: Any = info.annotation
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _bounds(info: FieldInfo) -> tuple[float | None, float | None]:
    """Return the limits of a number that its schema names."""
    low = next((float(v) for m in _metadata(info) if (v := getattr(m, "ge", None)) is not None), None)
    high = next((float(v) for m in _metadata(info) if (v := getattr(m, "le", None)) is not None), None)
    return low, high


def _metadata(info: FieldInfo) -> list[Any]:
    found = list(info.metadata)
    for inner in get_args(info.annotation):
        found += getattr(inner, "__metadata__", ())
    return [n for m in found for n in (getattr(m, "metadata", None) or [m])]


def _step(value: Any) -> float:
    """Return a step that suits the size of a number."""
    return 10.0 ** math.floor(math.log10(abs(value)) - 1) if value else 0.01

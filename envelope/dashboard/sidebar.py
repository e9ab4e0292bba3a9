"""The sidebar: which scenario is open, whether it has changes, and the inputs that are turned most."""

import streamlit as st

from envelope.dashboard import address, edits, library, store
from envelope.dashboard.figures import escaped
from envelope.dashboard.opened import Opened, open_scenario
from envelope.errors import InputError
from envelope.spec.load import ids
from envelope.spec.scenario import Scenario

START = "coding-assistant"
"""Scenario that is open at first: the main one."""


def draw() -> Opened:
    """Draw the choice of the scenario and what was changed in it, and return what is open."""
    with st.sidebar:
        opened = _choose()
        library.note_base(opened)
        if opened.changed:
            st.warning("Changes are not saved. The address of this page keeps them.")
        with st.container(horizontal=True):
            if opened.changed and opened.own:
                st.button("Save", key="sidebar-save", on_click=library.save, args=(opened,))
            if edits.can_undo():
                st.button("Undo", key="sidebar-undo", on_click=edits.undo)
            if opened.changed:
                st.button("Discard", key="sidebar-discard", on_click=edits.go, args=(opened.name,))
        if opened.scenario is not None:
            _turn(opened, opened.scenario)
    return opened


def _choose() -> Opened:
    names = sorted({*ids("scenarios"), *store.saved_names()})
    before = address.get("scenario", START)
    name = address.choice("Scenario", names, param="scenario", default=START)
    if name != before:
        address.put("draft", "")
    try:
        return open_scenario(name, address.get("draft"))
    except InputError as error:
        for problem in error.problems:
            st.error(escaped(str(problem)))
        address.put("draft", "")
        return open_scenario(name)


def _turn(opened: Opened, scenario: Scenario) -> None:
    """Draw sliders for the inputs whose effect people ask for first."""
    work = scenario.workload
    volume = "requests_per_seat_day" if work.requests_per_seat_day is not None else "requests_per_day"
    label = "Requests per seat and day" if "seat" in volume else "Requests per day"
    now = getattr(work, volume)
    st.caption("What if …")
    if now:
        _slider(opened, ("workload", volume), label, float(now), 1.0, _most(opened, volume, float(now)), "localized")
    _slider(
        opened, ("economics", "horizon_months"), "Horizon (months)", scenario.economics.horizon_months, 12, 84, "%d"
    )
    floor = scenario.constraints.slo_attainment_min_frac
    _slider(opened, ("constraints", "slo_attainment_min_frac"), "SLO met by at least", floor, 0.5, 1.0, "percent")


def _most(opened: Opened, volume: str, now: float) -> float:
    """Return the upper end of the slider of the volume: four times what the saved scenario has, or more."""
    saved = open_scenario(opened.name).scenario
    planned = getattr(saved.workload, volume) if saved is not None else None
    return max(4.0 * float(planned or now), now)


def _slider(
    opened: Opened, path: tuple[str, ...], label: str, value: float, low: float, high: float, form: str
) -> None:
    key = "turn-" + path[-1]
    if st.session_state.get(key) != value:
        st.session_state[key] = value
    st.slider(label, low, high, value, format=form, key=key, on_change=_turned, args=(opened, path, key))


def _turned(opened: Opened, path: tuple[str, ...], key: str) -> None:
    edits.change(opened, path, st.session_state[key])

"""The sidebar: which scenario is open, and what was changed in it."""

import streamlit as st

from envelope.dashboard import address, store
from envelope.dashboard.figures import escaped
from envelope.dashboard.opened import Opened, open_scenario
from envelope.errors import InputError
from envelope.spec.load import ids

START = "coding-assistant"
"""Scenario that is open at first: the main one."""


def draw() -> Opened:
    """Draw the choice of the scenario and return what is open."""
    names = sorted({*ids("scenarios"), *store.saved_names()})
    before = address.get("scenario", START)
    name = address.choice("Scenario", names, param="scenario", default=START, place=st.sidebar)
    if name != before:
        address.put("draft", "")
    try:
        opened = open_scenario(name, address.get("draft"))
    except InputError as error:
        for problem in error.problems:
            st.sidebar.error(escaped(str(problem)))
        address.put("draft", "")
        opened = open_scenario(name)
    if opened.changed:
        st.sidebar.warning("Changes that are not saved; the address of this page keeps them.")
    return opened

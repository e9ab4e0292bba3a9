"""Changes of the open scenario: each makes a draft that the address names, and can be undone."""

from collections.abc import Sequence

import streamlit as st

from envelope.dashboard import address, store
from envelope.dashboard.opened import Opened
from envelope.errors import InputError
from envelope.spec.edit import Step, edited

_HISTORY = "history"
_MOST_UNDONE = 200


def change(opened: Opened, path: Sequence[Step], value: object) -> None:
    """Change one value of the scenario's text; what is wrong with the change is shown on the page."""
    if opened.draft != address.get("draft"):
        opened = current()
    try:
        set_text(opened, edited(opened.text, path, value, name=opened.name))
    except InputError as error:
        st.toast("  \n".join(str(problem) for problem in error.problems))


def set_text(opened: Opened, text: str) -> None:
    """Make a text the open one, as a draft unless it is the saved one. Raises ``InputError`` if it is too long."""
    saved = opened.path.read_text(encoding="utf-8")
    go(opened.name, "" if text == saved else store.put_draft(text))


def go(name: str, draft: str = "") -> None:
    """Open another scenario or draft; ``undo`` comes back."""
    before = address.get("scenario"), address.get("draft")
    if before != (name, draft):
        history = st.session_state.setdefault(_HISTORY, [])
        history.append(before)
        del history[:-_MOST_UNDONE]
    _open(name, draft)


def can_undo() -> bool:
    """Return whether there is anything to come back to."""
    return bool(st.session_state.get(_HISTORY))


def undo() -> None:
    """Come back to what was open before the last change."""
    history = st.session_state.get(_HISTORY, [])
    while history:
        name, draft = history.pop()
        try:
            store.scenario_path(name)
        except InputError:
            continue
        _open(name, draft)
        return


def current() -> Opened:
    """Return what the address names now."""
    from envelope.dashboard.opened import open_scenario

    return open_scenario(address.get("scenario"), address.get("draft"))


def _open(name: str, draft: str) -> None:
    address.turn("scenario", name)
    address.turn("draft", draft)
    # The choice in the sidebar follows the address.
    st.session_state.pop("scenario", None)

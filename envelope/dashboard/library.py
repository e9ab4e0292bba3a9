"""Save, duplicate, rename, delete and restore: the user's own scenarios on disk."""

from collections.abc import Callable

import streamlit as st

from envelope.dashboard import edits, store
from envelope.dashboard.opened import Opened
from envelope.errors import InputError
from envelope.spec.edit import edited
from envelope.spec.yaml_text import parse_yaml

_BASE = "opened-from"


def note_base(opened: Opened) -> None:
    """Remember the saved text that changes start from, so that a save does not overwrite somebody else's."""
    bases = st.session_state.setdefault(_BASE, {})
    if not opened.changed or opened.name not in bases:
        bases[opened.name] = store.text_hash(opened.path.read_text(encoding="utf-8"))


def save(opened: Opened) -> None:
    """Write the changes into the user's own scenario."""
    _try(f"Saved {opened.name}.", lambda: _save(opened))


def duplicate(opened: Opened, name: str) -> None:
    """Write the open text under a new name and open it."""
    _try(f"Saved as {name}.", lambda: _write_new(opened, name))


def rename(opened: Opened, name: str) -> None:
    """Give the user's own scenario, changes included, a new name."""
    _try(f"Renamed to {name}.", lambda: _write_new(opened, name), lambda: store.delete(opened.name))


def delete(opened: Opened, then: str) -> None:
    """Take the user's own scenario away and open another; it can be restored."""
    _try(f"Deleted {opened.name}; it can be restored.", lambda: store.delete(opened.name), lambda: edits.go(then))


def restore(name: str) -> None:
    """Bring a deleted scenario back and open it."""
    _try(f"Restored {name}.", lambda: store.restore(name), lambda: edits.go(name))


def upload(content: bytes) -> None:
    """Save an uploaded scenario under its own id and open it."""
    _try("Uploaded.", lambda: _upload(content))


def _save(opened: Opened) -> None:
    store.save(opened.name, opened.text, expected=st.session_state.get(_BASE, {}).get(opened.name, ""))
    st.session_state.get(_BASE, {}).pop(opened.name, None)
    edits.go(opened.name)


def _write_new(opened: Opened, name: str) -> None:
    store.save(name, edited(opened.text, ["id"], name, name=opened.name), expected=None)
    edits.go(name)


def _upload(content: bytes) -> None:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise store.refused("upload", "is not UTF-8 text") from None
    data = parse_yaml(text, "upload")
    name = data.get("id") if isinstance(data, dict) else None
    if not isinstance(name, str):
        raise store.refused("upload", "has no id, so it is no scenario")
    store.save(name, text, expected=None)
    edits.go(name)


def _try(done: str, *actions: Callable[[], None]) -> None:
    try:
        for action in actions:
            action()
    except InputError as error:
        st.toast("  \n".join(str(problem) for problem in error.problems))
    else:
        st.toast(done)

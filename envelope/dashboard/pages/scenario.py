"""Scenario: build it by form or as YAML, side by side; save, duplicate, rename, delete, restore, upload."""

import streamlit as st

from envelope.dashboard import address, edits, form, library, sidebar, store
from envelope.dashboard.downloads import page_downloads, scenario_argument
from envelope.dashboard.figures import escaped
from envelope.dashboard.opened import Opened
from envelope.dashboard.view import View
from envelope.errors import InputError

_MOST_UPLOADED_MB = 1


def page(view: View) -> None:
    """Draw the page of a valid scenario."""
    draw(view.opened)
    page_downloads(view, f"envelope compare {scenario_argument(view)}")


def draw(opened: Opened) -> None:
    """Draw the page of a scenario that may be wrong: the text can be mended here."""
    st.title("Scenario")
    _library(opened)
    left, right = st.columns([1, 1], gap="medium")
    with left:
        _form(opened)
    with right:
        _text(opened)


def _library(opened: Opened) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        saves = opened.own and opened.changed
        why = None if opened.own else "A scenario that ships stays as it is: save yours under a new name."
        st.button(
            "Save", key="save", type="primary", disabled=not saves, help=why, on_click=library.save, args=(opened,)
        )
        st.button("Undo", key="undo", disabled=not edits.can_undo(), on_click=edits.undo)
        st.button("Discard changes", key="discard", disabled=not opened.changed, on_click=edits.go, args=(opened.name,))
        with st.popover("Save as …", key="save-as"):
            name = st.text_input("New name", value=_free_name(opened.name), key=f"new-name-{opened.name}")
            st.button("Duplicate", key="duplicate", on_click=library.duplicate, args=(opened, name))
            st.button("Rename", key="rename", disabled=not opened.own, on_click=library.rename, args=(opened, name))
        with st.popover("Delete …", key="delete-menu", disabled=not opened.own):
            st.write(f"Delete {opened.name}? It can be restored.")
            st.button("Delete", key="delete", on_click=library.delete, args=(opened, sidebar.START))
        deleted = store.deleted_names()
        with st.popover("Restore …", key="restore-menu", disabled=not deleted):
            for name in deleted:
                st.button(f"Restore {name}", key=f"restore-{name}", on_click=library.restore, args=(name,))
        with st.popover("Upload …", key="upload-menu"):
            given = st.file_uploader("A scenario as YAML", type=["yaml", "yml"], max_upload_size=_MOST_UPLOADED_MB)
            if given is not None:
                st.button("Save it under its id", key="upload", on_click=library.upload, args=(given.getvalue(),))


def _free_name(name: str) -> str:
    taken = set(store.saved_names())
    return next(n for number in range(2, 10_000) if (n := f"{name}-{number}") not in taken)


def _form(opened: Opened) -> None:
    st.subheader("Form")
    scenario = opened.scenario
    if scenario is None:
        st.info("The form comes back when the text on the right is valid.")
        return
    with st.expander("Work", expanded=True, key="form-section-work"):
        form.work(opened, scenario)
    with st.expander("Constraints", key="form-section-constraints"):
        form.limits(opened, scenario)
    with st.expander("Money", key="form-section-money"):
        form.money(opened, scenario)
    with st.expander("Candidates", key="form-section-candidates"):
        names = {c.id: c.name for c in scenario.candidates}
        chosen = address.choice("Candidate", list(names), param="candidate", show=lambda i: names[i])
        form.candidate(opened, scenario, list(names).index(chosen))


def _text(opened: Opened) -> None:
    st.subheader("YAML")
    for problem in opened.problems:
        st.error(escaped(str(problem)))
    if not opened.problems:
        st.success("Valid." if not opened.changed else "Valid, with changes that are not saved.")
    st.html("<style>.st-key-yaml textarea {font-family: monospace; font-size: 0.8rem; white-space: pre;}</style>")
    if st.session_state.get("yaml") != opened.text:
        st.session_state["yaml"] = opened.text
    st.text_area("Text of the scenario", opened.text, key="yaml", height=720, on_change=_typed, args=(opened,),
                 help="Ctrl+Enter checks the text and works it out.", max_chars=store.MAX_TEXT_BYTES // 4)  # fmt: skip


def _typed(opened: Opened) -> None:
    try:
        edits.set_text(opened, st.session_state["yaml"])
    except InputError as error:
        st.toast(str(error))

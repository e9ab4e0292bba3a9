"""The dashboard: pages around one open scenario. ``app.py`` at the root starts the server."""

from functools import partial
from importlib import import_module
from typing import NamedTuple

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from envelope.dashboard import address, sidebar
from envelope.dashboard.access import require_access
from envelope.dashboard.figures import Figures, escaped
from envelope.dashboard.jobs import JobError, workers
from envelope.dashboard.opened import Opened
from envelope.dashboard.view import View
from envelope.errors import InputError, Problem


class _Page(NamedTuple):
    """One page: its module under ``pages`` is imported when it is opened, its ``page(view)`` draws it."""

    module: str
    title: str
    icon: str


_SECTIONS = {
    "Decide": (
        _Page("verdict", "Verdict", "🧭"),
        _Page("compare", "Compare", "⚖️"),
        _Page("line", "The line", "🗺️"),
        _Page("scenario", "Scenario", "✏️"),
    ),
    "Service": (
        _Page("fit", "Fit", "📦"),
        _Page("latency", "Latency", "⏱️"),
        _Page("faults", "Faults", "⚡"),
    ),
    "Models": (
        _Page("sparse", "Dense vs sparse", "🧩"),
        _Page("tuning", "Tuning bench", "🎛️"),
    ),
    "Money": (_Page("tco", "TCO", "💶"),),
    "Facts": (
        _Page("assumptions", "Assumptions and sources", "📑"),
        _Page("evidence", "Evidence", "🧪"),
        _Page("accuracy", "Accuracy", "🎯"),
        _Page("hardware", "Hardware", "🖥️"),
    ),
}
"""Section → its pages in order. The first page of all is the start page."""

_STYLE = """<style>
[data-stale=true] {transition: opacity 0s 0.8s !important;}
@media (min-width: 800px) {[data-testid=stMainBlockContainer] {padding-inline: 2.2rem; padding-top: 4rem;}}
</style>"""
"""Room for tables beside the sidebar. Figures that are being worked out anew fade at once, after a moment, not over a
second: each step of it is drawn by the processor that should do the work."""


def main() -> None:
    """Draw the page that is open."""
    st.set_page_config(page_title="envelope", page_icon="🧭", layout="wide")
    require_access()
    st.html(_STYLE)
    address.read()
    workers().turn_away(_session())
    opened = sidebar.draw()
    pages = {
        section: [
            st.Page(
                partial(_draw, entry.module, opened), title=entry.title, icon=entry.icon, url_path=entry.module,
                default=entry is next(iter(_SECTIONS.values()))[0],
            )
            for entry in entries
        ]
        for section, entries in _SECTIONS.items()
    }  # fmt: skip
    st.navigation(pages, position="top").run()
    address.write()


def _draw(module: str, opened: Opened) -> None:
    if opened.scenario is None:
        _wrong(opened, module)
        return
    view = View(
        opened=opened,
        scenario=opened.scenario,
        figures=Figures(st.context.locale or "en-US"),
        session=_session(),
    )
    try:
        import_module(f"envelope.dashboard.pages.{module}").page(view)
    except InputError as error:
        _problems(error.problems)
    except JobError as error:
        st.error(str(error))


def _session() -> str:
    context = get_script_run_ctx()
    return context.session_id if context else ""


def _wrong(opened: Opened, module: str) -> None:
    """Draw what is wrong with the scenario; its own page lets it be mended."""
    if module == "scenario":
        import_module("envelope.dashboard.pages.scenario").draw(opened)
        return
    _problems(opened.problems)
    st.info("Mend the scenario on its page, or undo the change in the sidebar.")


def _problems(problems: tuple[Problem, ...]) -> None:
    for problem in problems:
        st.error(escaped(str(problem)))

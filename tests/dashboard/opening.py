"""Opens one page of the dashboard in a session of its own."""

import time
import warnings
from collections.abc import Mapping
from typing import Any

_PAGE = """
import streamlit as st
from importlib import import_module
from envelope.dashboard import address, sidebar
from envelope.dashboard.figures import Figures
from envelope.dashboard.view import View

address.read()
opened = sidebar.draw()
st.session_state["test-valid"] = opened.scenario is not None
module = import_module("envelope.dashboard.pages.{name}")
if opened.scenario is None:
    module.draw(opened)
else:
    module.page(View(opened=opened, scenario=opened.scenario, figures=Figures(), session="{session}"))
address.write()
"""


def open_page(name: str, session: str = "test", secrets: Mapping[str, Any] | None = None, **query: str) -> Any:
    """Return the page ``name`` drawn for a query, on a server with ``secrets``; it must not have crashed."""
    from streamlit.testing.v1 import AppTest

    app = AppTest.from_string(_PAGE.format(name=name, session=session), default_timeout=240)
    app.session_state["page-downloads"] = True  # the foot of the page is open
    for key, value in (secrets or {}).items():
        app.secrets[key] = value
    for key, value in query.items():
        app.query_params[key] = value
    return again(app)


def again(app: Any) -> Any:
    """Return the page drawn once more, after widgets were changed; it must not have crashed."""
    with warnings.catch_warnings():
        # Streamlit's own use of deprecated names in its dependencies is not ours to mend.
        warnings.simplefilter("ignore")
        app.run()
    assert not app.exception, app.exception[0].message
    return app


def finished(app: Any, button: str, *, within_s: float = 240.0) -> Any:
    """Return the page after its long work, started by a button, has ended."""
    app.button(key=button).click()
    end = time.monotonic() + within_s
    while any(b.key == button.replace("-start", "-cancel") for b in again(app).button):
        assert time.monotonic() < end, "the work did not end"
        time.sleep(0.2)
    return app


def query_of(app: Any) -> dict[str, str]:
    """Return the page's query, as a link would carry it."""
    return {key: values[0] if isinstance(values, list) else values for key, values in app.query_params.items()}

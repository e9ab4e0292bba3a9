"""What the server does before anybody opens a page: it starts the workers and imports what the first page needs."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st

from envelope.dashboard.jobs import workers

SCRIPT = Path(__file__).with_name("script.py")
"""Script that Streamlit runs for each session and each change."""


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[dict[str, object]]:
    """Get ready beside the server's own start; end the workers with it."""
    threading.Thread(target=_get_ready, daemon=True).start()
    yield {}
    workers().close()


def _get_ready() -> None:
    workers()
    import envelope.dashboard.app
    import envelope.dashboard.pages.verdict
    import envelope.plan.verdict
    import envelope.report.charts_cost  # noqa: F401
    from envelope.dashboard.opened import open_scenario
    from envelope.dashboard.sidebar import START

    open_scenario(START)

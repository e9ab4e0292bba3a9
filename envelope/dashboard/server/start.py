"""What the server does before it answers: it starts the workers, imports what pages need and begins with the main one.

A server that answers at once would keep its first reader waiting longer, beside everything that is being loaded.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st

from envelope.dashboard.figures import Figures
from envelope.dashboard.jobs import workers
from envelope.errors import EnvelopeError

_LOADING_AT_MOST_S = 60.0
"""Time after which the server answers although its workers still load."""

SCRIPT = Path(__file__).with_name("script.py")
"""Script that Streamlit runs for each session and each change."""


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[dict[str, object]]:
    """Get ready, then let the server answer; end the workers with it."""
    await asyncio.to_thread(_get_ready)
    yield {}
    workers().close()


def _get_ready() -> None:
    started = time.monotonic()
    workers()
    import envelope.dashboard.app
    import envelope.dashboard.pages.verdict
    import envelope.plan.verdict
    import envelope.report.charts_cost  # noqa: F401

    workers().wait_until_ready(_LOADING_AT_MOST_S - (time.monotonic() - started))
    try:
        _begin()
    except EnvelopeError as error:
        # The page says the same to its reader, who can open another scenario.
        logging.getLogger(__name__).warning("%s", error)


def _begin() -> None:
    """Let the workers begin with the verdict on the main scenario, which the start page shows."""
    from envelope.dashboard.opened import open_scenario
    from envelope.dashboard.sidebar import START
    from envelope.dashboard.view import View

    opened = open_scenario(START)
    if opened.scenario is not None:
        View(opened, opened.scenario, Figures(), session="").candidate_jobs(opened.scenario)

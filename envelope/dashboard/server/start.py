"""What the server does before it answers: it starts the workers, imports what pages need and works out the main one.

A server that answers at once would keep its first reader waiting longer: browser, server and workers would then load
beside each other on the same processor.
"""

import asyncio
import gc
import logging
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st

from envelope.dashboard.figures import Figures
from envelope.dashboard.jobs import Job, workers
from envelope.errors import EnvelopeError

_SWITCH_S = 0.0005
"""How long a page's script may hold the interpreter while the server wants to send a file: a browser asks for a hundred
files before it draws its first page, and waits for the interpreter several times for each."""
_LOADING_AT_MOST_S = 60.0
"""Time after which the server answers although its workers are not done."""

SCRIPT = Path(__file__).with_name("script.py")
"""Script that Streamlit runs for each session and each change."""


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[dict[str, object]]:
    """Get ready, then let the server answer; end the workers with it."""
    sys.setswitchinterval(_SWITCH_S)
    await asyncio.to_thread(_get_ready)
    # What is loaded stays: a search for garbage, which stops everything, need not look through it again.
    gc.collect()
    gc.freeze()
    yield {}
    workers().close()


def _get_ready() -> None:
    started = time.monotonic()
    workers()
    import envelope.dashboard.app
    import envelope.dashboard.pages.verdict
    import envelope.plan.verdict.choice
    import envelope.report.charts.cost  # noqa: F401

    workers().wait_until_ready(_LOADING_AT_MOST_S - (time.monotonic() - started))
    try:
        for job in _begun():
            job.wait(max(_LOADING_AT_MOST_S - (time.monotonic() - started), 0.0))
    except EnvelopeError as error:
        # The page says the same to its reader, who can open another scenario.
        logging.getLogger(__name__).warning("%s", error)


def _begun() -> list[Job]:
    """Return the jobs of the verdict on the main scenario, which the start page shows."""
    from envelope.dashboard.opened import open_scenario
    from envelope.dashboard.sidebar import START
    from envelope.dashboard.view import View

    opened = open_scenario(START)
    if opened.scenario is None:
        return []
    return View(opened, opened.scenario, Figures(), session="").candidate_jobs(opened.scenario)

"""The dashboard served for tests, and a browser that writes down what a careful reader of its console would see."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_START_S = 60.0
_LOOK_MS, _STILL_LOOKS, _STILL_AT_MOST_S = 150, 4, 30.0
"""Pause between two looks at the figures, looks in a row that must agree, and when to give up."""
_DRAWN_MS = 180_000
"""A machine that compiles the kernel for the first time takes a while."""


def chromium() -> str | None:
    """Return the path of an installed Chromium."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


def missing() -> str | None:
    """Return why no browser can be driven here; ``None`` if one can."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is not installed: pip install 'deployment-envelope[dev]'"
    return None if chromium() else "no Chromium on this machine: apt-get install chromium"


@contextmanager
def served(data: Path) -> Iterator[str]:
    """Serve the dashboard on a free port with its own data folder; yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), "--server.headless", "true",
               "--server.address", "127.0.0.1", "--server.port", str(port)]  # fmt: skip
    log = (data / "server.log").open("wb")
    server = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "XDG_DATA_HOME": str(data)}, stdout=log, stderr=log)
    try:
        _wait_until_up(f"http://127.0.0.1:{port}", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)
        log.close()


def _wait_until_up(address: str, server: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the dashboard did not start")


@dataclass
class Reader:
    """A page of the browser with what went wrong on it."""

    page: Any
    address: str
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    """Requests to any other origin."""

    def watch(self) -> None:
        """Write down console errors, crashes of scripts and requests that leave the machine."""
        self.page.on("console", lambda m: self.errors.append(f"{m.text} {m.location}") if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._note)

    def _note(self, request: Any) -> None:
        own = (self.address, self.address.replace("http:", "ws:"), "data:", "blob:")
        if not request.url.startswith(own):
            self.elsewhere.append(request.url)

    def open(self, query: str = "") -> None:
        """Open the start page, with a query such as ``?scenario=…``, and wait until it is drawn."""
        self.page.goto(f"{self.address}/{query}")
        self.settle()

    def go(self, section: str, title: str) -> None:
        """Choose a page in the navigation."""
        self.page.get_by_role("button", name=section, exact=True).click()
        self.page.get_by_role("menuitem", name=title).click()
        self.settle()

    def settle(self, pause_s: float = 0.4) -> None:
        """Wait until the page is drawn to its foot and nothing runs, also after a pause: a run may call for another.

        A browser that meets a kind of widget for the first time loads it before it draws it, and shows a skeleton.
        """
        self._wait()
        if pause_s:
            self.page.wait_for_timeout(1000 * pause_s)
            self._wait()

    def _wait(self) -> None:
        self.page.get_by_text("Downloads and the command line of this page").wait_for(timeout=_DRAWN_MS)
        self.page.wait_for_function(
            "() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'"
            " && !document.querySelector('[data-stale=true], [data-testid=stSkeleton]')",
            timeout=_DRAWN_MS,
        )

    def figures(self, *, wanted: "dict[str, str] | None" = None) -> dict[str, str]:
        """Return the metrics of the page, which has some, by label.

        The browser draws them one after the other, also after the script has ended: they count once they stand still,
        or as soon as they are those ``wanted``.
        """
        self.page.get_by_test_id("stMetric").first.wait_for(timeout=20_000)
        found, end = self._metrics(), time.monotonic() + _STILL_AT_MOST_S
        still = 0
        while found != wanted and still < _STILL_LOOKS and time.monotonic() < end:
            self.page.wait_for_timeout(_LOOK_MS)
            before, found = found, self._metrics()
            # Without the figures that are wanted, only the time limit ends the wait.
            still = still + 1 if found == before and wanted is None else 0
        return found

    def _metrics(self) -> dict[str, str]:
        """Return label and value of the metrics that stand on the page at one moment."""
        pairs = self.page.get_by_test_id("stMetric").evaluate_all(
            "all => all.map(m => ['Label', 'Value'].map(part => "
            "(m.querySelector(`[data-testid=stMetric${part}]`)?.innerText ?? '').trim()))"
        )
        return dict(pairs)


@contextmanager
def reading(address: str, *, width: int = 1280, dark: bool = False, browser: Any = None) -> Iterator[Reader]:
    """Open a browser (or a fresh session of ``browser``) on the dashboard."""
    if browser is None:
        with browsing() as own, reading(address, width=width, dark=dark, browser=own) as reader:
            yield reader
        return
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", accept_downloads=True
    )
    try:
        reader = Reader(context.new_page(), address)
        reader.watch()
        yield reader
    finally:
        context.close()


@contextmanager
def browsing() -> Iterator[Any]:
    """Start the machine's Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()

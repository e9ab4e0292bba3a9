"""Three people's ways through the dashboard, walked in a real browser: figures, downloads, links, errors, barriers."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import envelope
from tests.dashboard import browsing
from tests.dashboard.browsing import Reader, reading

pytestmark = [
    pytest.mark.skipif(browsing.missing() is not None, reason=str(browsing.missing())),
    # Browser, server and workers share two processors with other tests: a moment may be missed once, and is reported.
    pytest.mark.flaky(reruns=1),
]

SCENARIO = "field-devices"
"""A scenario with few candidates: the journeys are about the pages, not about the simulation."""
ASSUMPTION = "electricity_usd_per_kwh"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with browsing.served(tmp_path_factory.mktemp("data")) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing.browsing() as found:
        yield found


@pytest.fixture
def reader(address: str, browser: Any) -> Iterator[Reader]:
    """A session that must end without console errors and without a request to anywhere else."""
    with reading(address, browser=browser) as found:
        yield found
        assert not found.elsewhere
        assert not found.errors


def changed(reader: Reader, slider: "str | re.Pattern[str]", key: str) -> None:
    """Move a slider by the keyboard and wait for the new figures."""
    before = reader.page.url
    thumb = reader.page.get_by_role("slider", name=slider)
    thumb.focus()
    thumb.press(key)
    reader.page.wait_for_url(lambda url: url != before, timeout=120_000)
    reader.settle()


def test_an_architect_changes_the_work_and_finds_what_binds(reader: Reader, tmp_path: Path) -> None:
    reader.open(f"?scenario={SCENARIO}")
    scenario = envelope.load_scenario(SCENARIO)
    # A browser that meets sliders for the first time must not show their lower ends.
    horizon = reader.page.get_by_role("slider", name="Horizon (months)")
    assert horizon.input_value() == str(scenario.economics.horizon_months)
    volume = "requests_per_seat_day" if scenario.workload.requests_per_seat_day else "requests_per_day"
    changed(reader, re.compile("^Requests per"), "End")
    more = 4 * (getattr(scenario.workload, volume) or 0)
    expected = envelope.compare(
        scenario.model_copy(update={"workload": scenario.workload.model_copy(update={volume: more})})
    )
    assert any(not candidate.feasible for candidate in expected.candidates)
    for candidate in expected.candidates:
        broken = [rule.id.replace("_", " ") for rule in candidate.constraints if not rule.satisfied]
        verdict = reader.page.get_by_text(re.compile(f"^✘ {re.escape(candidate.name)}: {re.escape(', '.join(broken))}"))
        assert bool(verdict.count()) == bool(broken), candidate.id
    assert len(reader.page.screenshot(path=tmp_path / "architect.png")) > 20_000


def test_procurement_edits_a_price_and_takes_the_workbook_home(reader: Reader, tmp_path: Path) -> None:
    from openpyxl import load_workbook

    reader.open(f"?scenario={SCENARIO}")
    reader.go("Money", "TCO")
    reader.page.goto(f"{reader.address}/tco?scenario={SCENARIO}&part=What+if&assumption={ASSUMPTION}")
    # A page opened by its own address asks for the server's settings below that address first, which is not there.
    reader.settle()
    reader.errors.clear()
    thumb = reader.page.locator("[data-testid=stMain]").get_by_role("slider")
    told = reader.page.get_by_text(re.compile(r"^Now .* range ")).inner_text()
    now, highest = (float(v) for v in re.findall(r"^Now (\S+) .*range \S+ to ([\d.]*\d)", told)[0])
    thumb.focus()
    thumb.press("End")
    keep = reader.page.get_by_role("button", name="Keep this value in the scenario")
    keep.and_(reader.page.locator(":enabled")).click(timeout=120_000)
    reader.page.wait_for_url(re.compile("draft="), timeout=120_000)
    reader.settle()
    reader.page.get_by_text("Downloads and the command line of this page").click()
    reader.page.get_by_role("button", name="Prepare workbook and reports").click()
    with reader.page.expect_download(timeout=120_000) as waiting:
        reader.page.get_by_role("button", name="Workbook (.xlsx)").click(timeout=120_000)
    book = load_workbook(io.BytesIO(Path(waiting.value.path()).read_bytes()))
    rows = [row for row in book["Assumptions"].iter_rows(values_only=True) if ASSUMPTION in row]
    assert rows
    values = [value for value in rows[0] if isinstance(value, int | float)]
    # The slider moves in steps of a hundredth.
    assert any(now < value <= highest and highest - value < 0.01 for value in values)
    assert len(reader.page.screenshot(path=tmp_path / "procurement.png")) > 20_000


def test_a_link_opened_by_someone_else_shows_the_same_view(reader: Reader, browser: Any, tmp_path: Path) -> None:
    reader.open(f"?scenario={SCENARIO}")
    changed(reader, "Horizon (months)", "ArrowLeft")
    shown, link = reader.figures(), reader.page.url
    assert any(label.startswith("Cost over 2.9") for label in shown)
    with reading(reader.address, browser=browser) as other:
        other.open(link.removeprefix(f"{reader.address}/"))
        assert other.figures(wanted=shown) == shown
        assert other.page.url == link
        assert not other.elsewhere
        assert len(other.page.screenshot(path=tmp_path / "link.png")) > 20_000
        # What the second reader changes is not the first one's affair.
        changed(other, "Horizon (months)", "ArrowLeft")
    assert reader.page.url == link
    assert reader.figures(wanted=shown) == shown


PAGES = [("Decide", "Compare"), ("Decide", "The line"), ("Decide", "Scenario"), ("Service", "Fit"),
         ("Service", "Latency"), ("Service", "Faults"), ("Models", "Dense vs sparse"), ("Models", "Tuning bench"),
         ("Money", "TCO"), ("Facts", "Assumptions and sources"), ("Facts", "Evidence"), ("Facts", "Accuracy"),
         ("Facts", "Hardware")]  # fmt: skip

STREAMLITS_OWN = {"scrollable-region-focusable"}
"""Rules that Streamlit's own widgets break."""


def test_no_page_raises_a_serious_barrier_or_an_error(reader: Reader) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    reader.open(f"?scenario={SCENARIO}")
    found = {"Verdict": _barriers(axe, reader)}
    for section, title in PAGES:
        reader.go(section, title)
        found[title] = _barriers(axe, reader)
    assert {title: barriers for title, barriers in found.items() if barriers} == {}


def _barriers(axe: Any, reader: Reader) -> list[str]:
    """Return the serious and critical violations of WCAG 2.2 A and AA, with the first element of each."""
    report = axe.run(reader.page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]})
    return [
        f"{v['id']}: {v['nodes'][0]['html'][:160]}"
        for v in report.response["violations"]
        if v["impact"] in {"serious", "critical"} and v["id"] not in STREAMLITS_OWN
    ]


@pytest.mark.parametrize(("width", "dark"), [(1280, True), (390, False)])
def test_pages_fit_a_phone_and_the_dark(address: str, browser: Any, width: int, dark: bool) -> None:
    with reading(address, browser=browser, width=width, dark=dark) as reader:
        reader.open(f"?scenario={SCENARIO}")
        wide = reader.page.evaluate("() => document.documentElement.scrollWidth")
        assert wide <= width
        brightness = reader.page.evaluate(
            "() => getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
        )
        assert (sum(map(int, re.findall(r"\d+", brightness)[:3])) < 384) == dark
        assert not reader.errors
        assert not reader.elsewhere


def test_the_keyboard_reaches_the_navigation_and_the_scenario(reader: Reader) -> None:
    reader.open(f"?scenario={SCENARIO}")
    missing = {"Decide", "Service", "Scenario", "Requests per"}
    # A figure that arrives meanwhile may draw the page anew and send the focus back to its top: more tabs than stops.
    for _ in range(90):
        reader.page.keyboard.press("Tab")
        name = reader.page.evaluate("() => document.activeElement.getAttribute('aria-label') || "
                                    "document.activeElement.innerText || ''")  # fmt: skip
        missing -= {wanted for wanted in missing if wanted in name.strip().split("\n")[0]}
        if not missing:
            break
    assert not missing

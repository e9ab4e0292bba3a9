"""Pictures stand alone: their marks lie where the numbers say, their words are kept, and pages hold several of them."""

import re
from typing import Any
from xml.etree import ElementTree

import pytest

pytest.importorskip("altair", reason="needs the extra 'report'")
pytest.importorskip("vl_convert", reason="needs the extra 'report'")

from envelope.errors import MissingExtraError  # noqa: E402
from envelope.report import cost_files  # noqa: E402
from envelope.report.charts import files, palette  # noqa: E402
from envelope.report.charts.base import SHORT, described, limit_rule  # noqa: E402
from envelope.report.charts.cost_ranges import waterfall  # noqa: E402
from envelope.report.charts.files import chart_image, page_svg  # noqa: E402
from envelope.report.charts.intervals import intervals  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"
STEPS = [("discount rate", 300.0), ("power", -100.0), ("power", 50.0)]


def marks(svg: bytes | str, kind: str) -> list[ElementTree.Element]:
    """Return the marks of a kind (``rect``, ``symbol``, ``rule``, ``text``), those of axes and legends left out."""
    groups = ElementTree.fromstring(svg).iter(f"{SVG}g")
    named = [g for g in groups if f"mark-{kind} role-mark" in g.get("class", "")]
    return [e for g in named for e in g if e.get("aria-roledescription")]


def spans(svg: bytes) -> list[tuple[float, float]]:
    """Return left and right end of each bar."""
    found = [re.match(r"M([-\d.]+),[-\d.]+h([-\d.]+)", e.get("d", "")) for e in marks(svg, "rect")]
    return [(float(m[1]), float(m[1]) + float(m[2])) for m in found if m]


def one_row(*values: float, words: str = "w") -> list[dict[str, Any]]:
    return [{"name": "same", "series": "s", "low": v - 1, "value": v, "high": v + 1, "words": words} for v in values]


def places(svg: bytes | str) -> list[float]:
    found = [re.match(r"translate\(([-\d.]+),", e.get("transform", "")) for e in marks(svg, "symbol")]
    return [float(m[1]) for m in found if m]


def test_a_waterfall_starts_each_bar_where_the_one_before_it_ended() -> None:
    drawn = spans(chart_image(waterfall(1000.0, STEPS, 1250.0), "svg"))
    before, *changes, after = drawn
    lengths = [right - left for left, right in changes]
    per_usd = lengths[0] / 300
    assert lengths == pytest.approx([300 * per_usd, 100 * per_usd, 50 * per_usd], abs=0.1)
    assert before[1] == pytest.approx(changes[0][0], abs=0.1)
    assert changes[0][1] == pytest.approx(changes[1][1], abs=0.1)  # the second change goes back
    assert changes[1][0] == pytest.approx(changes[2][0], abs=0.1)
    assert after[1] == pytest.approx(changes[2][1], abs=0.1)


def test_a_waterfall_from_zero_shows_totals_in_proportion() -> None:
    before, *_, after = spans(chart_image(waterfall(1000.0, [("volume", -800.0)], 200.0), "svg"))
    assert (before[1] - before[0]) / (after[1] - after[0]) == pytest.approx(5.0, rel=0.01)


def test_a_waterfall_writes_its_numbers_and_colours_them_by_their_sign() -> None:
    svg = chart_image(waterfall(1000.0, STEPS, 1250.0), "svg")
    shown = [e.text or e.findtext(f"{SVG}title") for e in marks(svg, "text")]
    words = "".join(ElementTree.fromstring(svg).itertext())
    assert len(shown) == 5
    assert all(number in words for number in ("$1,000", "+$300", "−$100", "+$50", "$1,250"))
    fills = [e.get("fill", "").upper() for e in marks(svg, "rect")]
    assert fills[1:4] == [palette.DEARER, palette.CHEAPER, palette.DEARER]


def test_points_lie_on_one_scale_and_rows_may_be_named_alike() -> None:
    chart = intervals(one_row(10.0, 20.0, 40.0), "figure", label=SHORT, series=["s"], printed=True)
    a, b, c = places(chart_image(described(chart, "three rows", height=90), "svg"))
    assert (c - b) / (b - a) == pytest.approx(2.0, rel=0.01)


def test_a_picture_says_what_it_shows_and_each_mark_its_number() -> None:
    chart = described(intervals(one_row(3.0), "x", label=SHORT, series=["s"]), 'a "quoted" <text>', height=60)
    root = ElementTree.fromstring(chart_image(chart, "svg"))
    assert (root.get("role"), root.get("aria-label")) == ("img", 'a "quoted" <text>')
    assert any("3" in (title.text or "") for title in root.iter(f"{SVG}title"))


def test_a_picture_asks_for_nothing_from_elsewhere() -> None:
    svg = chart_image(waterfall(1000.0, STEPS, 1250.0), "svg").decode()
    assert "<script" not in svg
    assert "<image" not in svg
    assert "@import" not in svg
    assert "://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", svg)


def test_a_picture_in_a_page_takes_the_pages_width() -> None:
    root = ElementTree.fromstring(page_svg(waterfall(1.0, [], 1.0), "a"))
    assert root.get("width") == "100%"
    assert root.get("height") is None
    assert len((root.get("viewBox") or "").split()) == 4


def test_pictures_of_one_page_share_no_id() -> None:
    clipped = described(limit_rule("x", 1.0, "limit", along="x").mark_rule(clip=True), "clipped", height=60)
    drawn = [page_svg(clipped, name) for name in ("one", "two")]
    ids = [re.findall(r'\bid="([^"]+)"', svg) for svg in drawn]
    assert ids[0]
    assert not set(ids[0]) & set(ids[1])
    for svg, own in zip(drawn, ids, strict=True):
        assert set(re.findall(r"url\(#([^)]+)\)", svg)) <= set(own)


@pytest.mark.parametrize(("lost", "named"), [("altair", "altair"), ("vl_convert", "vl-convert-python")])
def test_without_the_extra_the_error_names_the_command(lost: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "find_spec", lambda name: None if name == lost else object())
    with pytest.raises(MissingExtraError, match=rf"{named} .*deployment-envelope\[report\]"):
        chart_image(waterfall(1.0, [], 1.0), "svg")
    monkeypatch.setattr(cost_files, "find_spec", lambda name: None if name == lost else object())
    left_out = cost_files.missing_extras()
    assert [line.split()[0] for line in left_out] == ["tco.html", "tco.pdf"]
    assert all("[report]" in line for line in left_out)

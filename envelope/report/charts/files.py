"""Charts as pictures, without a browser and without the network (extra ``report``)."""

from importlib.util import find_spec
from typing import Any, Literal
from xml.dom import minidom

from envelope.errors import MissingExtraError

PNG_PIXELS_PER_POINT = 2.0
"""Sharp in a slide on a dense screen."""

WIDTH_POINTS = 900
"""Width of a chart that on a page is as wide as its place."""
_LETTERS = 12
"""Height of the letters: the columns of a page and of a document are narrower than the picture."""
# Letters are measured as those of Helvetica; the margins and the legend's columns have room for a machine whose letters
# are wider.
_STYLE = {
    "font": "Helvetica, Arial, sans-serif",
    "padding": {"left": 45, "right": 15, "top": 5, "bottom": 5},
    "axis": {"labelFontSize": _LETTERS, "titleFontSize": _LETTERS},
    "legend": {"labelFontSize": _LETTERS, "titleFontSize": _LETTERS, "columnPadding": 30},
    "text": {"fontSize": _LETTERS},
}
_NO_MARKS = {"axis", "legend", "title"}
"""What Vega gives words of its own beside the marks."""


def need_charts() -> None:
    """Raise ``MissingExtraError`` if a package that draws charts is missing."""
    for package, name in (("altair", "altair"), ("vl_convert", "vl-convert-python")):
        if find_spec(package) is None:
            raise MissingExtraError(name, "report")


def chart_image(chart: Any, kind: Literal["png", "svg"], separators: tuple[str, str] = (".", ",")) -> bytes:
    """Return a chart as a picture, its numbers with these separators of decimals and thousands.

    An SVG carries the chart's description, and what each mark says when it is pointed at; it needs no font, script or
    file from elsewhere. Raises ``MissingExtraError`` without Altair or vl-convert.
    """
    need_charts()
    import vl_convert

    from envelope.report.charts.base import format_locale

    spec = chart.properties(width=WIDTH_POINTS).to_dict()
    style: dict[str, Any] = {"format_locale": format_locale(*separators), "config": _STYLE, "allowed_base_urls": []}
    if kind == "png":
        return vl_convert.vegalite_to_png(spec, scale=PNG_PIXELS_PER_POINT, **style)
    drawn = _root(vl_convert.vegalite_to_svg(spec, **style))
    _say(drawn, spec.get("description", ""))
    text: str = drawn.toxml()
    return text.encode()


def page_svg(chart: Any, ident: str) -> str:
    """Return a chart as SVG for a place in a page, as wide as that; ``ident`` tells it from the page's other charts.

    Raises ``MissingExtraError`` without Altair or vl-convert.
    """
    drawn = _root(chart_image(chart, "svg"))
    drawn.removeAttribute("height")
    drawn.setAttribute("width", "100%")
    _rename(drawn, ident)
    text: str = drawn.toxml()
    return text


def _root(svg: str | bytes) -> Any:
    return minidom.parseString(svg).documentElement


def _say(drawn: Any, description: str) -> None:
    """Give the picture its text alternative, and each mark the title that browsers show when it is pointed at."""
    drawn.setAttribute("role", "img")
    drawn.setAttribute("aria-label", description)
    # No chart has links or images, which alone need this.
    drawn.removeAttribute("xmlns:xlink")
    for element in drawn.getElementsByTagName("*"):
        words, kind = element.getAttribute("aria-label"), element.getAttribute("aria-roledescription")
        if words and kind and kind not in _NO_MARKS:
            title = element.ownerDocument.createElement("title")
            title.appendChild(element.ownerDocument.createTextNode(words))
            element.insertBefore(title, element.firstChild)


def _rename(drawn: Any, ident: str) -> None:
    """Put ``ident`` before every id and every reference to one: ids of one page must differ."""
    elements = drawn.getElementsByTagName("*")
    names = {e.getAttribute("id") for e in elements} - {""}
    for element in elements:
        for key, value in list(element.attributes.items()):
            if key == "id":
                element.setAttribute(key, f"{ident}-{value}")
            elif key.endswith("href") and value[1:] in names:
                element.setAttribute(key, f"#{ident}-{value[1:]}")
            elif value.startswith("url(#") and value[5:-1] in names:
                element.setAttribute(key, f"url(#{ident}-{value[5:-1]})")

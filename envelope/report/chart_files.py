"""Charts as pictures, without a browser and without the network (extra ``ui``)."""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from envelope.errors import MissingExtraError
from envelope.report.charts import format_locale

if TYPE_CHECKING:
    import altair as alt

PNG_PIXELS_PER_POINT = 2.0
"""Sharp in a slide on a dense screen."""

WIDTH_POINTS = 900
"""Width of a chart that on a page is as wide as its place."""


def chart_image(chart: "alt.Chart", kind: Literal["png", "svg"], separators: tuple[str, str] = (".", ",")) -> bytes:
    """Return a chart as a picture, its numbers with these separators of decimals and thousands.

    Raises ``MissingExtraError`` without vl-convert.
    """
    if find_spec("vl_convert") is None:
        raise MissingExtraError("vl-convert-python", "ui")
    import vl_convert

    spec = chart.properties(width=WIDTH_POINTS).to_json()
    style = format_locale(*separators)
    # No picture needs anything from elsewhere.
    if kind == "png":
        return vl_convert.vegalite_to_png(spec, scale=PNG_PIXELS_PER_POINT, format_locale=style, allowed_base_urls=[])
    return vl_convert.vegalite_to_svg(spec, format_locale=style, allowed_base_urls=[]).encode()

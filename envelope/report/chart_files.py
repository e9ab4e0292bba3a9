"""Charts as pictures, without a browser and without the network (extra ``ui``)."""

import io
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from envelope.errors import MissingExtraError

if TYPE_CHECKING:
    import altair as alt

PNG_PIXELS_PER_POINT = 2.0
"""Sharp in a slide on a dense screen."""

WIDTH_POINTS = 900
"""Width of a chart that on a page is as wide as its place."""


def chart_image(chart: "alt.Chart", kind: Literal["png", "svg"]) -> bytes:
    """Return a chart as a picture. Raises ``MissingExtraError`` without vl-convert."""
    if find_spec("vl_convert") is None:
        raise MissingExtraError("vl-convert-python", "ui")
    chart = chart.properties(width=WIDTH_POINTS)
    out = io.BytesIO()
    if kind == "png":
        chart.save(out, format="png", scale_factor=PNG_PIXELS_PER_POINT)
        return out.getvalue()
    words = io.StringIO()
    chart.save(words, format="svg")
    return words.getvalue().encode()

"""Draw the pictures of the README from real runs: ``make pictures``."""

import io
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console

import envelope
from envelope.report.terminal import print_comparison

IMAGES = Path(__file__).parent / "images"
PAGES = (("verdict", "", ""), ("latency", "Service", "Latency"), ("fit", "Service", "Fit"))
"""Name of the picture, section and title of the page in the dashboard's navigation."""


def main() -> None:
    """Write ``images/compare.svg`` and, where a browser is at hand, the dashboard's pages."""
    result = envelope.compare(envelope.load_scenario("coding-assistant"), fixes=True)
    console = Console(record=True, width=150, file=io.StringIO(), highlight=False)
    print_comparison(result, console=console)
    svg = console.export_svg(title="envelope compare coding-assistant")
    # The picture must not fetch fonts from elsewhere.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code, ", "ui-monospace, Menlo, ")
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / "compare.svg").write_text(svg, encoding="utf-8")
    _dashboard()


def _dashboard() -> None:
    """Write ``images/dashboard-*.png``: pages of the dashboard as a browser shows them, light, 1280 pixels wide."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.dashboard import browsing

    why = browsing.missing()
    if why is not None:
        print(f"the dashboard's pictures stay as they are: {why}", file=sys.stderr)
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        browsing.served(Path(folder)) as address,
        browsing.reading(address) as reader,
    ):
        reader.open()
        for name, section, title in PAGES:
            if section:
                reader.go(section, title)
            reader.page.screenshot(path=IMAGES / f"dashboard-{name}.png")


if __name__ == "__main__":
    main()

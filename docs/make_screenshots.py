"""Take the pictures of the dashboard in a real browser, light and 1280 pixels wide: ``make pictures``."""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.dashboard import browsing  # noqa: E402

PAGES = (("verdict", "", ""), ("latency", "Service", "Latency"), ("fit", "Service", "Fit"))
"""Name of the picture, section and title of the page in the dashboard's navigation."""


def main() -> None:
    """Write ``images/dashboard-*.png``, where a browser is at hand."""
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
            # Parts whose code is fetched when they first appear are grey until then.
            reader.page.wait_for_function("() => !document.querySelector('[data-testid=stSkeleton]')")
            reader.settle()
            reader.page.screenshot(path=ROOT / "docs" / "images" / f"dashboard-{name}.png")


if __name__ == "__main__":
    main()

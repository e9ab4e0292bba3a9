"""Draw the pictures of the README from real runs: ``make pictures``."""

import io
import re
from pathlib import Path

from rich.console import Console

import envelope
from envelope.report.terminal import print_comparison

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    """Write ``images/compare.svg``."""
    result = envelope.compare(envelope.load_scenario("coding-assistant"), fixes=True)
    console = Console(record=True, width=150, file=io.StringIO(), highlight=False)
    print_comparison(result, console=console)
    svg = console.export_svg(title="envelope compare coding-assistant")
    # The picture must not fetch fonts from elsewhere.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code, ", "ui-monospace, Menlo, ")
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / "compare.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()

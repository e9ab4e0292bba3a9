"""Draw the pictures of the README and the gallery from real runs: ``make pictures``."""

import io
import re
from pathlib import Path

from rich.console import Console

import envelope
from envelope.report.terminal import print_comparison
from envelope.spec import load

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    """Write one picture per scenario that ships, and ``compare.svg`` of the README."""
    IMAGES.mkdir(exist_ok=True)
    for ident in load.ids("scenarios"):
        result = envelope.compare(envelope.load_scenario(ident), fixes=True)
        console = Console(record=True, width=150, file=io.StringIO(), highlight=False)
        print_comparison(result, console=console)
        svg = console.export_svg(title=f"envelope compare {ident}")
        # The picture must not fetch fonts from elsewhere.
        svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code, ", "ui-monospace, Menlo, ")
        (IMAGES / f"{ident}.svg").write_text(svg, encoding="utf-8")
    (IMAGES / "compare.svg").write_text((IMAGES / "coding-assistant.svg").read_text("utf-8"), encoding="utf-8")


if __name__ == "__main__":
    main()

"""``envelope frontier``: the map of the cheapest feasible candidate, and the line between owning and renting."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from envelope.cli.output import print_table, progress, write_json
from envelope.errors import ExitCode

if TYPE_CHECKING:
    from envelope.plan.frontier.map import Frontier

_COLUMNS, _ROWS = 64, 20


def add_arguments(parser: argparse.ArgumentParser, _command: str) -> None:
    """Declare the arguments."""
    parser.add_argument("scenario", help="scenario file, or the id of one that ships: envelope scenarios")
    axes = "requests_per_day, seats, utilisation, hard_share, private_share, context, api_price, discount_rate, "
    axes += "power_price, a path such as constraints.budget_usd, or a cost input: envelope economics"
    parser.add_argument("--x", default="requests_per_day", help=f"input across (default requests_per_day): {axes}")
    parser.add_argument("--y", default="hard_share", help="input upwards (default hard_share)")
    parser.add_argument("--x-range", type=_range, metavar="LOW:HIGH", help="range across")
    parser.add_argument("--y-range", type=_range, metavar="LOW:HIGH", help="range upwards")
    parser.add_argument("--cells", type=_cells, default=64, help="cells in each direction (default 64)")
    parser.add_argument("--only", metavar="ID", action="append", help="only this candidate (repeatable)")
    parser.add_argument("--picture", type=_picture, metavar="FILE", help="draw the map as well: FILE.svg or FILE.png")
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")


def run(options: argparse.Namespace, _command: str) -> int:
    """Compute the map and print it."""
    from envelope.plan.case.scenarios import load_scenario
    from envelope.plan.frontier.map import frontier

    scenario = load_scenario(options.scenario)
    with progress("simulating") as report:
        found = frontier(
            scenario, options.x, options.y, x_range=options.x_range, y_range=options.y_range, cells=options.cells,
            only=options.only, progress=report,
        )  # fmt: skip
    if options.picture:
        _draw(found, {c.id: c.name for c in scenario.candidates}, options.picture)
    if options.json:
        write_json(found.model_dump(mode="json"))
    else:
        _print(found)
    anyone = any(region.candidate for region in found.regions)
    return ExitCode.OK if anyone else ExitCode.INFEASIBLE


def _print(found: "Frontier") -> None:
    from envelope.report.charts.palette import LETTERS, cycled

    letters = cycled(LETTERS, len(found.candidates))[: len(found.candidates)]
    count = len(found.cells)
    rows = [round(i * (count - 1) / (min(_ROWS, count) - 1)) for i in range(min(_ROWS, count))]
    columns = [round(i * (count - 1) / (min(_COLUMNS, count) - 1)) for i in range(min(_COLUMNS, count))]
    today = _nearest(found.x.values, found.x.today, columns), _nearest(found.y.values, found.y.today, rows)
    print(f"\n{found.y.label}")
    for row in reversed(rows):
        cells = [letters[v] if (v := found.cells[row][c]) >= 0 else "·" for c in columns]
        if row == today[1]:
            cells[columns.index(today[0])] = "◎"
        print(f"{found.y.values[row]:>10.3g} │{''.join(cells)}")
    print(f"{'':>10} └{'─' * len(columns)}")
    left, right = f"{found.x.values[0]:.3g}", f"{found.x.values[-1]:.3g}"
    print(f"{'':>12}{left}{found.x.label:^{max(len(columns) - len(left) - len(right), 1)}}{right}\n")
    named = dict(zip(found.candidates, letters, strict=True))
    table = [(named.get(r.candidate or "", "·"), r.name, f"{r.frac:.0%}", r.reason) for r in found.regions]
    print_table(("", "cheapest feasible", "of the map", "why"), table)
    for place in found.path:
        who = place.candidate or ("nobody" if place.inside else "off the map")
        print(f"year {place.year + 1}: {found.x.name} {place.x:.4g}, {found.y.name} {place.y:.4g}: {who}")
    line = found.line.text if found.line else f"no line on this map, {found.without_line}"
    print(f"◎ today. Own or rent: {line}.")
    print(found.interpolated + ".")


def _draw(found: "Frontier", names: dict[str, str], file: Path) -> None:
    from envelope.report.charts.files import chart_image
    from envelope.report.charts.frontier import frontier_map

    kind: Literal["png", "svg"] = "png" if file.suffix == ".png" else "svg"
    file.write_bytes(chart_image(frontier_map(found, names), kind))


def _picture(text: str) -> Path:
    if Path(text).suffix not in {".svg", ".png"}:
        raise argparse.ArgumentTypeError(f"must end in .svg or .png, not {text!r}")
    return Path(text)


def _nearest(values: tuple[float, ...], today: float, shown: list[int]) -> int:
    return min(shown, key=lambda i: abs(values[i] - today))


def _range(text: str) -> tuple[float, float]:
    low, sep, high = text.partition(":")
    try:
        if sep:
            return float(low), float(high)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"must be LOW:HIGH, not {text!r}")


def _cells(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if not 2 <= value <= 512:
        raise argparse.ArgumentTypeError(f"must be from 2 to 512, not {text!r}")
    return value

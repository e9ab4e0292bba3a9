"""The comparison as tables and sentences for the terminal, and as a page of Markdown."""

from collections.abc import Iterator

from envelope.report import text
from envelope.validation.local_text import signed_percent
from envelope.validation.server.predict import MemoryRow
from envelope.validation.server.run import ServerResult
from envelope.validation.server.score import (
    DISTURBED_FRAC,
    QUANTITIES,
    TARGET_FRAC,
    TARGET_SATURATION_FRAC,
    LoadRow,
    Verdict,
)
from envelope.validation.tables import table

COLUMNS = ("load", "quantity", "measured", "op probes", "error", "calibrated", "error", "between turns", "others' CPU")
MEMORY_COLUMNS = ("memory", "predicted", "start-up log", "error")


def load_rows(result: ServerResult) -> list[list[str]]:
    """Return four lines of cells for each load: measured beside both predictions."""
    return [cells for row in result.loads for cells in _cells(row)]


def _cells(row: LoadRow) -> Iterator[list[str]]:
    fitted = " (calibrated on)" if row.role == "calibrate" else ""
    for at, (quantity, (name, field)) in enumerate(QUANTITIES.items()):
        first = at == 0
        yield [
            f"{row.text}{fitted}" if first else "", name, _shown(quantity, getattr(row.measured, field)),
            _shown(quantity, getattr(row.probed, field)), _signed(row.error_frac(quantity, calibrated=False)),
            _shown(quantity, getattr(row.calibrated, field)) if row.calibrated else "–",
            _signed(row.error_frac(quantity, calibrated=True)),
            text.percent(row.spread_frac[quantity]) if row.turns > 1 else "–",
            text.percent(row.noise_frac) if first else "",
        ]  # fmt: skip


def _shown(quantity: str, value: float) -> str:
    return f"{value:,.1f}" if quantity == "throughput" else text.seconds(value)


def _signed(share: float | None) -> str:
    return "–" if share is None else signed_percent(share)


def memory_cells(rows: tuple[MemoryRow, ...]) -> list[list[str]]:
    """Return one line of cells for each amount of memory."""
    return [
        [r.name, _amount(r.predicted, r.unit), _amount(r.logged, r.unit), signed_percent(r.error_frac)] for r in rows
    ]


def _amount(value: float, unit: str) -> str:
    if unit == "B":
        return f"{value / 1e6:,.1f} MB"
    return f"{value:,.0f} {unit}".rstrip() if value > 1000 else f"{value:,.1f} {unit}".rstrip()


def summary_lines(result: ServerResult) -> list[str]:
    """Return the errors of the scored loads, before and after calibration, and how quiet the machine was."""
    lines = [_verdict(v) for v in result.verdicts]
    spreads = [max(r.spread_frac.values()) for r in result.loads if r.turns > 1]
    noises = [r.noise_frac for r in result.loads if r.noise_frac is not None]
    if spreads:
        lines.append(f"between turns of one load figures differed by up to {text.percent(max(spreads))}")
    if noises:
        loud = sum(n > DISTURBED_FRAC for n in noises)
        lines.append(
            f"others took up to {text.percent(max(noises))} of the processor; {loud} of {len(noises)} loads had more "
            f"than {text.percent(DISTURBED_FRAC)} taken, and the targets hold on a quiet machine"
        )
    if not result.complete:
        lines.append("interrupted: the same command with the same --out goes on where this run stopped")
    return lines


def _verdict(v: Verdict) -> str:
    name = "after calibration" if v.calibrated else "from op probes alone"
    if not v.loads:
        return f"{name}: no load below saturation was scored"
    times = ", ".join(
        f"{QUANTITIES[q][0]} {text.percent(e)} (bias {signed_percent(v.bias_frac[q])})"
        for q, e in v.median_error_frac.items()
    )
    line = f"{name}: median error below saturation over {v.loads} loads: {times}"
    if v.saturation_error_frac is not None:
        line += (
            f"; saturation {v.saturation_predicted_per_s:.2f} requests/s for {v.saturation_measured_per_s:.2f} "
            f"({signed_percent(v.saturation_error_frac)})"
        )
    if v.calibrated:
        line += f"; targets {text.percent(TARGET_FRAC)} and {text.percent(TARGET_SATURATION_FRAC)}: "
        line += "met" if v.met else "missed"
    return line


def title(result: ServerResult) -> str:
    """Return what was compared, in one line."""
    start = f", up after {result.start_s:.0f} s" if result.start_s is not None else ""
    return (
        f"{result.engine} {result.version}, {result.model}, {result.weights}, {result.threads} threads on "
        f"{result.hardware}, {result.date}{start}"
    )


def _line(row: LoadRow) -> tuple[str, ...]:
    """Return one load as cells: each figure as measured, then the errors of the two predictions."""
    cells = []
    for quantity, (_, field) in QUANTITIES.items():
        both = (_signed(row.error_frac(quantity, calibrated=c)) for c in (False, True))
        cells.append(f"{_shown(quantity, getattr(row.measured, field))}: {', '.join(both)}")
    spread = text.percent(max(row.spread_frac.values())) if row.turns > 1 else "–"
    fitted = " *" if row.role == "calibrate" else ""
    return (f"{row.text}{fitted}", *cells, spread, text.percent(row.noise_frac))


def page(result: ServerResult) -> str:
    """Return the whole comparison as Markdown, one line for each load."""
    columns = ("load", *(name for name, _ in QUANTITIES.values()), "between turns", "others' CPU")
    parts = [
        f"### {title(result)}",
        "Each cell: measured, then the error of the prediction from op probes alone and of the calibrated one. "
        "Loads with * were calibrated on.",
        table(columns, [_line(row) for row in result.loads]),
    ]
    if result.memory:
        parts.append(table(MEMORY_COLUMNS, [tuple(cells) for cells in memory_cells(result.memory)]))
    parts.append("\n".join(f"- {line}" for line in summary_lines(result)))
    return "\n\n".join(parts) + "\n"

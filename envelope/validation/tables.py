"""The error report as Markdown tables."""

from collections.abc import Iterable, Sequence

from envelope.validation.score import PeerScore, ScoredRow, SummaryRow
from envelope.validation.validate import ValidationReport

WORST_SHOWN = 20
_REASONS_SHOWN = 12


def percent(frac: float | None, *, signed: bool = False) -> str:
    """Return a fraction as a percentage with one decimal below 10 %.

    >>> percent(0.0834), percent(-0.25, signed=True), percent(None)
    ('8.3 %', '-25 %', '–')
    """
    if frac is None:
        return "–"
    value = 100 * frac
    digits = 1 if abs(value) < 9.95 else 0
    return f"{value:+.{digits}f} %" if signed else f"{value:.{digits}f} %"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is text, the others are aligned to the right."""
    lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    lines += ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def summary_table(rows: Iterable[SummaryRow]) -> str:
    """Return errors by quantity, device class and architecture."""
    header = ("quantity · devices · models", "rows", "covered", "median", "mean", "90 %", "bias")
    return table(
        header,
        (
            (
                f"{r.quantity} · {r.device_class} · {r.architecture}",
                str(r.n),
                percent(r.coverage_frac),
                percent(r.median_ape_frac),
                percent(r.mean_ape_frac),
                percent(r.p90_ape_frac),
                percent(r.bias_frac, signed=True),
            )
            for r in rows
        ),
    )


def peer_table(peers: Iterable[PeerScore]) -> str:
    """Return the errors of other predictors beside ours on the same rows."""
    header = ("quantity · rows from · predictor", "rows", "its median", "our median", "its mean", "our mean")
    return table(
        header,
        (
            (
                f"{p.quantity} · {p.collection} · {p.peer}",
                str(p.n),
                percent(p.median_ape_frac),
                percent(p.our_median_ape_frac),
                percent(p.mean_ape_frac),
                percent(p.our_mean_ape_frac),
            )
            for p in peers
        ),
    )


def worst_table(rows: Iterable[ScoredRow]) -> str:
    """Return single rows with prediction, measurement and the limit that the model believed in."""
    header = ("row", "what", "on", "measured", "predicted", "unit", "limit")
    return table(
        header,
        (
            (
                r.id[:60],
                f"{r.quantity} of {r.model}",
                f"{r.device} ({r.engine})"[:60],
                f"{r.measured:.4g}",
                f"{r.predicted:.4g}",
                r.unit,
                r.bound or "–",
            )
            for r in rows
        ),
    )


def report_text(report: ValidationReport) -> str:
    """Return the whole report: by family of rows, by class, peers, worst rows, rows without a prediction."""
    parts = [
        "# Accuracy of the predictions",
        f"Rows: {report.source}; version {report.version}. Error is |predicted/measured − 1|; bias is the median of "
        "predicted/measured − 1. A row without a prediction counts against coverage.",
        "## By quantity and family of rows",
        summary_table(report.totals),
        "## By quantity, device class and architecture",
        summary_table(report.summary),
    ]
    if report.peers:
        parts += ["## Other predictors on the same rows", peer_table(report.peers)]
    parts += [f"## The {WORST_SHOWN} worst rows", worst_table(report.worst)]
    if report.uncovered:
        parts += ["## Rows without a prediction", _reasons(report)]
    return "\n\n".join(parts) + "\n"


def _reasons(report: ValidationReport) -> str:
    counts: dict[str, int] = {}
    for _, reason in report.uncovered:
        counts[reason] = counts.get(reason, 0) + 1
    common = sorted(counts.items(), key=lambda c: -c[1])[:_REASONS_SHOWN]
    return table(("reason", "rows"), ((reason, str(count)) for reason, count in common))

"""Predicted beside measured as text: rows of a table and a chart of errors for the terminal."""

from collections.abc import Sequence

from envelope.report import text
from envelope.validation.local import LocalResult, LocalRow

COLUMNS = ("decoder", "format", "run", "predicted", "measured", "error", "spread", "others' CPU")
_HALF = 24
_FULL_SCALE = 0.6


def table_rows(result: LocalResult) -> list[list[str]]:
    """Return one line of cells for each run."""
    return [
        [
            r.decoder, r.number_format, run_name(r), text.seconds(r.predicted_s), text.seconds(r.measured_s),
            signed_percent(r.error_frac), text.percent(r.spread_frac), text.percent(r.noise_frac),
        ]
        for r in result.rows
    ]  # fmt: skip


def run_name(row: LocalRow) -> str:
    """Return a run in words, such as ``decode, batch 4, depth 2,048``."""
    if row.phase == "prefill":
        return f"prefill {row.new_tokens:,}"
    return f"decode, batch {row.batch}, depth {row.depth_tokens:,}"


def signed_percent(share: float) -> str:
    """Return a share with its sign, in percent."""
    return f"{'+' if share >= 0 else '−'}{100 * abs(share):.1f} %"


def chart(rows: Sequence[LocalRow]) -> str:
    """Return a chart with one line per run: a dot left of the middle is too fast, right of it too slow a prediction."""
    width = max((len(_label(r)) for r in rows), default=0)
    scale = f"−{100 * _FULL_SCALE:.0f} %".ljust(_HALF) + "│" + f"+{100 * _FULL_SCALE:.0f} %".rjust(_HALF)
    lines = [" " * width + "  " + scale]
    for row in rows:
        share = max(-1.0, min(1.0, row.error_frac / _FULL_SCALE))
        cells = ["·"] * (2 * _HALF + 1)
        cells[_HALF] = "│"
        cells[_HALF + round(share * _HALF)] = "●"
        lines.append(f"{_label(row):<{width}}  {''.join(cells)}")
    return "\n".join(lines)


def _label(row: LocalRow) -> str:
    return f"{row.decoder} {row.number_format} {run_name(row)}"


def summary_lines(result: LocalResult) -> list[str]:
    """Return the verdict of each group, the noise, and what was left out."""
    lines = []
    for s in result.summaries:
        target = f"target {text.percent(s.target_median_frac)}"
        target += f", p90 {text.percent(s.target_p90_frac)}" if s.target_p90_frac is not None else ""
        lines.append(
            f"{s.group}: median error {text.percent(s.median_error_frac)}, p90 {text.percent(s.p90_error_frac)}, "
            f"worst {text.percent(s.worst_error_frac)} over {s.runs} runs, {s.disturbed_runs} of them disturbed "
            f"({target}: {'met' if s.met else 'missed'})"
        )
    if result.foreign_cpu_frac is not None and result.steal_cpu_frac is not None:
        lines.append(
            f"noise: others used {text.percent(result.foreign_cpu_frac)} of the processor, the hypervisor "
            f"{text.percent(result.steal_cpu_frac)}"
        )
    return [*lines, *(f"skipped: {reason}" for reason in result.skipped)]

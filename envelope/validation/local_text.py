"""Predicted beside measured as text: rows of a table and a chart of errors for the terminal."""

import statistics
from collections.abc import Sequence

from envelope.report import text
from envelope.validation.local import LocalResult
from envelope.validation.local_score import Errors, LocalRow, LocalSummary

COLUMNS = ("decoder", "format", "run", "predicted", "measured", "error", "spread", "others' CPU", "memory")
_RUNNERS = {"onnxruntime": "ONNX Runtime", "llama.cpp": "llama.cpp", "torch": "PyTorch"}
_FASTER_THAN_PROBED = 1.15
"""Read bandwidth over that of the profile from which the profile itself is doubtful."""
_HALF = 24
_FULL_SCALE = 0.6


def table_rows(result: LocalResult) -> list[list[str]]:
    """Return one line of cells for each run."""
    return [
        [
            r.decoder, r.number_format, run_name(r), text.seconds(r.predicted_s), text.seconds(r.measured_s),
            signed_percent(r.error_frac), text.percent(r.spread_frac), text.percent(r.noise_frac),
            text.percent(r.memory_frac) + (" disturbed" if r.disturbed else ""),
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
    runner = "" if row.runner == "onnxruntime" else f"{row.runner} "
    return f"{runner}{row.decoder} {row.number_format} {run_name(row)}"


def summary_lines(result: LocalResult) -> list[str]:
    """Return the verdict of each group, the noise, and what was left out."""
    lines = [line for s in result.summaries for line in _verdict(s)]
    if result.foreign_cpu_frac is not None and result.steal_cpu_frac is not None:
        lines.append(
            f"noise: others used {text.percent(result.foreign_cpu_frac)} of the processor, the hypervisor "
            f"{text.percent(result.steal_cpu_frac)}"
        )
    shares = [r.memory_frac for r in result.rows if r.memory_frac is not None]
    if shares:
        low, high = (text.percent(edge(shares)) for edge in (min, max))
        lines.append(f"memory around the runs read at {low} to {high} of the profile's median rate")
    if shares and statistics.median(shares) > _FASTER_THAN_PROBED:
        factor = statistics.median(shares)
        lines.append(f"memory reads {factor:.1f} times as fast as in the profile, which others disturbed: probe again")
    if not result.complete:
        lines.append("interrupted: verdicts hold for the runs above only")
    return [*lines, *(f"skipped: {reason}" for reason in result.skipped)]


def _verdict(s: LocalSummary) -> list[str]:
    target = f"target {text.percent(s.target_median_frac)}"
    target += f", p90 {text.percent(s.target_p90_frac)}" if s.target_p90_frac is not None else ""
    verdict = {True: "met", False: "missed", None: "too few undisturbed runs to judge"}[s.met]
    if s.met and s.judged == "everything":
        verdict = "met although most runs were disturbed"
    name = f"{_RUNNERS[s.runner]}, {s.group}"
    if s.judged == "everything" or s.undisturbed is None:
        lines = [f"{name}: {_errors(s.everything)} ({target}: {verdict})"]
        if s.undisturbed is None:
            return [*lines, "  all of them disturbed"]
        return [*lines, f"  the undisturbed: {_errors(s.undisturbed)}"]
    lines = [f"{name}: {_errors(s.undisturbed)} ({target}: {verdict})"]
    if s.disturbed_runs:
        lines.append(f"  with the {s.disturbed_runs} disturbed runs: {_errors(s.everything)}")
    return lines


def _errors(e: Errors) -> str:
    shown = ", ".join(
        f"{name} {text.percent(share)}"
        for name, share in (("median error", e.median_frac), ("p90", e.p90_frac), ("worst", e.worst_frac))
    )
    return f"{shown}, bias {signed_percent(e.bias_frac)} over {e.runs} runs"

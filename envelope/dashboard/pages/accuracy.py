"""Accuracy: error bands, predictions beside the measured facts that ship with the package, and the worst rows."""

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from envelope.dashboard import address, tasks_detail
from envelope.dashboard.downloads import page_downloads, show_chart, show_table
from envelope.dashboard.terms import help_of
from envelope.dashboard.view import View
from envelope.spec.error_band import ErrorBand
from envelope.spec.load import load_all

if TYPE_CHECKING:
    from envelope.validation.score import ScoredRow
    from envelope.validation.validate import ValidationReport

_WORST = 10
_QUANTITIES = {
    "tpot": "time per output token", "ttft": "time to first token", "itl": "gap between tokens",
    "e2e": "request latency", "decode_rate": "decode rate", "prefill_rate": "prefill rate",
    "saturated_throughput": "saturated throughput", "serving_throughput": "serving throughput",
    "power_gpu": "GPU watts", "power_wall": "watts at the wall", "energy_per_token": "energy per token",
}  # fmt: skip


def page(view: View) -> None:
    """Draw the page."""
    st.title("How true are the predictions?")
    _bands(view)
    _facts(view)
    page_downloads(view, "envelope validate")


def _bands(view: View) -> None:
    st.subheader("The accuracy card", anchor=False)
    st.caption(
        "Errors of all predictions scored against measurements that others published; verdicts show these bands."
    )
    n = view.figures
    bands = sorted(load_all(ErrorBand, "error_bands"), key=lambda b: (b.quantity, b.device_class, b.architecture))
    whole = [b for b in bands if b.device_class == "any" and b.architecture == "any"]
    for column, band in zip(st.columns(max(len(whole), 1)), whole, strict=False):
        column.metric(band.quantity, f"±{n.percent(band.median_ape_frac)}", help=help_of(ErrorBand, "median_ape_frac"))
    shown = pd.DataFrame(
        {
            "quantity": b.quantity,
            "devices": b.device_class.replace("_", " "),
            "models": b.architecture,
            "rows": n.count(b.n),
            "median error": n.percent(b.median_ape_frac, 1),
            "9 of 10 within": n.percent(b.p90_ape_frac, 1),
            "bias": n.localised(f"{100 * b.bias_frac:+.1f} %"),
        }
        for b in bands
    )
    with st.expander("By class of devices and models"):
        show_table(pd.DataFrame(b.model_dump(mode="json", exclude={"sources"}) for b in bands), "bands", shown=shown)


def _facts(view: View) -> None:
    st.subheader("The measured facts that ship", anchor=False)
    report = view.background(
        tasks_detail.accuracy, label="Scoring", start="Score the shipped facts now", key="accuracy", affinity="accuracy"
    )
    if report is None:
        st.caption("Predicts each of the shipped facts anew and sets it beside its measurement; about 20 seconds.")
        return
    rows = [row for row in report.rows if row.measured and row.predicted]
    counts = {q: sum(r.quantity == q for r in rows) for q in dict.fromkeys(r.quantity for r in rows)}
    offered = [q for q in sorted(counts, key=lambda q: -counts[q]) if counts[q] > 1]
    quantity = address.choice(
        "Quantity", offered, param="quantity", show=lambda q: f"{_QUANTITIES.get(q, q.replace('_', ' '))} ({counts[q]})"
    )
    _scatter(view, [row for row in rows if row.quantity == quantity], quantity)
    _totals(view, report)


def _scatter(view: View, rows: "list[ScoredRow]", quantity: str) -> None:
    from envelope.report.charts.accuracy import accuracy_scatter
    from envelope.validation.score import worst

    furthest = worst(rows, _WORST)
    units = {row.unit.split(" (")[0] for row in rows}
    unit = units.pop() if len(units) == 1 else "the source's unit"
    title = _QUANTITIES.get(quantity, quantity.replace("_", " "))
    show_chart(accuracy_scatter(rows, [row.id for row in furthest], title, unit), f"scatter-{quantity}")
    st.markdown(f"**The {len(furthest)} rows that are furthest off**")
    n = view.figures
    shown = pd.DataFrame(
        {
            "device": r.device,
            "model": r.model,
            "engine": r.engine,
            "measured": n.localised(f"{r.measured:,.4g}"),
            "predicted": n.localised(f"{r.predicted:,.4g}"),
            "unit": r.unit,
            "error": n.localised(f"{100 * (r.bias_frac or 0.0):+.0f} %"),
            "limit": r.bound or "–",
        }
        for r in furthest
    )
    show_table(pd.DataFrame(r.model_dump(mode="json") for r in furthest), "worst", shown=shown)


def _totals(view: View, report: "ValidationReport") -> None:
    n = view.figures
    shown = pd.DataFrame(
        {
            "quantity": r.quantity.replace("_", " "),
            "rows from": r.device_class,
            "rows": n.count(r.n),
            "covered": n.percent(r.coverage_frac),
            "median error": n.percent(r.median_ape_frac, 1),
            "mean error": n.percent(r.mean_ape_frac, 1),
        }
        for r in report.totals
    )
    with st.expander("Every family of rows"):
        show_table(pd.DataFrame(r.model_dump(mode="json") for r in report.totals), "totals", shown=shown)

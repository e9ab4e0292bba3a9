"""Dense vs sparse: where a mixture of experts wins or loses for the open scenario's work."""

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from envelope.dashboard import address, tasks_detail
from envelope.dashboard.downloads import page_downloads, scenario_argument, show_chart, show_table
from envelope.dashboard.figures import escaped
from envelope.dashboard.tabs import show_tabs
from envelope.dashboard.view import View
from envelope.spec.load import ids
from envelope.units import GB

if TYPE_CHECKING:
    from envelope.plan.deployment.sparse import SparseView

_START = ("llama-3.3-70b", "gpt-oss-120b", "deepseek-v4-flash")


def page(view: View) -> None:
    """Draw the page."""
    st.title("Dense or sparse?")
    models = address.choices("Models", ids("models"), param="models", default=_START)
    left, middle, right = st.columns([3, 1, 1])
    hardware = address.choice(
        "Device", ids("hardware_profiles"), param="device", default="nvidia-h100-sxm-80gb", place=left
    )
    weights = address.choice("Weights", ("native", "bf16", "fp8", "awq-int4", "nvfp4"), param="weights", place=middle)
    kv = address.choice("KV cache", ("bf16", "fp8"), param="kv", place=right)
    if not models:
        st.info("Choose at least one model.")
        return
    found = view.result(
        tasks_detail.sparse, view.scenario, models, hardware, weights, kv, label="Models side by side",
        affinity="sparse",
    )  # fmt: skip
    st.caption(
        f"For the workload's mean request: {view.figures.count(found.input_tokens)} tokens in, "
        f"{view.figures.count(found.output_tokens)} out."
    )
    st.markdown("\n".join(f"- {escaped(view.figures.localised(line))}" for line in found.lines))
    _charts(found)
    _table(view, found)
    chosen = f"--models {','.join(models)} --hardware {hardware} --weights {weights} --kv {kv}"
    page_downloads(view, f"envelope sparse {scenario_argument(view)} {chosen}")


def _charts(found: "SparseView") -> None:
    from envelope.report.charts.choices import cache_by_context, rate_by_batch, weight_bytes_by_batch

    show_tabs(
        {
            "Weights read per token": lambda: show_chart(weight_bytes_by_batch(found), "weight-bytes"),
            "Cost of context": lambda: show_chart(cache_by_context(found), "cache-bytes"),
            "Decode rate": lambda: show_chart(rate_by_batch(found), "decode-rate"),
        }
    )


def _table(view: View, found: "SparseView") -> None:
    n = view.figures
    rows = pd.DataFrame(row.model_dump(mode="json", exclude={"attention", "blast_frac"}) for row in found.rows)
    shown = pd.DataFrame(
        {
            "model": r.model,
            "10⁹ parameters": n.localised(f"{r.params_total / 1e9:,.1f}"),
            "of them active": n.localised(f"{r.params_active / 1e9:,.1f}"),
            "attention": " / ".join(r.attention),
            "resident weights": n.localised(f"{r.resident_bytes / GB:,.0f} GB"),
            "fewest devices": "none fits" if r.min_devices is None else str(r.min_devices),
            "requests held": n.count(r.sequences_held),
            "idle electricity a year": n.money(r.idle_usd_per_year),
            "evidence": str(r.evidence),
        }
        for r in found.rows
    )
    show_table(rows, "sparse", shown=shown)

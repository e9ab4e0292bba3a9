"""Tuning bench: a stable behaviour by long prompt, retrieval, adapters or full training, and when training pays."""

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from envelope.dashboard import address, tasks_detail
from envelope.dashboard.downloads import page_downloads, show_chart, show_table
from envelope.dashboard.figures import escaped
from envelope.dashboard.terms import help_of
from envelope.dashboard.view import View
from envelope.spec.load import ids

if TYPE_CHECKING:
    from envelope.plan.deployment.tuning import TuningBench, TuningQuery

_NAMES = {
    "prompt": "long prompt", "prompt_cached": "long prompt, cached", "retrieval": "retrieval", "lora": "LoRA",
    "qlora": "QLoRA", "full": "full training",
}  # fmt: skip


def page(view: View) -> None:
    """Draw the page."""
    st.title("Prompt, retrieve or train?")
    query = _query(view)
    found = view.result(tasks_detail.tuning, query, label="Ways to the behaviour", affinity="tuning")
    n = view.figures
    st.success(f"Cheapest at {n.count(query.requests_per_day)} requests a day: **{_NAMES[found.cheapest]}**")
    _table(view, found)
    _break_even(view, found)
    for note in found.notes:
        st.caption(escaped(n.localised(note)))
    page_downloads(view, _command(query))


def _query(view: View) -> "TuningQuery":
    from envelope.plan.deployment.tuning import TuningQuery

    model, hardware, weights, tp = _deployment(view)
    fields = TuningQuery.model_fields
    asked = view.scenario.workload.daily_requests
    left, middle, right = st.columns(3)
    with left:
        load = address.number(
            "Requests a day",
            100.0,
            1_000_000.0,
            param="a_day",
            default=min(max(asked, 100.0), 1e6),
            step=100.0,
            format="localized",
        )
        prompt = address.number(
            "Tokens of instructions", 100, 20_000, param="instructions", default=float(fields["prompt_tokens"].default),
            step=100, format="localized", help=help_of(TuningQuery, "prompt_tokens"),
        )  # fmt: skip
    with middle:
        changes = address.number(
            "Changes a year", 0, 52, param="changes", default=float(fields["changes_per_year"].default), step=1,
            help=help_of(TuningQuery, "changes_per_year"),
        )  # fmt: skip
        behaviours = address.number(
            "Behaviours", 1, 50, param="behaviours", default=1.0, step=1, help=help_of(TuningQuery, "behaviours")
        )
    with right:
        training = address.number(
            "Training tokens, millions", 1, 500, param="training", default=5.0, step=1,
            help=help_of(TuningQuery, "training_tokens"),
        )  # fmt: skip
        rank = int(address.choice("Rank of adapters", ("8", "16", "32", "64", "128"), param="rank", default="16",
                                  help=help_of(TuningQuery, "rank")))  # fmt: skip
    return TuningQuery(
        model=model, hardware=hardware, weights=weights, tp=tp, requests_per_day=load, prompt_tokens=int(prompt),
        changes_per_year=changes, behaviours=int(behaviours), training_tokens=int(training * 1e6), rank=rank,
    )  # fmt: skip


def _deployment(view: View) -> tuple[str, str, str, int]:
    """Return model, device, weights and devices per replica, by default those of the scenario's first server."""
    pools = [pool for c in view.scenario.candidates for pool in c.pools]
    first = next((pool for pool in pools if pool.role != "seat"), pools[0] if pools else None)
    left, middle, right, last = st.columns([3, 3, 1, 1])
    model = address.choice(
        "Model", ids("models"), param="model", default=first.model if first else "llama-3.3-70b", place=left
    )
    hardware = address.choice(
        "Device", ids("hardware_profiles"), param="device",
        default=first.hardware if first else "nvidia-h100-sxm-80gb", place=middle,
    )  # fmt: skip
    offered = list(dict.fromkeys([first.weights if first else "native", "native", "bf16", "fp8"]))
    weights = address.choice("Weights", offered, param="weights", place=right)
    tp = str(first.parallelism.tp if first else 4)
    splits = sorted({"1", "2", "4", "8", "16", tp}, key=int)
    return model, hardware, weights, int(address.choice("Devices each", splits, param="tp", default=tp, place=last))


def _table(view: View, found: "TuningBench") -> None:
    n = view.figures
    rows = pd.DataFrame(row.model_dump(mode="json", exclude={"run", "fixed_by_line_usd"}) for row in found.rows)
    shown = pd.DataFrame(
        {
            "": "★" if r.method == found.cheapest else "",
            "method": _NAMES[r.method],
            "prompt, tokens": n.count(r.prompt_tokens),
            "TTFT": n.seconds(r.ttft_s),
            "ITL": n.seconds(r.itl_s),
            "a training run": f"{n.localised(f'{r.run.device_hours:,.1f}')} device-hours" if r.run else "–",
            "a request": n.money(r.serving_usd_per_request),
            "fixed a year": n.money(r.fixed_usd_per_year),
            "a year": n.money(r.total_usd_per_year),
            "note": r.serving_note if r.fits_weights else "changes too often for weights",
        }
        for r in found.rows
    )
    show_table(rows, "tuning", shown=shown)


def _break_even(view: View, found: "TuningBench") -> None:
    from envelope.report.charts.choices import tuning_break_even

    st.subheader("From how many requests a day training pays", anchor=False)
    show_chart(tuning_break_even(found), "tuning-break-even")
    lines = []
    for b in found.break_even:
        when = "never" if b.requests_per_day is None else f"from {view.figures.count(b.requests_per_day)} a day"
        lines.append(f"- {_NAMES[b.method]} is cheaper than {_NAMES[b.against]}: {when}")
    with st.expander("Every pair"):
        st.markdown("\n".join(lines))


def _command(query: "TuningQuery") -> str:
    return (
        f"envelope tuning --model {query.model} --hardware {query.hardware} --weights {query.weights} --tp {query.tp} "
        f"\\\n  --requests-per-day {query.requests_per_day:.17g} --prompt-tokens {query.prompt_tokens} "
        f"--changes-per-year {query.changes_per_year:g} --behaviours {query.behaviours} "
        f"\\\n  --training-tokens {query.training_tokens} --rank {query.rank}"
    )

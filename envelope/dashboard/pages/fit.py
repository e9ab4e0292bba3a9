"""Fit: the memory of each device with its KV equation, what contexts and concurrencies it holds, which formats fit."""

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from envelope.dashboard import address, tasks_detail
from envelope.dashboard.downloads import page_downloads, show_chart, show_table
from envelope.dashboard.figures import escaped
from envelope.dashboard.service_figures import with_servers
from envelope.dashboard.terms import help_of, term
from envelope.dashboard.view import View
from envelope.units import GB

if TYPE_CHECKING:
    from envelope.dashboard.tasks_detail import Fitted
    from envelope.plan.deployment.estimate import EstimateQuery
    from envelope.plan.deployment.fit_map import PoolMemory
    from envelope.spec.deployment import Pool


def page(view: View) -> None:
    """Draw the page."""
    st.title("What fits into memory?")
    pools = view.result(tasks_detail.memory, view.scenario, label="Memory of every candidate", affinity="fit")
    if not pools:
        st.info("No candidate of this scenario has devices of its own: everything is hosted.")
        return
    _all_pools(pools)
    query = _query(view, pools)
    found = view.result(tasks_detail.fitted, query, label="What fits", affinity="fit")
    _device(view, query, found)
    _formats(view, found)
    page_downloads(view, _command(query))


def _all_pools(pools: "tuple[PoolMemory, ...]") -> None:
    from envelope.report.charts.memory import memory_bars

    st.subheader("Every candidate", anchor=False)
    st.caption("Memory of one device of each local pool, for a request of the workload's mean length.")
    show_chart(memory_bars({_label(p): p.memory for p in pools}), "memory")
    for pool in pools:
        for reason in pool.reasons:
            st.warning(escaped(f"{_label(pool)}: {reason}"))


def _label(pool: "PoolMemory") -> str:
    return pool.name if pool.pool == 0 else f"{pool.name}, pool {pool.pool + 1}"


def _query(view: View, pools: "tuple[PoolMemory, ...]") -> "EstimateQuery":
    """Return the chosen pool's deployment, with the formats, the request and the load chosen here."""
    from envelope.plan.deployment.fit_map import KV_FORMATS, WEIGHTS, pool_query

    st.subheader("One deployment, other formats", anchor=False)
    labels = {f"{p.candidate}.{p.pool}": _label(p) for p in pools}
    left, weights_at, kv_at = st.columns([3, 1, 1])
    first = f"{with_servers(view)}.0"
    chosen = address.choice(
        "Deployment", list(labels), param="pool", default=first, show=labels.__getitem__, place=left
    )
    pool = _pool(view, chosen)
    offered = list(dict.fromkeys([pool.weights, *WEIGHTS]))
    weights = address.choice("Weights", offered, param="weights", default=pool.weights, place=weights_at)
    caches = list(dict.fromkeys([pool.kv, *KV_FORMATS]))
    kv = address.choice("KV cache", caches, param="kv", default=pool.kv, help=term("KV cache"), place=kv_at)
    base = pool_query(view.scenario, pool)
    many = int(address.number("Requests at once", 1, 512, param="at_once", default=float(base.concurrency), step=1))
    return base.changed(weights=weights, kv=kv, concurrency=many)


def _pool(view: View, chosen: str) -> "Pool":
    ident, index = chosen.rsplit(".", 1)
    return next(c for c in view.scenario.candidates if c.id == ident).pools[int(index)]


def _device(view: View, query: "EstimateQuery", found: "Fitted") -> None:
    from envelope.perf.estimate import MemoryUse
    from envelope.report.charts.memory import fit_heat_map, memory_bars

    n, memory = view.figures, found.map.memory
    here = next((f for f in found.formats if (f.weights, f.kv) == (query.weights, query.kv)), None)
    columns = st.columns(4)
    columns[0].metric("Weights per device", n.localised(f"{memory.domains[0].weights_bytes / GB:,.1f} GB"))
    columns[1].metric("KV cache per device", n.localised(f"{memory.domains[0].kv_bytes / GB:,.1f} GB"))
    columns[2].metric("Requests held", n.count(here.max_concurrency if here else memory.max_concurrency),
                      help=help_of(MemoryUse, "max_concurrency"))  # fmt: skip
    columns[3].metric("Time per token", n.seconds(here.itl_s) if here else "–", help=term("ITL"))
    st.caption(
        f"With {query.concurrency} such requests always under way, of {n.count(query.input)} tokens in and "
        f"{n.count(query.output)} out, every prompt read anew; the Latency page simulates the real mix with its cache."
    )
    for reason in found.map.reasons:
        st.error(escaped(reason))
    st.code(memory.equation, language=None, wrap_lines=True)
    show_chart(memory_bars({f"{query.weights} weights, {query.kv} cache": memory}), "device-memory")
    st.markdown("**How many requests at once, at which context**")
    show_chart(fit_heat_map(found.map), "fit-map")


def _formats(view: View, found: "Fitted") -> None:
    n = view.figures
    st.subheader("Formats to choose from", anchor=False)
    st.caption("On the same devices, fastest first. What a format loses in quality is for the Evidence page to show.")
    rows = pd.DataFrame(
        {
            "fits": f.fits, "weights": f.weights, "kv": f.kv, "weights_bytes": f.weights_bytes,
            "kv_bytes": f.kv_bytes, "held": f.max_concurrency, "itl_s": f.itl_s,
            "output_tokens_per_s": f.output_tokens_per_s, "note": f.reason,
        }
        for f in found.formats
    )  # fmt: skip
    shown = pd.DataFrame(
        {
            "fits": "✔" if f.fits else "✘",
            "weights": f.weights,
            "KV cache": f.kv,
            "weights per device": n.localised(f"{f.weights_bytes / GB:,.1f} GB"),
            "cache per device": n.localised(f"{f.kv_bytes / GB:,.1f} GB"),
            "requests held": n.count(f.max_concurrency),
            "ITL": n.seconds(f.itl_s),
            "output tokens/s": n.count(f.output_tokens_per_s),
            "note": n.localised(f.reason),
        }
        for f in found.formats
    )
    show_table(rows, "formats", shown=shown)


def _command(query: "EstimateQuery") -> str:
    parts = [f"envelope estimate --model {query.model} --hardware {query.hardware} --count {query.count}"]
    parts.append(f"--tp {query.tp} --ep {query.ep} --pp {query.pp} --dp {query.dp} --engine {query.engine}")
    parts.append(f"--weights {query.weights} --kv {query.kv} --input {query.input} --output {query.output}")
    return " \\\n  ".join([*parts, f"--concurrency {query.concurrency}"])

"""Hardware: profiles with their evidence, operators on the roofline, machines side by side, a probe of this machine."""

import re
from functools import partial
from textwrap import shorten

import pandas as pd
import streamlit as st

from envelope.dashboard import address, tasks_detail
from envelope.dashboard.access import may_measure
from envelope.dashboard.badges import BADGES
from envelope.dashboard.downloads import page_downloads, show_chart, show_table
from envelope.dashboard.figures import escaped
from envelope.dashboard.tabs import show_tabs
from envelope.dashboard.terms import help_of
from envelope.dashboard.view import View
from envelope.report import text
from envelope.spec.hardware import HardwareProfile
from envelope.spec.load import ids, load
from envelope.spec.yaml_text import to_yaml

_START = ("nvidia-h100-sxm-80gb", "nvidia-h200-sxm-141gb", "amd-mi300x-192gb")


def page(view: View) -> None:
    """Draw the page."""
    st.title("What do the machines do?")
    known = ids("hardware_profiles")
    used = [pool.hardware for c in view.scenario.candidates for pool in c.pools]
    ident = address.choice("Device", known, param="device", default=used[0] if used else _START[0])
    profile = _profile(ident)
    _facts(view, profile)
    show_tabs(
        {
            "Roofline": partial(_roofline, view, profile),
            "Compare machines": partial(_compare, view, known),
            **({"Probe this machine": partial(_probe, view)} if may_measure() else {}),
        }
    )
    if not may_measure():
        st.caption("Measuring the server is off, for it serves others; the page on the dashboard says how to allow it.")
    page_downloads(view, f"envelope hardware {ident}")


def _profile(ident: str) -> HardwareProfile:
    return load(HardwareProfile, "hardware_profiles", ident, file="dashboard", path="device")


def _facts(view: View, profile: HardwareProfile) -> None:
    n, memory = view.figures, profile.device_memory
    columns = st.columns(4)
    columns[0].metric("Memory", n.localised(text.gb(memory.capacity_bytes)), help=memory.kind)
    columns[1].metric(
        "Bandwidth", n.localised(text.si(memory.bandwidth_bytes_per_s, "B/s")), help="Peak read, by the datasheet."
    )
    columns[2].metric("Power", n.localised(f"{profile.power.max_w:,.0f} W"), help=help_of(type(profile.power), "max_w"))
    columns[3].metric("Price", n.money(profile.price.usd) if profile.price else "–",
                      help=f"{profile.price.kind}, {profile.price.date}" if profile.price else None)  # fmt: skip
    st.caption(escaped(" · ".join(_told(profile, name) for name in ("memory", "power", "price"))))
    rows = [
        {
            "what": f"peak, {name}", "value": n.localised(text.si(peak, "FLOP/s")),
            **_origin(profile, f"peak_flop_per_s.{name}"),
        }
        for name, peak in profile.peak_flop_per_s.items()
    ]  # fmt: skip
    rows += [
        {"what": f"{link.kind} link", "value": n.localised(text.si(link.bandwidth_bytes_per_s, "B/s")),
         **_origin(profile, "links")}
        for link in profile.links
    ]  # fmt: skip
    rows += [
        {"what": f"efficiency: {c.op}, {c.number_format}", "value": c.form, "evidence": str(c.evidence),
         "source": c.source, "date": str(c.date)}
        for c in profile.efficiency
    ]  # fmt: skip
    with st.expander("Peaks, links and measured efficiency, with their sources"):
        show_table(pd.DataFrame(rows), "profile")


def _origin(profile: HardwareProfile, path: str) -> dict[str, str]:
    found = profile.source_of(path)
    return {"evidence": str(found.evidence), "source": found.source, "date": str(found.date)}


def _told(profile: HardwareProfile, part: str) -> str:
    """Return where a part of the profile is from, in short: the table has whole addresses."""
    found = profile.source_of(part)
    source = shorten(re.sub(r"https?://(?:www\.)?([^/\s]+)\S*", r"\1", found.source), 100, placeholder=" …")
    return f"{part}: {BADGES[found.evidence]}, {source}" + (f" ({found.date})" if found.date else "")


def _roofline(view: View, profile: HardwareProfile) -> None:
    from envelope.plan.deployment.estimate import EstimateQuery
    from envelope.report.charts.memory import roofline

    pools = [pool for c in view.scenario.candidates for pool in c.pools]
    same = next((pool for pool in pools if pool.hardware == profile.id), pools[0] if pools else None)
    left, middle, right = st.columns([3, 1, 2])
    model = address.choice(
        "Model", ids("models"), param="model", default=same.model if same else "llama-3.1-8b", place=left
    )
    weights = address.choice("Weights", ("native", "bf16", "fp8", "awq-int4"), param="weights", place=middle)
    with right:
        batch = int(address.number("Sequences that decode at once", 1, 256, param="batch", default=16.0, step=1))
    tp = same.parallelism.tp if same and same.hardware == profile.id and same.model == model else 1
    query = EstimateQuery(model=model, hardware=profile.id, weights=weights, concurrency=batch, tp=tp)
    found = view.result(tasks_detail.roofline, query, label="Operators", affinity="roofline")
    show_chart(roofline(found), "roofline")
    n = view.figures
    shares = ", ".join(f"{phase} {n.percent(share)}" for phase, share in found.shown_frac.items())
    st.caption(
        f"Matrix products of one decode step and of one prefill of {n.count(query.input)} tokens on {tp} "
        f"device{'s' if tp > 1 else ''}; they take this share of the step: {shares}. The rest is attention over the "
        "context, communication and overhead."
    )


def _compare(view: View, known: list[str]) -> None:
    chosen = address.choices("Devices", known, param="devices", default=[name for name in _START if name in known])
    n = view.figures
    profiles = [_profile(ident) for ident in chosen]
    shown = pd.DataFrame(
        {
            "device": p.name,
            "memory": n.localised(text.gb(p.device_memory.capacity_bytes)),
            "bandwidth": n.localised(text.si(p.device_memory.bandwidth_bytes_per_s, "B/s")),
            "bf16": n.localised(text.si(p.peak_flop_per_s.get("bf16"), "FLOP/s")),
            "fp8": n.localised(text.si(p.peak_flop_per_s.get("fp8"), "FLOP/s")),
            "power": n.localised(f"{p.power.max_w:,.0f} W"),
            "price": n.money(p.price.usd) if p.price else "–",
            "evidence": str(p.source_of("memory").evidence),
            "efficiency": "its own" if p.efficiency else f"inherited: {p.architecture}",
        }
        for p in profiles
    )
    show_table(pd.DataFrame(_numbers(p) for p in profiles), "machines", shown=shown)


def _numbers(profile: HardwareProfile) -> dict[str, object]:
    return {
        "id": profile.id,
        "memory_bytes": profile.device_memory.capacity_bytes,
        "bandwidth_bytes_per_s": profile.device_memory.bandwidth_bytes_per_s,
        "bf16_flop_per_s": profile.peak_flop_per_s.get("bf16"),
        "fp8_flop_per_s": profile.peak_flop_per_s.get("fp8"),
        "max_w": profile.power.max_w,
        "price_usd": profile.price.usd if profile.price else None,
    }


def _probe(view: View) -> None:
    st.caption(
        "Measures the machine that this dashboard runs on, not the reader's: memory, matrix products, attention, "
        "storage, and power where it can be read; about half a minute. The command line measures GPUs "
        "too: envelope probe."
    )
    attempt = int(st.session_state.get("probe-attempt", 0))
    found = view.background(
        tasks_detail.probe, attempt, label="Probe", start="Probe the processor", key="probe", affinity="probe"
    )
    if found is None:
        return
    n, conditions = view.figures, found.conditions
    st.success(escaped(f"{found.name}: {n.localised(text.si(found.device_memory.bandwidth_bytes_per_s, 'B/s'))}"))
    for warning in conditions.warnings if conditions else ():
        st.caption(escaped(warning))
    rows = [
        {"operator": c.op, "format": c.number_format, "formula": c.form,
         "error": n.percent(c.error_median_frac, 1), "spread": n.percent(c.spread_frac, 1)}
        for c in found.efficiency
    ]  # fmt: skip
    show_table(pd.DataFrame(rows), "probed")
    st.download_button(
        "Profile (.yaml)", to_yaml(found), f"{found.id}.yaml", "application/yaml", on_click="ignore",
        help="Put it into the hardware_profiles folder of your data directory.",
    )  # fmt: skip
    if st.button("Probe again"):
        st.session_state["probe-attempt"] = attempt + 1
        st.rerun()

"""Assumptions and sources: every number that costs rest on, where it is from, how old it is; each can be edited."""

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from envelope.dashboard import address, edits, tasks
from envelope.dashboard.badges import BADGES, MEANING
from envelope.dashboard.downloads import page_downloads, scenario_argument, show_table, table_downloads
from envelope.dashboard.figures import escaped
from envelope.dashboard.jobs import fingerprint
from envelope.dashboard.view import View
from envelope.provenance import Evidence

if TYPE_CHECKING:
    from envelope.plan.cost.assumptions import Assumption

_OLD_DAYS = 180


def page(view: View) -> None:
    """Draw the page."""
    st.title("Assumptions and sources")
    found: tuple[Assumption, ...] = view.result(tasks.assumptions, view.scenario, label="Assumptions", affinity="costs")
    _summary(view, found)
    _editor(view, _filtered(found))
    _stale(view)
    page_downloads(view, f"envelope tco {scenario_argument(view)} --json")


def _summary(view: View, found: "tuple[Assumption, ...]") -> None:
    counts = {badge: sum(a.evidence == kind for a in found) for kind, badge in BADGES.items()}
    st.markdown(" · ".join(f"{badge}: {count}" for badge, count in counts.items() if count))
    own = sum(a.own for a in found)
    st.caption(f"{len(found)} numbers stand behind the costs; {own} of them are the scenario's own.")
    with st.expander("What the badges mean", key="badges"):
        st.markdown("\n".join(f"- {badge}: {MEANING[kind]}" for kind, badge in BADGES.items()))


def _filtered(found: "tuple[Assumption, ...]") -> "list[Assumption]":
    with st.container(horizontal=True):
        words = address.words("Search", param="search", placeholder="electricity, price, staff …").lower()
        chosen = address.choices(
            "Evidence", [str(kind) for kind in BADGES], param="basis", default=(), show=lambda k: BADGES[Evidence(k)]
        )
    return [
        a
        for a in found
        if words in f"{a.name} {a.label} {a.source}".lower() and (not chosen or str(a.evidence) in chosen)
    ]


def _editor(view: View, listed: "list[Assumption]") -> None:
    if not listed:
        st.info("No assumption matches.")
        return
    frame = pd.DataFrame(
        [
            {"assumption": a.label, "value": a.value, "unit": a.unit, "costs that rest on it": a.present_value_usd,
             "evidence": BADGES[a.evidence], "days old": a.age_days, "own": a.own, "low": a.low, "high": a.high,
             "source": a.source, "input": a.name}
            for a in listed
        ]
    )  # fmt: skip
    st.caption("Edit a value: it is written into the scenario, and every page follows.")
    key = f"assumptions-{fingerprint(view.scenario, [a.name for a in listed])}"
    st.data_editor(
        frame,
        key=key,
        hide_index=True,
        disabled=[c for c in frame.columns if c != "value"],
        on_change=_edited,
        args=(view, [a.name for a in listed], key),
        alt="Assumptions behind the costs, those on which most money rests first",
        column_config={
            "value": st.column_config.NumberColumn("value (edit)", format="%.6g", required=True),
            "low": st.column_config.NumberColumn(format="%.4g"),
            "high": st.column_config.NumberColumn(format="%.4g"),
            "days old": st.column_config.NumberColumn(format="localized"),
            "costs that rest on it": st.column_config.NumberColumn("costs that rest on it ($)", format="compact"),
            "own": st.column_config.CheckboxColumn("own number"),
            "source": st.column_config.TextColumn(width="large"),
        },
    )
    table_downloads(frame, "assumptions")


def _edited(view: View, names: list[str], key: str) -> None:
    from envelope.plan.cost.assumptions import assumption_path

    for row, changed in st.session_state[key]["edited_rows"].items():
        if changed.get("value") is not None:
            edits.change(view.opened, assumption_path(names[int(row)]), float(changed["value"]))


def _stale(view: View) -> None:
    st.subheader("Prices that have become old")
    st.caption("List prices of the whole catalog. A negotiated price of your own goes into the table above.")
    days = int(
        address.number("Older than (days)", 30.0, 730.0, param="days", default=float(_OLD_DAYS), step=10.0, format="%d")
    )
    old = view.result(tasks.stale_prices, days, label="Ages of prices")
    st.markdown(f"{view.figures.count(len(old))} prices are older than {days} days.")
    if old:
        rows = [
            {"kind": a.kind, "price": a.id, "days": a.age_days, "date": a.date, "evidence": BADGES[a.evidence],
             "source": escaped(a.source)}
            for a in old
        ]  # fmt: skip
        show_table(pd.DataFrame(rows), "stale-prices")

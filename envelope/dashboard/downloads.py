"""Downloads: charts as pictures and data, tables as CSV and Parquet, the scenario, the cost files, the command."""

import io
from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st

from envelope.dashboard import tasks
from envelope.dashboard.figures import Figures
from envelope.dashboard.view import View
from envelope.report.charts.base import rows_of, skip_checks, with_separators
from envelope.report.charts.files import chart_image

_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_WHOLE_ROWS = 24
"""Rows of a table that is shown whole; a longer one scrolls."""
_FILES = {
    "tco.xlsx": ("Workbook (.xlsx)", _XLSX),
    "tco.pdf": ("Report (.pdf)", "application/pdf"),
    "tco.html": ("Report (.html)", "text/html"),
    "tco.json": ("All figures (.json)", "application/json"),
}


skip_checks()


def show_chart(chart: Any, name: str, data: pd.DataFrame | None = None) -> None:
    """Draw a chart over the page's width with its downloads below; ``name`` names files and keys.

    ``data`` is by default what the chart draws.

    The chart's ``description`` is its text alternative.
    """
    separators = Figures(st.context.locale or "en-US").separators
    st.altair_chart(with_separators(chart, *separators), width="stretch", key=f"chart-{name}")
    with st.popover("⬇ Chart", help="PNG, SVG and data of this chart", type="tertiary", key=f"download-{name}"):
        _button("PNG", lambda: chart_image(chart, "png", separators), f"{name}.png", "image/png")
        _button("SVG", lambda: chart_image(chart, "svg", separators), f"{name}.svg", "image/svg+xml")
        _table_buttons(pd.DataFrame(rows_of(chart)) if data is None else data, f"{name}-data")


def show_table(data: pd.DataFrame, name: str, *, shown: pd.DataFrame | None = None, **options: Any) -> None:
    """Draw a table with its downloads below; ``shown`` is the same table as people read it."""
    table = data if shown is None else shown
    options.setdefault("height", "content" if len(table) <= _WHOLE_ROWS else "auto")
    st.dataframe(table, hide_index=True, width="stretch", key=f"table-{name}", **options)
    table_downloads(data, name)


def table_downloads(data: pd.DataFrame, name: str) -> None:
    """Draw the downloads of a table alone."""
    with st.popover("⬇ Table", help="CSV and Parquet of this table", type="tertiary", key=f"download-{name}"):
        _table_buttons(data, name)


def page_downloads(view: View, command: str, *, costs: bool = False) -> None:
    """Draw the foot of a page: the scenario as YAML, the command that reproduces the page, the cost files.

    What is in it is drawn once it is opened.
    """
    foot = st.expander("Downloads and the command line of this page", key="page-downloads", on_change="rerun")
    if not foot.open:
        return
    with foot:
        st.code(command, language="bash")
        if view.opened.changed:
            st.caption(f"Download the scenario first: the command reads your changed {view.opened.name}.yaml.")
        _button("Scenario (.yaml)", view.opened.text, f"{view.opened.name}.yaml", "application/yaml")
        st.caption(f"scenario {view.key} · data {view.data_version}")
        if costs:
            _cost_files(view)


def scenario_argument(view: View) -> str:
    """Return what names the open scenario on the command line: its name, or the downloaded file if it is changed."""
    return f"{view.opened.name}.yaml" if view.opened.changed else view.opened.name


def _cost_files(view: View) -> None:
    files = view.background(
        tasks.cost_files, view.scenario, None, label="Workbook and reports", start="Prepare workbook and reports",
        key="cost-files", affinity="costs",
    )  # fmt: skip
    for name, content in (files or {}).items():
        label, mime = _FILES.get(name, (name, "text/csv"))
        _button(label, content, f"{view.opened.name}-{name}", mime)


def _table_buttons(data: pd.DataFrame, name: str) -> None:
    _button("CSV", lambda: data.to_csv(index=False), f"{name}.csv", "text/csv")
    _button("Parquet", lambda: _parquet(data), f"{name}.parquet", "application/vnd.apache.parquet")


def _parquet(data: pd.DataFrame) -> bytes:
    out = io.BytesIO()
    data.to_parquet(out, index=False)
    return out.getvalue()


def _button(label: str, data: str | bytes | Callable[[], str | bytes], file: str, mime: str) -> None:
    st.download_button(label, data, file_name=file, mime=mime, on_click="ignore", key=f"get-{file}")

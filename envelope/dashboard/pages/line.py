"""The line: the map of the cheapest feasible candidate over two freely chosen inputs."""

import math
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from envelope.dashboard import address, tasks
from envelope.dashboard.downloads import page_downloads, scenario_argument, show_chart, show_table
from envelope.dashboard.figures import escaped
from envelope.dashboard.jobs import fingerprint
from envelope.dashboard.view import View

if TYPE_CHECKING:
    from envelope.plan.frontier.axes import Axis
    from envelope.plan.frontier.map import Frontier

_X, _Y = "requests_per_day", "hard_share"


def page(view: View) -> None:
    """Draw the page."""
    st.title("The line between owning and renting")
    st.markdown(
        "The cheapest candidate that keeps every constraint, over two inputs. Where candidates are ruled out nothing "
        "is simulated; the rest is simulated at a few points and interpolated."
    )
    left, right = st.columns(2)
    with left:
        x = _axis("Across", "x", _X)
        x_range = _range(view, x, "x")
    with right:
        y = _axis("Upwards", "y", _Y)
        y_range = _range(view, y, "y")
    # A link to a map that was drawn draws it; another map waits for its button.
    mark = fingerprint(view.scenario, x, y, x_range, y_range)[:8]
    start = None if address.get("map") == mark else "Draw the map"
    found = view.background(
        tasks.frontier, view.scenario, x, y, (x_range, y_range), label="The map", start=start, key="frontier"
    )
    address.put("map", "" if found is None else mark)
    if found is not None:
        _map(view, found)
    ranges = "".join(f" --{name}-range {r[0]:g}:{r[1]:g}" for name, r in (("x", x_range), ("y", y_range)) if r)
    page_downloads(view, f"envelope frontier {scenario_argument(view)} --x {x} --y {y}{ranges}")


def _axis(label: str, param: str, default: str) -> str:
    from envelope.plan.frontier.axes import axis_names

    names = axis_names()
    wanted = address.get(param, default)
    about = "A short name of the list, or type the path of any number in the scenario, such as constraints.budget_usd, "
    about += "or the name of a cost input, such as pue_average."
    options = names if wanted in names else [*names, wanted]
    if st.session_state.get(param) is None:
        st.session_state[param] = wanted
    now = st.session_state[param]
    start = options.index(now) if now in options else 0
    chosen = str(st.selectbox(label, options, start, key=param, accept_new_options=True, help=about) or default)
    address.put(param, chosen)
    return chosen


def _range(view: View, name: str, param: str) -> tuple[float, float] | None:
    """Draw the ends of an axis; ``None`` while they are the axis' own. Raises ``InputError`` for an unknown axis."""
    from envelope.plan.frontier.axes import axis

    own: Axis = axis(view.scenario, name)
    st.caption(f"{own.label}: {view.figures.localised(f'{own.today:,.6g}')} today")
    low, high = st.columns(2)
    ends = [
        _end(column, label, value, f"{param}-{end}-{name}")
        for column, label, value, end in ((low, "from", own.low, "low"), (high, "to", own.high, "high"))
    ]
    if ends[0] is None and ends[1] is None:
        return None
    return (own.low if ends[0] is None else ends[0], own.high if ends[1] is None else ends[1])


def _end(column: Any, label: str, usual: float, param: str) -> float | None:
    """Draw one end of an axis, which stands in the address; ``None`` while it is the usual one."""
    if param not in st.session_state:
        st.session_state[param] = _number(address.get(param))
    now = st.session_state[param]
    value = column.number_input(label, value=now, placeholder=f"{usual:g}", key=param, format="%g", step=_step(usual))
    address.put(param, "" if value is None else f"{value:.6g}")
    return None if value is None else float(value)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _step(value: float) -> float:
    return abs(value) / 10 or 0.1


def _map(view: View, found: "Frontier") -> None:
    from envelope.report.charts.frontier import frontier_map

    names = {c.id: c.name for c in view.scenario.candidates}
    if found.line is not None:
        st.success(f"Own or rent: {escaped(view.figures.localised(found.line.text))}.")
    else:
        st.info("No line between owning and renting runs through this map.")
    show_chart(frontier_map(found, names), "frontier")
    st.caption(escaped(view.figures.localised(found.interpolated)) + ".")
    st.subheader("Regions")
    rows = [{"cheapest feasible": r.name, "share of the map": r.frac, "why": r.reason} for r in found.regions]
    shown = [{**row, "share of the map": view.figures.percent(float(str(row["share of the map"])))} for row in rows]
    show_table(pd.DataFrame(rows), "regions", shown=pd.DataFrame(shown))
    st.subheader("Where growth leads")
    path = [
        {
            "year": p.year + 1,
            found.x.label: p.x,
            found.y.label: p.y,
            "cheapest feasible": names.get(p.candidate or "", "nobody" if p.inside else "off the map"),
        }
        for p in found.path
    ]
    show_table(pd.DataFrame(path), "path")

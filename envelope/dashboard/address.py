"""The address of a view: what stands in the query of the page's URL, so that a link opens the same view.

Widgets are given their value twice: in the session, and as what they show at first. A browser that is still loading a
kind of widget when the page is drawn again never hears of the session's value, and would show the lowest one.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

LONGEST = 200
"""Characters of a value in an address at most."""
_KEPT, _WRITTEN, _USED = "address", "address-written", "address-used"
_RECENT, _TURNED = "address-recent", "address-turned"
_MOST_RECENT = 20
_ECHO_S = 2.0
"""Time in which a browser may still send what stood in the address before the last change."""


def read() -> None:
    """Adopt the URL's query if it is not what was written last: a link was opened, or Back was pressed.

    Without a query – a page was chosen in the navigation – what the session keeps stays; so it does if the browser had
    not yet heard of the last change when it sent the next.
    """
    query = {k: v[:LONGEST] for k, v in st.query_params.to_dict().items()}
    kept = st.session_state.setdefault(_KEPT, {})
    st.session_state[_USED] = set()
    turned = st.session_state.pop(_TURNED, False)
    if not query or query == st.session_state.get(_WRITTEN) or _is_echo(query, turned=turned):
        return
    if "scenario" in query:
        kept.clear()
    kept.update(query)
    for name in query:
        # A widget takes its value from the address again.
        st.session_state.pop(name, None)


def write() -> None:
    """Put what this run has used into the URL."""
    kept, used = st.session_state[_KEPT], st.session_state[_USED]
    query = {name: kept[name] for name in sorted(used) if kept.get(name)}
    if query != st.query_params.to_dict():
        st.query_params.from_dict(query)
    if query != st.session_state.get(_WRITTEN):
        recent = st.session_state.setdefault(_RECENT, [])
        recent.append((time.monotonic(), query))
        del recent[:-_MOST_RECENT]
    st.session_state[_WRITTEN] = query


def turn(name: str, value: str) -> None:
    """Set a value of the address in a callback of a widget: before the page is drawn anew."""
    put(name, value)
    st.session_state[_TURNED] = True


def _is_echo(query: dict[str, str], *, turned: bool) -> bool:
    """Return whether a query is one of this session's own, sent together with a newer change."""
    recent = st.session_state.get(_RECENT, [])
    if all(written != query for _, written in recent):
        return False
    return turned or time.monotonic() - recent[-1][0] < _ECHO_S


def get(name: str, default: str = "") -> str:
    """Return a value of the address."""
    st.session_state[_USED].add(name)
    return str(st.session_state[_KEPT].get(name, default))


def put(name: str, value: str) -> None:
    """Set a value of the address; an empty one takes it out."""
    st.session_state[_USED].add(name)
    st.session_state[_KEPT][name] = value


def choice(
    label: str,
    options: Sequence[str],
    *,
    param: str,
    default: str | None = None,
    show: Callable[[str], str] = str,
    help: str | None = None,
    place: Any = st,
) -> str:
    """Draw a select box whose value stands in the address as ``param`` and return the value.

    A value that is not among the options (the scenario has changed) gives way to ``default``, or the first.
    """
    _adopt(options, param, default)
    start = list(options).index(st.session_state[param])
    chosen = str(place.selectbox(label, options, start, format_func=show, key=param, help=help))
    put(param, chosen)
    return chosen


def part(label: str, options: Sequence[str], *, param: str, default: str | None = None) -> str:
    """Draw a row of buttons of which one is pressed, which stands in the address; as ``choice``."""
    _adopt(options, param, default)
    chosen = str(st.segmented_control(label, options, default=st.session_state[param], key=param, required=True))
    put(param, chosen)
    return chosen


def _adopt(options: Sequence[str], param: str, default: str | None) -> None:
    """Give a widget the value of the address, or the default if that is not among the options."""
    fallback = default if default in options else options[0]
    if st.session_state.get(param) not in options:
        wanted = get(param)
        st.session_state[param] = wanted if wanted in options else fallback


def choices(
    label: str, options: Sequence[str], *, param: str, default: Sequence[str], show: Callable[[str], str] = str
) -> list[str]:
    """Draw a box in which several options are chosen, which stand in the address with commas between; as ``choice``."""
    wanted = [name for name in get(param).split(",") if name in options] or [n for n in default if n in options]
    if any(name not in options for name in st.session_state.get(param, [""])):
        st.session_state[param] = wanted
    start = st.session_state[param]
    chosen = [str(name) for name in st.multiselect(label, options, start, format_func=show, key=param)]
    put(param, "" if chosen == list(default) else ",".join(chosen))
    return chosen


def words(label: str, *, param: str, **widget: Any) -> str:
    """Draw a box for a few words, which stand in the address as ``param``, and return them."""
    if param not in st.session_state:
        st.session_state[param] = get(param)
    text = str(st.text_input(label, st.session_state[param], key=param, max_chars=LONGEST, **widget) or "")
    put(param, text)
    return text


def number(label: str, low: float, high: float, *, param: str, default: float, **widget: Any) -> float:
    """Draw a slider whose value stands in the address as ``param`` and return the value."""
    if not low <= st.session_state.get(param, low - 1) <= high:
        st.session_state[param] = type(low)(min(max(_as_number(get(param), default), low), high))
    value = float(st.slider(label, low, high, st.session_state[param], key=param, **widget))
    put(param, "" if value == default else f"{value:.6g}")
    return value


def _as_number(text: str, default: float) -> float:
    try:
        value = float(text)
    except ValueError:
        return default
    return value if value == value else default

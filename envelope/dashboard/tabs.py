"""Tabs of which only the open one is worked out; the address keeps which one that is."""

from collections.abc import Callable, Mapping

import streamlit as st

from envelope.dashboard import address


def show_tabs(contents: Mapping[str, Callable[[], None]], *, param: str = "tab") -> None:
    """Draw tabs by title, the first at the start, and call what draws the open one.

    The title of the open tab stands in the address as ``param``.
    """
    titles, key = list(contents), f"tabs-{param}"
    wanted = address.get(param)
    start = wanted if wanted in titles else titles[0]
    if st.session_state.get(key) not in titles:
        st.session_state[key] = start
    for title, tab in zip(
        titles, st.tabs(titles, default=st.session_state[key], key=key, on_change="rerun"), strict=True
    ):
        with tab:
            if tab.open:
                address.put(param, "" if title == titles[0] else title)
                contents[title]()

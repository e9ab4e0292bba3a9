"""Who may see the dashboard: everybody, those who know the password, or those whom an identity provider names.

The secrets stand in Streamlit's ``secrets.toml``, never in session state or logs.
"""

import hmac
import time
from typing import Any

import streamlit as st
from streamlit.errors import StreamlitSecretNotFoundError

_WRONG_WAIT_S = 1.0
"""Pause after a wrong password, which makes guessing slow."""


def require_access() -> None:
    """Let the page go on only for a reader who may see it; draw the log-in otherwise.

    With a section ``[auth]`` in the secrets the identity provider (OIDC) decides, and ``allowed`` under ``[access]``
    lists addresses or domains such as ``@example.org``; with ``password`` under ``[access]`` the password does.
    """
    secrets = _secrets()
    rules = secrets.get("access", {})
    if "auth" in secrets:
        _require_login(tuple(rules.get("allowed", ())))
    elif rules.get("password"):
        _require_password(str(rules["password"]))


def may_measure() -> bool:
    """Return whether this reader may load the server itself with a probe.

    By default only somebody who sits at it, where no log-in says that it serves others; ``probe = true`` under
    ``[access]`` allows it to all who may see the dashboard.
    """
    secrets = _secrets()
    rules = secrets.get("access", {})
    if "probe" in rules:
        return bool(rules["probe"])
    shared = "auth" in secrets or bool(rules.get("password"))
    # Streamlit gives an address only for a connection from another machine.
    return not shared and not isinstance(st.context.ip_address, str)


def _secrets() -> Any:
    try:
        return dict(st.secrets)
    except StreamlitSecretNotFoundError:
        return {}


def _require_login(allowed: tuple[str, ...]) -> None:
    if not st.user.is_logged_in:
        st.title("🧭 envelope")
        if st.button("Log in", type="primary"):
            st.login()
        st.stop()
    address = str(st.user.get("email", "")).lower()
    # Without a verified address anybody could claim to be anybody.
    known = bool(address) and st.user.get("email_verified", True) is not False
    if allowed and not (known and any(_matches(address, rule.lower()) for rule in allowed)):
        st.error("This account is not on the list of those who may see this dashboard.")
        if st.button("Log out"):
            st.logout()
        st.stop()


def _matches(address: str, rule: str) -> bool:
    return address.endswith(rule) if rule.startswith("@") else address == rule


def _require_password(password: str) -> None:
    if st.session_state.get("access-granted"):
        return
    st.title("🧭 envelope")
    with st.form("access"):
        given = st.text_input("Password", type="password")
        sent = st.form_submit_button("Open")
    if sent and hmac.compare_digest(given.encode(), password.encode()):
        st.session_state["access-granted"] = True
        st.rerun()
    if sent:
        time.sleep(_WRONG_WAIT_S)
        st.error("That is not the password.")
    st.stop()

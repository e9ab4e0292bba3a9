"""Who may see the dashboard: a password or an identity provider decides, and nothing secret is kept in the session."""

from typing import Any

import pytest

pytest.importorskip("streamlit", reason="the dashboard's extra is not installed")
import streamlit as st
from opening import again

_PAGE = """
import streamlit as st
from envelope.dashboard.access import require_access
require_access()
st.write("inside")
"""
PASSWORD = "correct horse"
AUTH = {"redirect_uri": "https://example.org/oauth2callback", "cookie_secret": "c", "client_id": "i"}


class Someone(dict[str, Any]):
    """What ``st.user`` is: a mapping of claims that says whether anybody is logged in."""

    is_logged_in = True


class Nobody(Someone):
    is_logged_in = False


def opened(**secrets: Any) -> Any:
    from streamlit.testing.v1 import AppTest

    app = AppTest.from_string(_PAGE, default_timeout=60)
    for key, value in secrets.items():
        app.secrets[key] = value
    return again(app)


def inside(app: Any) -> bool:
    return any(part.value == "inside" for part in app.markdown)


def test_without_secrets_everybody_sees_the_page() -> None:
    assert inside(opened())


def test_a_password_opens_the_page_and_a_wrong_one_does_not() -> None:
    app = opened(access={"password": PASSWORD})
    assert not inside(app)
    app.text_input[0].set_value("battery staple")
    app.button[0].click()
    again(app)
    assert not inside(app)
    assert any("not the password" in error.value for error in app.error)
    app.text_input[0].set_value(PASSWORD)
    app.button[0].click()
    assert inside(again(app))
    # Asked once per session, and kept nowhere in it.
    assert inside(again(app))
    assert PASSWORD not in repr(app.session_state)


def test_nobody_logged_in_sees_the_way_to_the_identity_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(st, "user", Nobody())
    called: list[bool] = []
    monkeypatch.setattr(st, "login", lambda: called.append(True))
    app = opened(auth=AUTH)
    assert not inside(app)
    assert [button.label for button in app.button] == ["Log in"]
    app.button[0].click()
    again(app)
    assert called


@pytest.mark.parametrize(
    ("claims", "allowed", "may"),
    [
        ({"email": "Ada@Example.org"}, ["@example.org"], True),
        ({"email": "ada@example.org", "email_verified": True}, ["ada@example.org"], True),
        ({"email": "ada@example.org", "email_verified": False}, ["@example.org"], False),
        ({"email": "ada@evil-example.org"}, ["@example.org"], False),
        ({"email": "ada@example.org.evil.net"}, ["@example.org"], False),
        ({}, ["@example.org"], False),
        ({"email": "ada@elsewhere.net"}, [], True),
    ],
)
def test_only_listed_and_verified_addresses_get_in(
    claims: dict[str, Any], allowed: list[str], may: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(st, "user", Someone(claims))
    app = opened(auth=AUTH, access={"allowed": allowed})
    assert inside(app) == may
    assert any("not on the list" in error.value for error in app.error) != may


def test_an_identity_provider_comes_before_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(st, "user", Nobody())
    app = opened(auth=AUTH, access={"password": PASSWORD})
    assert not app.text_input
    assert not inside(app)

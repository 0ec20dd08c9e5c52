"""Signing in with a provider that others wrote, in a process of its own, with plain HTTP and in a real browser."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pyotp
import pytest
import requests
from flask import Flask
from werkzeug.serving import make_server

from tests.admin.conftest import Browser, _quickly, user_of
from tests.admin.test_second_factor import SECRET
from tests.fakes.ports import free_port

ANA = {"preferred_username": "ana", "email": "ana@example.test", "groups": ["platform-admins"]}


@pytest.fixture
def provider() -> Iterator[str]:
    """The address of a provider that knows Ana; ended with the test."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "-p", str(port), "--require-nonce", "true"]
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    process = subprocess.Popen(command, env=kept, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end_s = time.monotonic() + 90
        while True:
            try:
                requests.put(f"{url}/users/ana-1", json=ANA, timeout=10).raise_for_status()
                break
            except requests.ConnectionError:
                assert process.poll() is None, "the provider ended"
                assert time.monotonic() < end_s, "the provider did not answer"
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def acme(make_app: Callable[..., Flask], sqlite_database: str, provider: str) -> Flask:
    registered = requests.post(
        f"{provider}/oauth2/clients", json={"redirect_uris": ["http://localhost/admin/openid/callback"]}, timeout=30
    ).json()
    settings = {
        "OIDC_ISSUER": provider,
        "OIDC_CLIENT_ID": registered["client_id"],
        "OIDC_CLIENT_SECRET": registered["client_secret"],
        "OIDC_NAME": "Acme",
        "OIDC_ROLES": "platform-admins=admin",
        "OIDC_CREATE_USERS": "true",
    }
    return _quickly(make_app(sqlite_database, **settings))


def at_provider(url: str, **form: str) -> str:
    """What somebody does there; returns where their browser is sent."""
    answer = requests.post(url, data=form, allow_redirects=False, timeout=30)
    assert answer.status_code == 302, answer.text
    return answer.headers["location"]


def local(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def test_there_and_back_with_plain_http(acme: Flask, provider: str) -> None:
    browser = Browser(acme)
    back = at_provider(browser.get("/admin/openid/start?next=/admin/users/").location, sub="ana-1")
    answer = browser.get(local(back))
    assert (answer.status_code, answer.location) == (303, "/admin/users/")
    assert browser.get("/admin/users/").status_code == 200
    found = user_of(acme, "ana")
    assert found is not None
    assert found.role == "admin"
    assert browser.get(local(back)).status_code == 401  # the same address again
    requests.put(f"{provider}/users/ana-1", json=ANA | {"groups": []}, timeout=30).raise_for_status()
    again = Browser(acme)
    again.get(local(at_provider(again.get("/admin/openid/start").location, sub="ana-1")))
    assert again.get("/admin/").location == "/portal/"


def test_somebody_who_says_no_there_is_told_here(acme: Flask) -> None:
    browser = Browser(acme)
    answer = browser.get(local(at_provider(browser.get("/admin/openid/start").location, action="deny")))
    # This provider leaves the state out when somebody refuses, so nobody can tell whose refusal it is.
    assert answer.status_code == 401
    assert "Sign in with Acme" in answer.text
    assert browser.get("/admin/").status_code == 302


@pytest.mark.timeout(180)
def test_there_and_back_in_a_real_browser_with_a_second_factor(
    panel_chromium: Any, make_app: Callable[..., Flask], sqlite_database: str, provider: str
) -> None:
    settings = {
        "OIDC_ISSUER": provider,
        "OIDC_CLIENT_ID": "anybody",  # this provider takes every client that has not registered
        "OIDC_CLIENT_SECRET": "any secret",
        "OIDC_NAME": "Acme",
        "OIDC_ROLES": "platform-admins=admin",
        "OIDC_CREATE_USERS": "true",
        "REQUIRE_SECOND_FACTOR": "admins",
    }
    app = _quickly(make_app(sqlite_database, **settings))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    context = panel_chromium.new_context(base_url=f"http://127.0.0.1:{server.server_port}")
    context.route("https://**", lambda route: route.abort())  # what the provider's pages load from elsewhere
    try:
        _walk(context.new_page(), provider)
    finally:
        context.close()
        server.shutdown()
        thread.join()
        server.server_close()


def _walk(page: Any, provider: str) -> None:
    """Sign in at the provider, set up a second factor, sign out on both sides, sign in again with a code."""
    page.goto("/admin/users/")
    page.get_by_role("link", name="Sign in with Acme").click()
    page.wait_for_url(f"{provider}/**")
    page.fill("input[name=sub]", "ana-1")
    page.get_by_role("button", name="Authorize").click()
    page.wait_for_url("**/admin/second-factor")
    page.get_by_role("button", name="Set up").click()
    page.get_by_role("img", name="QR code with the secret below").wait_for()
    found = SECRET.search(page.content())
    assert found is not None
    page.get_by_role("textbox", name="Code").fill(pyotp.TOTP(found[1]).now())
    page.get_by_role("button", name="Confirm").click()
    page.get_by_role("heading", name="Recovery codes").wait_for()
    recovery = page.locator("#codes").inner_text().split()
    assert len(recovery) == 10
    page.get_by_role("link", name="I have kept them").click()
    page.goto("/admin/users/")
    assert page.get_by_role("link", name="ana", exact=True).is_visible()
    page.get_by_role("button", name="Account and appearance").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{provider}/oauth2/end_session**")
    page.goto("/admin/")
    page.get_by_role("link", name="Sign in with Acme").click()
    page.fill("input[name=sub]", "ana-1")
    page.get_by_role("button", name="Authorize").click()
    page.wait_for_url("**/admin/login/code")
    page.get_by_role("textbox", name="Code").fill(recovery[0])
    page.get_by_role("button", name="Go on").click()
    page.wait_for_url("**/admin/")
    page.get_by_text("9 are left").wait_for()

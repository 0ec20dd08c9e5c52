"""Small words of the tests about signing in with a provider."""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from flask import Flask
from werkzeug.test import TestResponse

from models import AuditEntry
from tests.admin.conftest import Browser, _quickly, rows_of
from tests.fakes.openid import CLIENT, SECRET, OpenIdProvider

START, CALLBACK = "/admin/openid/start", "/admin/openid/callback"


def make(make_app: Callable[..., Flask], database: str, provider: OpenIdProvider, **environ: str) -> Flask:
    """An app whose people may sign in there."""
    settings = {"OIDC_ISSUER": provider.url, "OIDC_CLIENT_ID": CLIENT, "OIDC_CLIENT_SECRET": SECRET}
    return _quickly(make_app(database, **settings | {"OIDC_NAME": "Acme", "OIDC_CREATE_USERS": "true"} | environ))


def begin(browser: Browser, **query: str) -> dict[str, str]:
    """Go to the provider; returns what it is asked."""
    answer = browser.get(START, query_string=query)
    assert answer.status_code == 302, answer.text
    return dict(parse_qsl(urlsplit(answer.location).query))


def come_back(browser: Browser, **query: str) -> TestResponse:
    return browser.get(CALLBACK, query_string=query)


def sign_in(browser: Browser, provider: OpenIdProvider, **claims: Any) -> TestResponse:
    """The whole way, with these claims."""
    begun = begin(browser)
    code = provider.offer(provider.sign(provider.claims(begun["nonce"], **claims)))
    return come_back(browser, code=code, state=begun["state"])


def told(app: Flask) -> list[tuple[str, str, dict[str, Any]]]:
    """What the audit log has."""
    return [(row.action, row.actor, row.details) for row in rows_of(app, AuditEntry)]

"""Signing in with an OpenID provider under attack, and when the provider fails: nobody gets in, nothing leaks."""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from models import Identity
from tests.admin.conftest import Browser, user_of
from tests.admin.openid import CALLBACK, START, begin, come_back, make, sign_in, told
from tests.admin.test_signin import BAD_TARGETS, saved_cookie, with_cookie
from tests.fakes.openid import CLIENT, SECRET, OpenIdProvider, jwk, public_pem
from utils import clock

MakeApp = Callable[..., Flask]
Forge = Callable[[OpenIdProvider, str], str | None]


@pytest.fixture
def provider() -> Iterator[OpenIdProvider]:
    server = OpenIdProvider()
    yield server
    server.stop()


@pytest.fixture
def acme(make_app: MakeApp, sqlite_database: str, provider: OpenIdProvider) -> Flask:
    return make(make_app, sqlite_database, provider)


def nobody_got_in(app: Flask, browser: Browser) -> None:
    assert browser.get("/admin/").status_code == 302
    assert user_of(app, "ana") is None
    with Session(app.extensions["gateway"].engine) as session:
        assert session.query(Identity).count() == 0


def changed(**claims: Any) -> Forge:
    return lambda provider, nonce: provider.sign(provider.claims(nonce, **claims))


def unsigned(**header: Any) -> Forge:
    return lambda provider, nonce: provider.forge({"kid": "one", **header}, provider.claims(nonce))


def signed_with(secret: Callable[[], bytes]) -> Forge:
    return lambda provider, nonce: provider.forge({"alg": "HS256", "kid": "one"}, provider.claims(nonce), secret())


def with_another_signature(provider: OpenIdProvider, nonce: str) -> str:
    good, other = provider.sign(provider.claims(nonce, sub="other")), provider.sign(provider.claims(nonce))
    return f"{other.rsplit('.', 1)[0]}.{good.rsplit('.', 1)[1]}"


NOW = int(time.time())
FORGED: dict[str, Forge] = {
    "no signature": unsigned(alg="none"),
    "no signature, in capitals": unsigned(alg="NONE"),
    "no algorithm": unsigned(),
    "the public key as a secret": signed_with(lambda: public_pem("one")),
    "the public key as a secret, stripped": signed_with(lambda: public_pem("one").strip()),
    "the client's secret": signed_with(SECRET.encode),
    "an empty secret": signed_with(lambda: b""),
    "another signature": with_another_signature,
    "another key under the same name": lambda provider, nonce: provider.sign(provider.claims(nonce), "evil", kid="one"),
    "its own key in the header": lambda provider, nonce: provider.sign(
        provider.claims(nonce), "evil", kid="evil", jwk=jwk("evil"), jku=f"{provider.url}/evil"
    ),
    "for somebody else": changed(aud="another-client"),
    "for nobody": changed(aud=None),
    "for a list without us": changed(aud=["a", "b"]),
    "for us and others, by nobody": changed(aud=[CLIENT, "other"]),
    "for us and others, by another": changed(aud=[CLIENT, "other"], azp="other"),
    "for us, by another": changed(azp="other"),
    "from another issuer": changed(iss="https://evil.test"),
    "from almost the issuer": lambda provider, nonce: provider.sign(provider.claims(nonce, iss=f"{provider.url}/")),
    "from nobody": changed(iss=None),
    "ended": changed(iat=NOW - 900, exp=NOW - 600),
    "without an end": changed(exp=None),
    "with an end that is text": changed(exp="soon"),
    "without a beginning": changed(iat=None),
    "of tomorrow": changed(iat=NOW + 86_400, exp=NOW + 90_000),
    "not yet good": changed(nbf=NOW + 86_400),
    "with another nonce": changed(nonce="another"),
    "without a nonce": changed(nonce=None),
    "without a subject": changed(sub=None),
    "with an empty subject": changed(sub=""),
    "with a number as subject": changed(sub=7),
    "with a long subject": changed(sub="x" * 256),
    "with a subject nobody can see": changed(sub="a\x00b"),
    "with another access token": changed(at_hash="AAAAAAAAAAAAAAAAAAAAAA"),
    "no token": lambda _provider, _nonce: None,
    "no JWT": lambda _provider, _nonce: "not.a.token",
    "claims that are a list": lambda provider, _nonce: provider.sign_bytes(b"[1]"),
    "claims that are no JSON": lambda provider, _nonce: provider.sign_bytes(b"\xff{"),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_token_that_proves_nothing_opens_nothing(
    acme: Flask, provider: OpenIdProvider, forge: Forge, caplog: pytest.LogCaptureFixture
) -> None:
    browser = Browser(acme)
    begun = begin(browser)
    code = provider.offer(forge(provider, begun["nonce"]))
    with caplog.at_level(logging.DEBUG):
        answer = come_back(browser, code=code, state=begun["state"])
    assert answer.status_code == 401
    assert "cannot be trusted" in answer.text
    assert "Sign in with Acme" in answer.text  # the way back
    nobody_got_in(acme, browser)
    assert told(acme)[-1] == ("login_failed", "openid", {"with": "openid", "reason": "untrusted"})
    said = caplog.text + answer.text
    assert "an OpenID sign-in was refused" in caplog.text
    for secret in ("at-canary", code, SECRET, "eyJ", begun["nonce"]):
        assert secret not in said


@pytest.mark.parametrize(
    "claims", [{"aud": [CLIENT]}, {"aud": [CLIENT, "other"], "azp": CLIENT}, {"exp": NOW - 20}, {"iat": NOW + 20}]
)
def test_what_is_unusual_and_good_opens(acme: Flask, provider: OpenIdProvider, claims: dict[str, Any]) -> None:
    late_s = int(time.time()) - NOW  # since the tests were collected
    claims = {name: value + late_s if isinstance(value, int) else value for name, value in claims.items()}
    assert sign_in(Browser(acme), provider, **claims).status_code == 303


def refused(answer: Any) -> None:
    assert answer.status_code == 401
    assert "Please begin again" in answer.text


def test_a_state_is_for_the_browser_that_began(acme: Flask, provider: OpenIdProvider) -> None:
    attacker, victim = Browser(acme), Browser(acme)
    begun = begin(attacker)
    begin(victim)
    code = provider.offer(provider.sign(provider.claims(begun["nonce"])))
    refused(come_back(victim, code=code, state=begun["state"]))
    refused(come_back(victim, code=code, state="made-up"))
    refused(come_back(victim, code=code))
    nobody_got_in(acme, victim)
    assert provider.count("/token") == 0


def test_an_address_to_come_back_to_is_good_once(acme: Flask, provider: OpenIdProvider) -> None:
    browser = Browser(acme)
    begun = begin(browser)
    thief = with_cookie(acme, saved_cookie(browser))
    code = provider.offer(provider.sign(provider.claims(begun["nonce"])))
    assert come_back(browser, code=code, state=begun["state"]).status_code == 303
    provider.offer(provider.sign(provider.claims(begun["nonce"])))
    refused(come_back(Browser(acme), code=code, state=begun["state"]))
    refused(come_back(thief, code=code, state=begun["state"]))  # the cookie as it was before
    assert thief.get("/admin/").status_code == 302
    assert provider.count("/token") == 1


def test_a_code_is_good_once(acme: Flask, provider: OpenIdProvider) -> None:
    code = "code-1"
    sign_in(Browser(acme), provider)
    browser = Browser(acme)
    begun = begin(browser)
    answer = come_back(browser, code=code, state=begun["state"])
    assert answer.status_code == 401
    assert "did not let you in" in answer.text


def test_it_may_not_take_too_long(acme: Flask, provider: OpenIdProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser(acme)
    begun = begin(browser)
    now = clock.now_s()
    monkeypatch.setattr(clock, "now_s", lambda: now + 601)
    refused(come_back(browser, code=provider.offer(None), state=begun["state"]))


def test_an_answer_of_another_issuer_is_not_taken(acme: Flask, provider: OpenIdProvider) -> None:
    for query, status in (({"iss": "https://evil.test"}, 401), ({}, 303), ({"iss": provider.url}, 303)):
        browser = Browser(acme)
        begun = begin(browser)
        code = provider.offer(provider.sign(provider.claims(begun["nonce"])))
        assert come_back(browser, code=code, state=begun["state"], **query).status_code == status
    provider.metadata["authorization_response_iss_parameter_supported"] = True
    fresh = Browser(acme)
    acme.extensions["gateway"].openid._metadata = None
    begun = begin(fresh)
    assert come_back(fresh, code="x", state=begun["state"]).status_code == 401


def test_nobody_is_sent_anywhere_else_afterwards(acme: Flask, provider: OpenIdProvider) -> None:
    for target in BAD_TARGETS[::3]:
        browser = Browser(acme)
        begun = begin(browser, next=target)
        code = provider.offer(provider.sign(provider.claims(begun["nonce"])))
        assert come_back(browser, code=code, state=begun["state"]).location == "/admin/", repr(target)


@pytest.mark.parametrize("error", ["access_denied", "server_error", "login_required", "<script>\r\nx: y"])
def test_what_the_provider_refuses_is_said(acme: Flask, provider: OpenIdProvider, error: str) -> None:
    browser = Browser(acme)
    begun = begin(browser)
    answer = come_back(browser, error=error, error_description="<b>canary</b>", state=begun["state"])
    assert answer.status_code == 401
    assert "did not let you in" in answer.text
    assert "canary" not in answer.text
    assert "Sign in with Acme" in answer.text
    reason = told(acme)[-1][2]["reason"]
    assert reason == (error if error.replace("_", "").isalpha() else "an unknown error")
    assert provider.count("/token") == 0


OFF: dict[str, tuple[int, bytes]] = {
    "an error": (500, b"boom"),
    "a page": (200, b"<html>"),
    "a list": (200, b"[]"),
    "a redirect": (302, b""),
    "too much": (200, b'{"a": "' + b"x" * 9_000_000 + b'"}'),
}


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/keys", "/token"])
@pytest.mark.parametrize("raw", OFF.values(), ids=OFF)
def test_a_provider_that_fails_is_said(
    acme: Flask, provider: OpenIdProvider, path: str, raw: tuple[int, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    browser = Browser(acme)
    provider.raw[path] = raw
    answer = browser.get(START)
    if path != "/.well-known/openid-configuration":
        assert answer.status_code == 302
        state = answer.location.partition("state=")[2].partition("&")[0]
        nonce = answer.location.partition("nonce=")[2].partition("&")[0]
        answer = come_back(browser, code=provider.offer(provider.sign(provider.claims(nonce))), state=state)
    assert answer.status_code == 502
    assert "cannot be reached at the moment" in answer.text
    assert "Sign in with Acme" in answer.text
    assert "Traceback" not in answer.text + caplog.text
    assert provider.count("/elsewhere") == 0
    nobody_got_in(acme, browser)
    provider.raw.clear()
    assert sign_in(Browser(acme), provider).status_code == 303  # what failed is not kept


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.test"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": None},
        {"token_endpoint": "file:///etc/passwd"},
        {"jwks_uri": 7},
        {"end_session_endpoint": "data:text/html,x"},
    ],
)
def test_what_it_publishes_must_be_usable(acme: Flask, provider: OpenIdProvider, metadata: dict[str, Any]) -> None:
    provider.metadata |= metadata
    assert Browser(acme).get(START).status_code == 502


def test_a_provider_that_is_away_is_said(make_app: MakeApp, sqlite_database: str, provider: OpenIdProvider) -> None:
    app = make(make_app, sqlite_database, provider, OIDC_ISSUER="http://127.0.0.1:1")
    assert Browser(app).get(START).status_code == 502


def test_addresses_of_the_provider_are_checked(acme: Flask, provider: OpenIdProvider) -> None:
    provider.metadata["token_endpoint"] = "http://169.254.169.254/token"  # the metadata of clouds
    assert sign_in(Browser(acme), provider).status_code == 502
    provider.metadata["jwks_uri"] = "http://169.254.169.254/keys"
    acme.extensions["gateway"].openid._metadata = None
    provider.metadata["token_endpoint"] = f"{provider.url}/token"
    assert sign_in(Browser(acme), provider).status_code == 502


def test_tries_are_counted(acme: Flask, provider: OpenIdProvider) -> None:
    answers = []
    for _ in range(7):
        browser = Browser(acme)
        begun = begin(browser)
        answers.append(come_back(browser, code="wrong", state=begun["state"]))
    assert [answer.status_code for answer in answers[:5]] == [401] * 5
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert provider.count("/token") < 7


def test_junk_leaves_no_entries(acme: Flask) -> None:
    before = len(told(acme))
    for _ in range(3):
        Browser(acme).get(CALLBACK, query_string={"state": "x", "code": "y"})
    assert len(told(acme)) == before


def test_the_secret_is_shown_nowhere(acme: Flask, provider: OpenIdProvider) -> None:
    from services import docs

    sign_in(Browser(acme), provider)
    config = acme.extensions["gateway"].config
    assert SECRET not in docs.shown(config)
    assert "OIDC_CLIENT_SECRET=••••6789" in docs.shown(config)
    assert SECRET in config.secrets
    assert SECRET not in repr(config)
    admin = Browser(acme, "admin")
    for path in ("/admin/account", "/admin/configs/", "/admin/audit/"):
        assert SECRET not in admin.get(path).text

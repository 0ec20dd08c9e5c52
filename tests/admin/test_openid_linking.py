"""Linking an account that is here with an identity elsewhere: only by whoever is signed in to it, and knowingly."""

from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from sqlalchemy import update
from sqlalchemy.orm import Session

from models import User
from tests.admin.conftest import Browser, add_user, user_of
from tests.admin.openid import begin, come_back, make, sign_in, told
from tests.admin.test_signin import saved_cookie, with_cookie
from tests.conftest import PASSWORD
from tests.fakes.openid import OpenIdProvider

LINK = "/admin/openid/link"


@pytest.fixture
def provider() -> Iterator[OpenIdProvider]:
    server = OpenIdProvider()
    yield server
    server.stop()


@pytest.fixture
def acme(make_app: Callable[..., Flask], sqlite_database: str, provider: OpenIdProvider) -> Flask:
    return make(make_app, sqlite_database, provider)


def return_to_link(browser: Browser, provider: OpenIdProvider, **claims: str) -> str:
    """Back from the provider, before the account is linked; returns where that leads."""
    begun = begin(browser, link="1")
    code = provider.offer(provider.sign(provider.claims(begun["nonce"], **claims)))
    return str(come_back(browser, code=code, state=begun["state"]).location)


def test_an_account_is_linked_used_and_unlinked(acme: Flask, provider: OpenIdProvider) -> None:
    browser = Browser(acme, "admin")
    assert "Not linked" in browser.get("/admin/account").text
    assert return_to_link(browser, provider) == LINK
    page = browser.get(LINK).text
    assert "At Acme you are ana" in page
    assert browser.post(LINK, {"password": "wrong"}).status_code == 401
    assert browser.post(LINK, {"password": PASSWORD}).location == "/admin/account"
    assert "1234" in browser.get("/admin/account").text
    other = Browser(acme)
    assert sign_in(other, provider).status_code == 303
    assert "admin" in other.get("/admin/account").text
    assert other.get("/admin/users/").status_code == 200
    assert user_of(acme, "ana") is None
    assert browser.post("/admin/openid/unlink").location == "/admin/account"
    assert [action for action, *_rest in told(acme) if action.startswith("identity")] == [
        "identity_link",
        "identity_unlink",
    ]
    assert sign_in(Browser(acme), provider).status_code == 303  # somebody of their own now
    assert user_of(acme, "ana") is not None


def test_nothing_is_linked_without_a_form_of_ours(acme: Flask, provider: OpenIdProvider) -> None:
    browser = Browser(acme, "admin")
    return_to_link(browser, provider)
    assert browser.client.post(LINK, data={"password": PASSWORD}).status_code == 400
    assert "Not linked" in browser.get("/admin/account").text


def test_a_stranger_cannot_begin_to_link(acme: Flask) -> None:
    answer = Browser(acme).get("/admin/openid/start?link=1")
    assert answer.location.startswith("/admin/login?next=")


def test_what_one_began_somebody_else_does_not_end(acme: Flask, provider: OpenIdProvider) -> None:
    add_user(acme, "bob", role="admin")
    browser = Browser(acme, "admin")
    begun = begin(browser, link="1")
    browser.enter("bob")
    code = provider.offer(provider.sign(provider.claims(begun["nonce"])))
    assert come_back(browser, code=code, state=begun["state"]).location == "/admin/account"
    assert browser.get(LINK).location == "/admin/account"
    browser.enter("admin")
    return_to_link(browser, provider)
    bob = with_cookie(acme, saved_cookie(browser))
    bob.enter("bob")
    assert bob.post(LINK, {"password": PASSWORD}).location == "/admin/account"
    assert "Not linked" in bob.get("/admin/account").text


def test_an_identity_belongs_to_one_account_and_an_account_has_one(acme: Flask, provider: OpenIdProvider) -> None:
    sign_in(Browser(acme), provider)  # makes the user `ana`
    browser = Browser(acme, "admin")
    return_to_link(browser, provider)
    answer = browser.post(LINK, {"password": PASSWORD})
    assert answer.status_code == 409
    assert "linked with another account" in answer.text
    return_to_link(browser, provider, sub="5678")
    assert browser.post(LINK, {"password": PASSWORD}).status_code == 303
    return_to_link(browser, provider, sub="9999")
    assert "linked already" in browser.post(LINK, {"password": PASSWORD}).text


@pytest.mark.parametrize("name", ["\ud800", "a\x00b", "<script>x</script>", "%(name)s {{ 7*7 }}", "n" * 5000])
def test_a_name_of_the_provider_is_only_shown(acme: Flask, provider: OpenIdProvider, name: str) -> None:
    browser = Browser(acme, "admin")
    assert return_to_link(browser, provider, preferred_username=name) == LINK
    page = browser.get(LINK)
    assert page.status_code == 200
    assert "<script>x" not in page.text
    assert "49" not in page.text.partition("you are")[2].partition(".")[0]
    assert sign_in(Browser(acme), provider, preferred_username=name).status_code == 303


def test_whoever_has_no_password_keeps_the_link(acme: Flask, provider: OpenIdProvider) -> None:
    browser = Browser(acme)
    sign_in(browser, provider)
    browser.get("/admin/account")
    page = browser.post("/admin/openid/unlink", follow_redirects=True)
    assert "could not sign in any more" in page.text
    assert sign_in(Browser(acme), provider).status_code == 303


def test_a_linked_account_that_must_change_its_password_changes_it_first(acme: Flask, provider: OpenIdProvider) -> None:
    with Session(acme.extensions["gateway"].engine) as session, session.begin():
        session.execute(update(User).where(User.username == "admin").values(must_change_password=True))
    browser = Browser(acme, "admin")
    assert browser.get("/admin/openid/start?link=1").location == "/admin/"

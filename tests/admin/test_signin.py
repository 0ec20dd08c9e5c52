"""Signing in and out, one's own password, and where one may be sent afterwards."""

from urllib.parse import urlsplit

import pytest
from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import AuditEntry, User, WebSession
from tests.admin.conftest import Browser, add_user, rows_of, user_of
from tests.conftest import PASSWORD
from tests.helpers import AUTH

NEW_PASSWORD = "another horse battery"


def actions(app: Flask) -> list[tuple[str, str]]:
    return [(row.action, row.actor) for row in rows_of(app, AuditEntry)]


def test_the_right_password_opens_the_panel(panel_app: Flask) -> None:
    browser = Browser(panel_app)
    answer = browser.sign_in("admin", PASSWORD)
    assert (answer.status_code, answer.location) == (303, "/admin/")
    assert browser.get("/admin/").status_code == 200
    assert ("login_success", "admin") in actions(panel_app)


def test_a_wrong_password_says_so_and_is_noted(panel_app: Flask) -> None:
    answer = Browser(panel_app).sign_in("admin", "wrong")
    assert answer.status_code == 401
    assert "Incorrect username or password" in answer.text
    assert "wrong" not in answer.text
    assert ("login_failed", "admin") in actions(panel_app)


def test_an_unknown_name_gets_the_same_page(panel_app: Flask) -> None:
    known, unknown = Browser(panel_app).sign_in("admin", "wrong"), Browser(panel_app).sign_in("nimda", "wrong")
    assert unknown.status_code == known.status_code
    assert "Incorrect username or password" in unknown.text


def test_too_many_tries_say_how_long_to_wait(panel_app: Flask) -> None:
    browser = Browser(panel_app)
    answers = [browser.sign_in("nobody", "x") for _ in range(8)]
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert f"wait {answers[-1].headers['retry-after']} s" in answers[-1].text


def test_the_session_is_a_new_one_after_signing_in(panel_app: Flask) -> None:
    browser = Browser(panel_app)
    browser.get("/admin/login")
    with browser.client.session_transaction("/admin/") as cookie:
        cookie["planted"] = "by somebody else"
    browser.sign_in("admin", PASSWORD)
    with browser.client.session_transaction("/admin/") as cookie:
        assert "planted" not in cookie
        assert not cookie.permanent


def test_the_cookie_holds_no_user_id_and_the_database_only_a_digest(panel_app: Flask) -> None:
    browser = Browser(panel_app)
    browser.sign_in("admin", PASSWORD)
    with browser.client.session_transaction("/admin/") as cookie:
        token = cookie["_user_id"]
    assert len(token) >= 32
    with Session(browser.gateway.engine) as session:
        assert token not in session.scalars(select(WebSession.digest)).all()


def test_the_cookie_is_for_this_site_and_no_script(panel_app: Flask) -> None:
    answer = Browser(panel_app).sign_in("admin", PASSWORD)
    (cookie,) = [line for line in answer.headers.getlist("set-cookie") if line.startswith("admin_session=")]
    assert {"HttpOnly", "Path=/", "SameSite=Lax"} <= set(cookie.split("; "))
    assert "Secure" not in cookie  # in the tests' environment there is no TLS
    panel_app.config["SESSION_COOKIE_SECURE"] = True
    assert "; Secure" in Browser(panel_app).sign_in("admin", PASSWORD).headers["set-cookie"]


def saved_cookie(browser: Browser) -> str:
    cookie = browser.client.get_cookie("admin_session")
    assert cookie is not None
    return cookie.value


def with_cookie(app: Flask, value: str) -> Browser:
    browser = Browser(app)
    browser.client.set_cookie("admin_session", value)
    return browser


def test_signing_out_kills_a_saved_cookie(panel_app: Flask) -> None:
    browser = Browser(panel_app, "admin")
    assert browser.get("/admin/").status_code == 200
    thief = with_cookie(panel_app, saved_cookie(browser))
    assert thief.get("/admin/").status_code == 200
    assert browser.post("/admin/logout").location == "/admin/login"
    assert thief.get("/admin/").status_code == 302
    assert browser.get("/admin/").status_code == 302


def test_signing_out_takes_a_post(panel_admin: Browser) -> None:
    assert panel_admin.get("/admin/logout").status_code in (404, 405)
    assert panel_admin.get("/admin/").status_code == 200


def change(browser: Browser, current: str = PASSWORD, new: str = NEW_PASSWORD, again: str = NEW_PASSWORD) -> int:
    return browser.post("/admin/password", {"current": current, "new": new, "again": again}).status_code


def test_a_new_password_kills_a_saved_cookie_and_keeps_this_browser(panel_app: Flask) -> None:
    browser = Browser(panel_app, "admin")
    thief = with_cookie(panel_app, saved_cookie(browser))
    assert change(browser) == 303
    assert thief.get("/admin/").status_code == 302
    assert browser.get("/admin/").status_code == 200
    assert Browser(panel_app).sign_in("admin", PASSWORD).status_code == 401
    assert Browser(panel_app).sign_in("admin", NEW_PASSWORD).status_code == 303
    assert ("password_change", "admin") in actions(panel_app)


@pytest.mark.parametrize(
    ("current", "new", "again"),
    [
        pytest.param("wrong", NEW_PASSWORD, NEW_PASSWORD, id="the current one is wrong"),
        pytest.param(PASSWORD, NEW_PASSWORD, "different", id="the new ones differ"),
        pytest.param(PASSWORD, "short", "short", id="too short"),
        pytest.param(PASSWORD, "", "", id="empty"),
    ],
)
def test_a_password_is_not_changed(panel_app: Flask, current: str, new: str, again: str) -> None:
    browser = Browser(panel_app, "admin")
    before = user_of(panel_app, "admin")
    assert change(browser, current, new, again) == 422
    after = user_of(panel_app, "admin")
    assert before is not None
    assert after is not None
    assert after.password_hash == before.password_hash


def test_whoever_must_change_the_password_sees_nothing_else(panel_app: Flask) -> None:
    add_user(panel_app, "fresh", role="admin", must_change_password=True)
    browser = Browser(panel_app, "fresh")
    for path in ("/admin/", "/admin/users/", "/admin/keys/new/"):
        assert browser.get(path).location == "/admin/password"
    refused = browser.post("/admin/keys/new/", {"name": "sneaky", "owner": "fresh", "scope": "all"})
    assert refused.location == "/admin/password"
    assert change(browser) == 303
    assert browser.get("/admin/").status_code == 200


def test_others_than_admins_are_told_so_and_can_sign_out(panel_app: Flask) -> None:
    add_user(panel_app, "ana")
    browser = Browser(panel_app)
    assert browser.sign_in("ana", PASSWORD).location == "/admin/"
    assert browser.get("/admin/").location == "/portal/"
    assert browser.get("/portal/").status_code == 200
    answer = browser.get("/admin/users/")
    assert answer.status_code == 403
    assert "for admins" in answer.text
    assert 'action="/admin/logout"' in answer.text
    assert browser.post("/admin/logout").location == "/admin/login"


def test_a_disabled_or_demoted_admin_is_out_at_once(panel_app: Flask) -> None:
    add_user(panel_app, "second", role="admin")
    browser = Browser(panel_app, "second")
    assert browser.get("/admin/").status_code == 200
    with Session(browser.gateway.engine) as session, session.begin():
        session.scalars(select(User).where(User.username == "second")).one().role = "user"
    assert browser.get("/admin/users/").status_code == 403
    with Session(browser.gateway.engine) as session, session.begin():
        session.scalars(select(User).where(User.username == "second")).one().is_active = False
    assert browser.get("/admin/").status_code == 302


GOOD_TARGETS = ["/admin/users/", "/admin/usage/?user=ana&span=24h", "/admin/keys/details/?id=2", "/admin/password"]
BAD_TARGETS = [
    "",
    "//evil.test",
    "///evil.test",
    "////evil.test/admin/",
    "/\\evil.test",
    "\\\\evil.test",
    "/\t/evil.test",
    "\t//evil.test",
    "/%09/evil.test",
    " //evil.test",
    "/ /evil.test",
    "http://evil.test",
    "https://evil.test/admin/users/",
    "HTTPS:evil.test",
    "http:/evil.test",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "data:text/html,x",
    "evil.test",
    "@evil.test",
    "/admin@evil.test",
    "/admin\n/users/",
    "/admin/users/\r\nSet-Cookie: a=b",
    "/admin/\\evil.test",
    "/admin/..//evil.test",
    "/admin/login",
    "/admin/logout",
    "/admin/nothing/here",
    "/v1/models",
    "/",
    "/static/tollhouse.css",
    "/admin\x00/users/",
    "//[",
    "/admin/users/\u2028",
]


@pytest.mark.parametrize("target", GOOD_TARGETS)
def test_one_is_sent_back_to_where_one_wanted_to_go(panel_app: Flask, target: str) -> None:
    first = Browser(panel_app).get(target)
    if target != "/admin/password":
        assert urlsplit(first.location).path == "/admin/login"
        assert "next=" in first.location
    assert Browser(panel_app).sign_in("admin", PASSWORD, next=target).location == target


def test_nobody_is_sent_anywhere_else(panel_app: Flask) -> None:
    signed_in = Browser(panel_app, "admin")
    for target in BAD_TARGETS:
        answer = signed_in.get("/admin/login", query_string={"next": target})
        assert (answer.status_code, answer.location) == (302, "/admin/"), repr(target)
        answer = signed_in.post("/admin/preferences", {"next": target, "theme": "dark"})
        assert (answer.status_code, answer.location) == (303, "/admin/"), repr(target)
    assert Browser(panel_app).sign_in("admin", PASSWORD, next="//evil.test").location == "/admin/"


def test_colours_and_language_are_remembered(panel_app: Flask) -> None:
    browser = Browser(panel_app, "admin")
    assert 'data-theme="auto"' in browser.get("/admin/").text
    browser.post("/admin/preferences", {"theme": "dark", "next": "/admin/users/"})
    assert 'data-theme="dark"' in browser.get("/admin/").text
    browser.post("/admin/preferences", {"language": "pt_BR"})
    page = browser.get("/admin/").text
    assert '<html lang="pt-BR"' in page
    assert "Visão geral" in page
    browser.post("/admin/preferences", {"language": "xx", "theme": "pink"})
    assert 'lang="pt-BR" data-theme="dark"' in browser.get("/admin/").text


def test_strangers_read_the_language_of_their_browser(panel_app: Flask) -> None:
    assert "Entrar" in Browser(panel_app).get("/admin/login", headers={"accept-language": "pt-BR"}).text


def test_calls_of_the_api_do_not_vary_by_cookie(panel_app: Flask) -> None:
    client = panel_app.test_client()
    for path in ("/v1/models", "/health", "/user/usage"):
        answer = client.get(path, headers=AUTH)
        assert answer.status_code == 200
        assert "cookie" not in answer.headers.get("vary", "").lower()
        assert "set-cookie" not in answer.headers
    assert "Cookie" in client.get("/admin/login").headers["vary"]


def test_a_name_with_a_nul_is_a_wrong_one(panel_anywhere: Flask) -> None:
    answer = Browser(panel_anywhere).sign_in("admin\x00", PASSWORD)
    assert answer.status_code == 401
    assert ("login_failed", "admin ") in actions(panel_anywhere)

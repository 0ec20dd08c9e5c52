"""The second factor: setting it up, signing in with it, losing it, and what happens to whoever guesses."""

import re
import threading
from collections.abc import Callable
from typing import Any

import pyotp
import pytest
from flask import Flask
from sqlalchemy.orm import Session

from models import SecondFactor, WebSession
from services.errors import AuthenticationFailed, GatewayError
from tests.admin.conftest import Browser, add_user, user_of
from tests.admin.openid import told
from tests.admin.test_signin import saved_cookie, with_cookie
from tests.conftest import PASSWORD
from utils import clock

PAGE, CODE = "/admin/second-factor", "/admin/login/code"
SECRET = re.compile(r'id="secret">([A-Z2-7]{32})<')
RECOVERY = re.compile(r"[2-9a-z]{4}(?:-[2-9a-z]{4}){3}")


class Clock:
    """The wall clock, which a test may move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.late_s, now_s, now_ms = 0.0, clock.now_s, clock.now_ms
        monkeypatch.setattr(clock, "now_s", lambda: now_s() + self.late_s)
        monkeypatch.setattr(clock, "now_ms", lambda: now_ms() + int(self.late_s * 1000))

    def code(self, secret: str, steps: int = 0) -> str:
        return pyotp.TOTP(secret).at(int(clock.now_s()) + 30 * steps)

    def wrong(self, secret: str) -> str:
        near = {self.code(secret, step) for step in range(-3, 4)}
        return next(code for code in map(str, range(333333, 333345)) if code not in near)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def set_up(browser: Browser, later: Clock) -> tuple[str, list[str]]:
    """Through the pages; returns the secret and the recovery codes."""
    assert browser.post(f"{PAGE}/begin").location == PAGE
    found = SECRET.search(browser.get(PAGE).text)
    assert found is not None
    answer = browser.post(f"{PAGE}/confirm", {"code": later.code(found[1])})
    assert answer.status_code == 200, answer.text
    later.late_s += 60  # that code is used up
    return found[1], RECOVERY.findall(answer.text)


def row_of(app: Flask, username: str = "admin") -> SecondFactor | None:
    found = user_of(app, username)
    assert found is not None
    with Session(app.extensions["gateway"].engine) as session:
        return session.get(SecondFactor, found.id)


def test_it_is_set_up_and_then_asked_for(panel_anywhere: Flask, later: Clock) -> None:
    browser = Browser(panel_anywhere, "admin")
    assert "Not set up" in browser.get("/admin/account").text
    secret, codes = set_up(browser, later)
    assert len(set(codes)) == 10
    row = row_of(panel_anywhere)
    assert row is not None
    assert secret.encode() not in row.sealed
    assert not set(codes) & set(row.recovery or ())
    assert secret not in browser.get(PAGE).text  # never again
    assert "Recovery codes left: 10" in browser.get("/admin/account").text
    fresh = Browser(panel_anywhere)
    answer = fresh.sign_in("admin", PASSWORD, next="/admin/users/")
    assert (answer.status_code, answer.location) == (303, CODE)
    assert fresh.get("/admin/").status_code == 302
    assert "Code" in fresh.get(CODE).text
    answer = fresh.post(CODE, {"code": later.code(secret)})
    assert (answer.status_code, answer.location) == (303, "/admin/users/")
    assert fresh.get("/admin/").status_code == 200
    assert told(panel_anywhere)[-1] == ("login_success", "admin", {"with": "password, code"})


def test_the_password_alone_makes_no_session(panel_app: Flask, later: Clock) -> None:
    browser = Browser(panel_app, "admin")
    set_up(browser, later)
    with Session(panel_app.extensions["gateway"].engine) as session:
        before = session.query(WebSession).count()
    fresh = Browser(panel_app)
    fresh.sign_in("admin", PASSWORD)
    with Session(panel_app.extensions["gateway"].engine) as session:
        assert session.query(WebSession).count() == before
    for path in ("/admin/", "/admin/users/", "/admin/account", PAGE, "/admin/password"):
        assert "/admin/login" in fresh.get(path).location
    for path in (f"{PAGE}/off", f"{PAGE}/begin", "/admin/preferences"):
        assert fresh.post(path, {"password": PASSWORD}).location == "/admin/login"
    assert row_of(panel_app) is not None


def test_a_code_opens_once(panel_anywhere: Flask, later: Clock) -> None:
    secret, _codes = set_up(Browser(panel_anywhere, "admin"), later)
    code = later.code(secret)
    first, second = Browser(panel_anywhere), Browser(panel_anywhere)
    for browser, status in ((first, 303), (second, 401)):
        browser.sign_in("admin", PASSWORD)
        assert browser.post(CODE, {"code": code}).status_code == status
    assert "was used already" in second.post(CODE, {"code": code}).text
    assert second.post(CODE, {"code": later.code(secret, -1)}).status_code == 401  # older than the one that was used


def test_of_many_at_once_one_gets_in(panel_anywhere: Flask, later: Clock) -> None:
    secret, codes = set_up(Browser(panel_anywhere, "admin"), later)
    factors, found = panel_anywhere.extensions["gateway"].second_factors, user_of(panel_anywhere, "admin")
    assert found is not None
    for code in (later.code(secret), codes[0]):
        said: list[str] = []

        def use(code: str = code, said: list[str] = said, number: int = found.id) -> None:
            for address in range(20):
                try:
                    said.append(factors.check(number, code, f"10.0.0.{address}"))
                    break
                except AuthenticationFailed:
                    said.append("refused")
                    break
                except GatewayError:
                    continue

        threads = [threading.Thread(target=use) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert said.count("refused") == 5
        assert len(said) == 6


@pytest.mark.parametrize(("steps", "status"), [(-2, 401), (-1, 303), (0, 303), (1, 303), (2, 401)])
def test_clocks_may_differ_by_half_a_minute(panel_app: Flask, later: Clock, steps: int, status: int) -> None:
    secret, _codes = set_up(Browser(panel_app, "admin"), later)
    later.late_s += 120
    browser = Browser(panel_app)
    browser.sign_in("admin", PASSWORD)
    assert browser.post(CODE, {"code": later.code(secret, steps)}).status_code == status


def test_a_recovery_code_opens_once_however_it_is_typed(panel_app: Flask, later: Clock) -> None:
    _secret, codes = set_up(Browser(panel_app, "admin"), later)
    for typed, status in ((codes[0].upper().replace("-", " "), 303), (codes[0], 401), (codes[1], 303)):
        browser = Browser(panel_app)
        browser.sign_in("admin", PASSWORD)
        assert browser.post(CODE, {"code": typed}).status_code == status
    assert "8 are left" in browser.get("/admin/").text
    assert {"with": "password, recovery code"} in [details for _action, _actor, details in told(panel_app)]


@pytest.mark.parametrize("code", ["", "12345", "1234567", "１２３４５６", "abcdef", "\x00", "0" * 100, "-1", "1e5"])  # noqa: RUF001 - these digits are the point
def test_what_is_no_code_opens_nothing(panel_app: Flask, later: Clock, code: str) -> None:
    set_up(Browser(panel_app, "admin"), later)
    browser = Browser(panel_app)
    browser.sign_in("admin", PASSWORD)
    assert browser.post(CODE, {"code": code}).status_code == 401
    assert browser.get("/admin/").status_code == 302
    assert ("login_failed", "admin", {"reason": "otp_invalid"}) in told(panel_app)


def test_guessing_is_slowed_down_also_by_whoever_knows_the_password(panel_app: Flask, later: Clock) -> None:
    secret, _codes = set_up(Browser(panel_app, "admin"), later)
    statuses = []
    for _ in range(8):
        browser = Browser(panel_app)
        assert browser.sign_in("admin", PASSWORD).location == CODE  # the right password forgives no wrong code
        statuses.append(browser.post(CODE, {"code": later.wrong(secret)}).status_code)
    assert statuses[:5] == [401] * 5
    assert statuses[-1] == 429
    answer = browser.post(CODE, {"code": later.code(secret)})
    assert answer.status_code == 429  # also the right one has to wait
    later.late_s += int(answer.headers["retry-after"]) + 1
    browser.sign_in("admin", PASSWORD)
    assert browser.post(CODE, {"code": later.code(secret)}).status_code == 303


def test_the_second_step_waits_five_minutes(panel_app: Flask, later: Clock) -> None:
    secret, _codes = set_up(Browser(panel_app, "admin"), later)
    browser = Browser(panel_app)
    browser.sign_in("admin", PASSWORD)
    browser.get(CODE)
    later.late_s += 301
    assert browser.post(CODE, {"code": later.code(secret)}).location == "/admin/login"
    assert "took too long" in browser.get("/admin/login").text


def test_a_disabled_account_does_not_pass_the_second_step(panel_app: Flask, later: Clock) -> None:
    add_user(panel_app, "bob", role="admin")
    secret, _codes = set_up(Browser(panel_app, "bob"), later)
    browser = Browser(panel_app)
    browser.sign_in("bob", PASSWORD)
    browser.get(CODE)
    Browser(panel_app, "admin").post("/admin/users/edit/", _disabled(panel_app, "bob"))
    assert browser.post(CODE, {"code": later.code(secret)}).location == "/admin/login"


def _disabled(app: Flask, username: str) -> dict[str, Any]:
    found = user_of(app, username)
    assert found is not None
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.get_one(type(found), found.id).is_active = False
    return {"id": str(found.id)}


def test_somebody_elses_cookie_of_the_first_step_needs_the_code_too(panel_app: Flask, later: Clock) -> None:
    set_up(Browser(panel_app, "admin"), later)
    victim = Browser(panel_app)
    victim.sign_in("admin", PASSWORD)
    thief = with_cookie(panel_app, saved_cookie(victim))
    assert thief.get("/admin/").status_code == 302
    assert thief.get(CODE).status_code == 200


def test_it_is_switched_off_with_password_and_code(panel_app: Flask, later: Clock) -> None:
    browser = Browser(panel_app, "admin")
    secret, codes = set_up(browser, later)
    for data in ({}, {"code": later.code(secret)}, {"password": PASSWORD}, {"password": "wrong", "code": codes[0]}):
        assert browser.post(f"{PAGE}/off", data).status_code == 401, data
        assert row_of(panel_app) is not None
    assert browser.post(f"{PAGE}/off", {"password": PASSWORD, "code": codes[0]}).status_code == 303
    assert row_of(panel_app) is None
    assert Browser(panel_app).sign_in("admin", PASSWORD).location == "/admin/"
    assert [action for action, *_rest in told(panel_app) if action.startswith("second")] == [
        "second_factor_on",
        "second_factor_off",
    ]


def test_a_first_code_must_be_right_and_a_second_secret_needs_the_first_off(panel_app: Flask, later: Clock) -> None:
    browser = Browser(panel_app, "admin")
    assert browser.post(f"{PAGE}/confirm", {"code": "123456"}).status_code == 400  # nothing waits
    browser.post(f"{PAGE}/begin")
    found = SECRET.search(browser.get(PAGE).text)
    assert found is not None
    assert browser.post(f"{PAGE}/confirm", {"code": later.wrong(found[1])}).status_code == 401
    assert Browser(panel_app).sign_in("admin", PASSWORD).location == "/admin/"  # not in use yet
    browser.post(f"{PAGE}/begin")  # another secret
    again = SECRET.search(browser.get(PAGE).text)
    assert again is not None
    assert again[1] != found[1]
    assert browser.post(f"{PAGE}/confirm", {"code": later.code(again[1])}).status_code == 200
    before = row_of(panel_app)
    browser.post(f"{PAGE}/begin")
    after = row_of(panel_app)
    assert before is not None
    assert after is not None
    assert (after.sealed, after.confirmed_at) == (before.sealed, before.confirmed_at)


def test_an_admin_resets_that_of_somebody_else(panel_app: Flask, later: Clock) -> None:
    number = add_user(panel_app, "bob", role="admin")
    bob = Browser(panel_app, "bob")
    set_up(bob, later)
    admin = Browser(panel_app, "admin")
    assert "Reset second factor" in admin.get(f"/admin/users/details/?id={number}").text
    assert "Make sure who asks" in admin.get(f"/admin/users/second-factor/?id={number}").text
    assert admin.post("/admin/users/second-factor/", {"id": str(number)}).status_code == 303
    assert row_of(panel_app, "bob") is None
    assert bob.get("/admin/").status_code == 302  # signed out
    assert Browser(panel_app).sign_in("bob", PASSWORD).location == "/admin/"
    own = user_of(panel_app, "admin")
    assert own is not None
    set_up(admin, later)
    assert admin.post("/admin/users/second-factor/", {"id": str(own.id)}).status_code == 403
    assert row_of(panel_app) is not None


def test_an_operator_resets_it_by_command(panel_app: Flask, later: Clock) -> None:
    set_up(Browser(panel_app, "admin"), later)
    run = panel_app.test_cli_runner().invoke
    said = run(args=["users", "reset-second-factor", "admin"])
    assert (said.exit_code, said.output) == (0, "admin: the second factor is gone.\n")
    assert row_of(panel_app) is None
    assert "has no second factor" in run(args=["users", "reset-second-factor", "admin"]).output
    assert run(args=["users", "reset-second-factor", "nobody"]).exit_code == 78


@pytest.mark.parametrize(("required", "role", "is_held_up"), [
    ("never", "admin", False), ("admins", "admin", True), ("admins", "auditor", False), ("all", "auditor", True),
])  # fmt: skip
def test_whoever_must_have_one_sets_it_up_first(
    make_app: Callable[..., Flask], sqlite_database: str, later: Clock, required: str, role: str, is_held_up: bool
) -> None:
    app = make_app(sqlite_database, REQUIRE_SECOND_FACTOR=required)
    add_user(app, "bob", role=role)
    browser = Browser(app)
    browser.sign_in("bob", PASSWORD)
    for path in ("/admin/", "/admin/users/", "/admin/usage/"):
        assert (browser.get(path).location == PAGE) is is_held_up, path
    if not is_held_up:
        return
    assert "requires a second factor" in browser.get(PAGE).text
    assert 'href="/admin/users/"' not in browser.get(PAGE).text
    if role == "admin":
        refused = browser.post("/admin/keys/new/", {"name": "sneaky", "owner": "bob", "scope": "all"})
        assert refused.location == PAGE
    set_up(browser, later)
    assert browser.get("/admin/users/").status_code == 200


def test_a_secret_whose_key_is_gone_lets_recovery_codes_in(panel_app: Flask, later: Clock) -> None:
    secret, codes = set_up(Browser(panel_app, "admin"), later)
    with Session(panel_app.extensions["gateway"].engine) as session, session.begin():
        session.query(SecondFactor).one().sealed = b"sealed with another key"
    browser = Browser(panel_app)
    browser.sign_in("admin", PASSWORD)
    answer = browser.post(CODE, {"code": later.code(secret)})
    assert answer.status_code == 500
    assert "cannot be read any more" in answer.text
    assert browser.post(CODE, {"code": codes[0]}).status_code == 303

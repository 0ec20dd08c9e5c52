"""`POST /login` of accounts with a second factor: the password alone gives neither token nor key."""

from collections.abc import Callable
from typing import Any

import pyotp
import pytest
from flask import Flask
from werkzeug.test import TestResponse

from services.audit import Actor
from tests.conftest import PASSWORD
from tests.people import number_of
from utils import clock


def login(app: Flask, **more: Any) -> TestResponse:
    return app.test_client().post("/login", json={"username": "admin", "password": PASSWORD, **more})


def said(answer: TestResponse) -> tuple[int, str | None]:
    return answer.status_code, (answer.json or {}).get("code")


@pytest.fixture
def secured(app: Flask, monkeypatch: pytest.MonkeyPatch) -> tuple[Flask, str, list[str]]:
    """An app whose admin has a second factor: with its secret and recovery codes."""
    factors, number = app.extensions["gateway"].second_factors, number_of(app, "admin")
    factors.begin(number)
    secret = factors.offer(number, "admin").secret
    now_s = clock.now_s
    codes = factors.confirm(Actor("admin", number), number, pyotp.TOTP(secret).at(int(now_s())), "")
    monkeypatch.setattr(clock, "now_s", lambda: now_s() + 60)
    return app, secret, codes


def test_the_password_alone_gives_nothing(secured: tuple[Flask, str, list[str]]) -> None:
    app, _secret, _codes = secured
    answer = login(app)
    assert said(answer) == (401, "otp_required")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert not {"access_token", "api_key"} & (answer.json or {}).keys()
    for otp in ("", None):
        assert said(login(app, otp=otp)) == (401, "otp_required")


def test_a_code_lets_in_once_and_so_does_a_recovery_code(secured: tuple[Flask, str, list[str]]) -> None:
    app, secret, codes = secured
    code = pyotp.TOTP(secret).at(int(clock.now_s()))
    assert "access_token" in (login(app, otp=code).json or {})
    assert said(login(app, otp=code)) == (401, "otp_invalid")
    form = {"username": "admin", "password": PASSWORD, "otp": codes[0]}
    assert app.test_client().post("/login", data=form).status_code == 200
    assert said(login(app, otp=codes[0])) == (401, "otp_invalid")


@pytest.mark.parametrize("otp", [123456, True, ["123456"], {"a": 1}, "000", "\ud800", "\x00" * 6])
def test_what_is_no_code_is_refused(secured: tuple[Flask, str, list[str]], otp: Any) -> None:
    assert said(login(secured[0], otp=otp))[0] in (400, 401)


def test_a_wrong_password_says_nothing_of_the_second_factor(secured: tuple[Flask, str, list[str]]) -> None:
    app, _secret, codes = secured
    assert said(login(app, password="wrong", otp=codes[0])) == (401, "invalid_credentials")
    assert login(app, otp=codes[0]).status_code == 200  # it was not used up


def test_guessing_codes_is_slowed_down(secured: tuple[Flask, str, list[str]]) -> None:
    answers = [login(secured[0], otp="00000a") for _ in range(7)]
    assert [answer.status_code for answer in answers[:5]] == [401] * 5
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_others_need_no_code(secured: tuple[Flask, str, list[str]]) -> None:
    app, *_rest = secured
    body = {"username": "maria", "password": "senha-da-maria"}
    app.test_client().post("/register", json=body)
    assert app.test_client().post("/login", json=body | {"otp": "anything"}).status_code == 200


def test_where_one_is_required_there_is_no_token_without(make_app: Callable[..., Flask], sqlite_database: str) -> None:
    app = make_app(sqlite_database, REQUIRE_SECOND_FACTOR="admins")
    answer = login(app)
    assert said(answer) == (403, "second_factor_required")
    assert "access_token" not in (answer.json or {})
    body = {"username": "maria", "password": "senha-da-maria"}
    app.test_client().post("/register", json=body)
    assert app.test_client().post("/login", json=body).status_code == 200

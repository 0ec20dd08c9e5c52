"""What people nobody knows yet may send to sign in or register, and how often."""

import io

import pytest
from sqlalchemy.orm import Session

from models import AuditEntry, User
from routes.auth import MAX_BODY_BYTES
from services.errors import TooManyAttempts
from services.throttle import PER_ADDRESS, REGISTRATION, Throttle
from tests.conftest import PASSWORD
from utils import clock


def engine(app):
    return app.extensions["gateway"].engine


@pytest.mark.parametrize("path", ["/login", "/register"])
@pytest.mark.parametrize("form", ["json", "data"], ids=["JSON", "form"])
def test_a_body_of_more_than_64_kilobytes_is_not_read(lite, path, form):
    body = {"username": "maria", "password": "x" * MAX_BODY_BYTES}
    response = lite.test_client().post(path, **{form: body})
    assert (response.status_code, response.json["code"]) == (413, "request_too_large")
    with Session(engine(lite)) as session:
        assert session.query(User).filter_by(username="maria").count() == 0


@pytest.mark.parametrize("path", ["/login", "/register"])
def test_a_body_without_a_length_is_read_no_further(lite, path):
    endless = _Endless()
    chunked = {"wsgi.input": endless, "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    response = lite.test_client().post(path, environ_overrides=chunked, content_type="application/json")
    assert response.status_code in (400, 413)
    assert endless.given < 4 * MAX_BODY_BYTES


class _Endless(io.RawIOBase):
    """A body that goes on and on."""

    given = 0

    def readable(self):
        return True

    def readinto(self, buffer):
        if self.given > 100 * MAX_BODY_BYTES:
            return 0
        buffer[:] = b"[" * len(buffer)
        self.given += len(buffer)
        return len(buffer)


@pytest.mark.parametrize(
    "name",
    ["a\x00b", "\x00", "admin\x00", "a\nb", "\u202eadmin", "x" * 10_000, "😀" * 5000, "%", "' OR 1=1 --"],
    ids=["NUL", "only NUL", "NUL at the end", "line break", "right to left", "long", "long faces", "any", "quote"],
)
def test_no_name_makes_signing_in_fail_otherwise(app, name):
    for form in ("json", "data"):
        response = app.test_client().post("/login", **{form: {"username": name, "password": PASSWORD}})
        assert (response.status_code, response.json["code"]) == (401, "invalid_credentials")
    with Session(engine(app)) as session:
        found = session.query(AuditEntry).filter_by(action="login_failed").all()
        assert len(found) == 2
        assert all("\x00" not in entry.actor for entry in found)


def test_a_password_with_a_nul_is_a_wrong_one(app):
    response = app.test_client().post("/login", json={"username": "admin", "password": PASSWORD + "\x00"})
    assert (response.status_code, response.json["code"]) == (401, "invalid_credentials")


@pytest.fixture
def throttle(app, monkeypatch):
    now_ms = clock.now_ms()
    monkeypatch.setattr(clock, "now_ms", lambda: now_ms)
    return Throttle(engine(app))


@pytest.mark.parametrize(
    ("addresses", "elsewhere"),
    [
        pytest.param([f"2001:db8:0:7::{n:x}" for n in range(1, 30)], "2001:db8:0:8::1", id="one customer of IPv6"),
        pytest.param([f"fe80::{n:x}%eth0" for n in range(1, 30)], "fe80:0:0:1::1%eth0", id="with a zone"),
        pytest.param(["192.0.2.7"] * 29, "192.0.2.8", id="one address of IPv4"),
        pytest.param([""] * 29, "192.0.2.8", id="no address"),
    ],
)
def test_tries_are_counted_by_who_may_have_the_address(throttle, addresses, elsewhere):
    for address in addresses[: PER_ADDRESS.free + 1]:
        throttle.sign_in("admin", address)
    with pytest.raises(TooManyAttempts):
        throttle.sign_in("admin", addresses[PER_ADDRESS.free + 1])
    throttle.sign_in("admin", elsewhere)
    throttle.sign_in("maria", addresses[0])
    throttle.signed_in("admin", addresses[-1])
    throttle.sign_in("admin", addresses[0])
    for address in addresses[: REGISTRATION.free + 1]:
        throttle.registration(address)
    with pytest.raises(TooManyAttempts):
        throttle.registration(addresses[-1])
    throttle.registration(elsewhere)

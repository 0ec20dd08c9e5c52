"""Small words of the tests about tokens of others: who a token is, what was refused, and tokens made by hand."""

import base64
import hashlib
import hmac
import json
import time

from sqlalchemy.orm import Session

from models import User
from tests.callers import bearer
from tests.fakes.outsider import AUDIENCE, ISSUER, SHARED
from tests.people import ask, engine

REFUSED = "Could not validate credentials"
OWN = {"JWT_SECRET": SHARED, "JWT_AUDIENCE": AUDIENCE, "JWT_ISSUER": ISSUER, "OUTSIDE_CREATE_USERS": "true"}


def me(app, given):
    answer = ask(app, "GET", "/users/me", bearer(given))
    return answer.status_code, answer.json


def whoever(app, given):
    code, body = me(app, given)
    assert code == 200, body
    return body["username"], body["is_admin"]


def assert_refused(app, given, **more):
    answer = ask(app, "GET", "/users/me", bearer(given), **more)
    assert (answer.status_code, (answer.json or {}).get("detail")) == (401, REFUSED), answer.text
    assert answer.headers["www-authenticate"] == "Bearer"


def users(app):
    with Session(engine(app)) as session:
        return {row.username: row.role for row in session.query(User)}


def b64(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forged(header, claims, secret=b""):
    """A token with any header, signed with HMAC-SHA-256 or not at all."""
    text = f"{b64(header)}.{b64(claims)}"
    mac = b64(hmac.new(secret, text.encode(), hashlib.sha256).digest()) if secret else ""
    return f"{text}.{mac}"


def claims(**more):
    now = int(time.time())
    return {"sub": "5", "iat": now, "exp": now + 600, "aud": AUDIENCE, "iss": ISSUER} | more


def now_s():
    return int(time.time())

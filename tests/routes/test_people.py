"""Registering, signing in, tokens, and what people may ask about themselves."""

import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from sqlalchemy.orm import Session

from models import ApiKey, AuditEntry, SignInFailure, User, WebSession
from services.errors import AuthenticationFailed, InvalidRequest, TooManyAttempts
from tests.conftest import PASSWORD, SECRETS
from tests.helpers import AUTH, chat, with_upstream

PORTUGUESE = {"Accept-Language": "pt-BR,pt;q=0.9"}
GOOD = {"username": "maria", "password": "senha-da-maria"}


def post(app, path, body=None, headers=None, **more):
    return app.test_client().post(path, json=body, headers=headers or {}, **more)


def bearer(secret):
    return {"Authorization": f"Bearer {secret}"}


def engine(app):
    return app.extensions["gateway"].engine


def test_register_answers_with_a_key_that_works(app):
    response = post(app, "/register", GOOD)
    assert response.status_code == 201
    assert response.json.keys() == {"message", "api_key"}
    assert response.headers["cache-control"] == "no-store"
    assert post(app, "/v1/chat/completions", chat(model="echo"), bearer(response.json["api_key"])).status_code == 200
    usage = app.test_client().get("/user/usage", headers=bearer(response.json["api_key"]))
    assert usage.json == {"username": "maria", "tokens_used": 4}


def test_a_new_account_has_prepaid_tokens(make_app, sqlite_database, upstream):
    app = with_upstream(make_app(sqlite_database, INITIAL_TOKEN_BALANCE="300"), upstream)
    key = post(app, "/register", GOOD).json["api_key"]
    assert post(app, "/v1/chat/completions", chat(max_tokens=50), bearer(key)).status_code == 200
    response = post(app, "/v1/chat/completions", chat("x" * 300, max_tokens=50), bearer(key))
    assert response.status_code == 402
    assert "token balance of user `maria`" in response.json["error"]["message"]


def test_an_empty_initial_balance_is_unlimited(make_app, sqlite_database, upstream):
    app = with_upstream(make_app(sqlite_database, INITIAL_TOKEN_BALANCE=""), upstream)
    key = post(app, "/register", GOOD).json["api_key"]
    assert post(app, "/v1/chat/completions", chat("x" * 100_000), bearer(key)).status_code == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Invalid registration data"),
        ({"username": "a"}, "Invalid registration data"),
        ({"username": "", "password": "long enough"}, "Invalid registration data"),
        ({"username": "a", "password": "short"}, "A password needs 8 to 1024 characters."),
        ({"username": "a", "password": 12345678}, "A password needs 8 to 1024 characters."),
        ({"username": "a", "password": "x" * 1025}, "A password needs 8 to 1024 characters."),
        ({"username": ["a"], "password": "long enough"}, "A user name has"),
        ({"username": "a b", "password": "long enough"}, "A user name has"),
        ({"username": "<b>", "password": "long enough"}, "A user name has"),
        ({"username": "a\u202eb", "password": "long enough"}, "A user name has"),
        ({"username": "a\u0000b", "password": "long enough"}, "A user name has"),
        ({"username": "x" * 151, "password": "long enough"}, "A user name has"),
        ({"username": "Me", "password": "long enough"}, "reserved"),
        ({"username": "api-tokens", "password": "long enough"}, "reserved"),
        ({"username": "admin", "password": "long enough"}, "Username already exists."),
        ([], "must be a JSON object or a form"),
    ],
)
def test_bad_registrations(lite, body, message):
    response = post(lite, "/register", body)
    assert response.status_code == 400
    assert message in response.json["error"]
    assert response.json["detail"] == response.json["error"]
    with Session(engine(lite)) as session:
        assert session.query(User).count() == 2


def test_bodies_that_are_no_json(lite):
    for path in ("/register", "/login"):
        assert lite.test_client().post(path, data=b"{oops", content_type="application/json").status_code == 400
        assert lite.test_client().post(path, data=b"\xff\xfe").status_code == 400


def test_registration_may_be_closed(make_app, sqlite_database):
    response = post(make_app(sqlite_database, REGISTRATION="closed"), "/register", GOOD)
    assert (response.status_code, response.json["code"]) == (403, "registration_closed")


@pytest.mark.parametrize("as_form", [False, True], ids=["json", "form"])
def test_login_answers_with_token_and_key(app, as_form):
    key = post(app, "/register", GOOD).json["api_key"]
    response = app.test_client().post("/login", data=GOOD) if as_form else post(app, "/login", GOOD)
    assert response.status_code == 200
    assert response.json["token_type"] == "bearer"
    assert response.json["expires_in"] == 1800
    assert response.json["api_key"] == key, "always the same one"
    claims = jwt.decode(
        response.json["access_token"], SECRETS["SECRET_KEY"], ["HS256"], audience="tollhouse", issuer="tollhouse"
    )
    assert claims["sub"] == "maria"
    assert claims["exp"] - claims["iat"] == 1800
    assert (
        post(app, "/v1/chat/completions", chat(model="echo"), bearer(response.json["access_token"])).status_code == 200
    )


def test_login_of_somebody_an_admin_made_gives_a_first_key_and_keeps_to_it(app):
    app.extensions["gateway"].accounts.create("joao", "a good password")
    first, second = (
        post(app, "/login", {"username": "joao", "password": "a good password"}).json["api_key"] for _ in range(2)
    )
    assert first == second
    assert first.startswith("sk-th-")
    with Session(engine(app)) as session:
        (entry,) = session.query(AuditEntry).filter_by(action="key_create").all()
    assert (entry.actor, entry.details["after"]["name"]) == ("joao", "default")
    here = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        here.keys.revoke(session, session.query(ApiKey).filter_by(kind="default").one().id, "misused")
    assert post(app, "/login", {"username": "joao", "password": "a good password"}).json["api_key"] is None, (
        "a revoked key is not replaced"
    )


def test_no_copy_of_a_key_is_kept_when_that_is_wanted(make_app, sqlite_database):
    app = make_app(sqlite_database, LOGIN_RETURNS_API_KEY="false")
    post(app, "/register", GOOD)
    assert post(app, "/login", GOOD).json["api_key"] is None
    with Session(engine(app)) as session:
        assert session.query(ApiKey).filter_by(kind="default").one().sealed is None


def test_a_weak_first_password_gets_no_key(lite):
    lite.extensions["gateway"].accounts.create("weak", "admin", must_change_password=True)
    response = post(lite, "/login", {"username": "weak", "password": "admin"})
    assert (response.status_code, response.json["api_key"]) == (200, None)


@pytest.mark.parametrize(
    ("username", "password"),
    [("maria", "wrong password"), ("nobody", "wrong password"), ("api-tokens", "wrong password")],
)
def test_login_fails_alike_for_known_and_unknown(lite, username, password):
    post(lite, "/register", GOOD)
    response = post(lite, "/login", {"username": username, "password": password})
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json["detail"] == response.json["error"] == "Incorrect username or password"
    with Session(engine(lite)) as session:
        assert session.query(AuditEntry).filter_by(action="login_failed").count() == 1


def test_login_takes_as_long_for_nobody(lite, monkeypatch):
    checked = []
    from services import passwords

    check = passwords.bcrypt.check_password_hash
    monkeypatch.setattr(passwords.bcrypt, "check_password_hash", lambda *args: checked.append(args) or check(*args))
    for name in ("nobody", "admin"):
        post(lite, "/login", {"username": name, "password": "wrong password"})
    assert len(checked) == 2


@pytest.mark.parametrize(
    "body", [{}, {"username": "maria"}, {"username": "", "password": ""}, {"username": {"a": 1}, "password": "x"}]
)
def test_bad_logins(lite, body):
    response = post(lite, "/login", body)
    assert (response.status_code, response.json["error"].rstrip(".")) == (400, "Invalid login data")


def test_a_stored_password_costs_an_attacker_time(make_app, sqlite_database):
    app = make_app(sqlite_database)
    from utils.extensions import bcrypt

    bcrypt.init_app(app)  # as a start does it
    assert app.extensions["gateway"].accounts._passwords.hash("a good password").startswith("$2b$12$")


def test_long_and_odd_passwords(lite):
    accounts = lite.extensions["gateway"].accounts
    for name, password in (("a", "x" * 100), ("b", "pass\x00word"), ("c", "пароль-😀-пароль")):
        accounts.create(name, password)
        assert accounts.sign_in(name, password, "1.1.1.1").username == name
        with pytest.raises(AuthenticationFailed):
            accounts.sign_in(name, password[:-1] + "y", "1.1.1.1")


def test_guessing_is_braked_per_address_and_the_owner_still_gets_in(app):
    accounts = app.extensions["gateway"].accounts
    accounts.create("maria", "senha-da-maria")
    refused = 0
    for _ in range(20):
        with pytest.raises((AuthenticationFailed, TooManyAttempts)) as caught:
            accounts.sign_in("maria", "guess", "6.6.6.6")
        if isinstance(caught.value, TooManyAttempts):
            refused += 1
            assert caught.value.retry_after_s >= 1
    assert refused == 14
    assert accounts.sign_in("maria", "senha-da-maria", "1.2.3.4").username == "maria"
    with pytest.raises(TooManyAttempts):
        accounts.sign_in("maria", "senha-da-maria", "6.6.6.6")
    with Session(engine(app)) as session:
        assert all("maria" not in row.subject for row in session.query(SignInFailure))


def test_a_good_sign_in_forgives_the_bad_ones(app, monkeypatch):
    accounts = app.extensions["gateway"].accounts
    accounts.create("maria", "senha-da-maria")
    for _ in range(3):
        for _ in range(4):
            with pytest.raises(AuthenticationFailed):
                accounts.sign_in("maria", "guess", "6.6.6.6")
        accounts.sign_in("maria", "senha-da-maria", "6.6.6.6")
    now = __import__("time").time()
    monkeypatch.setattr("utils.clock.now_ms", lambda: int((now + 2 * 86_400) * 1000))
    accounts.tidy()
    with Session(engine(app)) as session:
        assert session.query(SignInFailure).count() == 0


def test_the_wait_doubles_up_to_a_quarter_of_an_hour(lite, monkeypatch):
    from services.throttle import Throttle

    throttle, now, waits = Throttle(engine(lite)), [10**12], []
    monkeypatch.setattr("utils.clock.now_ms", lambda: now[0])
    for _ in range(40):
        try:
            throttle.sign_in("a", "1.1.1.1")
            waits.append(0)
        except TooManyAttempts as exc:
            waits.append(exc.retry_after_s)
            now[0] += exc.retry_after_s * 1000
    assert waits[:6] == [0] * 6
    assert [wait for wait in waits if wait][:5] == [1, 2, 4, 8, 16]
    assert max(waits) == 900


def test_many_new_accounts_from_one_address_are_braked(lite):
    accounts = lite.extensions["gateway"].accounts
    for number in range(21):
        accounts.register(f"user{number}", "long enough", "6.6.6.6")
    with pytest.raises(TooManyAttempts):
        accounts.register("one-too-many", "long enough", "6.6.6.6")


def test_too_many_sign_ins_at_once_are_told_to_wait(lite, monkeypatch):
    passwords = lite.extensions["gateway"].accounts._passwords
    monkeypatch.setattr(passwords, "_waiting", 16)
    with pytest.raises(TooManyAttempts):
        passwords.check(None, "x")


FORGED = {
    "another key": lambda c: jwt.encode(c, "another-secret-key-of-32-characters!!", "HS256"),
    "no signature": lambda c: jwt.encode(c, "", "none"),
    "expired": lambda c: jwt.encode(
        c | {"exp": datetime.now(UTC) - timedelta(seconds=1)}, SECRETS["SECRET_KEY"], "HS256"
    ),
    "never expires": lambda c: jwt.encode({k: v for k, v in c.items() if k != "exp"}, SECRETS["SECRET_KEY"], "HS256"),
    "meant for others": lambda c: jwt.encode(c | {"aud": "elsewhere"}, SECRETS["SECRET_KEY"], "HS256"),
    "from somebody else": lambda c: jwt.encode(c | {"iss": "elsewhere"}, SECRETS["SECRET_KEY"], "HS256"),
    "another algorithm": lambda c: jwt.encode(c, SECRETS["SECRET_KEY"] * 2, "HS512"),
    "of another user": lambda c: jwt.encode(c | {"uid": 10**6}, SECRETS["SECRET_KEY"], "HS256"),
    "of nobody": lambda c: jwt.encode({k: v for k, v in c.items() if k != "uid"}, SECRETS["SECRET_KEY"], "HS256"),
    "of an odd user": lambda c: jwt.encode(c | {"uid": "1"}, SECRETS["SECRET_KEY"], "HS256"),
    "of an older password": lambda c: jwt.encode(c | {"tv": c["tv"] - 1}, SECRETS["SECRET_KEY"], "HS256"),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")
def test_forged_tokens(lite, forge):
    accounts = lite.extensions["gateway"].accounts
    token = accounts.token(accounts.sign_in("admin", PASSWORD, "1.1.1.1"))
    claims = jwt.decode(token, options={"verify_signature": False})
    assert lite.test_client().get("/user/usage", headers=bearer(token)).status_code == 200
    response = lite.test_client().get("/user/usage", headers=bearer(forge(claims)))
    assert response.status_code == 401
    assert response.json["detail"] == "Could not validate credentials"


def test_a_new_password_ends_tokens_and_sessions(app):
    accounts, catalog = app.extensions["gateway"].accounts, app.extensions["gateway"].catalog
    person = accounts.sign_in("admin", PASSWORD, "1.1.1.1")
    token = accounts.token(person)
    kept, other = (accounts.begin_session(person.user_id, "1.1.1.1", "test") for _ in range(2))
    assert app.test_client().get("/user/usage", headers=bearer(token)).status_code == 200
    assert accounts.is_password(person.user_id, PASSWORD)
    assert not accounts.is_password(person.user_id, "wrong password")
    with pytest.raises(InvalidRequest):
        accounts.set_password(person.user_id, "short")
    accounts.set_password(person.user_id, "another good password", keep_session=kept)
    catalog.refresh()
    assert app.test_client().get("/user/usage", headers=bearer(token)).status_code == 401
    assert accounts.person_of_session(kept).username == "admin"
    assert accounts.person_of_session(other) is None
    assert accounts.sign_in("admin", "another good password", "1.1.1.1")


def test_sessions_end(app, monkeypatch):
    accounts = app.extensions["gateway"].accounts
    person = accounts.sign_in("admin", PASSWORD, "1.1.1.1")
    token = accounts.begin_session(person.user_id, "1.1.1.1", "test")
    assert accounts.person_of_session(token).username == "admin"
    assert accounts.person_of_session("something else") is None
    accounts.end_session(token)
    assert accounts.person_of_session(token) is None
    real = __import__("time").time()
    for minutes, step, alive in ((31, 31, False), (25 * 12, 25, True), (13 * 60, 20, False)):
        monkeypatch.setattr("utils.clock.now_s", lambda: real)
        token = accounts.begin_session(person.user_id, "1.1.1.1", "test")
        found = None
        for passed in range(step, minutes + 1, step):
            monkeypatch.setattr("utils.clock.now_s", lambda passed=passed: real + passed * 60)
            found = accounts.person_of_session(token)
        assert (found is not None) == alive
    with Session(engine(app)) as session:
        assert all(row.digest != token for row in session.query(WebSession))


def test_a_disabled_user_has_no_session(app):
    accounts = app.extensions["gateway"].accounts
    person = accounts.sign_in("admin", PASSWORD, "1.1.1.1")
    token = accounts.begin_session(person.user_id, "1.1.1.1", "test")
    with Session(engine(app)) as session, session.begin():
        session.query(User).update({"is_active": False})
    assert accounts.person_of_session(token) is None
    with pytest.raises(AuthenticationFailed):
        accounts.sign_in("admin", PASSWORD, "1.1.1.1")


def test_usage_needs_a_key(lite):
    response = lite.test_client().get("/user/usage")
    assert response.status_code == 401
    assert response.json["error"] == "Invalid or missing API key"
    assert lite.test_client().get("/user/usage", headers=AUTH).json == {"username": "api-tokens", "tokens_used": 0}


@pytest.mark.parametrize("path", ["/register", "/admin/login"])
def test_a_database_that_takes_nothing_is_a_503_and_not_our_fault(lite, path):
    """Here somebody else writes for longer than anybody waits; a full disk ends the same way."""
    token = re.search(r'name="csrf_token" value="([^"]+)"', (client := lite.test_client()).get("/admin/login").text)[1]
    with closing(sqlite3.connect(engine(lite).url.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        if path == "/register":
            response = client.post(path, json=GOOD)
            assert response.json["code"] == "accounting_unavailable"
        else:
            response = client.post(path, data={"csrf_token": token, "username": "admin", "password": PASSWORD})
        assert response.status_code == 503
        assert "does not take this at the moment" in response.text

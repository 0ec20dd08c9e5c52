"""Who may use the key management API, and that every error on its paths has its form."""

import pytest

from services import throttle
from tests.conftest import PASSWORD
from tests.helpers import AUTH
from tests.management import KEYS, SEARCH, SETTINGS, USERS, ask, audited, make, refused
from utils import clock

ADMIN_PASS = "the-pass-of-the-programs"
PATHS = [
    ("GET", f"{KEYS}?tag=a"),
    ("PUT", KEYS),
    ("POST", KEYS),
    ("GET", f"{KEYS}/"),
    ("GET", f"{KEYS}/x"),
    ("PATCH", f"{KEYS}/x"),
    ("DELETE", f"{KEYS}/x"),
    ("POST", f"{KEYS}/x/rotate"),
    ("POST", SEARCH),
    ("GET", USERS),
    ("PUT", USERS),
    ("POST", USERS),
    ("PATCH", USERS),
    ("GET", f"{USERS}/1"),
    ("PATCH", f"{USERS}/1"),
    ("DELETE", f"{USERS}/1"),
    ("GET", SETTINGS),
    ("PUT", SETTINGS),
    ("POST", SETTINGS),
    ("PATCH", f"{SETTINGS}/x"),
]
ELSEWHERE = {"REMOTE_ADDR": "198.51.100.7"}
STRICT = {"HOST": "127.0.0.1", "PORT": "8000", "LOG_LEVEL": "INFO", "RATE_LIMIT_PER_MINUTE": "100"}


@pytest.fixture
def guarded(make_app, sqlite_database):
    """An app with ADMIN_PASS."""
    return make_app(sqlite_database, ADMIN_PASS=ADMIN_PASS)


def bearer(app, username="admin", password=PASSWORD):
    answer = app.test_client().post("/login", json={"username": username, "password": password})
    return {"Authorization": f"Bearer {answer.json['access_token']}"}


def with_pass(value=ADMIN_PASS):
    return {"X-API-KEY": value}


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_without_a_credential_nothing_opens(guarded, method, path):
    answer = ask(guarded, method, path, {})
    assert "ADMIN_PASS" in refused(answer, 401, "/errors/admin-required")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_every_route_is_in_the_table_above(guarded):
    rules = {
        (method, rule.rule)
        for rule in guarded.url_map.iter_rules()
        if rule.endpoint.startswith("keymanagement.")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    paths = {(method, path.partition("?")[0]) for method, path in PATHS}
    shown = {(m, r.replace("<key_id>", "x").replace("<user_id>", "1").replace("<uuid>", "x")) for m, r in rules}
    assert shown == paths | {("PATCH", f"{KEYS}/"), ("DELETE", f"{KEYS}/")}


def test_an_admin_with_a_token(guarded):
    headers = bearer(guarded)
    assert ask(guarded, "POST", KEYS, {"name": "x"}, headers=headers, environ_base=ELSEWHERE).status_code == 200
    entry = audited(guarded)[-1]
    assert (entry.actor, entry.user_id is not None, entry.ip_address) == ("admin", True, "198.51.100.7")


def test_a_program_with_the_pass(guarded):
    assert ask(guarded, "POST", KEYS, {"name": "x"}, headers=with_pass(), environ_base=ELSEWHERE).status_code == 200
    assert audited(guarded)[-1].actor == "setting ADMIN_PASS"


def test_a_user_with_a_token_is_no_admin(guarded):
    ask(guarded, "POST", "/register", {"username": "ana", "password": "correct horse"})
    answer = ask(guarded, "GET", USERS, headers=bearer(guarded, "ana", "correct horse"))
    assert refused(answer, 403, "/errors/admin-required") == "`ana` is no admin."


def test_an_api_key_is_never_enough(guarded):
    key = make_key(guarded)
    for headers in ({"Authorization": f"Bearer {key}"}, with_pass(key), {"api-key": key}, AUTH):
        refused(ask(guarded, "GET", USERS, headers=headers), 401, "/errors/admin-required")


def test_a_key_of_an_admin_is_not_enough(guarded):
    key = ask(guarded, "POST", KEYS, {"name": "x", "userId": "admin"}, headers=with_pass()).json["key"]
    assert ask(guarded, "GET", "/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    answer = ask(guarded, "GET", USERS, headers={"Authorization": f"Bearer {key}"})
    assert "an API key is not enough" in refused(answer, 401, "/errors/admin-required")


@pytest.mark.parametrize(
    "value", ["Bearer", "Bearer ", "Basic YTpi", "Bearer x.y.z", "Bearer eyJ.eyJ.x", "Bearer eyJ" + "a" * 5000 + ".b.c"]
)
def test_bad_tokens(guarded, value):
    answer = ask(guarded, "GET", USERS, headers={"Authorization": value, **with_pass()})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_a_token_ends_with_its_user(guarded):
    ask(guarded, "POST", "/register", {"username": "ana", "password": "correct horse"})
    token = bearer(guarded, "ana", "correct horse")
    assert ask(guarded, "GET", "/user/usage", headers=token).status_code == 200
    number = ask(guarded, "GET", f"{USERS}?userIds=ana", headers=with_pass()).json[0]["id"]
    ask(guarded, "PATCH", f"{USERS}/{number}", {"ttl": "1ms"}, headers=with_pass())
    assert ask(guarded, "GET", "/user/usage", headers=token).status_code == 401
    answer = ask(guarded, "POST", "/login", {"username": "ana", "password": "correct horse"})
    assert answer.status_code == 401


# Guessing


def test_guessing_is_braked_and_the_right_pass_is_not_slowed(guarded):
    assert ask(guarded, "GET", USERS, headers=with_pass()).status_code == 200
    guesses = [ask(guarded, "GET", USERS, headers=with_pass(f"guess-{n}")).status_code for n in range(12)]
    assert guesses[:5] == [401] * 5
    assert guesses[-1] == 429
    answer = ask(guarded, "GET", USERS, headers=with_pass())
    assert "Too many tries" in refused(answer, 429, "/errors/too-many-attempts"), "nobody learns that it was right"
    assert int(answer.headers["retry-after"]) >= 1
    elsewhere = ask(guarded, "GET", USERS, headers=with_pass(), environ_base=ELSEWHERE)
    assert elsewhere.status_code == 200, "others are not kept out"
    assert [entry.action for entry in audited(guarded, "token")][:5] == ["login_failed"] * 5


def test_after_the_wait_the_right_pass_is_forgiven_everything(guarded, monkeypatch):
    for number in range(8):
        ask(guarded, "GET", USERS, headers=with_pass(f"guess-{number}"))
    now = clock.now_ms()
    monkeypatch.setattr(throttle.clock, "now_ms", lambda: now + throttle.PER_ADDRESS.longest_ms + 1000)
    assert [ask(guarded, "GET", USERS, headers=with_pass()).status_code for _ in range(9)] == [200] * 9


# Where nobody set ADMIN_PASS


@pytest.mark.parametrize("host", ["localhost", "localhost:8001", "127.0.0.1:5000", "[::1]:8000", "LOCALHOST"])
def test_on_this_machine_a_first_try_needs_no_secret(lite, host):
    assert ask(lite, "GET", USERS, headers={"Host": host}).status_code == 200
    assert ask(lite, "GET", USERS, headers={"Host": host, **with_pass("anything")}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "environ"),
    [
        ({}, ELSEWHERE),
        ({}, {"REMOTE_ADDR": ""}),
        ({}, {"REMOTE_ADDR": "unix:"}),
        ({"Host": "evil.test"}, {}),
        ({"Host": "127.0.0.1.evil.test"}, {}),
        ({"Host": "localhost.evil.test"}, {}),
        ({"Host": "[::1"}, ELSEWHERE),
        ({"Origin": "http://localhost"}, {}),
        ({"Origin": "null"}, {}),
        ({"Sec-Fetch-Site": "same-origin"}, {}),
        ({"X-Forwarded-For": "198.51.100.7"}, {}),
        ({"Forwarded": "for=198.51.100.7"}, {}),
        ({"X-Real-IP": "198.51.100.7"}, {}),
        ({"Via": "1.1 proxy"}, {}),
        ({"Authorization": "Bearer x"}, {}),
    ],
)
def test_it_is_open_to_nobody_else(lite, headers, environ):
    answer = ask(lite, "GET", USERS, headers=headers, environ_base=environ)
    refused(answer, 401, "/errors/admin-required")


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_strict_environments_are_never_open_and_want_long_secrets(make_app, sqlite_database, environment):
    app = make_app(sqlite_database, ENVIRONMENT=environment, **STRICT)
    for method, path in PATHS:
        for headers in ({}, with_pass(""), with_pass("x")):
            refused(ask(app, method, path, {}, headers=headers), 401, "/errors/admin-required")
    admin = bearer(app)
    answer = ask(app, "PUT", KEYS, {"name": "x", "key": "my-secret-key"}, headers=admin)
    assert refused(answer, 400, "/errors/validation") == "fields [key] are invalid"
    assert answer.json["errors"] == {"key": "must have 16 characters or more"}
    assert ask(app, "PUT", KEYS, {"name": "x", "key": "my-secret-key-16"}, headers=admin).status_code == 200


# Every error has the form


def test_errors_of_the_framework(lite):
    refused(ask(lite, "GET", f"{KEYS}/a/b/c"), 404, "/errors/not-found")
    refused(ask(lite, "GET", "/api/key-management"), 404, "/errors/not-found")
    refused(ask(lite, "GET", "/api/v2/key-management/x"), 404, "/errors/not-found")
    answer = ask(lite, "POST", f"{KEYS}/x", {})
    refused(answer, 405, "/errors/method-not-allowed")
    assert "PATCH" in answer.headers["allow"]
    assert "id is empty" in (ask(lite, "PATCH", KEYS, {}).json["title"], ask(lite, "DELETE", f"{KEYS}/").json["title"])
    refused(ask(lite, "PATCH", f"{KEYS}/", {}), 400, "/errors/missing-param-id")


FAILURES = [
    ("GET", f"{KEYS}?tag=a", "/errors/getting-keys", "getting keys errored out"),
    ("GET", f"{KEYS}/98daa3ae-961d-4253-bf6a-322a32fdca3d", "/errors/getting-keys", "getting keys errored out"),
    ("POST", SEARCH, "/errors/getting-keys", "getting keys errored out"),
    ("PUT", KEYS, "/errors/key-manager", "key creation error"),
    ("POST", KEYS, "/errors/key-manager", "key creation error"),
    ("PATCH", f"{KEYS}/98daa3ae-961d-4253-bf6a-322a32fdca3d", "/errors/key-manager", "update key error"),
    ("DELETE", f"{KEYS}/98daa3ae-961d-4253-bf6a-322a32fdca3d", "/errors/key-manager", "key deletion error"),
    ("GET", USERS, "/errors/getting-users", "getting users errored out"),
    ("PUT", USERS, "/errors/user-manager", "user creation error"),
    ("PATCH", f"{USERS}/1", "/errors/user-manager", "update user error"),
    ("DELETE", f"{USERS}/1", "/errors/user-manager", "user deletion error"),
]
GOOD = {"PUT": {"name": "x", "key": "a-secret-of-the-tests"}, "POST": {"name": "x"}}


@pytest.mark.parametrize("fault", [RuntimeError("inside"), None], ids=["a mistake", "no database"])
def test_failures_of_ours_say_whose_and_nothing_more(lite, monkeypatch, fault):
    from sqlalchemy.exc import OperationalError
    from sqlalchemy.orm import Session

    error = fault or OperationalError("SELECT secret", {}, Exception("inside"))

    def fail(*_args, **_more):
        raise error

    monkeypatch.setattr(Session, "execute", fail)
    monkeypatch.setattr(Session, "scalar", fail)
    monkeypatch.setattr(Session, "scalars", fail)
    monkeypatch.setattr(Session, "get", fail)
    monkeypatch.setattr(Session, "flush", fail)
    for method, path, kind, title in FAILURES:
        answer = ask(lite, method, path, {} if path == SEARCH else GOOD.get(method, {}))
        refused(answer, 500 if fault else 503, kind)
        assert answer.json["title"] == title
        assert "inside" not in answer.text
        assert "SELECT" not in answer.text


def make_key(app):
    return str(ask(app, "POST", KEYS, {"name": "x"}, headers=with_pass()).json["key"])


def test_other_paths_keep_their_forms(lite):
    assert ask(lite, "GET", "/api/nothing").json.keys() == {"detail", "error", "code", "request_id"}
    assert ask(lite, "GET", "/api/usersx").json.keys() == {"detail", "error", "code", "request_id"}
    assert ask(lite, "GET", "/v1/nothing").json.keys() == {"error"}
    assert make(lite)["name"] == "one"
